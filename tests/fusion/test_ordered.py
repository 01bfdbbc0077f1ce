"""Scatters in a fixed order: equal to the reference, in equal bits whatever order programs take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.fusion.cost import cost_of
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.ordered import order_scatters
from tgrad.pipeline import canonical_bases, cut_graph
from tgrad.tensor import Tensor
from tgrad.triton_gen import compile_for

pytest.importorskip("triton")
TERMS = 150


@pytest.fixture(autouse=True)
def ordered() -> Iterator[None]:
    tgrad.use_deterministic_algorithms(True)
    yield
    tgrad.use_deterministic_algorithms(False)


def numbers(seed: int, *shape: int, device: str, dtype: Any = tgrad.float32) -> Tensor:
    """Of magnitudes so different that the order of a sum shows."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 4, shape)
    return tgrad.tensor(values, device=device).to(dtype).detach()


def places(seed: int, most: int, *shape: int, device: str) -> Tensor:
    return tgrad.tensor(np.random.default_rng(seed).integers(0, most, shape), device=device)


def embedding(device: str) -> Tensor:
    table = numbers(0, 40, 24, device=device).requires_grad_()
    y = F.embedding(places(1, 30, 3, TERMS // 3, device=device), table)
    y.backward(numbers(2, *y.shape, device=device))
    assert table.grad is not None
    return table.grad


def index_add(device: str, dtype: Any = tgrad.float32) -> Tensor:
    values = numbers(2, TERMS, device=device, dtype=dtype)
    x = numbers(0, 17, device=device, dtype=dtype)
    return x.index_add(0, places(1, 9, TERMS, device=device), values)


def columns(device: str) -> Tensor:
    x, values = (numbers(n, 5, size, device=device) for n, size in ((0, 17), (2, TERMS)))
    return x.index_add(1, places(1, 9, TERMS, device=device), values)


def scatter_add(device: str) -> Tensor:
    x, values = (numbers(n, 3, size, 4, device=device) for n, size in ((0, 17), (2, TERMS)))
    return x.scatter_add(1, places(1, 9, 3, TERMS, 4, device=device), values)


def index_put(device: str, accumulate: bool = True) -> Tensor:
    at = (places(1, 6, TERMS, device=device), places(3, 17, TERMS, device=device))
    values = numbers(2, TERMS, device=device)
    return numbers(0, 6, 17, device=device).index_put(at, values, accumulate=accumulate)


CASES: dict[str, Callable[[str], Tensor]] = {
    "embedding": embedding,
    "index_add": index_add,
    "index_add float64": lambda d: index_add(d, tgrad.float64),
    "index_add float16": lambda d: index_add(d, tgrad.float16),
    "columns": columns,
    "scatter_add": scatter_add,
    "index_put accumulate": index_put,
}
SETS: dict[str, Callable[[str], Tensor]] = {
    "index_put": lambda d: index_put(d, accumulate=False),
    "index_copy": lambda d: numbers(0, 9, 3, device=d).index_copy(
        0, places(1, 5, 20, device=d), numbers(2, 20, 3, device=d)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sums(name: str) -> None:
    found, expected = (CASES[name](d).double().numpy() for d in ("interpret", "numpy"))
    np.testing.assert_allclose(found, expected, rtol=2e-3 if "16" in name else 1e-4, atol=1e-2)
    cut([CASES[name]("numpy")], GPU_LIMITS)


@pytest.mark.parametrize("name", SETS)
def test_the_last_number_of_a_place_stays(name: str) -> None:
    np.testing.assert_array_equal(SETS[name]("interpret").numpy(), SETS[name]("numpy").numpy())


def test_no_terms_and_one_place() -> None:
    x = numbers(0, 3, 2, device="interpret")
    none = tgrad.tensor(np.zeros(0, np.int64), device="interpret")
    same = x.index_add(0, none, numbers(1, 0, 2, device="interpret"))
    np.testing.assert_array_equal(same.numpy(), x.numpy())
    one = numbers(0, 1, device="interpret") * 0
    zeros = tgrad.tensor(np.zeros(TERMS, np.int64), device="interpret")
    total = one.index_add(0, zeros, tgrad.ones(TERMS, device="interpret"))
    assert total.tolist() == [TERMS]


def test_what_is_not_finite_stays_at_its_place() -> None:
    values = tgrad.tensor([1.0, np.inf, np.nan, 2.0], device="interpret")
    at = tgrad.tensor([2, 1, 0, 2], device="interpret")
    found = tgrad.zeros(4, device="interpret").index_add(0, at, values).numpy()
    np.testing.assert_array_equal(found, np.array([np.nan, np.inf, 3.0, 0.0], np.float32))
    negative = tgrad.tensor([-0.0] * 4, device="interpret").index_add(0, at[:1], values[:1])
    assert np.signbit(negative.numpy()).tolist() == [True, True, False, True]


@pytest.mark.parametrize("name", [*CASES, *SETS])
def test_equal_bits_in_every_order_of_programs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels, their programs first to last, last to first, and shuffled."""
    from triton.runtime.interpreter import InterpreterBuilder

    case = (CASES | SETS)[name]
    expected = case("interpret").numpy().tobytes()
    set_place = InterpreterBuilder.set_grid_idx
    for step in (-1, 7):

        def elsewhere(builder: Any, x: int, y: int, z: int, step: int = step) -> None:
            programs = builder.grid_dim[0]
            step = step if np.gcd(step, programs) == 1 else -1
            set_place(builder, (x * step + programs - 1) % programs, y, z)

        monkeypatch.setattr(InterpreterBuilder, "set_grid_idx", elsewhere)
        assert case("interpret").numpy().tobytes() == expected


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_programs_walk_the_runs_of_their_places(target: str) -> None:
    """No float meets another in memory; nothing spills; the cost is that of the terms."""
    table = tgrad.zeros(5000, 256, device="numpy").requires_grad_()
    at = tgrad.tensor(np.zeros(2048, np.int64), device="numpy")
    F.embedding(at, table).backward(tgrad.zeros(2048, 256, device="numpy"))
    assert table.grad is not None
    bases = order_scatters(canonical_bases([table.grad._node]), GPU_LIMITS)
    regions = [f.region for f in cut_graph(bases, GPU_LIMITS)]
    scatters = [r for r in regions if r.space.kind == "scatter"]
    assert {(s.combine, r.slots[s.slot].dtype) for r in scatters for s in r.stores} == {
        ("min", tgrad.int64),
        ("max", tgrad.int64),
    }
    (runs,) = (r for r in regions if r.space.kind == "reduce")
    assert runs.space.live and cost_of(runs).flops < 20 * 5000 * 256
    artifacts = compile_for(regions, target)
    assert [a.figures.spills for a in artifacts] == [0] * len(artifacts)
    (source,) = (a.source for a in artifacts if a.name == runs.name)
    assert (
        "r_start = tl.maximum(0, t" in source and "in tl.range(r_start, r_stop, BLOCK_R)" in source
    )
