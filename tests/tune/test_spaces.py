"""Search spaces: the heuristic is in each, and every choice computes what it computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.tune.regions import KINDS, region_of
from tgrad import cpu_fallback, triton_gen
from tgrad.autotuning.inputs import disagreement, make_inputs
from tgrad.cpu_fallback.chain_heuristics import chain_side, live_points
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.fusion.evaluate import evaluate_region
from tgrad.graph.index import constant, multiples_between
from tgrad.kernel.lower import lower
from tgrad.kernel.space import parameter
from tgrad.kernel.verify import verify_kernel
from tgrad.tune.search import candidates_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_heuristic_in_c(kind):
    region, machine = region_of(kind), cpu_fallback.detect_machine()
    space = cpu_fallback.search_space(region)
    config, heuristic = space.config(space.start), choose_config(region, machine)
    assert config is not None
    sources = [emit(lower(region, c), c, machine) for c in (config, heuristic)]
    assert sources[0] == sources[1]
    assert space.find(space.named(space.start)) == space.start
    assert candidates_of(space)[0] == space.start


@pytest.mark.parametrize("target", ["sm_90", "gfx942", "interpret"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_heuristic_in_triton(kind, target):
    region, named = region_of(kind), triton_gen.target_by_name(target)
    space = triton_gen.search_space(region, named)
    assert space.config(space.start) == triton_gen.choose_config(region, named)
    for choice in candidates_of(space, 40):
        config = space.config(choice)
        assert config is not None
        verify_kernel(lower(region, config))


@pytest.mark.parametrize("kind", KINDS)
def test_choices_in_c_compute_the_same(kind):
    """The oracle's results, for the start and choices all over the space."""
    region = region_of(kind, 40)
    space = cpu_fallback.search_space(region)
    candidates = candidates_of(space)
    chosen = candidates[:: max(len(candidates) // 6, 1)][:7]
    inputs = make_inputs(region, 1)
    wanted = evaluate_region(region, inputs)
    from tgrad.device import Device
    from tgrad.runtime.device import open_device
    from tgrad.settings import settings

    runtime = open_device(Device("cpu"))
    for choice in chosen:
        config = space.config(choice)
        (artifact,) = cpu_fallback.generate([region], settings, [config])
        memories = [runtime.allocate(a.nbytes) for a in inputs]
        for memory, array in zip(memories, inputs):
            runtime.write(memory, array)
        runtime.launch(artifact, memories)
        got = [runtime.read(m, s.dtype, (s.size,)) for m, s in zip(memories, region.buffers)]
        assert disagreement(region, wanted, got) == "", space.named(choice)


def test_nearest_values():
    space = cpu_fallback.search_space(region_of("softmax", 64))
    named = space.named(space.start)
    assert space.nearest({**named, "block": 1 << 20}) is not None
    assert space.nearest({**named, "vector": "elsewhere"}) is None
    assert space.find({**named, "block": 12345}) is None
    assert space.find({**named, "block": True}) is None
    assert space.find({"block": 1}) is None
    assert parameter("form", ["a", "b"], "b").values == ("b", "a")


def test_inputs_stay_within_bounds():
    import tgrad

    table, rows = tgrad.ones(10, 4), tgrad.tensor([1, 2, 3])
    table.numpy()
    region = max(tgrad.explain(table[rows]).kernels, key=lambda k: k.bytes).region
    for slot, array in zip(region.buffers, make_inputs(region, 0)):
        if slot.dtype.is_int:
            assert array.min() >= 0 and array.max() < 10


def test_disagreements_are_seen():
    region = region_of("matmul", 16)
    wanted = evaluate_region(region, make_inputs(region, 0))
    wrong = [np.array(a) for a in wanted]
    assert disagreement(region, wanted, wrong) == ""
    wrong[-1][3] += 1.0
    assert "is wrong in 0.39% of its elements" in disagreement(region, wanted, wrong)
    wrong[-1][3] = np.nan
    assert disagreement(region, wanted, wrong) != ""


def test_a_causal_chain_is_rated_by_its_live_tiles():
    """128 x 128 under the diagonal: of 2 x 2 tiles three are live, of 8 x 8 tiles 36."""
    region = region_of("attention", 128)
    found = [live_points(region, m, k) for m, k in ((128, 128), (64, 64), (16, 16), (64, 16))]
    assert found == [128 * 128, 3 * 64 * 64, 36 * 16 * 16, 12 * 64 * 16]
    space = cpu_fallback.search_space(region)
    assert (16, 16) in candidates_of(space)[:2]


@pytest.mark.parametrize("size", [17, 64, 100])
@pytest.mark.parametrize("blocks", [(16, 16), (7, 30), (1, 1), (100, 3)])
def test_live_points_are_those_of_tiles_with_a_live_element(size, blocks):
    region = region_of("attention", size)
    block_m, block_k = (min(b, size) for b in blocks)
    (m,), (k,) = region.space.m, region.space.k
    points = np.indices((size, size)).reshape(2, -1)
    values = {m.name: points[0], k.name: points[1]}
    is_live = np.ones(size * size, bool)
    for bound in region.space.live:
        index = sum(bound.index.stride(n) * v for n, v in values.items())
        index = index + bound.index.substitute({n: constant(0) for n in values}).lo
        is_live &= (index >= bound.lo) & (index < bound.hi)
    tiles = {(a // block_m, b // block_k) for a, b in points.T[is_live].tolist()}
    assert live_points(region, *blocks) == len(tiles) * block_m * block_k


@pytest.mark.parametrize(
    "count, low, high, step", [(5, 3, 11, 4), (5, -11, -3, -4), (3, 0, 1, 0), (3, 1, 9, 0)]
)
def test_the_tiles_between_two_bounds(count, low, high, step):
    first, end = multiples_between(np.array([low]), np.array([high]), step, count)
    inside = [n for n in range(count) if low <= step * n < high]
    assert list(range(max(first[0], 0), min(end[0], count))) == inside


def test_the_side_of_a_chain_follows_its_mask_and_the_vectors():
    machine = cpu_fallback.detect_machine()
    avx2, avx512 = (replace(machine, vector_bytes=width) for width in (32, 64))
    causal = {size: region_of("attention", size) for size in (64, 256, 2048)}
    assert [chain_side(region, avx2) for region in causal.values()] == [16, 32, 32]
    assert [chain_side(region, avx512) for region in causal.values()] == [32, 32, 32]
    free = replace(causal[64], space=replace(causal[64].space, live=()))
    assert chain_side(free, avx2) == 64
