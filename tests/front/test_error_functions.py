"""Error functions against those of Python, relative to their values."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tgrad
from tgrad import dtype as dt

PLACES = np.concatenate([np.linspace(-6.0, 26.0, 4097), np.linspace(0.9, 3.0, 1025)])


@pytest.mark.parametrize(("dtype", "limit"), [(dt.float64, 2e-15), (dt.float32, 1.2e-7)], ids=str)
def test_erfc_keeps_its_digits_far_out(dtype: dt.DType, limit: float) -> None:
    x = tgrad.tensor(PLACES[(9.0 if dtype is dt.float32 else 26.0) > PLACES], dtype=dtype)
    want = np.array([math.erfc(v) for v in x.tolist()])
    np.testing.assert_allclose(np.array(x.erfc().tolist()), want, rtol=limit, atol=0)


def test_erfcx_is_erfc_without_its_exponential() -> None:
    x = PLACES[(PLACES >= -1.0) & (PLACES <= 5.0)]
    want = np.array([math.erfc(v) * math.exp(v * v) for v in x])
    np.testing.assert_allclose(tgrad.tensor(x).erfcx().numpy(), want, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [dt.float64, dt.float32], ids=str)
def test_ends(dtype: dt.DType) -> None:
    x = tgrad.tensor([math.inf, -math.inf, math.nan, 0.0, 30.0, 1e30, -1e30], dtype=dtype)
    np.testing.assert_array_equal(x.erfc().numpy(), [0, 2, math.nan, 1, 0, 0, 2])
    scaled = x[:4].erfcx().numpy()
    np.testing.assert_array_equal(scaled, [0, math.inf, math.nan, 1])
