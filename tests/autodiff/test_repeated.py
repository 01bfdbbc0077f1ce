"""Gradients from templates: the nodes are those that the walk makes, on the same lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.autodiff import backward, repeated
from tgrad.errors import Source
from tgrad.graph.node import Node, is_leaf_mark, source_scope, toposort

TIMES = 4
"""The first call is noted, the second kept, the others are made again."""


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The outputs of the walks."""
    found: list[Node] = []
    walk = backward._walk

    def counted(output: Node, *args: Any) -> list[Node | None]:
        found.append(output)
        return walk(output, *args)

    monkeypatch.setattr(backward, "_walk", counted)
    monkeypatch.setattr(backward.node_hooks, "find", None)
    repeated._known.clear()
    return found


def leaf(*shape: int) -> Any:
    return tgrad.randn(*shape).realize().requires_grad_()


def wrt_of(output: Any) -> list[Node]:
    return [n for n in toposort([output._node]) if is_leaf_mark(n)]


def network(x: Any, w: Any, b: Any) -> Any:
    h = F.gelu(F.layer_norm(x @ w + b, (4,)))
    return F.cross_entropy((h * h).tanh(), tgrad.tensor([0, 3, 1]))


def both(output: Any, grad: Node | None = None) -> list[Node | None]:
    """The gradients, which are asserted to be those of the walk."""
    given = tgrad.ones(())._node if grad is None else grad
    wrt = wrt_of(output)
    found = backward.gradients(output._node, given, wrt, modes=())
    order = toposort([output._node])
    assert all(n is None or isinstance(n.inputs, tuple) for n in found)  # nothing waits any more
    for one, other in zip(found, backward._walk(output._node, given, wrt, False, order, None)):
        assert one is other
    return found


def test_the_graph_is_that_of_the_walk(walks: list[Node]) -> None:
    for _ in range(TIMES):
        found = both(network(leaf(3, 5), leaf(5, 4), leaf(4)))
        assert len(found) == 3
    assert len(walks) == TIMES + 2


def test_graphs_that_differ_are_told_apart(walks: list[Node]) -> None:
    x, y = leaf(3), leaf(3)
    for _ in range(TIMES):
        both((x * y).sum())
        both((x * x).sum())
        both((x * 2.0).sum())
        both((x * 3.0).sum())
        both((x * 0.0).sum())
        both((x * -0.0).sum())
        both((x * y).sum(), tgrad.full((), 2.0)._node)
        both(F.elu(x, 0.0).sum())
        both(F.elu(x, -0.0).sum())


def test_nodes_are_on_the_lines_of_their_operations(walks: list[Node]) -> None:
    for line in (3, 3, 3, 8, 8, 8):
        with source_scope(Source("train.py", line, "tanh")):
            y = leaf(7).tanh()
        (g,) = backward.gradients(y._node, y._node, wrt_of(y), modes=())
        assert g is not None
        assert g.source == Source("train.py", line, "tanh_backward")
    assert len(walks) == 3


def test_what_a_program_wrote_is_called_each_time() -> None:
    calls: list[str] = []

    class Twice(tgrad.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            calls.append("backward")
            return g * 2

    w = leaf(3)
    for turn in range(TIMES):
        Twice.apply(w).sum().backward()
        assert len(calls) == turn + 1


def test_hooks_are_called_each_time(walks: list[Node]) -> None:
    seen: list[int] = []
    for turn in range(2 * TIMES):
        y = leaf(3) * 2
        if turn >= TIMES:
            y.register_hook(lambda g, turn=turn: seen.append(turn))
        y.sum().backward()
    assert seen == [*range(TIMES, 2 * TIMES)]


def test_gradients_of_gradients(walks: list[Node]) -> None:
    for _ in range(TIMES):
        x = tgrad.tensor([0.5, 2.0], requires_grad=True)
        (g,) = tgrad.autograd.grad((x**3).sum(), x, create_graph=True)
        (gg,) = tgrad.autograd.grad((g * g).sum(), x)
        np.testing.assert_allclose(gg.numpy(), 36 * np.array([0.5, 2.0]) ** 3, rtol=1e-5)
    assert len(walks) == 4
