"""Differences of places: on Triton 3.6 one that is taken along one axis and then spread over two is
compared once for many places, and the others get its result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tgrad
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor

Mask = Callable[[Tensor, Tensor], Tensor]
"""Of places along rows [64, 1] and columns [64]."""

MASKS: dict[str, Mask] = {
    "causal": lambda row, column: row >= column,
    "distance": lambda row, column: row - column >= 0,
    "negative": lambda row, column: -column + row >= 0,
    "reversed": lambda row, column: (64 - column) + row >= 64,
    "both reversed": lambda row, column: (64 - column) - (64 - row) >= 0,
    "halves": lambda row, column: (64 - column) // 2 + row >= 40,
    "narrow": lambda row, column: (-column.to(tgrad.int16)) + row.to(tgrad.int16) >= 0,
    "unsigned": lambda row, column: row.to(tgrad.int64) + (-column) >= 0,
}


def masked(mask: Mask, device: str) -> Tensor:
    place = tgrad.arange(64, device=device)
    scores = tgrad.ones(64, 64, device=device)
    seen = mask(place[:, None], place)
    return tgrad.where(seen, scores * 2, scores * 3).sum(1) + seen.to(tgrad.float32).argmax(1)


@pytest.mark.parametrize("name", MASKS)
def test_each_place_is_compared(name: str, device: str) -> None:
    place = np.arange(64)
    seen = masked(MASKS[name], "numpy").numpy()
    np.testing.assert_array_equal(masked(MASKS[name], device).numpy(), seen)
    assert len(np.unique(seen)) > 16 and place.size == seen.size


@pytest.mark.parametrize("name", MASKS)
def test_no_difference_of_one_axis_is_spread(name: str) -> None:
    """What Triton 3.6 gets wrong is not written."""
    with planning("sm_90"), record_plans() as plans:
        masked(MASKS[name], "cuda").realize()
    for kernel in (k for plan in plans for k in plan.kernels):
        assert "(-" not in kernel.source.split("@triton.jit")[-1], kernel.source
        assert "0 - " not in kernel.source.split("@triton.jit")[-1], kernel.source
