"""Errors of the float32 functions in units of the last place, over all exponents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.cpu_fallback.cases import Draft, call
from tgrad import cpu_fallback
from tgrad.graph.op import Op
from tgrad.settings import Settings


def _sample() -> np.ndarray:
    """Every 4099th float: all exponents, both signs, denormal numbers, infinities, NaN."""
    bits = np.arange(0, 1 << 32, 4099, dtype=np.uint64).astype(np.uint32)
    dense = np.linspace(-12, 12, 200_001).astype(np.float32)
    return np.concatenate([bits.view(np.float32), dense])


def _erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x], np.float64)


EXACT = {Op.EXP: np.exp, Op.LOG: np.log, Op.TANH: np.tanh, Op.ERF: _erf}
LIMIT = {Op.EXP: 2.0, Op.LOG: 2.0, Op.TANH: 2.0, Op.ERF: 4.0}


def error_in_ulps(have: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|have - exact| in units of the spacing of float32 at the exact value."""
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    finite = np.isfinite(nearest) & np.isfinite(have)
    spacing = np.spacing(np.abs(nearest[finite])).astype(np.float64)
    return np.abs(have[finite].astype(np.float64) - exact[finite]) / spacing


@pytest.mark.parametrize("op", EXACT, ids=str)
def test_ulps(settings: Settings, op: Op) -> None:
    x = _sample()
    d = Draft(i=x.size)
    d.store(d.op(op, d.input("x", "i")), "i")
    [artifact] = cpu_fallback.generate([d.region(f"{op}_all", "map", parallel="i")], settings)
    have = call(artifact.entry, [x, np.zeros_like(x)])[1]
    with np.errstate(all="ignore"):
        exact = EXACT[op](x.astype(np.float64))
        nearest = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(have), np.isnan(nearest))
    infinite = np.isinf(nearest)
    np.testing.assert_array_equal(have[infinite], nearest[infinite])
    assert error_in_ulps(have, exact).max() <= LIMIT[op]
