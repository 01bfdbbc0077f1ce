"""Gradients and places of extrema of what two kernels, or two passes of one, could round
differently: a product that is added to once and used by itself as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import normal

ROWS = tuple(normal(i, 16, 75) for i in range(3))
INDEX = np.random.default_rng(3).integers(0, 16, (16, 75))

EXTREMA: dict[str, Callable[..., Any]] = {
    "amax": lambda x, m, i: x.amax(1),
    "amax of a difference": lambda x, m, i: (x - m * 0.7).amax(1),
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


@pytest.mark.parametrize("dtype", [tgrad.float32, tgrad.float64, tgrad.bfloat16], ids=str)
@pytest.mark.parametrize("reduce", ["amax", "amin"])
@pytest.mark.parametrize("base", ["numbers", "nan", "-inf", "nothing"])
def test_scattered_extrema_keep_nan(reduce: str, dtype: Any, base: str, device: str) -> None:
    """Whatever its sign and payload, and whichever number meets it first."""
    random = np.random.default_rng()
    odd = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    x, v = (random.standard_normal(n).astype(np.float32) for n in (33, 257))
    v[random.integers(0, 257, 20)] = random.choice(odd, 20)
    v[random.integers(0, 257, 20)] = random.choice(np.float32([np.inf, -np.inf, 0.0, -0.0]), 20)
    x[random.integers(0, 33, 8)] = random.choice(odd, 8)
    if base in ("nan", "-inf"):
        x[:] = float(base)
    index = random.integers(0, 33, 257)

    def of(package: Any, place: dict[str, str], kind: Any) -> Any:
        to = (package.full((33,), float(base), dtype=kind, **place) if base in ("nan", "-inf")
              else package.tensor(x, **place).to(kind))  # fmt: skip
        source, at = package.tensor(v, **place).to(kind), package.tensor(index, **place)
        return to.scatter_reduce(0, at, source, reduce, include_self=base != "nothing").double()

    have = of(tgrad, {"device": device}, dtype).numpy()
    want = of(torch, {}, getattr(torch, str(dtype).partition(".")[2])).numpy()
    np.testing.assert_array_equal(have, want)
