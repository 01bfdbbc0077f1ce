"""Shape and dtype rules of every op.

In: an op, its inputs (anything with shape and dtype) and attributes. Out: shape and dtype of the
result, or an error that names both operands. Invariant: no op needs data to know its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, Protocol

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.library import LibraryCall
from tgrad.graph.op import OPS, ROWWISE, Op, takes

Shape = tuple[int, ...]


class Typed(Protocol):
    """What a rule may look at."""

    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> DType: ...


def infer(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> tuple[Shape, DType]:
    """Shape and dtype of `op(*inputs, **attrs)`.

    Raises:
        ShapeError: shapes do not fit the op or each other.
        DTypeError: dtypes do not fit the op or each other.
        UnsupportedError: the op computes, and an input is a float of 8 bits.
    """
    rule = _RULES[op]
    if len(inputs) != rule.arity >= 0:
        raise ShapeError(f"{op} takes {rule.arity} inputs, got {len(inputs)}.")
    for x in inputs:
        if x.dtype not in rule.takes:
            _check_dtype(op, x, inputs, attrs)
    return rule.shape(op, inputs, attrs), rule.dtype(op, inputs, attrs)


def _check_dtype(op: Op, x: Typed, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> None:
    is_computed = not takes(op, x.dtype) or attrs.get("combine", "set") != "set"
    if x.dtype.is_float8 and is_computed:
        raise UnsupportedError(
            f"{op} of {x.dtype.name}: 8-bit floats are for storage and matrix products.",
            "Cast it first, such as x.to(tgrad.float32).",
        )
    if not takes(op, x.dtype) and not (op is Op.WHERE and x is inputs[0]):
        raise DTypeError(f"{op} does not take {x.dtype.name}.", "Cast the operand first.")


def _first_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    return inputs[0].dtype


def _common_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    first = inputs[0].dtype
    for x in inputs[1:]:
        if x.dtype is not first:
            raise DTypeError(f"{op} of {first.name} and {x.dtype.name}.", "Cast one of them first.")
    return first


def _bool_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    _common_dtype(op, inputs, attrs)
    return dt.bool_


def _attr_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    dtype: DType = attrs["dtype"]
    return dtype


def _where_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    if not inputs[0].dtype.is_bool:
        raise DTypeError(f"where needs a bool condition, got {inputs[0].dtype.name}.")
    return _common_dtype(op, inputs[1:], attrs)


def _scatter_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    return _common_dtype(op, (inputs[0], inputs[2]), attrs)


def _bitcast_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    dtype: DType = attrs["dtype"]
    if dtype.itemsize != inputs[0].dtype.itemsize:
        raise DTypeError(f"bitcast from {inputs[0].dtype.name} to {dtype.name} changes the size.")
    return dtype


def _dot_dtype(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> DType:
    a, b = inputs[0].dtype, inputs[1].dtype
    if not _may_meet(a, b):
        raise DTypeError(f"dot of {a.name} and {b.name}.", "Cast one of them first.")
    return _attr_dtype(op, inputs, attrs)


def _may_meet(a: DType, b: DType) -> bool:
    """Whether a dot takes both: the same dtype, or two of the 8-bit floats."""
    return a is b or (a.is_float8 and b.is_float8)


def _same_shape(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    first = inputs[0].shape
    for x in inputs[1:]:
        if x.shape != first:
            raise ShapeError(
                f"{op} of shapes {first} and {x.shape}.", "Expand them to one shape first."
            )
    return first


def _reduce(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, axes = inputs[0].shape, attrs["axes"]
    if tuple(sorted(set(axes))) != axes or any(not 0 <= a < len(shape) for a in axes):
        raise ShapeError(f"{op} over axes {axes} of shape {shape}.")
    if op in (Op.REDUCE_MAX, Op.REDUCE_MIN) and any(shape[a] == 0 for a in axes):
        raise ShapeError(
            f"{op} over an empty axis of shape {shape} has no value.",
            "Give the axis at least one element.",
        )
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def _along_row(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, axis = _same_shape(op, inputs, attrs), attrs["axis"]
    if not 0 <= axis < len(shape):
        raise ShapeError(f"{op} along axis {axis} of shape {shape}.")
    return shape


def _reshape(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape = attrs["shape"]
    if prod(shape) != prod(inputs[0].shape):
        raise ShapeError(
            f"shape {inputs[0].shape} has {prod(inputs[0].shape)} elements and cannot be "
            f"reshaped to {shape} with {prod(shape)}."
        )
    return shape


def _permute(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, axes = inputs[0].shape, attrs["axes"]
    if sorted(axes) != list(range(len(shape))):
        raise ShapeError(f"permute of shape {shape} by {axes}: each axis must stand once.")
    return tuple(shape[a] for a in axes)


def _expand(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    have, want = inputs[0].shape, attrs["shape"]
    if not have:
        return want
    padded = (1,) * (len(want) - len(have)) + have
    if len(have) > len(want) or any(h not in (1, w) for h, w in zip(padded, want)):
        raise ShapeError(
            f"shape {have} cannot be expanded to {want}.",
            "Sizes must be equal or 1, counted from the last axis.",
        )
    return want


def _pad(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, low, high = inputs[0].shape, attrs["low"], attrs["high"]
    if len(low) != len(shape) or len(high) != len(shape) or min((*low, *high), default=0) < 0:
        raise ShapeError(f"pad of shape {shape} by {low} before and {high} after.")
    return tuple(n + a + b for n, a, b in zip(shape, low, high))


def _slice(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, start, stop, step = inputs[0].shape, attrs["start"], attrs["stop"], attrs["step"]
    for n, a, b, s in zip(shape, start, stop, step, strict=True):
        if not (0 <= a <= b <= n and s >= 1):
            raise ShapeError(f"slice [{a}:{b}:{s}] of an axis of size {n} in shape {shape}.")
    return tuple(-(-(b - a) // s) for a, b, s in zip(start, stop, step))


def _flip(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    if any(not 0 <= a < len(inputs[0].shape) for a in attrs["axes"]):
        raise ShapeError(f"flip of axes {attrs['axes']} of shape {inputs[0].shape}.")
    return inputs[0].shape


def window_misfit(shape: Shape, axis: int, size: int, dilation: int) -> ShapeError:
    """Says that an axis has no window."""
    return ShapeError(
        f"a window of {size} elements, {dilation} apart, does not fit axis {axis} of shape "
        f"{shape}.",
        "Pad the input or take a smaller window.",
    )


def _window(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shape, axis = inputs[0].shape, attrs["axis"]
    reach = attrs["dilation"] * (attrs["size"] - 1) + 1
    if not 0 <= axis < len(shape) or shape[axis] < reach or min(attrs["stride"], attrs["size"]) < 1:
        raise window_misfit(shape, axis, attrs["size"], attrs["dilation"])
    out = (shape[axis] - reach) // attrs["stride"] + 1
    return (*shape[:axis], out, *shape[axis + 1 :], attrs["size"])


def _gather(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    x, index = inputs[0], inputs[1]
    _check_index(op, x.shape, index, attrs["axis"])
    return index.shape


def _scatter(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    base, index, src = inputs
    _check_index(op, base.shape, index, attrs["axis"])
    if src.shape != index.shape:
        raise ShapeError(f"scatter of shape {src.shape} with an index of shape {index.shape}.")
    return base.shape


def _check_index(op: Op, shape: Shape, index: Typed, axis: int) -> None:
    if not index.dtype.is_int:
        raise DTypeError(f"{op} needs an integer index, got {index.dtype.name}.")
    fits = len(shape) == len(index.shape) and 0 <= axis < len(shape)
    if not fits or any(a != axis and m > n for a, (m, n) in enumerate(zip(index.shape, shape))):
        raise ShapeError(f"{op} along axis {axis} of {shape} with an index of {index.shape}.")


def dot_axes(
    a: Shape, b: Shape, attrs: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Free axes of both operands of a dot, in order."""
    (ca, cb), (ba, bb) = attrs["contract"], attrs["batch"]
    return other_axes(len(a), (*ca, *ba)), other_axes(len(b), (*cb, *bb))


@cache
def other_axes(rank: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that are not among these, in order."""
    return tuple(i for i in range(rank) if i not in axes)


def _dot(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    a, b = inputs[0].shape, inputs[1].shape
    (ca, cb), (ba, bb) = attrs["contract"], attrs["batch"]
    if [a[i] for i in ca] != [b[j] for j in cb] or [a[i] for i in ba] != [b[j] for j in bb]:
        raise ShapeError(
            f"dot of shapes {a} and {b}: axes {ca} of the first and {cb} of the second are "
            f"contracted and must have equal sizes.",
        )
    free_a, free_b = dot_axes(a, b, attrs)
    return tuple([a[i] for i in ba + free_a] + [b[j] for j in free_b])


def _library(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shapes = tuple(x.shape for x in inputs)
    return LibraryCall(attrs["function"], shapes, attrs["params"], inputs[0].dtype).shape


def _collective(op: Op, inputs: Sequence[Typed], attrs: Mapping[str, Any]) -> Shape:
    shapes = tuple(x.shape for x in inputs)
    return CollectiveCall(shapes=shapes, dtype=inputs[0].dtype, **attrs).shape


_SHAPE_RULES: dict[Op, Callable[[Op, Sequence[Typed], Mapping[str, Any]], Shape]] = {
    Op.REDUCE_SUM: _reduce,
    Op.REDUCE_PROD: _reduce,
    Op.REDUCE_MAX: _reduce,
    Op.REDUCE_MIN: _reduce,
    **dict.fromkeys(ROWWISE, _along_row),
    Op.RESHAPE: _reshape,
    Op.PERMUTE: _permute,
    Op.EXPAND: _expand,
    Op.PAD: _pad,
    Op.SLICE: _slice,
    Op.FLIP: _flip,
    Op.WINDOW: _window,
    Op.GATHER: _gather,
    Op.SCATTER: _scatter,
    Op.DOT: _dot,
    Op.LIBRARY: _library,
    Op.COLLECTIVE: _collective,
    Op.IOTA: lambda op, inputs, attrs: attrs["shape"],
    Op.CONST: lambda op, inputs, attrs: (),
    Op.BUFFER: lambda op, inputs, attrs: attrs["storage"].shape,
    Op.CUSTOM_VJP: lambda op, inputs, attrs: inputs[0].shape,
}

_RESULTS = {"same": _common_dtype, "bool": _bool_dtype, "attr": _attr_dtype}
"""By what the table of ops says."""

_DTYPE_RULES: dict[Op, Callable[[Op, Sequence[Typed], Mapping[str, Any]], DType]] = {
    **{op: _RESULTS[spec.result] for op, spec in OPS.items()},
    Op.GATHER: _first_dtype,
    Op.COLLECTIVE: _first_dtype,
    Op.CUSTOM_VJP: _first_dtype,
    Op.WHERE: _where_dtype,
    Op.SCATTER: _scatter_dtype,
    Op.BITCAST: _bitcast_dtype,
    Op.DOT: _dot_dtype,
    Op.PHILOX: lambda op, inputs, attrs: dt.uint32,
    Op.ARGSORT: lambda op, inputs, attrs: dt.int64,
    Op.BUFFER: lambda op, inputs, attrs: attrs["storage"].dtype,
}


@dataclass(frozen=True, slots=True)
class _Rule:
    """All that `infer` asks about an op, at hand.

    Attributes:
        arity: number of inputs; -1 for "one or more".
        takes: dtypes that every input may have without a closer look.
        shape, dtype: of the result.
    """

    arity: int
    takes: frozenset[DType]
    shape: Callable[[Op, Sequence[Typed], Mapping[str, Any]], Shape]
    dtype: Callable[[Op, Sequence[Typed], Mapping[str, Any]], DType]


_RULES = {
    op: _Rule(
        spec.arity,
        frozenset(d for d in dt.DTYPES.values() if takes(op, d) and not d.is_float8),
        _SHAPE_RULES.get(op, _same_shape),
        _DTYPE_RULES[op],
    )
    for op, spec in OPS.items()
}
