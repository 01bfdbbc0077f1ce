"""Dots and reductions of constants: the axis that is summed is in no index, only in the sum."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tgrad import nn


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_product_of_constants(device: str) -> None:
    x, w = tgrad.ones(4, 5, device=device), tgrad.full((5, 3), 2.0, device=device)
    np.testing.assert_array_equal((x @ w).numpy(), np.full((4, 3), 10, np.float32))
    assert (x @ w).sum().item() == 120.0


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_gradient_of_a_sum_is_constant(device: str) -> None:
    layer = nn.Linear(5, 3).to(device)
    layer(tgrad.ones(4, 5, device=device)).sum().backward()
    assert layer.weight.grad is not None and layer.bias is not None and layer.bias.grad is not None
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.full((3, 5), 4, np.float32))
    np.testing.assert_array_equal(layer.bias.grad.numpy(), np.full(3, 4, np.float32))
