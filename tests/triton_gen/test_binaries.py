"""Kernels of a plan that is kept: found by another process, with all that a launch needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.triton_gen.patterns import linear, softmax, update
from tgrad import dtype as dt
from tgrad.backend import Binaries, backend_by_name, backend_of
from tgrad.device import Device
from tgrad.errors import DeviceError
from tgrad.kernel.ir import Executable
from tgrad.settings import Settings, settings
from tgrad.triton_gen import build, choose_config, target_by_name

triton = pytest.importorskip("triton")


def binaries(target: str = "sm_90") -> Binaries:
    found = backend_by_name(target).binaries
    assert found is not None
    return found


def made(place: Settings, target: str = "sm_90") -> list[Executable]:
    """One plain kernel, one that reads a table of pointers, one with descriptors of matrices."""
    chosen = target_by_name(target)
    regions = softmax(4, 30, dt.float32), update((1 << 12, 768, 48), dt.float32)
    work = [(r, choose_config(r, chosen)) for r in regions]
    product = linear(256, 256, 256, dt.bfloat16)
    work.append((product, replace(choose_config(product, chosen), descriptors=True)))
    kernels: list[Executable] = list(build(work, place, chosen))
    assert [k.pointers is not None for k in kernels] == [False, True, False]
    assert [k.needs_scratch for k in kernels] == [False, False, True]
    return kernels


def another_process(kernels: Sequence[Executable], place: Settings) -> list[Executable] | None:
    """What it finds by what a file says."""
    data: Any = binaries().keep(kernels, place)
    assert json.loads(json.dumps(data)) == data
    return binaries().take(data, place)


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return replace(settings, cache_dir=tmp_path)


def test_what_is_found_launches_as_what_was_made(place: Settings) -> None:
    kernels = made(place)
    found = another_process(kernels, place)
    assert found is not None
    for kernel, again in zip(kernels, found, strict=True):
        for name in ("name", "path", "grid", "figures", "pointers", "needs_scratch", "binary"):
            assert getattr(again, name) == getattr(kernel, name)
        first: Any = kernel.entry
        second: Any = again.entry
        assert second.hash == first.hash and second.kernel == first.kernel
        assert second.packed_metadata == first.packed_metadata
        assert second.src.signature == first.src.signature
        assert list(second.src.signature) == list(first.src.signature)


@pytest.mark.parametrize("damage", ["record", "half a record", "binary", "all"])
def test_all_are_found_or_none(damage: str, place: Settings) -> None:
    kernels = made(place)
    entry: Any = kernels[1].entry
    (binary,) = (Path(p) for p in entry.metadata_group.values() if p.endswith(".cubin"))
    record = place.cache_dir / "triton" / "kept" / f"{kernels[1].binary}.json"
    if damage == "record":
        record.unlink()
    elif damage == "half a record":
        record.write_bytes(record.read_bytes()[:50])
    elif damage == "binary":
        binary.write_bytes(binary.read_bytes()[:-1])
    else:
        shutil.rmtree(place.cache_dir)
    assert another_process(kernels, place) is None


def test_what_is_in_no_cache_is_not_kept(place: Settings) -> None:
    kernel = made(place)[0]
    assert binaries().keep([replace(kernel, binary="")], place) is None


def test_what_decides_kernels_decides_the_plan(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [binaries(t).key(place) for t in ("sm_80", "sm_90", "gfx942")]
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    keys.append(binaries().key(place))
    assert len(set(keys)) == len(keys)
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.always_compile = True
        with pytest.raises(DeviceError, match=r"^Triton's settings want each kernel compiled"):
            binaries().key(place)


def test_the_interpreter_has_none() -> None:
    assert backend_of(Device("interpret")).binaries is None
