"""`tgrad kernels SCRIPT --target`: a row a kernel, compiled and never run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tgrad.cli.kernels import kernels_of_script
from tgrad.device import Device
from tgrad.runtime.device import counters

pytest.importorskip("triton")

SCRIPT = """
import tgrad
from tgrad import nn, optim

model = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 64)).to(tgrad.bfloat16)
optimizer = optim.SGD(model.parameters(), lr=0.1)
x = tgrad.tensor([[1.0] * 512] * 64, dtype=tgrad.bfloat16)
model(x).square().mean().backward()
optimizer.step()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    "target, matrix", [("sm_90", "wgmma.mma_async"), ("sm_80", "mma.sync"), ("gfx942", "v_mfma_")]
)
def test_rows_say_what_was_compiled(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, matrix: str
) -> None:
    before = counters(Device("cpu")).launches
    assert kernels_of_script(script, [], target, json_path=tmp_path / "rows.json") == 0
    assert counters(Device("cpu")).launches == before
    out = capsys.readouterr().out
    data = json.loads((tmp_path / "rows.json").read_text())
    rows = data["kernels"]
    assert data["target"] == target
    assert f"{len(rows)} kernels, {sum(r['launches'] for r in rows)} launches for {target}" in out
    for row in rows:
        assert row["name"] in out and row["line"].startswith("program.py:")
        assert row["registers"] > 0 and row["spills"] == 0 and row["shared"] >= 0
        assert "def " + row["name"] in Path(row["path"]).read_text()
    dots = [r for r in rows if r["matrix_instruction"]]
    assert dots and all(r["matrix_instruction"].startswith(matrix) for r in dots)
    assert max(r["widest_load"] for r in rows) == 128
    if target != "gfx942":  # 512 values are contracted in a loop that loads ahead
        assert any(r["async_copies"] for r in dots)


def test_what_is_no_gpu_is_refused(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels_of_script(script, [], "cpu") == 1
    assert capsys.readouterr().err == (
        "tgrad kernels: cpu is no GPU.\n  Name one, such as --target sm_90 or gfx942.\n"
    )


def test_an_unknown_target_is_refused(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels_of_script(script, [], "sm_1") == 1
    assert "sm_1" in capsys.readouterr().err


def test_a_script_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels_of_script(tmp_path / "no.py", [], "sm_90") == 1
    assert "no.py is not a file" in capsys.readouterr().err
