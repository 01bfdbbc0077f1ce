"""The generator's edges: configurations, caches, targets, processes that interpret and compile."""

from __future__ import annotations

import builtins
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.triton_gen.builder import Builder, runtime
from tests.triton_gen.patterns import dots, gelu, pointwise_and_reductions, softmax
from tgrad import dtype as dt
from tgrad.errors import CacheError, CompileError, DeviceError, UnsupportedError
from tgrad.fusion.region import Region
from tgrad.graph.index import loaded
from tgrad.kernel.ir import Role
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel
from tgrad.settings import settings
from tgrad.triton_gen import choose_config, compile_for, emit, generate, target_by_name
from tgrad.triton_gen.compile import load_module, write_source
from tgrad.triton_gen.target import TARGETS


def every_region() -> list[Region]:
    return pointwise_and_reductions() + dots(dt.float32) + dots(dt.bfloat16)


@pytest.mark.parametrize("target", TARGETS)
def test_configs_cover_each_axis_once(target: str) -> None:
    for region in every_region():
        config = choose_config(region, target_by_name(target))
        covered = sorted(a.name for t in config.axes for a in t.covers)
        assert covered == sorted(a.name for a in region.axes), region.name
        for axis in config.axes:
            assert axis.block & (axis.block - 1) == 0
            assert axis.role is not Role.FULL or axis.block >= axis.extent
        verify_kernel(lower(region, config))
        assert choose_config(region, target_by_name(target)) == config


def test_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(DeviceError, match=r"'sm_20' is not a target of tgrad(.|\n)*sm_90, sm_100"):
        compile_for([], "sm_20")


def test_atomics_that_do_not_exist_are_refused() -> None:
    b = Builder(i=10)
    at = loaded(b.load("i", dt.int64), 0, 3)
    b.store(b.load("i"), at, size=4, combine="mul")
    region = b.region("product", "scatter")
    config = choose_config(region, target_by_name("sm_90"))
    with pytest.raises(UnsupportedError, match=r"'mul' of .* has no atomic") as caught:
        emit(lower(region, config), config)
    assert "train.py:7" in str(caught.value)


class TestCache:
    def test_sources_are_named_after_the_kernel_and_its_content(self, tmp_path: Path) -> None:
        path = write_source("x = 1\n", "softmax", tmp_path)
        assert path.parent == tmp_path / "triton" and path.name.startswith("softmax_")
        assert path.read_text() == "x = 1\n"
        assert write_source("x = 1\n", "softmax", tmp_path) == path
        assert write_source("x = 2\n", "softmax", tmp_path) != path
        assert len(list(path.parent.iterdir())) == 2

    def test_a_broken_entry_is_rewritten(self, tmp_path: Path) -> None:
        path = write_source("x = 1\n", "softmax", tmp_path)
        path.write_text("x =")
        assert load_module(write_source("x = 1\n", "softmax", tmp_path), "x = 1\n").x == 1
        assert path.read_text() == "x = 1\n"

    def test_unwritable_directory(self, tmp_path: Path) -> None:
        place = tmp_path / "file"
        place.write_text("")
        with pytest.raises(CacheError, match="cannot be written") as caught:
            write_source("", "softmax", place)
        assert str(place) in str(caught.value) and "TGRAD_CACHE_DIR" in str(caught.value)


def test_missing_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "triton":
            raise ImportError(name)
        return plain(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeviceError, match=r"pip install tgrad\[cuda\]"):
        generate([gelu(10, dt.float32)], interpret=True)


class TestProcess:
    """Needs triton."""

    @pytest.fixture(autouse=True)
    def _triton(self) -> None:
        pytest.importorskip("triton")

    def test_interprets_and_compiles_by_turns(self, tmp_path: Path) -> None:
        """Triton's library is itself again after a kernel was interpreted."""
        place = dataclasses.replace(settings, cache_dir=tmp_path)
        region = softmax(4, 30, dt.float32)
        machine = runtime("interpret")
        x = np.random.default_rng(0).normal(size=(4, 30)).astype(np.float32)
        for _ in range(2):
            (artifact,) = generate([region], place, interpret=True)
            memories = [machine.allocate(s.nbytes) for s in region.slots]
            machine.write(memories[0], x)
            machine.launch(artifact, memories)
            got = machine.read(memories[1], dt.float32, x.shape)
            np.testing.assert_allclose(got.sum(1), 1, rtol=1e-6)
            (compiled,) = compile_for([region], "sm_90", place)
            assert compiled.figures.spills == 0
            assert Path(compiled.path).read_text() == compiled.source

    def test_threads_may_interpret_and_compile_together(self, tmp_path: Path) -> None:
        place = dataclasses.replace(settings, cache_dir=tmp_path)
        region = softmax(8, 70, dt.float32)
        machine = runtime("interpret")

        def interpret() -> bool:
            (artifact,) = generate([region], place, interpret=True)
            memories = [machine.allocate(s.nbytes) for s in region.slots]
            machine.write(memories[0], np.zeros((8, 70), np.float32))
            machine.launch(artifact, memories)
            return bool(np.allclose(machine.read(memories[1], dt.float32, (8, 70)), 1 / 70))

        def compiles() -> bool:
            return all(a.figures.spills == 0 for a in compile_for([region] * 2, "gfx942", place))

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(f) for f in (interpret, compiles) * 4]
            assert all(j.result() for j in jobs)

    def test_a_kernel_that_triton_refuses_names_the_line(self, tmp_path: Path) -> None:
        from tgrad.triton_gen.compile import compile_source

        region = gelu(10, dt.float32)
        source = (
            "import triton\n@triton.jit\ndef gelu(in0_ptr, out0_ptr):\n    undefined(in0_ptr)\n"
        )
        path = write_source(source, "gelu", tmp_path)
        target = target_by_name("sm_90")
        config = choose_config(region, target)
        with pytest.raises(CompileError, match="Triton does not compile gelu for sm_90") as caught:
            compile_source("gelu", source, region.slots, config, target, path, region.source)
        assert str(path) in str(caught.value) and "train.py:7" in str(caught.value)
