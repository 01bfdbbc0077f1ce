"""Incomplete gamma functions: known values, ends, derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad.errors import UnsupportedError

KNOWN = (
    (0.3, 0.2, 0.6575067242697218, 0.34249327573027827),
    (2.5, 9.0, 0.9970535954121197, 0.0029464045878802906),
    (22.758369426494973, 28.923650436779823, 0.8961121215206096, 0.10388787847939045),
    (149.0, 160.0, 0.8178060154876776, 0.18219398451232235),
    (151.0, 100.0, 1.2330944191600357e-06, 0.9999987669055809),
    (1093.75, 397.5, 7.296312642808272e-181, 1.0),
    (6531384.5, 6518765.5, 3.8916115250341177e-07, 0.9999996108388475),
    (40.0, 41.0, 0.5829485789294043, 0.4170514210705957),
)
"""a, x, P and Q to all digits, by mpmath; PyTorch's float64 has errors of 1e-9 and more in some."""


def test_known_values(device):
    a, x, lower, upper = (tgrad.tensor(c, device=device, dtype=tgrad.float64) for c in zip(*KNOWN))
    for have, want in ((tgrad.igamma(a, x), lower), (tgrad.special.gammaincc(a, x), upper)):
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-12)


def test_ends():
    values = [0.0, -0.0, -1.0, 1.0, 160.0, math.inf]
    a, x = (g.reshape(-1) for g in np.meshgrid(values, values))
    for name in ("igamma", "igammac"):
        have = getattr(tgrad, name)(
            tgrad.tensor(a, device="numpy"), tgrad.tensor(x, device="numpy")
        )
        want = getattr(torch, name)(torch.tensor(a), torch.tensor(x))
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-8)
        nan = tgrad.tensor(math.nan, device="numpy")
        assert np.isnan(getattr(tgrad, name)(nan, nan * 0 + 1).numpy())


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_derivatives(name):
    a, x = abs(normal(0, 3, 5)) * 3 + 0.1, abs(normal(1, 5)) * 3 + 0.1
    found = []
    for library in (tgrad, torch):
        options = {"device": "numpy"} if library is tgrad else {}
        at = library.tensor(x.astype(np.float64), requires_grad=True, **options)
        y = getattr(library.tensor(a.astype(np.float64), **options), name)(at)
        (first,) = library.autograd.grad((y * y).sum(), at, create_graph=True)
        (second,) = library.autograd.grad(first.sin().sum(), at)
        found.append([t.detach().numpy() for t in (y, first, second)])
    for have, want in zip(*found):
        np.testing.assert_allclose(have, want, rtol=1e-7, atol=1e-9)


def test_the_first_argument_has_no_gradient():
    with pytest.raises(UnsupportedError, match="igamma: a gradient of the first argument"):
        tgrad.igamma(tgrad.ones(1, requires_grad=True), tgrad.ones(1))
