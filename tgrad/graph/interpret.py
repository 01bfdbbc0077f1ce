"""The NumPy interpreter: what every op means, and the oracle of every generator's tests.

In: output nodes and a function that reads the buffers. Out: one NumPy array per output.
Invariant: each op is one row of one table; values are rounded to the node's dtype after every op.
floats of 16 and 8 bits compute in float32; sums and dots of floats accumulate in float64 and
transcendental functions of float32 are computed in float64, so the oracle is never the one that is
wrong by more than its last rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import OutOfRangeError
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.library import LibraryCall
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import CALLS, OPS, Kind, Op
from tgrad.graph.shape import dot_axes

Array = np.ndarray
Read = Callable[[Any], Array]


def interpret(outputs: Sequence[Node], read: Read) -> list[Array]:
    """The values of the outputs.

    Args:
        outputs: nodes to evaluate.
        read: gives the array of a buffer's `storage`.

    Returns:
        One new C-contiguous array per output, of the output's shape and dtype.

    Raises:
        OutOfRangeError: a gather or scatter has an index outside its axis.
    """
    order = toposort(outputs)
    pending = Counter(id(x) for node in order for x in node.inputs)
    pending.update(id(node) for node in outputs)
    values: dict[int, Array] = {}
    draws: dict[tuple[Node, ...], tuple[Array, ...]] = {}
    with np.errstate(all="ignore"):
        for node in order:
            arrays = [values[id(x)] for x in node.inputs]
            if node.op is Op.PHILOX:  # the words of one draw are computed together
                words = draws.get(node.inputs) or draws.setdefault(node.inputs, philox(*arrays))
                values[id(node)] = words[node.attr("word")]
            else:
                is_read = node.op is Op.BUFFER
                values[id(node)] = _read(node, read) if is_read else evaluate(node, arrays)
            for x in node.inputs:
                pending[id(x)] -= 1
                if not pending[id(x)]:
                    del values[id(x)]
    return [np.array(values[id(node)], order="C") for node in outputs]


LARGEST_CONSTANT = 2**20
"""Elements of a node that `constant_value` computes, and of each below it."""


def constant_value(node: Node, stored: Mapping[Any, Array]) -> Array | None:
    """The values of a node that draws nothing and reads no memory but what is known to be `stored`;
    None for every other, and for large ones."""
    for n in toposort([node]):
        is_known = n.op not in (Op.BUFFER, Op.PHILOX, *CALLS)
        is_known |= n.op is Op.BUFFER and n.attr("storage") in stored
        if not is_known or n.size > LARGEST_CONSTANT:
            return None
    return interpret([node], stored.__getitem__)[0]


def evaluate(node: Node, arrays: Sequence[Array]) -> Array:
    """The value of one node from the values of its inputs; any op but buffer."""
    if OPS[node.op].kind is Kind.ELEMENTWISE:
        word = node.attr("word") if node.op is Op.PHILOX else 0
        return elementwise(node.op, arrays, node.dtype, word)
    if OPS[node.op].kind is Kind.REDUCE:
        return reduce(node.op, arrays[0], node.attr("axes"))
    if OPS[node.op].kind is Kind.SCAN:
        return scan(node.op, arrays, node.attr("axis"))
    return _STRUCTURED[node.op](node, dict(node.attrs), *arrays)


def elementwise(op: Op, arrays: Sequence[Array], dtype: DType, word: int = 0) -> Array:
    """An elementwise op on arrays of its input dtypes, rounded to `dtype`."""
    with np.errstate(all="ignore"):
        if op is Op.CAST:
            return cast(arrays[0], dtype)
        if op is Op.BITCAST:
            return np.asarray(arrays[0]).view(dtype.numpy)
        if op is Op.WHERE:
            return np.where(*arrays)
        if op is Op.PHILOX:
            return philox(*arrays)[word]
        wide = [_widen(op, x) for x in arrays]
        return cast(np.asarray(_ELEMENTWISE[op](*wide)), dtype)


def reduce(op: Op, x: Array, axes: tuple[int, ...]) -> Array:
    """A reduction that removes `axes`; accumulates as the module docstring says."""
    dtype = dt.from_numpy(x.dtype)
    with np.errstate(all="ignore"):
        if not dtype.is_float:
            extra = {"dtype": x.dtype} if op in (Op.REDUCE_SUM, Op.REDUCE_PROD) else {}
            return np.asarray(_REDUCE[op](x, axis=axes, **extra))
        accumulator = dt.float64 if op is Op.REDUCE_SUM else dtype.accumulator
        return cast(np.asarray(_REDUCE[op](cast(x, accumulator), axis=axes)), dtype)


def scan(op: Op, arrays: Sequence[Array], axis: int) -> Array:
    """A scan along an axis, rounded to the arrays' dtype; floats accumulate in float64."""
    dtype = dt.from_numpy(arrays[0].dtype)
    wide = dt.float64 if dtype.is_float else dtype
    return cast(_SCAN[op](*(cast(x, wide) for x in arrays), axis=axis), dtype)


def cast(x: Array, dtype: DType) -> Array:
    """PyTorch's conversion on CPU: floats truncate to integers, anything non-zero is True."""
    have = dt.from_numpy(x.dtype)
    if have is dtype:
        return x
    with np.errstate(all="ignore"):
        return _convert(x, have, dtype)


def _convert(x: Array, have: DType, dtype: DType) -> Array:
    if dtype.is_bool:
        return np.asarray(x != 0)
    if have.is_narrow or dtype.is_narrow:
        x = x.astype(np.float32)
        x = dt.saturated(x, dtype)
    if have.is_float and dtype.is_int:
        return _to_integer(x, dtype)
    return x.astype(dtype.numpy)


def _to_integer(x: Array, dtype: DType) -> Array:
    """Floats cut to integers. C leaves open what is out of range; here it is the same on every
    device, and PyTorch's on x86: int32 and int64 have their least value there and for NaN, uint64
    its largest above, and all others wrap through int64."""
    signed = dtype if dtype in (dt.int32, dt.int64) else dt.int64
    is_inside = (x >= float(signed.min)) & (x < -float(signed.min))
    whole = np.where(is_inside, x, 0).astype(signed.numpy)
    found = np.where(is_inside, whole, signed.numpy.type(signed.min)).astype(dtype.numpy)
    if dtype is not dt.uint64:
        return found
    is_high = (x >= 2.0**63) & (x < 2.0**64)
    high = np.where(is_high, x, 0).astype(np.uint64)
    return np.where(is_high, high, np.where(x >= 2.0**64, np.uint64(dtype.max), found))


def philox(index: Array, offset: Array, key: Array) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10 of counter (lo(index), hi(index), lo(offset), hi(offset)).

    Args:
        index, offset, key: int64 of one shape; the key's words are (lo(key), hi(key)).

    Returns:
        Four uint32 arrays. Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3.
    """
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)

    def words(x: Array) -> tuple[Array, Array]:
        bits = _unexpanded(np.asarray(x)).astype(np.int64).view(np.uint64)
        return bits & low, bits >> shift

    (c0, c1), (c2, c3), (k0, k1) = words(index), words(offset), words(key)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & low, (p0 >> shift) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    shape = np.broadcast_shapes(*(np.shape(x) for x in (index, offset, key)))
    c0, c1, c2, c3 = (np.broadcast_to(c.astype(np.uint32), shape) for c in (c0, c1, c2, c3))
    return c0, c1, c2, c3


def _unexpanded(x: Array) -> Array:
    """The elements of an array that memory holds: one along each axis that it is expanded over."""
    return x[tuple(slice(None) if step else slice(0, 1) for step in x.strides)]


def _widen(op: Op, x: Array) -> Array:
    """The array in the dtype that the op computes in."""
    dtype = dt.from_numpy(x.dtype)
    if dtype.is_float and op in _TRANSCENDENTAL:
        return cast(x, dt.float64)
    return cast(x, dtype.accumulator)


def _floordiv(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.floor_divide(a, b)
    return np.where(b == 0, np.zeros_like(a), np.floor_divide(a, b))


def _mod(a: Array, b: Array) -> Array:
    if a.dtype.kind != "f":
        return np.where(b == 0, np.zeros_like(a), np.remainder(a, b))
    rest = np.fmod(a, b)
    return np.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


def _pow(a: Array, b: Array) -> Array:
    """Integers: a**b wraps; for b < 0 it is 0, except for the bases 1 and -1."""
    if a.dtype.kind == "f":
        return np.power(a, b)
    if a.dtype.kind == "u":
        return np.power(a, b)
    one = np.ones_like(a)
    inverse = np.where(a == 1, one, np.where(a == -1, np.where(b & 1, -one, one), one - one))
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0)))


def _linear_recurrence(a: Array, b: Array, axis: int) -> Array:
    """h[i] = a[i] * h[i - 1] + b[i]"""
    rows_a, rows_b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    out = np.array(rows_b)
    for i in range(1, len(out)):
        out[i] += rows_a[i] * out[i - 1]
    return np.moveaxis(out, 0, axis)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_each(x), dtype=np.float64)


_erf_each = np.frompyfunc(math.erf, 1, 1)

_TRANSCENDENTAL = frozenset(
    (Op.EXP, Op.LOG, Op.SIN, Op.COS, Op.TANH, Op.ERF, Op.SIGMOID, Op.RSQRT, Op.POW)
)  # fmt: skip

_ELEMENTWISE: dict[Op, Callable[..., Array]] = {
    Op.NEG: np.negative,
    Op.ABS: np.abs,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.SIN: np.sin,
    Op.COS: np.cos,
    Op.TANH: np.tanh,
    Op.ERF: _erf,
    Op.SIGMOID: lambda x: 1.0 / (1.0 + np.exp(-x)),
    Op.SQRT: np.sqrt,
    Op.RSQRT: lambda x: 1.0 / np.sqrt(x),
    Op.FLOOR: np.floor,
    Op.ROUND: np.rint,
    Op.TRUNC: np.trunc,
    Op.NOT: np.invert,
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.true_divide,
    Op.FLOORDIV: _floordiv,
    Op.MOD: _mod,
    Op.POW: _pow,
    Op.MAXIMUM: np.maximum,
    Op.MINIMUM: np.minimum,
    Op.AND: np.bitwise_and,
    Op.OR: np.bitwise_or,
    Op.XOR: np.bitwise_xor,
    Op.SHL: np.left_shift,
    Op.SHR: np.right_shift,
    Op.LT: np.less,
    Op.LE: np.less_equal,
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
}

_REDUCE: dict[Op, Callable[..., Array]] = {
    Op.REDUCE_SUM: np.sum,
    Op.REDUCE_PROD: np.prod,
    Op.REDUCE_MAX: np.max,
    Op.REDUCE_MIN: np.min,
}

_SCAN: dict[Op, Callable[..., Array]] = {
    Op.SCAN_SUM: np.add.accumulate,
    Op.SCAN_PROD: np.multiply.accumulate,
    Op.SCAN_MAX: np.maximum.accumulate,
    Op.SCAN_MIN: np.minimum.accumulate,
    Op.SCAN_LINEAR: _linear_recurrence,
}

Attributes = Mapping[str, Any]


def _argsort(node: Node, attrs: Attributes, x: Array) -> Array:
    places = np.argsort(x, attrs["axis"], kind="stable").astype(np.int64)
    if attrs.get("first", 0):
        np.moveaxis(places, attrs["axis"], -1)[..., attrs["first"] :] = 0
    return places


def _read(node: Node, read: Read) -> Array:
    return np.asarray(read(node.attr("storage"))).reshape(node.shape)


def _expand(node: Node, attrs: Attributes, x: Array) -> Array:
    return np.broadcast_to(x, attrs["shape"])


def _pad(node: Node, attrs: Attributes, x: Array) -> Array:
    out = np.zeros(node.shape, x.dtype)
    out[tuple(slice(a, a + n) for a, n in zip(attrs["low"], x.shape, strict=True))] = x
    return out


def _slice(node: Node, attrs: Attributes, x: Array) -> Array:
    return x[tuple(map(slice, attrs["start"], attrs["stop"], attrs["step"]))]


def _window(node: Node, attrs: Attributes, x: Array) -> Array:
    """out[.., i, .., k] = x[.., i * stride + k * dilation, ..]"""
    axis, reach = attrs["axis"], attrs["dilation"] * (attrs["size"] - 1) + 1
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis)
    starts = (slice(None),) * axis + (slice(None, None, attrs["stride"]),)
    return view[starts][..., :: attrs["dilation"]]


def _gather(node: Node, attrs: Attributes, x: Array, index: Array) -> Array:
    return x[_index(node, x.shape, index, attrs["axis"])]


def _scatter(node: Node, attrs: Attributes, base: Array, index: Array, src: Array) -> Array:
    """`set` with a repeated index keeps the last in row-major order (PyTorch leaves it open)."""
    dtype = node.dtype
    wide = dt.float64 if dtype.is_float and attrs["combine"] == "add" else dtype.accumulator
    out = np.array(cast(base, wide), order="C")
    where = _index(node, base.shape, index, attrs["axis"])
    # In one dimension `ufunc.at` takes a sixth of the time that it takes with an index for each.
    steps = (math.prod(base.shape[a + 1 :]) for a in range(base.ndim))
    places = sum((i * step for i, step in zip(where, steps)), np.zeros(index.shape, np.int64))
    _COMBINE[attrs["combine"]](out.reshape(-1), places.reshape(-1), cast(src, wide).reshape(-1))
    return cast(out, dtype)


def _set(out: Array, places: Array, src: Array) -> None:
    out[places] = src


_COMBINE: dict[str, Callable[[Array, Array, Array], None]] = {
    "set": _set,
    "add": np.add.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
    "mul": np.multiply.at,
}


def _index(node: Node, shape: tuple[int, ...], index: Array, axis: int) -> tuple[Array, ...]:
    """NumPy's index for `x[.., index[.., i, ..], ..]`, checked against the axis."""
    index = index.astype(np.int64, copy=False)
    outside = index[(index < 0) | (index >= shape[axis])]
    if outside.size:
        raise OutOfRangeError(
            f"{node.op}: index {outside.flat[0]} is out of range for axis {axis} of size "
            f"{shape[axis]} of a tensor of shape {shape}.",
            f"Indices of this axis run from 0 to {shape[axis] - 1}.",
            node.source,
        )
    places = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    places[axis] = index
    return tuple(places)


def _dot(node: Node, attrs: Attributes, a: Array, b: Array) -> Array:
    (contract_a, contract_b), (batch_a, batch_b) = attrs["contract"], attrs["batch"]
    free_a, free_b = dot_axes(a.shape, b.shape, attrs)
    batch = tuple(a.shape[i] for i in batch_a)
    inner = math.prod(a.shape[i] for i in contract_a)
    m, n = (math.prod(x.shape[i] for i in f) for x, f in ((a, free_a), (b, free_b)))
    wide = dt.float64 if node.dtype.is_float else node.dtype
    left = cast(a, wide).transpose(*batch_a, *free_a, *contract_a).reshape(*batch, m, inner)
    right = cast(b, wide).transpose(*batch_b, *contract_b, *free_b).reshape(*batch, inner, n)
    return cast(np.matmul(left, right), node.dtype).reshape(node.shape)


def _iota(node: Node, attrs: Attributes) -> Array:
    shape, axis = attrs["shape"], attrs["axis"]
    column = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(cast(column, node.dtype), shape)


def _const(node: Node, attrs: Attributes) -> Array:
    return cast(np.array(attrs["value"]), node.dtype)


def _flip(node: Node, attrs: Attributes, x: Array) -> Array:
    return np.flip(x, attrs["axes"])


def _library(node: Node, attrs: Attributes, *operands: Array) -> Array:
    shapes = tuple(x.shape for x in node.inputs)
    call = LibraryCall(attrs["function"], shapes, attrs["params"], node.dtype)
    return call.compute(operands, node.source)


def _collective(node: Node, attrs: Attributes, *operands: Array) -> Array:
    shapes = tuple(x.shape for x in node.inputs)
    return CollectiveCall(shapes=shapes, dtype=node.dtype, **attrs).compute(operands, node.source)


_STRUCTURED: dict[Op, Callable[..., Array]] = {
    Op.RESHAPE: lambda node, attrs, x: x.reshape(attrs["shape"]),
    Op.PERMUTE: lambda node, attrs, x: x.transpose(attrs["axes"]),
    Op.EXPAND: _expand,
    Op.PAD: _pad,
    Op.SLICE: _slice,
    Op.FLIP: _flip,
    Op.WINDOW: _window,
    Op.GATHER: _gather,
    Op.SCATTER: _scatter,
    Op.ARGSORT: _argsort,
    Op.DOT: _dot,
    Op.LIBRARY: _library,
    Op.COLLECTIVE: _collective,
    Op.IOTA: _iota,
    Op.CONST: _const,
    Op.CUSTOM_VJP: lambda node, attrs, result, *arguments: result,
}

INTERPRETED = frozenset(
    (
        *_ELEMENTWISE,
        *_REDUCE,
        *_SCAN,
        *_STRUCTURED,
        Op.CAST,
        Op.BITCAST,
        Op.WHERE,
        Op.PHILOX,
        Op.BUFFER,
    )
)
"""Ops that the interpreter knows: all of them, which a test asserts."""
