"""The Airy function, against its series in wide floats and against PyTorch where that is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tgrad


def series(x: np.ndarray) -> np.ndarray:
    """Ai by DLMF 9.4.1, in NumPy's widest floats."""
    wide = np.longdouble(x)
    f, g = np.ones_like(wide), wide.copy()
    total_f, total_g = f.copy(), g.copy()
    for k in range(1, 80):
        f = f * wide**3 / ((3 * k - 1) * (3 * k))
        g = g * wide**3 / ((3 * k) * (3 * k + 1))
        total_f, total_g = total_f + f, total_g + g
    value, slope = 3 ** (-2 / 3) / math.gamma(2 / 3), 3 ** (-1 / 3) / math.gamma(1 / 3)
    return (value * total_f - slope * total_g).astype(np.float64)


def test_near_0(device):
    x = np.linspace(-6.0, 2.2, 500)
    found = tgrad.special.airy_ai(tgrad.tensor(x, device=device)).numpy()
    np.testing.assert_allclose(found, series(x), rtol=0, atol=2e-14)


@pytest.mark.parametrize(("low", "high", "rtol", "atol"), [(2, 80, 1e-11, 0), (-60, -8, 0, 1e-12)])
def test_far_out(low, high, rtol, atol):
    x = np.linspace(low, high, 500)
    expected = torch.special.airy_ai(torch.tensor(x)).numpy()
    found = tgrad.special.airy_ai(tgrad.tensor(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def test_dtypes():
    for values in ([1, -3, 0], [1.0, -3.0, 0.0], 1.5):
        ours = tgrad.special.airy_ai(tgrad.tensor(values))
        theirs = torch.special.airy_ai(torch.tensor(values))
        assert ours.dtype is tgrad.float32 and theirs.dtype is torch.float32
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-6)


def test_gradient():
    x = tgrad.tensor([-4.0, -2.0, -1.0, 0.0, 0.5, 2.0, 3.0], dtype=tgrad.float64)
    assert tgrad.autograd.gradcheck(tgrad.special.airy_ai, x.requires_grad_())
