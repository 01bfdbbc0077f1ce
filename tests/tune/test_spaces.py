"""Search spaces: the heuristic is in each, and every choice computes what it computes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tune.regions import KINDS, region_of
from tgrad import cpu_fallback, triton_gen
from tgrad.autotuning.inputs import disagreement, make_inputs
from tgrad.cpu_fallback.search_space import live_points
from tgrad.fusion.evaluate import evaluate_region
from tgrad.kernel.lower import lower
from tgrad.kernel.space import parameter
from tgrad.kernel.verify import verify_kernel
from tgrad.tune.search import candidates_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_heuristic_in_c(kind):
    region, machine = region_of(kind), cpu_fallback.detect_machine()
    space = cpu_fallback.search_space(region)
    config, heuristic = space.config(space.start), cpu_fallback.choose_config(region, machine)
    assert config is not None
    sources = [cpu_fallback.emit(lower(region, c), c, machine) for c in (config, heuristic)]
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
    assert candidates_of(space)[1] == (16, 16)
