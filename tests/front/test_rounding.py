"""16-bit functions that round once: every positive number beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import normal
from tgrad.errors import UnsupportedError


def all_positive(kind: str) -> torch.Tensor:
    bits = torch.arange(1 << 15, dtype=torch.int16)
    values = bits.view(getattr(torch, kind))
    return values[torch.isfinite(values) & (values > 0)]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["log2", "log10", "tan"])
def test_functions(name: str, kind: str) -> None:
    values = all_positive(kind)
    x = tgrad.tensor(values.double().numpy(), dtype=getattr(tgrad, kind), device="numpy")
    got = getattr(tgrad, name)(x).double().numpy()
    want = getattr(torch, name)(values).double().numpy()
    assert np.count_nonzero(got != want) <= 1  # PyTorch's float32 is an ulp off at a tie


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sums_of_products(kind: str, device: str) -> None:
    arrays = [normal(seed, 20, 30) for seed in range(3)] + [normal(4, 10, 30), normal(5, 10)]
    mine = [tgrad.tensor(a, dtype=getattr(tgrad, kind), device=device) for a in arrays]
    theirs = [torch.tensor(a).to(getattr(torch, kind)) for a in arrays]
    for function in (
        lambda t, f, a, b, c, w, v: t.addcmul(a, b, c, value=0.7),
        lambda t, f, a, b, c, w, v: t.addcdiv(a, b, c, value=0.7),
        lambda t, f, a, b, c, w, v: f.linear(a, w, v),
    ):
        got = function(tgrad, F, *mine)
        want = function(torch, torch.nn.functional, *theirs)
        assert got.dtype.name == kind
        difference = got.double().numpy() != want.double().numpy()
        assert np.count_nonzero(difference) <= difference.size // 100


def test_gather_has_no_sparse_gradient() -> None:
    with pytest.raises(UnsupportedError, match="gather with sparse_grad=True"):
        tgrad.ones(2).gather(0, tgrad.tensor([0]), sparse_grad=True)
