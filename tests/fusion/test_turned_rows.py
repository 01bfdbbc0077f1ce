"""Rows that are read along memory and stored across it are two kernels, where the device asks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.fusion.device_limits import CPU_LIMITS, GPU_LIMITS, Limits
from tgrad.tensor import Tensor, tensor

rng = np.random.default_rng(29)
Function = Callable[[Tensor], Tensor]


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],))


def turned(x: Tensor) -> Tensor:
    return x.transpose(-1, -2).contiguous()


CASES: dict[str, tuple[Function, tuple[int, ...], int]] = {
    "stored across": (lambda x: turned(x.softmax(-1)), (40, 48), 2),
    "read across": (lambda x: turned(x).softmax(-1), (48, 40), 2),
    "norm, then channels first": (lambda x: norm(x).movedim(-1, 1).contiguous(), (2, 6, 8, 40), 2),
    "channels last, then norm": (lambda x: norm(x.movedim(1, -1)), (2, 40, 6, 8), 2),
    "channels first for both": (lambda x: norm(x.movedim(1, -1)).movedim(-1, 1), (2, 40, 6, 8), 1),
    "along for both": (lambda x: x.softmax(-1), (40, 48), 1),
    "turned back": (lambda x: turned(norm(turned(x))), (40, 48), 1),
    "other axes turned": (lambda x: x.softmax(-1).movedim(0, 1).contiguous(), (3, 40, 48), 1),
    "short rows": (lambda x: turned(x.softmax(-1)), (48, 24), 1),
    "few rows": (lambda x: turned(x.softmax(-1)), (24, 48), 1),
    "statistics alone": (lambda x: turned(x).logsumexp(-1), (48, 40), 1),
    "elements": (lambda x: turned(x.exp()), (40, 48), 1),
}


@pytest.mark.parametrize("limits", [CPU_LIMITS, GPU_LIMITS], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", CASES)
def test_kernels(name: str, limits: Limits) -> None:
    function, shape, kernels = CASES[name]
    x = tensor(rng.standard_normal(shape).astype(np.float32))
    made = cut([function(x)], limits)
    assert len(made) == (1 if limits.turns_rows else kernels)
    said = any("across" in reason for kernel in made for reason in kernel.reasons)
    assert said is (len(made) == 2)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    function, shape, _ = CASES[name]
    x = tensor(rng.standard_normal(shape), requires_grad=True)
    w = tensor(rng.standard_normal(function(x).shape))
    wide = (function(x) * w).sum()
    (want,) = tgrad.autograd.grad(wide, x)
    narrow = x.detach().float().requires_grad_()
    (got,) = tgrad.autograd.grad((function(narrow) * w.float()).sum(), narrow)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)
