"""Pools under `torch.compile` with tgrad: backward finds the maxima again, and nothing keeps their
places for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tgrad.interop.operators.layers import max_pool_gradient
from tgrad.interop.torch_graph import source_of

POOLS = {
    "3x3": (F.max_pool2d, (2, 4, 9, 10), (3, 2, 1)),
    "2x2": (F.max_pool2d, (2, 4, 9, 10), (2,)),
    "not square": (F.max_pool2d, (2, 4, 9, 10), ((2, 3), (2, 1), (1, 0), (1, 2), True)),
    "1-d": (F.max_pool1d, (2, 4, 19), (3, 2, 1)),
    "3-d": (F.max_pool3d, (2, 3, 6, 7, 8), (3, 2, 1)),
}


@pytest.mark.parametrize("name", POOLS)
def test_no_places_are_kept(name: str) -> None:
    pool, shape, how = POOLS[name]
    torch._dynamo.reset()
    torch.manual_seed(0)
    kept: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept.append(t)
        return t

    run = torch.compile(lambda x: pool(x.relu(), *how).sin(), backend="tgrad")
    for _ in range(3):
        x = torch.randn(shape, requires_grad=True)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            y = run(x)
        want = pool(x.relu(), *how).sin()
        torch.testing.assert_close(y, want)
        g = torch.randn_like(y)
        for mine, theirs in zip(*(torch.autograd.grad(v, x, g) for v in (y, want)), strict=True):
            torch.testing.assert_close(mine, theirs)
        assert kept and all(t.dtype != torch.int64 for t in kept)


def test_places_that_are_asked_for_are_given() -> None:
    torch._dynamo.reset()
    run = torch.compile(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), backend="tgrad")
    x = torch.randn(2, 4, 9, 10, requires_grad=True)
    y, places = run(x)
    want, where = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert torch.equal(places, where)
    g = torch.randn_like(y)
    torch.testing.assert_close(*(torch.autograd.grad(v, x, g) for v in (y, want)))


@pytest.mark.parametrize("name", ["3x3", "not square", "3-d"])
def test_pytorch_can_run_such_a_gradient_too(name: str) -> None:
    """Where it runs a part of a graph that is no plan."""
    pool, shape, given = POOLS[name]
    x = torch.randn(shape, requires_grad=True)
    y = pool(x, *given)
    g = torch.randn_like(y)
    rank = x.ndim - 2
    how: list[Any] = [[n] * rank if type(n) is int else n for n in given]
    how += [how[0], [0] * rank, [1] * rank, False][len(how) - 1 :]
    (want,) = torch.autograd.grad(y, x, g)
    assert torch.equal(max_pool_gradient(g, x.detach(), *how), want)


def test_kernels_are_named_alike_in_each_process() -> None:
    """By what is called, not by where it lies: names are part of keys of the cache."""
    graph = torch.fx.Graph()
    node = graph.call_function(max_pool_gradient, (graph.placeholder("g"),))
    node.meta["stack_trace"] = '  File "model.py", line 3, in forward'
    assert source_of(node).label == "max_pool_gradient"
