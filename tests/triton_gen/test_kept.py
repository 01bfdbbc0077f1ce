"""Kernels that were compiled before are found without Triton's front end, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.triton_gen.patterns import gelu, softmax
from tgrad import dtype as dt
from tgrad import triton_gen
from tgrad.errors import Source
from tgrad.kernel.ir import Artifact, Config
from tgrad.settings import settings
from tgrad.triton_gen import kept, target_by_name
from tgrad.triton_gen.compile import compile_source

triton = pytest.importorskip("triton")

REGION = softmax(4, 30, dt.float32)


class FrontEnd:
    """How often Triton was asked to compile."""

    def __init__(self, folder: Path):
        self.count, self.settings = 0, dataclasses.replace(settings, cache_dir=folder)

    def compile(self, *args: Any) -> Any:
        self.count += 1
        return compile_source(*args)

    def made(self, target: str = "sm_90") -> Artifact:
        (artifact,) = triton_gen.compile_for([REGION], target, self.settings)
        return artifact


@pytest.fixture
def front_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrontEnd:
    found = FrontEnd(tmp_path)
    monkeypatch.setattr(triton_gen, "compile_source", found.compile)
    return found


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_a_kept_kernel_is_what_triton_made(target: str, front_end: FrontEnd) -> None:
    first = front_end.made(target)
    again = front_end.made(target)
    assert front_end.count == 1
    assert again.figures == first.figures and first.figures.registers
    assert (again.source, again.path, again.config) == (first.source, first.path, first.config)
    made, found = first.entry, again.entry
    for name in ("hash", "name", "metadata", "packed_metadata", "kernel", "metadata_group"):
        assert getattr(found, name) == getattr(made, name)
    assert found.src.signature == made.src.signature  # what its launcher reads
    assert found.src.constants == made.src.constants == {}
    assert dict(found.asm.items()) == dict(made.asm.items())


@pytest.mark.parametrize(
    "damage", ["empty", "half", "another's", "no binary", "no files", "cut binary", "all"]
)
def test_what_is_not_whole_is_compiled(damage: str, front_end: FrontEnd, tmp_path: Path) -> None:
    first = front_end.made()
    (entry,) = (tmp_path / "triton" / "kept").iterdir()
    whole, files = entry.read_bytes(), first.entry.metadata_group.values()
    (binary,) = (Path(path) for path in files if path.endswith(".cubin"))
    if damage == "another's":
        front_end.made("sm_100")
        (other,) = set(entry.parent.iterdir()) - {entry}
        entry.write_bytes(other.read_bytes())
    elif damage == "all":
        shutil.rmtree(tmp_path / "triton")
    elif damage == "no binary":
        binary.unlink()
    elif damage == "no files":
        shutil.rmtree(binary.parent)
    elif damage == "cut binary":
        os.truncate(binary, 100)
    else:
        entry.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    front_end.count = 0
    again = front_end.made().entry
    assert again.asm["ptx"] == first.entry.asm["ptx"]
    assert len(again.kernel) == len(first.entry.kernel)  # ptxas does not make the same bytes twice
    assert front_end.count == 1
    assert front_end.made().figures == first.figures
    assert front_end.count == 1


def test_equal_kernels_of_two_lines_are_one(front_end: FrontEnd) -> None:
    """Threads that compiled both at once wrote the same files of Triton with the paths of two
    sources in them; at the next start one record called them broken, and deleted what the other
    one's thread was reading."""
    lines = [dataclasses.replace(REGION, source=Source("a.py", n)) for n in (1, 2, 3)]
    for _ in range(2):
        made = triton_gen.compile_for(lines, "sm_90", front_end.settings)
        assert front_end.count == 1
        assert len({a.path for a in made}) == 3 and len({a.entry.hash for a in made}) == 1
    assert len(list((front_end.settings.cache_dir / "triton" / "kept").iterdir())) == 1


def test_what_decides_a_kernel_decides_its_file(
    front_end: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, place = target_by_name("sm_90"), front_end.settings.cache_dir
    config = Config((), num_warps=4)

    def key(**changed: Any) -> str:
        given = {"source": "s", "signature": {"a": "*fp32"}, "attributes": 1, "config": config,
                 "target": target, "cache_dir": place, **changed}  # fmt: skip
        found = kept.place_of(**given)
        assert found is not None
        return found.key

    keys = [
        key(),
        key(source="t"),
        key(source="t # no comment, part of a line"),
        key(signature={"a": "*fp16"}),
        key(attributes=2),
        key(config=dataclasses.replace(config, num_warps=8)),
        key(config=dataclasses.replace(config, num_stages=5)),
        key(target=target_by_name("sm_100")),
    ]
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    keys.append(key())
    monkeypatch.setattr(kept, "_stamp", lambda: "another Triton")
    keys.append(key())
    assert len(set(keys)) == len(keys) and key() == key(source="# a comment\ns") == keys[-1]
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.always_compile = True
        assert kept.place_of("s", {}, 1, config, target, place) is None


def test_stages_that_did_not_fit_are_not_tried_again(
    front_end: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = dataclasses.replace(target_by_name("sm_90"), shared_memory=20_000)
    region = gelu(10, dt.float32)
    config = dataclasses.replace(triton_gen.choose_config(region, target), num_stages=3)
    figures = iter([30_000, 10_000])

    def shared(*args: Any) -> Any:
        return dataclasses.replace(kept.StaticFigures(), shared=next(figures))

    monkeypatch.setattr(triton_gen, "read_figures", shared)
    made = [triton_gen.build([(region, config)], front_end.settings, target)[0] for _ in range(2)]
    assert front_end.count == 2
    assert [a.config.num_stages for a in made] == [2, 2] and made[0].source == made[1].source


def test_a_disk_that_is_full_keeps_nothing(
    front_end: FrontEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept, "write_whole", full)
    front_end.made(), front_end.made()
    assert front_end.count == 2 and not (tmp_path / "triton" / "kept").exists()
