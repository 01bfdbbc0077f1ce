"""Weights by their address: here that of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import tgrad
from tgrad.errors import DataError


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Of weights whose name has their digest."""
    path = tmp_path / "there" / "weights.pth"
    path.parent.mkdir()
    torch.save({"w": torch.arange(3.0)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"net-{digest[:8]}.pth")).as_uri()


def test_weights_by_their_address(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert tgrad.hub.get_dir() == torch.hub.get_dir()
    for _ in range(2):
        found = tgrad.hub.load_state_dict_from_url(address, check_hash=True)
        assert found["w"].tolist() == [0, 1, 2] and isinstance(found["w"], tgrad.Tensor)
    assert capsys.readouterr().err.count("->") == 1, "copied once"
    (kept,) = (tmp_path / "home/hub/checkpoints").iterdir()
    assert kept.name == address.rpartition("/")[2]
    found = tgrad.hub.load_state_dict_from_url(
        address, tmp_path / "other", progress=False, file_name="a.pth"
    )
    assert found["w"].shape == (3,) and (tmp_path / "other/a.pth").exists()
    assert not capsys.readouterr().err


def test_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tgrad.hub, "_chosen", [])
    tgrad.hub.set_dir(tmp_path)
    assert tgrad.hub.get_dir() == str(tmp_path)


def test_files_that_are_refused(address: str, tmp_path: Path) -> None:
    path = tmp_path / "here" / "x.pth"
    with pytest.raises(DataError, match=r"has the SHA-256 (.*), not 0123abcd"):
        tgrad.hub.download_url_to_file(address, path, "0123abcd", progress=False)
    with pytest.raises(DataError, match="cannot be copied"):
        tgrad.hub.download_url_to_file(address + "no", path, progress=False)
    assert not list(path.parent.iterdir())
    with pytest.raises(AttributeError, match=r"has no load: models there are PyTorch's code"):
        _ = tgrad.hub.load
