"""Composites whose graph is made again of templates: it is the graph that their functions make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, repeating
from tgrad.aliases import COPY
from tgrad.autodiff.backward import TWIN
from tgrad.graph.node import Node, below, rebuilt, toposort
from tgrad.graph.op import Op

cell, gru = nn.LSTMCell(3, 4), nn.GRUCell(3, 4)
classes, rows, counts = (tgrad.tensor(v) for v in ([0, 2], [1, 0, 1], [1]))
grid = tgrad.zeros(1, 2, 2, 2).realize()
heads, lstm = nn.MultiheadAttention(3, 1, batch_first=True), nn.LSTM(3, 4)

COMPOSITES: dict[str, Callable[[Any], Any]] = {
    "layer_norm": lambda x: F.layer_norm(x, (3,)),
    "layer_norm of a weight": lambda x: F.layer_norm(x, (3,), tgrad.ones(3), eps=1e-3),
    "rms_norm": lambda x: F.rms_norm(x, (3,), tgrad.ones(3)),
    "group_norm": lambda x: F.group_norm(x.reshape(1, 2, 3), 2, tgrad.ones(2)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, tgrad.ones(3), training=True),
    "batch_norm by running": lambda x: F.batch_norm(x, tgrad.zeros(3), tgrad.ones(3)),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: F.log_softmax(x, 0),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention with a mask": lambda x: F.scaled_dot_product_attention(x, x, x, tgrad.zeros(2, 2)),
    "attention of turned heads": lambda x: F.scaled_dot_product_attention(x.t(), x.t(), x.t()),
    "cross_entropy": lambda x: F.cross_entropy(x, classes, label_smoothing=0.1),
    "nll_loss": lambda x: F.nll_loss(x, classes, tgrad.ones(3), reduction="none"),
    "bce": lambda x: F.binary_cross_entropy_with_logits(x, tgrad.ones(2, 3)),
    "embedding": lambda x: F.embedding(rows, x, padding_idx=0),
    "conv1d": lambda x: F.conv1d(x.reshape(1, 2, 3), tgrad.ones(4, 2, 2), padding="same"),
    "conv2d": lambda x: F.conv2d(x.reshape(1, 1, 2, 3), tgrad.ones(1, 1, 2, 2), tgrad.ones(1)),
    "conv_transpose1d": lambda x: F.conv_transpose1d(
        x.reshape(1, 2, 3), tgrad.ones(2, 1, 2), None, 2
    ),
    "max_pool1d": lambda x: F.max_pool1d(x.reshape(1, 2, 3), 2, 1),
    "max_pool1d and places": lambda x: F.max_pool1d(x.reshape(1, 2, 3), 2, return_indices=True),
    "avg_pool1d": lambda x: F.avg_pool1d(x.reshape(1, 2, 3), 2, padding=1),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x.reshape(1, 2, 3), 2),
    "interpolate": lambda x: F.interpolate(x.reshape(1, 1, 2, 3), scale_factor=2, mode="bilinear"),
    "cat": lambda x: tgrad.cat([x, x * 2], 1),
    "heads": lambda x: heads(x[None], x[None], x[None], need_weights=False)[0],
    "heads and weights": lambda x: heads(x[None], x[None], x[None]),
    "elu": lambda x: F.elu(x, 0.5),
    "softplus": F.softplus,
    "huber_loss": lambda x: F.huber_loss(x, x * 2, delta=0.5),
    "triplet": lambda x: F.triplet_margin_loss(x, x * 2, x + 1),
    "grid_sample": lambda x: F.grid_sample(x.reshape(1, 1, 2, 3), grid, align_corners=False),
    "fold": lambda x: F.fold(x.reshape(1, 6, 1).expand(1, 6, 4)[:, :4], (3, 3), 2),
    "ctc_loss": lambda x: F.ctc_loss(x.reshape(2, 1, 3), classes[1:].reshape(1, 1), counts, counts),
    "var": lambda x: x.var(-1),
    "std and mean": lambda x: tgrad.std_mean(x, 0),
    "logsumexp": lambda x: x.logsumexp(0),
    "LSTM": lambda x: lstm(x.reshape(2, 1, 3))[0],
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
    """Their graph, but for numbered marks that tell it from one that was made before."""
    tensors: Sequence[Any] = found if isinstance(found, tuple) else [found]
    nodes = rebuilt([t._node for t in tensors], untwinned)
    return [(node, t.requires_grad) for node, t in zip(nodes, tensors)]


def untwinned(node: Node, same: Node) -> Node | None:
    """What numbered marks mark; and the values of a leaf, which is detached as its buffer where it
    is known to be one."""
    if node.op is not Op.CUSTOM_VJP or node.attr("rule") not in (TWIN, COPY, "detach"):
        return None
    return (
        below(same.inputs[0], (Op.CUSTOM_VJP,)) if node.attr("rule") == "detach" else same.inputs[0]
    )


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


@pytest.mark.parametrize("name", ["dropout", "attention"])
def test_draws_are_those_of_the_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, and as many, whether a template is made, is there, or is not asked for."""
    draw = {
        "dropout": lambda x: F.dropout(x, 0.3),
        "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3),
    }[name]
    x, found = tgrad.randn(5, 6).requires_grad_(), []
    for turn in range(4):
        tgrad.manual_seed(3)
        with monkeypatch.context() as patch:
            if turn == 3:
                patch.setattr(repeating, "modes", lambda: None)
            found.append([draw(x).tolist(), draw(x).tolist(), tgrad.get_rng_state().tolist()])
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][0] != found[0][1]


def test_parameters_and_buffers_are_as_other_tensors() -> None:
    """Frozen ones, too; of a class that a program wrote the function is called."""

    class Own(tgrad.Tensor):
        pass

    calls: list[Any] = []

    def twice(x: Any) -> list[Any]:
        calls.append(x)
        return [x * 2]

    for _ in range(3):
        values = tgrad.ones(2).realize()
        for x in (values, nn.Parameter(values), nn.Parameter(values, False), nn.Buffer(values)):
            repeating.composite(twice, "classes", (x,))
    assert len(calls) == 2, "with a gradient and without"
    own = values.as_subclass(Own) if hasattr(values, "as_subclass") else Own(values)
    repeating.composite(twice, "classes", (own,))
    assert calls[2] is own


def test_arguments_may_be_tuples_with_names() -> None:
    class Pair(NamedTuple):
        height: int
        width: int

    x = tgrad.randn(1, 1, 4, 6).requires_grad_()
    for _ in range(2):
        assert F.avg_pool2d(x, Pair(2, 3)).shape == (1, 1, 2, 2)


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
