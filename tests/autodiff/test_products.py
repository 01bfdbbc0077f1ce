"""Gradients of products along any axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.fusion.region import Load


@pytest.mark.parametrize("dims", [(0,), (1,), (2,), (1, 0), (2, 1), (2, 0), (2, 1, 0)])
def test_gradients_of_products(dims: tuple[int, ...]) -> None:
    """With one zero in a row and with two."""
    values = np.random.default_rng(4).standard_normal((3, 4, 5))
    values[0, 1, 2] = values[2, 1, 3] = values[2, 1, 2] = 0
    grads = []
    for lib in (tgrad, torch):
        x = lib.tensor(values, requires_grad=True)
        y = x
        for d in dims:
            y = y.prod(d)
        (y * y).sum().backward()
        grads.append(x.grad.numpy())
    np.testing.assert_allclose(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 1])
def test_products_are_scanned_where_elements_lie(dim: int) -> None:
    """No kernel reads a matrix across its rows."""
    x = tgrad.rand(40, 50, device="cpu").realize().requires_grad_()
    (grad,) = tgrad.autograd.grad(x.prod(dim).sum(), [x])
    for kernel in tgrad.explain(grad).kernels:
        last = kernel.region.axes[-1].name
        loads = [v for v in kernel.region.values if isinstance(v, Load)]
        assert all(abs(v.index.stride(last) or 0) <= 1 for v in loads)
