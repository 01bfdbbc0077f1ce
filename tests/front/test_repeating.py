"""Composites whose graph is made again of templates: it is the graph that their functions make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, repeating
from tgrad.autodiff.backward import TWIN
from tgrad.graph.node import Node, rebuilt, toposort

cell, gru = nn.LSTMCell(3, 4), nn.GRUCell(3, 4)

COMPOSITES: dict[str, Callable[[Any], Any]] = {
    "layer_norm": lambda x: F.layer_norm(x, (3,)),
    "layer_norm of a weight": lambda x: F.layer_norm(x, (3,), tgrad.ones(3), eps=1e-3),
    "gelu": F.gelu,
    "gelu of tanh": lambda x: F.gelu(x, "tanh"),
    "LSTMCell": cell,
    "GRUCell": gru,
    "clipped": lambda x: nn.utils.get_total_norm([x, x * 2]),
    "clipped at the largest": lambda x: nn.utils.get_total_norm([x, x * 2], float("inf")),
}


def operand(requires_grad: bool) -> Any:
    return tgrad.randn(2, 3).realize().requires_grad_(requires_grad)


def results(found: Any) -> list[tuple[Node, bool]]:
    """Their graph, but for marks that tell it from one that was made before."""
    tensors: Sequence[Any] = found if isinstance(found, tuple) else [found]
    nodes = rebuilt([t._node for t in tensors], untwinned)
    return [(node, t.requires_grad) for node, t in zip(nodes, tensors)]


def untwinned(node: Node, same: Node) -> Node | None:
    is_twin = node.op.name == "CUSTOM_VJP" and node.attr("rule") == TWIN
    return same.inputs[0] if is_twin else None


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("name", COMPOSITES)
def test_the_graph_is_that_of_the_function(
    name: str, requires_grad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for turn in range(3):
        x = operand(requires_grad)
        if turn == 1:
            x = x.t().contiguous().t()  # another order in memory
        with tgrad.set_grad_enabled(turn != 2):
            made = results(COMPOSITES[name](x))
            with monkeypatch.context() as patch:
                patch.setattr(repeating, "modes", lambda: None)
                assert made == results(COMPOSITES[name](x))


def test_functions_are_called_once_a_line() -> None:
    calls = 0

    def twice(x: Any, y: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        return [x * 2, (y * 2).detach()]

    for _ in range(3):
        x, y = operand(True), operand(True)
        one, other = repeating.composite(twice, "twice", (x, y))
        assert (one.requires_grad, other.requires_grad) == (True, False)
    assert calls == 1
    one, _ = repeating.composite(twice, "twice", (operand(True), operand(True)))
    assert calls == 2
    labels = {n.source.label for n in toposort([one._node]) if n.op.name == "MUL"}
    assert labels == {"mul"}


def test_an_lstm_trains_as_pytorch_s() -> None:
    theirs, ours = torch.nn.LSTMCell(3, 4), nn.LSTMCell(3, 4)
    ours.load_state_dict(theirs.state_dict())
    x = np.linspace(-1, 1, 5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)
    gradients = []
    for library, net in ((torch, theirs), (tgrad, ours)):
        for _ in range(3):
            net.zero_grad()
            state = None
            for t in range(5):
                state = net(library.tensor(x[t]), state)
            (state[0] * state[1]).sum().backward()
        gradients.append([p.grad.numpy() for p in net.parameters()])
    for one, other in zip(*gradients):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
