"""torch.func's transforms and checkpoints inside of `torch.compile` with tgrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap


def loss(network: nn.Module, weights: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (functional_call(network, weights, (x[None],)) - y).square().mean()


Case = Callable[[nn.Module, torch.Tensor, torch.Tensor], Any]

CASES: dict[str, Case] = {
    "gradients of each sample": lambda f, x, y: vmap(
        grad(lambda w, a, b: loss(f, w, a, b)), in_dims=(None, 0, 0)
    )(dict(f.named_parameters()), x, y),
    "jacobian, reverse": lambda f, x, y: jacrev(f)(x[0]),
    "jacobian, forward": lambda f, x, y: jacfwd(f)(x[0]),
    "hessian": lambda f, x, y: hessian(lambda a: f(a).sum())(x[0]),
    "jvp": lambda f, x, y: jvp(f, (x,), (x * 2,)),
    "vjp": lambda f, x, y: vjp(f, x)[1](y),
    "a checkpoint": lambda f, x, y: torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False),
}


@pytest.mark.parametrize("name", CASES)
def test_transform(name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(5, 4), torch.randn(5, 3)
    want = CASES[name](network, x, y)
    run = torch.compile(lambda x, y: CASES[name](network, x, y), backend="tgrad")
    for _ in range(2):
        torch.testing.assert_close(run(x, y), want, rtol=1e-4, atol=1e-5)
