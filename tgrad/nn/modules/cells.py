"""Recurrent cells: one step of one layer, written out by the user.

In: an input and the state before it. Out: the state after. Invariant: PyTorch's parameter names and
initial distributions; what a step computes is in tgrad/nn/recurrence.py. Source:
https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tgrad.autocasting import is_autocast_enabled, under_autocast
from tgrad.creation import DeviceLike, empty, zeros
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.nn import init
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.nn.recurrence import RECURRENCES, Recurrence, State, Weights, mode_of
from tgrad.tensor import Tensor


class Recurrent(Module):
    """What layers and cells share: sizes, and where weights begin."""

    mode: str
    input_size: int
    hidden_size: int

    @property
    def recurrence(self) -> Recurrence:
        return RECURRENCES[self.mode]

    def reset_parameters(self) -> None:
        """Draw new initial values, uniform within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def check_input(self, input: Tensor, ranks: tuple[int, int]) -> None:
        """Raise where the input has another rank, size or dtype."""
        name, dtype = type(self).__name__, next(self.parameters()).dtype
        if not isinstance(input, Tensor):
            raise UnsupportedError(
                f"{name} of a {type(input).__name__}.", "Give a tensor; pad what is shorter."
            )
        if input.ndim not in ranks:
            raise ShapeError(
                f"{name} of shape {input.shape}.",
                f"Give {ranks[0]} axes, or {ranks[1]} with a batch.",
            )
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name} of shape {input.shape}.", f"input_size={self.input_size} is the last size."
            )
        if input.dtype is not dtype and not is_autocast_enabled(input.device.type):
            raise DTypeError(
                f"{name} of {input.dtype.name} with weights of {dtype.name}.",
                f"Convert the input, or the module: .to(tgrad.{input.dtype.name}).",
            )

    def check_state(self, state: State, shapes: Sequence[tuple[int, ...]]) -> State:
        """The state, if it has these shapes."""
        found = tuple(t.shape for t in state)
        if found != tuple(shapes):
            raise ShapeError(
                f"{type(self).__name__} with a state of shapes {', '.join(map(str, found))}.",
                f"Give {', '.join(map(str, shapes))}.",
            )
        return state


class RNNCellBase(Recurrent):
    """One step of one layer; `RNNCell`, `LSTMCell` and `GRUCell` say what it computes.

    Args:
        mode: a key of `RECURRENCES`.
        input_size, hidden_size: last sizes of input and state.
        bias: whether biases are added.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        if min(input_size, hidden_size) < 1:
            raise ShapeError(
                f"{type(self).__name__}: input_size={input_size}, hidden_size={hidden_size}.",
                "Both are at least 1.",
            )
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.bias = bias
        rows = self.recurrence.gates * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            values = Parameter(empty(rows, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, values)
        self.reset_parameters()

    def _next(self, input: Tensor, hx: State | None) -> State:
        """The state after, with a batch where the input has one."""
        self.check_input(input, (1, 2))
        rule = f"{self.mode.lower()}_cell"
        input, hx = under_autocast(rule, input), under_autocast(rule, hx)
        is_batched = input.ndim == 2
        x = input if is_batched else input.unsqueeze(0)
        if hx is None:
            zero = zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
            state: State = (zero,) * self.recurrence.states
        else:
            shape = (*input.shape[:-1], self.hidden_size)
            state = self.check_state(tuple(hx), [shape] * self.recurrence.states)
            state = state if is_batched else tuple(s.unsqueeze(0) for s in state)
        parts = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        weights = Weights(*under_autocast(rule, parts))
        after = self.recurrence.next(self.recurrence.project(x, weights), state, weights)
        return after if is_batched else tuple(s.squeeze(0) for s in after)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """h' = tanh(W x + b + V h + c), or relu.

    Args:
        input_size, hidden_size: last sizes of input and state.
        nonlinearity: "tanh" or "relu".

    >>> import tgrad
    >>> tgrad.nn.RNNCell(4, 8)(tgrad.ones(2, 4)).shape
    (2, 8)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__(mode_of(nonlinearity), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after: of input (N, input_size) and hx (N, hidden_size), N left out or not."""
        return self._next(input, None if hx is None else (hx,))[0]

    def extra_repr(self) -> str:
        words = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + words


class LSTMCell(RNNCellBase):
    """One step of an LSTM.

    >>> import tgrad
    >>> h, c = tgrad.nn.LSTMCell(4, 8)(tgrad.ones(2, 4))
    >>> h.shape, c.shape
    ((2, 8), (2, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The state after (h, c): of input (N, input_size) and hx, each (N, hidden_size), N left
        out or not."""
        h, c = self._next(input, hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of a GRU.

    >>> import tgrad
    >>> tgrad.nn.GRUCell(4, 8)(tgrad.ones(2, 4)).shape
    (2, 8)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after: of input (N, input_size) and hx (N, hidden_size), N left out or not."""
        return self._next(input, None if hx is None else (hx,))[0]
