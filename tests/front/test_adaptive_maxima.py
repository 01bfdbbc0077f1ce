"""Adaptive maxima: values, places and gradients, and that values alone need no places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal

SHAPES = [
    ((2, 3, 9, 11), (3, 4)),
    ((2, 3, 8, 6), (4, 2)),
    ((3, 5, 7), (1, 1)),
    ((2, 2, 4, 3), (1, 3)),
]


@pytest.mark.parametrize("shape, size", SHAPES)
@pytest.mark.parametrize("special", [False, True])
def test_values_places_and_gradients(shape, size, special, device):
    """Equal elements: the first; NaN is larger than all numbers."""
    x = np.round(normal(0, *shape) * 2)
    if special:
        x.reshape(-1)[::7], x[0, 0, 0] = np.nan, -np.inf
    a = torch.tensor(x, requires_grad=True)
    b = tgrad.tensor(x, device=device, requires_grad=True)
    want, places = torch.nn.functional.adaptive_max_pool2d(a, size, return_indices=True)
    have, found = tgrad.nn.functional.adaptive_max_pool2d(b, size, return_indices=True)
    np.testing.assert_array_equal(have.numpy(), want.detach().numpy())
    weights = normal(1, *want.shape)
    (want * torch.tensor(weights)).sum().backward()
    (have * tgrad.tensor(weights, device=device)).sum().backward()
    if not special:
        np.testing.assert_array_equal(found.numpy(), places.numpy())
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-6)


def test_values_alone_need_no_places():
    x = tgrad.tensor(normal(0, 2, 3, 9, 11), device="cpu")
    values = tgrad.nn.functional.adaptive_max_pool2d(x, (3, 4))
    assert not any("argmax" in k.source or "i64" in k.name for k in tgrad.explain(values).kernels)
    assert all("reduce_min" not in k.source for k in tgrad.explain(values).kernels)
