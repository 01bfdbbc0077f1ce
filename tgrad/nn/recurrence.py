"""What recurrent layers compute: a step of an RNN, LSTM or GRU, and walks of layers over sequences.

In: the inputs' part of the gates, the state and weights. Out: the state after. Invariant: PyTorch's
order of gates; a layer multiplies the inputs of all steps with their weight at once. Where both
biases are added to a gate, they are added to those inputs, so that a step adds one product to the
graph and what follows it. Source:
https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from tgrad.errors import UnsupportedError
from tgrad.joining import cat, stack
from tgrad.nn import functional as F
from tgrad.repeating import composite
from tgrad.tensor import Tensor

State = tuple[Tensor, ...]
"""Of a layer between two steps: (h,), or (h, c) of an LSTM; each (N, size)."""


@dataclass(frozen=True)
class Weights:
    """Of one layer in one direction, or of a cell.

    Attributes:
        input: (gates * hidden, inputs).
        hidden: (gates * hidden, size of h).
        input_bias, hidden_bias: (gates * hidden,); None without.
        projection: (size of h, hidden), of an LSTM with `proj_size`; else None.
    """

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None = None


@dataclass(frozen=True)
class Recurrence:
    """What a kind of layer computes.

    Attributes:
        gates: how many there are.
        states: tensors of the state.
        adds_biases: whether both biases are added to each gate. Then they are added to the inputs
            of all steps at once.
        step: (inputs of the gates [N, gates * hidden], state, weights) -> the state after.
    """

    gates: int
    states: int
    adds_biases: bool
    step: Callable[[Tensor, State, Weights], State]

    def project(self, x: Tensor, weights: Weights) -> Tensor:
        """The inputs' part of the gates, of all steps at once: (..., gates * hidden)."""
        bias = weights.input_bias
        if bias is not None and weights.hidden_bias is not None and self.adds_biases:
            bias = bias + weights.hidden_bias
        return F.linear(x, weights.input, bias)

    def next(self, x: Tensor, state: State, weights: Weights) -> State:
        """The state after a step, whose graph is that of the step before."""
        used = {"hidden": weights.hidden, "hidden_bias": weights.hidden_bias,
                "projection": weights.projection}  # fmt: skip
        given = {name: t for name, t in used.items() if t is not None}

        def step(x: Tensor, *others: Tensor) -> State:
            before, parts = others[: len(state)], others[len(state) :]
            return self.step(x, before, replace(weights, **dict(zip(given, parts))))

        return tuple(composite(step, (self.step, *given), (x, *state, *given.values())))


def _step_tanh(x: Tensor, state: State, weights: Weights) -> State:
    """h' = tanh(x + W h)"""
    return ((x + F.linear(state[0], weights.hidden)).tanh(),)


def _step_relu(x: Tensor, state: State, weights: Weights) -> State:
    """h' = relu(x + W h)"""
    return ((x + F.linear(state[0], weights.hidden)).relu(),)


def _step_lstm(x: Tensor, state: State, weights: Weights) -> State:
    """i, f, g, o = x + W h;  c' = σ(f) c + σ(i) tanh(g);  h' = P σ(o) tanh(c')"""
    h, c = state
    i, f, g, o = (x + F.linear(h, weights.hidden)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if weights.projection is None else F.linear(h, weights.projection)), c


def _step_gru(x: Tensor, state: State, weights: Weights) -> State:
    """u = W h + b;  r = σ(x_r + u_r);  z = σ(x_z + u_z);  n = tanh(x_n + r u_n);
    h' = n + z (h - n)"""
    (h,) = state
    x_r, x_z, x_n = x.chunk(3, 1)
    u_r, u_z, u_n = F.linear(h, weights.hidden, weights.hidden_bias).chunk(3, 1)
    r, z = (x_r + u_r).sigmoid(), (x_z + u_z).sigmoid()
    n = (x_n + r * u_n).tanh()
    return (n + z * (h - n),)


RECURRENCES = {
    "RNN_TANH": Recurrence(1, 1, True, _step_tanh),
    "RNN_RELU": Recurrence(1, 1, True, _step_relu),
    "LSTM": Recurrence(4, 2, True, _step_lstm),
    "GRU": Recurrence(3, 1, False, _step_gru),
}
"""By PyTorch's `mode`."""


def mode_of(nonlinearity: str) -> str:
    """PyTorch's `mode` of an RNN.

    >>> mode_of("tanh")
    'RNN_TANH'
    """
    if nonlinearity not in ("tanh", "relu"):
        raise UnsupportedError(f"nonlinearity={nonlinearity!r}.", 'Use "tanh" or "relu".')
    return f"RNN_{nonlinearity.upper()}"


# -- sequences -----------------------------------------------------------------------------------


def walk(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    layers: Sequence[Sequence[Weights]],
    dropout: float,
    training: bool,
    inside: Tensor | None = None,
) -> tuple[Tensor, State]:
    """All layers: (L, N, inputs) to (L, N, outputs), and the state after.

    Args:
        state: before, (layers * directions, N, size) each.
        layers: the weights of each layer in its one or two directions.
        dropout: between two layers, in training.
        inside: (L, N, 1), whether a step belongs to a sequence; all do by default.
    """
    after: list[State] = []
    for layer, directions in enumerate(layers):
        if layer and dropout:
            x = F.dropout(x, dropout, training)
        outputs = []
        for is_backward, weights in enumerate(directions):
            before = tuple(s[len(after)] for s in state)
            sequence, last = _walk_layer(recurrence, x, before, weights, bool(is_backward), inside)
            outputs.append(sequence)
            after.append(last)
        x = cat(outputs, 2)
    return x, tuple(stack(parts) for parts in zip(*after, strict=True))


def _walk_layer(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    weights: Weights,
    is_backward: bool,
    inside: Tensor | None,
) -> tuple[Tensor, State]:
    """One layer in one direction: its outputs in the order of the input, the state at its end."""
    used = {f.name: getattr(weights, f.name) for f in fields(weights)} | {"inside": inside}
    given = {name: t for name, t in used.items() if t is not None}

    def walked(x: Tensor, *others: Tensor) -> Sequence[Tensor]:
        before, parts = others[: len(state)], dict(zip(given, others[len(state) :]))
        mask = parts.pop("inside", None)
        outputs, after = _steps(recurrence, x, before, replace(weights, **parts), is_backward, mask)
        return (outputs, *after)

    key = ("walk", recurrence.step, is_backward, *given)
    operands = (x, *state, *given.values())
    outputs, *after = composite(walked, key, operands, keeps_order=False)
    return outputs, tuple(after)


def _steps(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    weights: Weights,
    is_backward: bool,
    inside: Tensor | None,
) -> tuple[Tensor, State]:
    """The same, step by step."""
    gates = recurrence.project(x, weights)
    outputs = []
    for t in range(x.shape[0])[:: -1 if is_backward else 1]:
        after = recurrence.next(gates[t], state, weights)
        if inside is not None:  # a sequence that has ended, or not begun, keeps its state
            after = tuple(new.where(inside[t], old) for new, old in zip(after, state))
        state = after
        outputs.append(state[0])
    return stack(outputs[::-1] if is_backward else outputs), state
