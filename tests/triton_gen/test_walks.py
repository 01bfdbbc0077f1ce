"""Programs that walk over the tiles of a dot, and matrices loaded through descriptors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.triton_gen.builder import Builder, run
from tests.triton_gen.patterns import gated, linear, summed
from tgrad import dtype as dt
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact, Config
from tgrad.kernel.lower import lower
from tgrad.settings import settings
from tgrad.triton_gen import build, choose_config, emit, search_space, target_by_name
from tgrad.triton_gen.descriptors import matrices_of

pytest.importorskip("triton")

rng = np.random.default_rng(3)


def with_blocks(region: Region, programs: int, descriptors: bool) -> Config:
    """Blocks of 16 that leave many tiles."""
    config = choose_config(region, target_by_name("sm_90"))
    axes = tuple(replace(a, block=16) for a in config.axes)
    return replace(config, axes=axes, programs=programs, descriptors=descriptors, epilogue_parts=1)


@pytest.mark.parametrize(
    ("m", "k", "n", "block", "stages", "programs"),
    [
        (8192, 768, 2304, 256, 4, 132),  # 12 steps: one program a multiprocessor walks
        (8192, 8192, 2304, 256, 4, 0),
        (8192, 768, 768, 128, 3, 0),  # two share a multiprocessor
        (8192, 3072, 768, 128, 4, 0),
    ],
)
def test_short_loops_overlap_with_epilogues(
    m: int, k: int, n: int, block: int, stages: int, programs: int
) -> None:
    config = choose_config(linear(m, k, n, dt.bfloat16), target_by_name("sm_90"))
    blocks = {a.name: a.block for a in config.axes}
    found = blocks["n"], config.num_stages, config.programs
    assert (blocks["m"], *found) == (128, block, stages, programs)


@pytest.mark.parametrize("programs", [0, 1, 5, 1000])
@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [(64, 64, 48), (50, 40, 36)])
def test_the_interpreter_walks(m: int, k: int, n: int, programs: int, descriptors: bool) -> None:
    region = linear(m, k, n, dt.float32)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (n, k), (n,)))
    config = with_blocks(region, programs, descriptors)
    (got,) = run(region, [x.reshape(-1), w.reshape(-1), b], config=config, device="interpret")
    want = np.maximum(x @ w.T + b, 0)
    np.testing.assert_allclose(got.reshape(m, n), want, rtol=1e-4, atol=1e-4)


def test_the_interpreter_walks_over_sums() -> None:
    """Two loops in a walk; the second matrix of each pair is read along its rows."""
    region = summed(40, (36, 52), 44, dt.float32)
    shapes = ((40, 36), (36, 44), (40, 52), (52, 44))
    a, b, c, d = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    config = with_blocks(region, 3, True)
    inputs = [x.reshape(-1) for x in (a, b, c, d)]
    (got,) = run(region, inputs, config=config, device="interpret")
    np.testing.assert_allclose(got.reshape(40, 44), a @ b + c @ d, rtol=1e-4, atol=1e-4)


def test_what_a_descriptor_cannot_read_is_loaded() -> None:
    """Rows of 33 elements are no multiple of 16 bytes; a transposed matrix is read along them."""
    for k, count in ((33, 0), (32, 2)):
        region = linear(64, k, 64, dt.float32)
        kernel = lower(region, with_blocks(region, 0, True))
        assert len(matrices_of(kernel)) == count
    b = Builder(m=64, k=64, n=64)
    d = b.dot(b.load("k m"), b.load("k n"), "k")
    b.store(d, "m n")
    region = b.region("turned", "dot", m="m", n="n", k="k")
    config = with_blocks(region, 0, True)
    assert "tl.trans(t" in emit(lower(region, config), config)


def walked(region: Region, target: str) -> Artifact:
    where = target_by_name(target)
    config = choose_config(region, where)
    config = replace(config, programs=where.num_sms, descriptors=True)
    (artifact,) = build([(region, config)], settings, where)
    return artifact


@pytest.mark.parametrize("target", ["sm_90", "sm_100", "gfx942"])
def test_walks_with_descriptors_compile_without_spills(target: str) -> None:
    for region in (linear(4096, 2048, 4096, dt.bfloat16), gated(4096, 2048, 5632, dt.bfloat16)):
        artifact = walked(region, target)
        assert artifact.grid == target_by_name(target).num_sms
        assert artifact.figures.spills == 0, region.name
        assert artifact.figures.matrix_instruction
        if target != "gfx942":
            assert "cp.async.bulk.tensor" in artifact.entry.asm["ptx"]  # type: ignore[attr-defined]


def product(left: str, right: str, size: int) -> Region:
    """A product of matrices whose axes lie in the given orders."""
    b = Builder(m=size, k=size, n=size)
    d = b.dot(b.load(left, dt.bfloat16), b.load(right, dt.bfloat16), "k")
    b.store(d, "m n")
    return b.region("product", "dot", m="m", n="n", k="k")


@pytest.mark.parametrize("left", ["m k", "k m"])
@pytest.mark.parametrize("right", ["k n", "n k"])
def test_walks_copy_ahead_whatever_lies_together(left: str, right: str) -> None:
    """As programs of one tile do: with wide loads, and in no more registers than there are."""
    target = target_by_name("sm_90")
    region = product(left, right, 4096)
    config = replace(choose_config(region, target), programs=0)
    work = [(region, config), (region, replace(config, programs=target.num_sms))]
    still, walking = (a.figures for a in build(work, settings, target))
    assert walking.shared >= still.shared >= 4 * (128 + 256) * 64 * 2  # four steps of both
    assert walking.async_copies >= 2 * (128 + 256) * 64 * 2 // (16 * 32 * config.num_warps)
    assert walking.widest_load == 128
    assert walking.spills == 0


@pytest.mark.parametrize("left", ["m k", "k m"])
@pytest.mark.parametrize("right", ["k n", "n k"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_interpreter_walks_along_rows(left: str, right: str, parts: int) -> None:
    region = product(left, right, 80)
    config = replace(with_blocks(region, 5, False), epilogue_parts=parts)
    x, y = (rng.standard_normal((80, 80)).astype(dt.bfloat16.numpy) for _ in range(2))
    (got,) = run(region, [x.reshape(-1), y.reshape(-1)], config=config, device="interpret")
    a = (x if left == "m k" else x.T).astype(np.float32)
    b = (y if right == "k n" else y.T).astype(np.float32)
    np.testing.assert_allclose(got.reshape(80, 80), a @ b, rtol=1e-4, atol=1e-4)


def test_a_search_may_choose_them() -> None:
    region = linear(4096, 2048, 4096, dt.bfloat16)
    space = search_space(region, target_by_name("sm_90"))
    named = space.named(space.start)
    assert named["programs"] == named["descriptors"] == 0
    choice = space.find({**named, "programs": 132, "descriptors": 1})
    assert choice is not None
    config = space.config(choice)
    assert config is not None and (config.programs, config.descriptors) == (132, True)
    older = search_space(region, target_by_name("sm_80"))
    assert {"programs", "descriptors"} & set(older.named(older.start)) == {"programs"}
