"""Gradients and places of extrema of what two kernels, or two passes of one, could round
differently: a product that is added to once and used by itself as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import normal

ROWS = tuple(normal(i, 16, 75) for i in range(3))
INDEX = np.random.default_rng(3).integers(0, 16, (16, 75))

EXTREMA: dict[str, Callable[..., Any]] = {
    "amax": lambda x, m, i: x.amax(1),
    "amin": lambda x, m, i: (x - m.tanh()).amin(0),
    "max": lambda x, m, i: x.max(1).values,
    "cummax": lambda x, m, i: x.cummax(1).values,
    "max_pool": lambda x, m, i: F.max_pool1d(x, 5, 3),
    "blocks": lambda x, m, i: F.max_pool1d(x.relu(), 3),
    "scatter base": lambda x, m, i: x.scatter_reduce(0, i, m * 0.1, "amax"),
    "scatter source": lambda x, m, i: (m * 0.1).scatter_reduce(0, i, x, "amin"),
    "exp": lambda x, m, i: (x - m.exp()).amax(1),
}


def run(name: str, device: str) -> list[np.ndarray]:
    a, b, c = (tgrad.tensor(r, device=device, requires_grad=True) for r in ROWS)
    m = a * b
    x = m + c
    y = EXTREMA[name](x, m, tgrad.tensor(INDEX, device=device))
    (y.sin().sum() + m.sin().sum()).backward()
    place = x.argmax(1)
    tgrad.explain(place, a.grad, b.grad, c.grad)
    return [t.numpy() for t in (place, a.grad, b.grad, c.grad)]


@pytest.mark.parametrize("name", EXTREMA)
def test_each_extremum_has_its_gradient(name: str, device: str) -> None:
    for have, want in zip(run(name, device), run(name, "numpy"), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
