"""Canonical rules for reductions and dots.

In: a reduction or dot. Out: an equal node without work over trivial axes. Invariant: what is
accumulated in `dtype.accumulator` still is.
"""

from __future__ import annotations

from math import prod

from tgrad.dtype import DType, float32, int32, int64
from tgrad.graph import build as b
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.rewrite import rule
from tgrad.graph.rules_elementwise import constant_of, is_constant
from tgrad.graph.shape import dot_axes

_ALL = (Op.REDUCE_SUM, Op.REDUCE_PROD, Op.REDUCE_MAX, Op.REDUCE_MIN)


@rule("reduce(x) = reshape(x), over axes of size 1", *_ALL)
def reduce_ones(node: Node) -> Node | None:
    (x,) = node.inputs
    if any(x.shape[a] != 1 for a in node.attr("axes")):
        return None
    return b.reshape_to(x, node.shape)


@rule("max(expand(x)) = x over expanded axes, and so for min", Op.REDUCE_MAX, Op.REDUCE_MIN)
def extremum_of_expand(node: Node) -> Node | None:
    kept, _ = _without_expanded(node)
    return kept


@rule("sum(expand(x)) = x * n, over n expanded elements", Op.REDUCE_SUM)
def sum_of_expand(node: Node) -> Node | None:
    kept, count = _without_expanded(node)
    if kept is None:
        return None
    wide = node.dtype.accumulator
    number = float(count) if wide.is_float else _wrap(count, wide)
    product = b.mul(b.cast_to(kept, wide), b.const(number, wide, kept.shape))
    return b.cast_to(product, node.dtype)


def _wrap(value: int, dtype: DType) -> int:
    """The integer modulo the dtype's range."""
    low = int(dtype.min)
    return (value - low) % (int(dtype.max) - low + 1) + low


def _without_expanded(node: Node) -> tuple[Node | None, int]:
    """The reduction over the axes that are not expanded, and how often each value stood there."""
    (wide,) = node.inputs
    if wide.op is not Op.EXPAND:
        return None, 1
    (x,) = wide.inputs
    have = (1,) * (len(wide.shape) - len(x.shape)) + x.shape
    gone = [a for a in node.attr("axes") if have[a] == 1]
    count = prod(wide.shape[a] for a in gone)
    if count <= 1:
        return None, 1
    kept = [a for a in range(len(have)) if a not in gone]
    narrow = b.reshape_to(x, tuple(have[a] for a in kept))
    narrow = b.expand_to(narrow, tuple(wide.shape[a] for a in kept))
    axes = tuple(i for i, a in enumerate(kept) if a in node.attr("axes"))
    return (make(node.op, narrow, axes=axes) if axes else narrow), count


@rule("dot(a, b) = sum(a * b), where one side has one row, or one element is summed", Op.DOT)
def dot_of_vector(node: Node) -> Node | None:
    """Every dot that is left is a product of matrices.

    %2 = dot %0, %1 contract=((1), (0)) : f16[1,8]        (f16[1,4] by f16[4,8])
    ->
    %2 = cast %0 dtype=f32 ... expand to f32[1,8,4]
    %3 = cast %1 dtype=f32 ... expand to f32[1,8,4]
    %4 = reduce_sum (mul %2, %3) axes=(2,), cast to f16
    """
    x, y = node.inputs
    (contract_x, contract_y), (batch_x, batch_y) = node.attr("contract"), node.attr("batch")
    free_x, free_y = dot_axes(x.shape, y.shape, dict(node.attrs))
    rows, columns = prod(x.shape[a] for a in free_x), prod(y.shape[a] for a in free_y)
    inner = tuple(x.shape[a] for a in contract_x)
    if rows != 1 and columns != 1 and prod(inner) != 1:
        return None
    wide = node.dtype.accumulator
    lead, domain = len(batch_x), (*node.shape, *inner)

    def spread(side: Node, order: tuple[int, ...], ones_at: int, ones: int) -> Node:
        side = b.permute(b.cast_to(side, wide), order)
        shape = (*side.shape[:ones_at], *(1,) * ones, *side.shape[ones_at:])
        return b.expand_to(b.reshape_to(side, shape), domain)

    left = spread(x, (*batch_x, *free_x, *contract_x), lead + len(free_x), len(free_y))
    right = spread(y, (*batch_y, *free_y, *contract_y), lead, len(free_x))
    axes = tuple(range(len(node.shape), len(domain)))
    return b.cast_to(b.sum_over(b.mul(left, right), axes), node.dtype)


@rule("dot(cast(a), cast(b)) = dot(a, b), of 8-bit floats: it adds in float32 anyway", Op.DOT)
def dot_of_casts(node: Node) -> Node | None:
    """The matrix unit gets what memory holds.

    %2 = cast %0 dtype=f32, %3 = cast %1 dtype=f32
    %4 = dot %2, %3 contract=((1), (0)) : f32[4,8]
    ->
    %2 = dot %0, %1 contract=((1), (0)) : f32[4,8]
    """
    wide = node.inputs[0].dtype
    if any(x.op is not Op.CAST for x in node.inputs) or not wide.is_float or wide.is_float8:
        return None
    a, b = (x.inputs[0] for x in node.inputs)
    if not (a.dtype.is_float8 and b.dtype.is_float8) or node.dtype.accumulator is not float32:
        return None
    return make(Op.DOT, a, b, **dict(node.attrs))


@rule("scatter(number, i, y) = where(place = i, y, number), one place a row", Op.SCATTER)
def scatter_of_one(node: Node) -> Node | None:
    """What is equal everywhere is nowhere in memory: each element says whether it is the place, in
    the kernel that reads it. So the gradient of picking a logit a row is no matrix of zeros.

    %3 = scatter 0.0, %1, %2 axis=1 combine=set : f32[4,8]          %1: i64[4,1]
    ->
    %3 = iota axis=1 shape=(4, 8), %4 = cast (minimum (maximum %1, -1), 8) dtype=i32
    %5 = where (eq %3, (expand %4)), (expand %2), 0.0
    """
    base, index, src = node.inputs
    axis, combine = node.attr("axis"), node.attr("combine")
    if constant_of(base) is None or combine not in ("set", "add") or index.shape[axis] != 1:
        return None
    if any(n != 1 if a == axis else n != base.shape[a] for a, n in enumerate(index.shape)):
        return None
    size = base.shape[axis]
    kind = int32 if size < int32.max else int64
    if index.dtype.itemsize > kind.itemsize:  # the same where there is such a place
        low = b.const_like(index, max(-1, index.dtype.min))
        index = make(Op.MINIMUM, make(Op.MAXIMUM, index, low),
                     b.const_like(index, size))  # fmt: skip
    place = make(Op.IOTA, shape=base.shape, axis=axis, dtype=kind)
    here = b.equal(place, b.expand_to(b.cast_to(index, kind), base.shape))
    value = b.expand_to(src, base.shape)
    if combine == "add" and not is_constant(base, 0):
        value = b.add(base, value)
    return b.where(here, value, base)


@rule("scatter(x, i, y) = cast(scatter(wide(x), i, wide(y))), of less than four bytes", Op.SCATTER)
def narrow_scatter(node: Node) -> Node | None:
    """Sums of 16-bit floats are rounded once, and GPUs join numbers of four bytes in memory.

    %3 = scatter %0, %1, %2 axis=0 combine=add : bf16[8]
    ->
    %3 = cast %0 dtype=f32, %4 = cast %2 dtype=f32
    %5 = scatter %3, %1, %4 axis=0 combine=add : f32[8]
    %6 = cast %5 dtype=bf16
    """
    if node.attr("combine") == "set" or node.dtype.itemsize >= 4:
        return None
    wide = float32 if node.dtype.is_float else int32
    base, index, src = node.inputs
    made = make(Op.SCATTER, b.cast_to(base, wide), index, b.cast_to(src, wide), **dict(node.attrs))
    return b.cast_to(made, node.dtype)


REDUCE_RULES = (
    reduce_ones, extremum_of_expand, sum_of_expand, dot_of_vector, dot_of_casts, narrow_scatter,
)  # fmt: skip
