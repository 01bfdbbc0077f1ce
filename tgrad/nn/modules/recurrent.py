"""Recurrent layers over sequences: RNN, LSTM, GRU.

In: a sequence and the state before it. Out: the outputs of the last layer and the state after it.
Invariant: PyTorch's parameter names and initial distributions; a layer multiplies the inputs of all
steps with their weight at once. Source:
https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers
"""

from __future__ import annotations

import warnings
from typing import Any

from tgrad.autocasting import under_autocast
from tgrad.creation import DeviceLike, empty, zeros
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.methods.sizes import is_sized
from tgrad.nn.modules.cells import Recurrent
from tgrad.nn.parameter import Parameter
from tgrad.nn.recurrence import State, Weights, mode_of, walk
from tgrad.nn.utils.rnn import PackedSequence, inside_of
from tgrad.tensor import Tensor


class RNNBase(Recurrent):
    """Layers over a sequence; `RNN`, `LSTM` and `GRU` say what a step computes.

    Args:
        mode: a key of `RECURRENCES`.
        input_size: last size of the input.
        hidden_size: of the state.
        num_layers: each takes the outputs of the one before.
        bias: whether steps add biases.
        batch_first: whether the input is (N, L, input_size) and not (L, N, input_size).
        dropout: probability, in training, of an element between two layers to be zero.
        bidirectional: whether each layer walks backward too; its outputs stand beside.
        proj_size: size of a projected h, of an LSTM; 0 without.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            raise ShapeError(
                f"{name}: input_size={input_size}, hidden_size={hidden_size}, "
                f"num_layers={num_layers}.",
                "All are at least 1.",
            )
        if not 0 <= dropout <= 1:
            raise ShapeError(f"{name}: dropout={dropout}.", "A probability is 0 to 1.")
        if not 0 <= proj_size < hidden_size or (proj_size and mode != "LSTM"):
            raise ShapeError(
                f"{name}: proj_size={proj_size}.", "An LSTM may project to fewer than hidden_size."
            )
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} is between layers; there is one.", stacklevel=3
            )
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        self.proj_size = proj_size
        rows, output = self.recurrence.gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            inputs = output * len(self._directions) if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, inputs),
                "weight_hh": (rows, output),
            }
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (output, hidden_size)
            for direction in self._directions:
                for part, shape in shapes.items():
                    values = empty(shape, device=device, dtype=dtype)
                    setattr(self, f"{part}_l{layer}{direction}", Parameter(values))
        self.reset_parameters()

    @property
    def _directions(self) -> tuple[str, ...]:
        """The endings of the parameters' names."""
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        runs = [(k, d) for k in range(self.num_layers) for d in self._directions]
        return [[p for p in self._run(*run) if p is not None] for run in runs]

    def flatten_parameters(self) -> None:
        """Nothing to do: a plan reads each parameter where it lies."""

    def _weights(self, layer: int, direction: str) -> Weights:
        return Weights(*under_autocast(self.mode.lower(), self._run(layer, direction)))

    def _run(self, layer: int, direction: str) -> tuple[Any, ...]:
        """The weights of a layer in one direction, in the order of `Weights`."""
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return tuple(getattr(self, f"{part}_l{layer}{direction}", None) for part in parts)

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | State | None = None
    ) -> tuple[Any, Tensor | State]:
        """Walk over a sequence.

        Args:
            input: (L, N, input_size), with `batch_first` (N, L, input_size); or (L, input_size);
                or a PackedSequence.
            hx: the state before: (layers * directions, N, size), of an LSTM two of them; without N
                where the input has none. Zeros by default.

        Returns:
            The outputs of the last layer, shaped as the input, and the state after, as `hx`: of a
            PackedSequence, the state at the end of each sequence.

        Raises:
            ShapeError: sizes do not fit, or the sequence is empty.
            DTypeError: of input and weights differ.
        """
        if isinstance(input, PackedSequence):
            self.check_input(input.padded, (3, 3))
            rule = self.mode.lower()
            x, hx = under_autocast(rule, input.padded), under_autocast(rule, hx)
            inside = inside_of(input.lengths, x.shape[0], 3)
            outputs, state = self._walk(x, self._state_before(hx, x, True), inside)
            return input.like(outputs), (state if self.recurrence.states > 1 else state[0])
        self.check_input(input, (2, 3))
        rule = self.mode.lower()
        input, hx = under_autocast(rule, input), under_autocast(rule, hx)
        is_batched = input.ndim == 3
        axis = 0 if self.batch_first else 1
        x = input if is_batched else input.unsqueeze(axis)
        x = x.transpose(0, 1) if self.batch_first else x
        if is_sized(x.shape[0]) or not x.shape[0]:
            raise ShapeError(
                f"{type(self).__name__} over a sequence of length {x.shape[0]}.",
                "The length is a number, and at least 1.",
            )
        outputs, state = self._walk(x, self._state_before(hx, x, is_batched))
        outputs = outputs.transpose(0, 1) if self.batch_first else outputs
        if not is_batched:
            outputs, state = outputs.squeeze(axis), tuple(s.squeeze(1) for s in state)
        return outputs, (state if self.recurrence.states > 1 else state[0])

    def _state_before(self, hx: Tensor | State | None, x: Tensor, is_batched: bool) -> State:
        """`hx` with a batch, or zeros: (layers * directions, N, size) each."""
        count, batch = self.num_layers * len(self._directions), x.shape[1]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self.recurrence.states]
        if hx is None:
            made = (zeros(count, batch, n, dtype=x.dtype, device=x.device) for n in sizes)
            return tuple(made)
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        middle = (batch,) if is_batched else ()
        checked = self.check_state(given, [(count, *middle, n) for n in sizes])
        return checked if is_batched else tuple(s.unsqueeze(1) for s in checked)

    def _walk(self, x: Tensor, state: State, inside: Tensor | None = None) -> tuple[Tensor, State]:
        """All layers: (L, N, inputs) to (L, N, outputs), and the state after.

        Args:
            inside: (L, N, 1), whether a step belongs to a sequence; all do by default.
        """
        layers = [[self._weights(k, d) for d in self._directions] for k in range(self.num_layers)]
        return walk(self.recurrence, x, state, layers, self.dropout, self.training, inside)

    def extra_repr(self) -> str:
        words = [f"{self.input_size}, {self.hidden_size}"]
        usual = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
            "bidirectional": False,
        }  # fmt: skip
        words += [
            f"{key}={getattr(self, key)}" for key, v in usual.items() if getattr(self, key) != v
        ]
        return ", ".join(words)


class RNN(RNNBase):
    """h' = tanh(W x + b + V h + c), or relu; see `RNNBase` for the arguments.

    Args:
        nonlinearity: "tanh" or "relu".

    >>> import tgrad
    >>> outputs, state = tgrad.nn.RNN(4, 8)(tgrad.ones(5, 2, 4))
    >>> outputs.shape, state.shape
    ((5, 2, 8), (1, 2, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__(
            mode_of(nonlinearity), input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory; see `RNNBase` for the arguments.

    >>> import tgrad
    >>> lstm = tgrad.nn.LSTM(4, 8, num_layers=2, batch_first=True, bidirectional=True)
    >>> outputs, (h, c) = lstm(tgrad.ones(2, 5, 4))
    >>> outputs.shape, h.shape, c.shape
    ((2, 5, 16), (4, 2, 8), (4, 2, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units; see `RNNBase` for the arguments.

    >>> import tgrad
    >>> outputs, state = tgrad.nn.GRU(4, 8)(tgrad.ones(5, 4))
    >>> outputs.shape, state.shape
    ((5, 8), (1, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            0, device, dtype,
        )  # fmt: skip
