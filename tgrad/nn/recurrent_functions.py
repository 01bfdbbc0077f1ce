"""Recurrent layers and cells as functions of all their weights, as torch.lstm and others are.

In: a sequence, the state before it, and weights in a list. Out: the outputs and the state after.
Invariant: nothing is computed here that the modules do not compute; see recurrence.py.
Source: https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tgrad.autocasting import under_autocast
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn.recurrence import RECURRENCES, State, Weights, walk
from tgrad.tensor import Tensor


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `nn.LSTM` computes, of weights that are given.

    Args:
        input: (L, N, features), or (N, L, features) with batch_first.
        hx: h and c before, each (layers * directions, N, size).
        params: for each layer and direction weight_ih, weight_hh, with has_biases bias_ih and
            bias_hh, and weight_hr if h is projected.
        dropout: between two layers, where `train`.

    Returns:
        The outputs, and h and c after.

    Raises:
        ShapeError: axes or the number of weights do not fit.
        UnsupportedError: `batch_sizes` of a packed sequence are given; nn.LSTM takes those.

    >>> import tgrad
    >>> x, h, c = tgrad.ones(5, 2, 4), tgrad.zeros(1, 2, 8), tgrad.zeros(1, 2, 8)
    >>> weights = [tgrad.ones(32, 4), tgrad.ones(32, 8)]
    >>> y, h, c = tgrad.lstm(x, (h, c), weights, False, 1, 0.0, False, False, False)
    >>> y.shape, h.shape
    ((5, 2, 8), (1, 2, 8))
    """
    options = has_biases, num_layers, dropout, train, bidirectional, batch_first
    outputs, (h, c) = _layers("LSTM", input, hx, params, *options)
    return outputs, h, c


def _of_one_state(mode: str, module: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function of layers that carry one state."""

    def run(
        input: Tensor,
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, Tensor]:
        options = has_biases, num_layers, dropout, train, bidirectional, batch_first
        outputs, (h,) = _layers(mode, input, hx, params, *options)
        return outputs, h

    run.__name__ = run.__qualname__ = mode.lower()
    run.__doc__ = f"""What `{module}` computes, of weights that are given; see `lstm`."""
    return run


gru = _of_one_state("GRU", "nn.GRU")
rnn_tanh = _of_one_state("RNN_TANH", "nn.RNN")
rnn_relu = _of_one_state("RNN_RELU", 'nn.RNN(nonlinearity="relu")')


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `nn.LSTMCell` computes, of weights that are given: h and c after.

    Args:
        input: (N, features).
        hx: h and c before, each (N, hidden).
        w_ih, w_hh: (4 * hidden, features) and (4 * hidden, hidden).
        b_ih, b_hh: (4 * hidden,), or None.

    Raises:
        ShapeError: axes do not fit.

    >>> import tgrad
    >>> h, c = tgrad.zeros(2, 8), tgrad.zeros(2, 8)
    >>> tgrad.lstm_cell(tgrad.ones(2, 4), (h, c), tgrad.ones(32, 4), tgrad.ones(32, 8))[0].shape
    (2, 8)
    """
    h, c = _cell("LSTM", input, tuple(hx), w_ih, w_hh, b_ih, b_hh)
    return h, c


def _cell_of_one_state(mode: str, module: str) -> Callable[..., Tensor]:
    """The function of a cell that carries one state."""

    def run(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        return _cell(mode, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]

    run.__name__ = run.__qualname__ = f"{mode.lower()}_cell"
    run.__doc__ = f"""What `{module}` computes, of weights that are given; see `lstm_cell`."""
    return run


gru_cell = _cell_of_one_state("GRU", "nn.GRUCell")
rnn_tanh_cell = _cell_of_one_state("RNN_TANH", "nn.RNNCell")
rnn_relu_cell = _cell_of_one_state("RNN_RELU", 'nn.RNNCell(nonlinearity="relu")')


def _layers(
    mode: str,
    input: Tensor,
    hx: Any,
    params: Any,
    has_biases: Any,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, State]:
    name, recurrence = mode.lower(), RECURRENCES[mode]
    if not isinstance(params, (list, tuple)) or isinstance(hx, Tensor) != (recurrence.states == 1):
        raise UnsupportedError(
            f"{name} of data with batch_sizes.", "Give a PackedSequence to the module."
        )
    if input.ndim != 3 or not input.shape[1 if batch_first else 0]:
        raise ShapeError(f"{name} of shape {input.shape}.", "Give (length, batch, features).")
    runs = num_layers * (2 if bidirectional else 1)
    plain = 4 if has_biases else 2
    size, rest = divmod(len(params), max(runs, 1))
    if rest or size - plain not in ((0, 1) if mode == "LSTM" else (0,)):
        raise ShapeError(
            f"{name} with {len(params)} weights.", f"Give {plain * runs}: {plain} for each layer "
            "and direction."
        )  # fmt: skip
    input, given, params = under_autocast(name, (input, hx, list(params)))
    state = (given,) if isinstance(given, Tensor) else tuple(given)
    weights = [_weights(params[k * size :][:size], bool(has_biases)) for k in range(runs)]
    width = runs // num_layers
    layers = [weights[k * width :][:width] for k in range(num_layers)]
    x = input.transpose(0, 1) if batch_first else input
    _check_state(name, state, recurrence.states, runs, x.shape[1])
    outputs, after = walk(recurrence, x, state, layers, dropout, train)
    return (outputs.transpose(0, 1) if batch_first else outputs), after


def _weights(params: Sequence[Tensor], has_biases: bool) -> Weights:
    first, second = (params[2], params[3]) if has_biases else (None, None)
    rest = params[4 if has_biases else 2 :]
    return Weights(params[0], params[1], first, second, rest[0] if rest else None)


def _check_state(name: str, state: State, count: int, runs: int, batch: int) -> None:
    if len(state) != count or any(s.ndim != 3 or s.shape[:2] != (runs, batch) for s in state):
        raise ShapeError(
            f"{name} with a state of shapes {', '.join(str(s.shape) for s in state)}.",
            f"Give {count}, each ({runs}, {batch}, size).",
        )


def _cell(
    mode: str,
    input: Tensor,
    state: State,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> State:
    name, recurrence = f"{mode.lower()}_cell", RECURRENCES[mode]
    shape = (*input.shape[:1], w_hh.shape[-1])
    if input.ndim != 2 or [s.shape for s in state] != [shape] * recurrence.states:
        raise ShapeError(
            f"{name} of shape {input.shape} with a state of shapes "
            f"{', '.join(str(s.shape) for s in state)}.",
            f"Give (batch, features), and for a state (batch, {w_hh.shape[-1]}).",
        )
    input, state, parts = under_autocast(name, (input, state, (w_ih, w_hh, b_ih, b_hh)))
    weights = Weights(*parts)
    return recurrence.next(recurrence.project(input, weights), state, weights)
