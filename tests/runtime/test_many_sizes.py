"""Eager work on many sizes: the third size of a graph gets a plan that serves others as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.compile.dynamic_checking import numbers
from tests.compile.test_dynamic import CASES, GRADIENTS, Case, seeded_gpt
from tests.fuzzing import SIZES as SHAPES
from tests.fuzzing import Outputs, check_nodes, random_graph, with_gradients
from tests.training.gpt import VOCABULARY
from tgrad import nn, optim
from tgrad.boxes import Box
from tgrad.graph.skeleton import fit
from tgrad.many_sizes import ENOUGH
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import record_plans

QUICK = ("cpu",)
SIZES = (5, 7, 30, 31, 17, 32, 19)
"""All that come after the third fit in memory of the third."""


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NaN, the largest integer or True wherever no element of an input exists."""
    filled = Box.filled

    def poisoned(self: Box, memory: Any, dtype: Any, device: Any, values: Sequence[int]) -> Any:
        found = filled(self, memory, dtype, device, values)
        if found is memory:
            return memory
        kind = dtype.numpy
        value = np.nan if dtype.is_float else True if dtype.is_bool else np.iinfo(kind).max
        array = np.full(self.capacities, value, kind)
        runtime = open_device(device)
        runtime.write(found, array)
        runtime.copy_box(found, self.capacities, memory, self.shape(values), dtype.itemsize)
        return found

    monkeypatch.setattr(Box, "filled", poisoned)
    yield


def check_sizes(
    function: Callable[..., tgrad.Tensor],
    shape: Sequence[int],
    axes: Sequence[int],
    device: str,
    tolerance: float = 1e-5,
) -> list[int]:
    """Assert that the function gives at each size what the device "numpy" gives. Returns how many
    plans each size made."""
    made = []
    for n in SIZES:
        size = [n if a in axes else m for a, m in enumerate(shape)]
        wanted = function(numbers(n, *size, device="numpy"))
        with record_plans() as plans:
            found = function(numbers(n, *size, device=device)).numpy()
        made.append(len(plans))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(
            found, wanted.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"size {n}"
        )
    return made


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("name", CASES)
def test_a_plan_for_many_sizes(name: str, device: str) -> None:
    function, shape, axes = CASES[name]
    made = check_sizes(function, shape, axes, device)
    assert not any(made[ENOUGH:])


# -- random graphs ---------------------------------------------------------------------------------

GROWN = (
    SHAPES,
    (1, 3, 5, 4, 7, 9, 20, 1, 5, 0, 40),
    (1, 4, 6, 6, 9, 12, 25, 1, 6, 0, 47),
    (1, 5, 8, 7, 8, 10, 18, 1, 8, 0, 35),
    (1, 2, 7, 8, 6, 15, 31, 1, 7, 0, 64),
)
"""What stands for each of the sizes that random graphs have, in graphs of one seed."""


class Grown:
    """Draws that depend on the seed and on how many there were, with other sizes.

    Args:
        seed: of the graph.
        sizes: for those of `SHAPES`.
    """

    def __init__(self, seed: int, sizes: Sequence[int]):
        self.rng, self.sizes = np.random.default_rng(seed), sizes

    def one_of(self, options: Sequence[Any]) -> Any:
        return (self.sizes if options is SHAPES else options)[self.between(0, len(options) - 1)]

    def between(self, low: int, high: int) -> int:
        return low + int(self.rng.random() * (high - low + 1))


@pytest.mark.devices(*QUICK)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_of_many_sizes(seed: int, requires_grad: bool, device: str) -> None:
    """Sizes that keep the graph's form share a plan; where they change it, it has its own."""
    for sizes in GROWN:
        g = random_graph(Grown(seed, sizes), device, requires_grad)
        outputs = Outputs(g.outputs())
        outputs.leaves = g.leaves
        nodes = with_gradients(outputs) if requires_grad else [t._node for t in outputs]
        check_nodes(nodes, device)
