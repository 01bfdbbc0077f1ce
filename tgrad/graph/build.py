"""Short spellings for rules that build graph: gradients and rewrites.

In: nodes and Python numbers. Out: nodes. Invariant: nothing is simplified here except that a
movement or cast that changes nothing is not made; operands must already fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from tgrad.dtype import DType
from tgrad.graph.node import Node, constant_node, make
from tgrad.graph.op import Op

Shape = tuple[int, ...]
Number = bool | int | float


class Unary(Protocol):
    """`f(x)`"""

    def __call__(self, x: Node, /) -> Node: ...


class Binary(Protocol):
    """`f(a, b)`"""

    def __call__(self, a: Node, b: Node, /) -> Node: ...


neg: Unary = partial(make, Op.NEG)
exp: Unary = partial(make, Op.EXP)
log: Unary = partial(make, Op.LOG)
sin: Unary = partial(make, Op.SIN)
cos: Unary = partial(make, Op.COS)
add: Binary = partial(make, Op.ADD)
sub: Binary = partial(make, Op.SUB)
mul: Binary = partial(make, Op.MUL)
div: Binary = partial(make, Op.DIV)
power: Binary = partial(make, Op.POW)
less: Binary = partial(make, Op.LT)
equal: Binary = partial(make, Op.EQ)
both: Binary = partial(make, Op.AND)


def where(condition: Node, a: Node, b: Node) -> Node:
    return make(Op.WHERE, condition, a, b)


def const(value: Number, dtype: DType, shape: Shape = ()) -> Node:
    """A number, expanded to `shape`."""
    number = float(value) if dtype.is_float else value
    return expand_to(constant_node(number, dtype), shape)


def const_like(x: Node, value: Number) -> Node:
    """A number in the shape and dtype of `x`."""
    return const(value, x.dtype, x.shape)


def cast_to(x: Node, dtype: DType) -> Node:
    return x if x.dtype is dtype else make(Op.CAST, x, dtype=dtype)


def reshape_to(x: Node, shape: Shape) -> Node:
    return x if x.shape == shape else make(Op.RESHAPE, x, shape=shape)


def permute(x: Node, axes: Sequence[int]) -> Node:
    return x if list(axes) == list(range(len(axes))) else make(Op.PERMUTE, x, axes=tuple(axes))


def expand_to(x: Node, shape: Shape) -> Node:
    """Broadcast to `shape`, aligned at the last axis."""
    return x if x.shape == shape else make(Op.EXPAND, x, shape=shape)


def reduce_to(x: Node, shape: Shape) -> Node:
    """The inverse of `expand_to` for gradients: sum over the axes that expanding made."""
    lead = len(x.shape) - len(shape)
    padded = (1,) * lead + shape
    axes = tuple(i for i, (n, m) in enumerate(zip(x.shape, padded, strict=True)) if n != m)
    axes = tuple(sorted({*axes, *range(lead)}))
    return reshape_to(sum_over(x, axes), shape)


def sum_over(x: Node, axes: tuple[int, ...]) -> Node:
    return make(Op.REDUCE_SUM, x, axes=axes) if axes else x


def restore(x: Node, axes: tuple[int, ...], shape: Shape) -> Node:
    """The inverse of removing `axes` from `shape`: size 1 again, then expanded."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return expand_to(reshape_to(x, kept), shape)


def pad(x: Node, low: Shape, high: Shape) -> Node:
    """Zeros before and after each axis."""
    return make(Op.PAD, x, low=low, high=high) if any((*low, *high)) else x


def slice_(x: Node, start: Shape, stop: Shape, step: Shape | None = None) -> Node:
    steps = (1,) * len(start) if step is None else step
    if (start, stop, steps) == ((0,) * len(start), x.shape, (1,) * len(start)):
        return x
    return make(Op.SLICE, x, start=start, stop=stop, step=steps)


def slice_axis(x: Node, axis: int, start: int, stop: int) -> Node:
    """`x[.., start:stop, ..]`"""
    if start == 0 and stop == x.shape[axis]:
        return x
    starts = tuple(start if a == axis else 0 for a in range(len(x.shape)))
    stops = tuple(stop if a == axis else n for a, n in enumerate(x.shape))
    return slice_(x, starts, stops)


def pad_axis(x: Node, axis: int, low: int, high: int) -> Node:
    """Zeros before and after one axis."""
    before, after = (0,) * axis, (0,) * (len(x.shape) - axis - 1)
    return pad(x, (*before, low, *after), (*before, high, *after))


def fit_axis(x: Node, axis: int, low: int, size: int) -> Node:
    """`low` zeros before the axis, then cut it or fill it with zeros up to `size`."""
    kept = slice_axis(x, axis, 0, min(x.shape[axis], size - low))
    return pad_axis(kept, axis, low, size - low - kept.shape[axis])


def dilate_axis(x: Node, axis: int, step: int) -> Node:
    """`step - 1` zeros after each element: an axis of n becomes n * step."""
    if step == 1:
        return x
    shape = x.shape
    split = reshape_to(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    spread = pad_axis(split, axis + 1, 0, step - 1)
    return reshape_to(spread, (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
