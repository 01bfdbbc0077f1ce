"""Vector-Jacobian products: one line of mathematics an op and input.

In: a node y = op(x0, x1, ...) and the gradient g of y. Out: the gradient of one input, as graph.
Invariant: the gradient has the input's shape and dtype; every op has a row in `VJP` or a reason in
`NO_VJP`. A rule may use y, so rules are graph that can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import pi, prod, sqrt

from tgrad.autodiff.overlaps import overlap_added
from tgrad.dtype import int64, promote
from tgrad.graph import build as b
from tgrad.graph.layout import like
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.shape import other_axes

Rule = Callable[[Node, Node], Node]
"""(y, g) -> gradient of one input."""


def _zero(i: int) -> Rule:
    return lambda y, g: b.const_like(y.inputs[i], 0)


def _abs(y: Node, g: Node) -> Node:
    """g * sign(x), where sign(0) = 0"""
    (x,) = y.inputs
    zero = b.const_like(x, 0)
    negative = b.where(b.less(x, zero), b.const_like(x, -1), zero)
    return b.mul(g, b.where(b.less(zero, x), b.const_like(x, 1), negative))


def _tanh(y: Node, g: Node) -> Node:
    """g * (1 - y²)"""
    return b.mul(g, b.sub(b.const_like(y, 1), b.mul(y, y)))


def _erf(y: Node, g: Node) -> Node:
    """g * 2/√π * exp(-x²)"""
    (x,) = y.inputs
    return b.mul(b.mul(g, b.const_like(x, 2 / sqrt(pi))), b.exp(b.neg(b.mul(x, x))))


def _sigmoid(y: Node, g: Node) -> Node:
    """g * y * (1 - y)"""
    return b.mul(g, b.mul(y, b.sub(b.const_like(y, 1), y)))


def _rsqrt(y: Node, g: Node) -> Node:
    """-g/2 * y³"""
    return b.mul(b.mul(g, b.const_like(y, -0.5)), b.mul(y, b.mul(y, y)))


def _pow_base(y: Node, g: Node) -> Node:
    """g * n * x^(n-1), and 0 where n = 0"""
    x, n = y.inputs
    slope = b.mul(n, b.power(x, b.sub(n, b.const_like(n, 1))))
    zero = b.const_like(n, 0)
    return b.where(b.equal(n, zero), zero, b.mul(g, slope))


def _pow_exponent(y: Node, g: Node) -> Node:
    """g * y * log(x), and 0 where x = 0 and n >= 0"""
    x, n = y.inputs
    zero = b.const_like(x, 0)
    flat = b.both(b.equal(x, zero), make(Op.LE, zero, n))
    return b.where(flat, zero, b.mul(g, b.mul(y, b.log(x))))


def _extremum(i: int, is_max: bool) -> Rule:
    """g where the input wins, g/2 where both are equal, 0 where it loses"""

    def rule(y: Node, g: Node) -> Node:
        mine, other = y.inputs[i], y.inputs[1 - i]
        loses = b.less(mine, other) if is_max else b.less(other, mine)
        half = b.mul(g, b.const_like(g, 0.5))
        tied = b.where(b.equal(mine, other), half, g)
        return b.where(loses, b.const_like(g, 0), tied)

    return rule


def _sum(y: Node, g: Node) -> Node:
    """g over the reduced axes"""
    return b.restore(g, y.attr("axes"), y.inputs[0].shape)


def _reduce_extremum(y: Node, g: Node) -> Node:
    """g shared evenly by the elements that equal y"""
    (x,) = y.inputs
    axes, shape, accumulator = y.attr("axes"), x.shape, x.dtype.accumulator
    wins = make(Op.EQ, x, b.restore(y, axes, shape))
    count = b.sum_over(b.cast_to(wins, accumulator), axes)
    share = b.cast_to(b.div(b.cast_to(g, accumulator), count), x.dtype)
    return b.mul(b.cast_to(wins, x.dtype), b.restore(share, axes, shape))


def _prod(y: Node, g: Node) -> Node:
    """g * (product of the elements before) * (product of the elements after)

    No division, so zeros are exact, to every order.
    """
    (x,) = y.inputs
    axes, rank = y.attr("axes"), len(x.shape)
    first = axes[0] if axes else rank
    end = first + len(axes)
    if axes != tuple(range(first, end)):  # side by side, at the end
        first, end = rank - len(axes), rank
    kept = [a for a in range(rank) if a not in axes]
    order = (*kept[:first], *axes, *kept[first:])
    moved = b.permute(x, order)
    row = prod(moved.shape[first:end])
    rows = b.reshape_to(moved, (*moved.shape[:first], row, *moved.shape[end:]))

    before = _products_before(rows, first)
    after = _flip(_products_before(_flip(rows, first), first), first)
    others = b.reshape_to(b.mul(before, after), moved.shape)
    others = b.permute(others, tuple(order.index(a) for a in range(rank)))
    return b.mul(b.restore(g, axes, x.shape), others)


def _products_before(x: Node, axis: int) -> Node:
    """out[.., i, ..] = x[.., 0, ..] * ... * x[.., i - 1, ..]"""
    return make(Op.SCAN_PROD, _shift_in_ones(x, axis, 1), axis=axis)


def _shift_in_ones(x: Node, axis: int, step: int) -> Node:
    """out[.., i, ..] = x[.., i - step, ..], and 1 where i < step"""
    place = _places(x, axis)
    is_before = b.less(place, b.const_like(place, step))
    return b.where(is_before, b.const_like(x, 1), _shifted(x, axis, step))


def _shifted(x: Node, axis: int, step: int) -> Node:
    """out[.., i, ..] = x[.., i - step, ..], and 0 where i < step"""
    n = x.shape[axis]
    return like(b.slice_axis(b.pad_axis(x, axis, min(step, n), 0), axis, 0, n), x)


def _places(x: Node, axis: int) -> Node:
    """the place of each element along an axis"""
    return like(make(Op.IOTA, shape=x.shape, axis=axis, dtype=int64), x)


def _flip(x: Node, axis: int) -> Node:
    return make(Op.FLIP, x, axes=(axis,))


def _scan_sum(y: Node, g: Node) -> Node:
    """the sum of g from each element on"""
    axis = y.attr("axis")
    return _flip(make(Op.SCAN_SUM, _flip(g, axis), axis=axis), axis)


def _from_behind(a: Node, g: Node, axis: int) -> Node:
    """λ[i] = g[i] + a[i + 1] * λ[i + 1]: how h[i] = a[i] * h[i - 1] + ... hands gradients back"""
    n = a.shape[axis]
    following = b.fit_axis(b.slice_axis(a, axis, min(n, 1), n), axis, 0, n)
    flipped = make(Op.SCAN_LINEAR, _flip(following, axis), _flip(g, axis), axis=axis)
    return _flip(flipped, axis)


def _scan_prod(y: Node, g: Node) -> Node:
    """(product of the elements before) * λ, with no division, so zeros are exact to every order"""
    (x,), axis = y.inputs, y.attr("axis")
    return b.mul(_products_before(x, axis), _from_behind(x, g, axis))


def _scan_extremum(y: Node, g: Node) -> Node:
    """g added at the last place so far that has the extremum"""
    (x,), axis = y.inputs, y.attr("axis")
    wins = make(Op.OR, b.equal(x, y), make(Op.NE, x, x))
    place = _places(x, axis)
    last = make(Op.SCAN_MAX, b.where(wins, place, b.const_like(place, 0)), axis=axis)
    return make(Op.SCATTER, b.const_like(x, 0), last, g, axis=axis, combine="add")


def _scan_linear_factor(y: Node, g: Node) -> Node:
    """h[i - 1] * λ[i]"""
    axis = y.attr("axis")
    return b.mul(_shifted(y, axis, 1), _from_behind(y.inputs[0], g, axis))


def _scan_linear_term(y: Node, g: Node) -> Node:
    """λ"""
    return _from_behind(y.inputs[0], g, y.attr("axis"))


def _permute(y: Node, g: Node) -> Node:
    """the inverse permutation of g"""
    axes = y.attr("axes")
    return b.permute(g, tuple(axes.index(a) for a in range(len(axes))))


def _pad(y: Node, g: Node) -> Node:
    """the part of g that is not padding"""
    low = y.attr("low")
    return b.slice_(g, low, tuple(a + n for a, n in zip(low, y.inputs[0].shape, strict=True)))


def _slice(y: Node, g: Node) -> Node:
    """g back in its place, zeros elsewhere; a step is undone by zeros between"""
    (x,) = y.inputs
    for axis, (start, step) in enumerate(zip(y.attr("start"), y.attr("step"), strict=True)):
        if y.shape[axis] != x.shape[axis]:
            g = b.fit_axis(b.dilate_axis(g, axis, step), axis, start, x.shape[axis])
    return g


def _window(y: Node, g: Node) -> Node:
    """dx[p] = Σ_k g[i, k] over i * stride + k * dilation = p"""
    axis = y.attr("axis")
    n = y.inputs[0].shape[axis]
    return overlap_added(g, axis, y.attr("stride"), y.attr("dilation"), n)


def _gather(y: Node, g: Node) -> Node:
    """g added into zeros at the places it was taken from"""
    x, index = y.inputs
    return make(
        Op.SCATTER, b.const_like(x, 0), index, g, axis=y.attr("axis"), combine="add"
    )  # fmt: skip


def _scatter_base(y: Node, g: Node) -> Node:
    """add: g. set: g, and 0 where overwritten. mul: g * the product of the sources. max, min: an
    even share where the base equals y"""
    base, index, src = y.inputs
    combine, axis = y.attr("combine"), y.attr("axis")
    if combine == "add":
        return g
    if combine == "mul":
        one = b.const_like(base, 1)
        return b.mul(g, make(Op.SCATTER, one, index, src, axis=axis, combine="mul"))
    if combine == "set":
        zero = b.const_like(src, 0)
        return make(Op.SCATTER, g, index, zero, axis=axis, combine="set")
    return b.mul(b.div(g, _winners(y)), b.cast_to(b.equal(base, y), g.dtype))


def _scatter_src(y: Node, g: Node) -> Node:
    """add, set: g at the indexed places. mul: that times the product of the others. max, min: an
    even share where src equals y"""
    _, index, src = y.inputs
    combine, axis = y.attr("combine"), y.attr("axis")
    if combine == "mul":
        return b.mul(make(Op.GATHER, g, index, axis=axis), _other_factors(y))
    if combine in ("add", "set"):
        return make(Op.GATHER, g, index, axis=axis)
    share = make(Op.GATHER, b.div(g, _winners(y)), index, axis=axis)
    wins = b.equal(src, make(Op.GATHER, y, index, axis=axis))
    return b.mul(share, b.cast_to(wins, g.dtype))


def _other_factors(y: Node) -> Node:
    """For each source, the product of the base and the other sources at its place.

    Zeros are counted and left out of a product that is then divided, so none divides. Exact; the
    derivative of this again is that of non-zero sources.
    """
    base, index, src = y.inputs
    axis = y.attr("axis")
    zeros = [b.equal(x, b.const_like(x, 0)) for x in (base, src)]
    factors = [b.where(z, b.const_like(x, 1), x) for z, x in zip(zeros, (base, src))]
    counts = [b.cast_to(z, y.dtype) for z in zeros]
    product = make(Op.SCATTER, factors[0], index, factors[1], axis=axis, combine="mul")
    zero_count = make(Op.SCATTER, counts[0], index, counts[1], axis=axis, combine="add")
    all_of_it, count = (make(Op.GATHER, x, index, axis=axis) for x in (product, zero_count))
    alone = b.equal(b.sub(count, counts[1]), b.const_like(src, 0))
    return b.where(alone, b.div(all_of_it, factors[1]), b.const_like(src, 0))


def _winners(y: Node) -> Node:
    """How many elements, the base's and the sources', equal the extremum."""
    base, index, src = y.inputs
    wins = b.equal(src, make(Op.GATHER, y, index, axis=y.attr("axis")))
    return make(
        Op.SCATTER,
        b.cast_to(b.equal(base, y), y.dtype),
        index,
        b.cast_to(wins, y.dtype),
        axis=y.attr("axis"),
        combine="add",
    )


Pairs = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes of two operands that belong together."""


@dataclass(frozen=True, slots=True)
class _WayBack:
    """The product that gives the gradient of an operand of a dot.

    Attributes:
        g_first: whether g is the first of its operands, the other operand the second.
        contract, batch: its axes.
        order: where the axes of the operand are in its result.
    """

    g_first: bool
    contract: Pairs
    batch: Pairs
    order: tuple[int, ...]


@cache
def _way_back(i: int, ranks: tuple[int, int], contract: Pairs, batch: Pairs) -> _WayBack:
    """That of operand `i` of a dot of operands of these ranks."""
    frees = [other_axes(n, ca + ba) for n, ca, ba in zip(ranks, contract, batch)]
    lead = len(batch[0])
    split = lead + len(frees[0])
    of_a, of_b = tuple(range(lead, split)), tuple(range(split, split + len(frees[1])))
    g_other = of_b if i == 0 else of_a
    sides = (g_other, frees[1 - i]), (tuple(range(lead)), batch[1 - i])
    # axes of the other that are left over: contracted with mine, in the other's order
    inner = tuple(mine_axis for _, mine_axis in sorted(zip(contract[1 - i], contract[i])))
    g_first = bool(frees[i] and inner and min(frees[i]) < min(inner))
    result_axes = (*batch[i], *frees[i], *inner) if g_first else (*batch[i], *inner, *frees[i])
    if not g_first:
        sides = (sides[0][::-1], sides[1][::-1])
    order = tuple(result_axes.index(a) for a in range(ranks[i]))
    return _WayBack(g_first, *sides, order)


def _dot(i: int) -> Rule:
    """da = Σ_(free b) g * b and db = Σ_(free a) a * g, axes put back in the input's order"""

    def rule(y: Node, g: Node) -> Node:
        mine, other = y.inputs[i], y.inputs[1 - i]
        ranks = len(y.inputs[0].shape), len(y.inputs[1].shape)
        way = _way_back(i, ranks, y.attr("contract"), y.attr("batch"))
        dtype = promote(g.dtype, other.dtype)
        if mine.dtype is other.dtype and g.dtype is mine.dtype.accumulator:
            dtype = mine.dtype  # only the forward product is wanted in the accumulator's dtype
        g, other = b.cast_to(g, dtype), b.cast_to(other, dtype)
        pair = (g, other) if way.g_first else (other, g)
        out = make(Op.DOT, *pair, contract=way.contract, batch=way.batch, dtype=dtype)
        return b.cast_to(b.permute(out, way.order), mine.dtype)

    return rule


VJP: dict[Op, tuple[Rule | None, ...]] = {
    Op.NEG: (lambda y, g: b.neg(g),),
    Op.ABS: (_abs,),
    Op.EXP: (lambda y, g: b.mul(g, y),),
    Op.LOG: (lambda y, g: b.div(g, y.inputs[0]),),
    Op.SIN: (lambda y, g: b.mul(g, b.cos(y.inputs[0])),),
    Op.COS: (lambda y, g: b.neg(b.mul(g, b.sin(y.inputs[0]))),),
    Op.TANH: (_tanh,),
    Op.ERF: (_erf,),
    Op.SIGMOID: (_sigmoid,),
    Op.SQRT: (lambda y, g: b.div(g, b.mul(b.const_like(y, 2), y)),),
    Op.RSQRT: (_rsqrt,),
    Op.FLOOR: (_zero(0),),
    Op.ROUND: (_zero(0),),
    Op.TRUNC: (_zero(0),),
    Op.ADD: (lambda y, g: g, lambda y, g: g),
    Op.SUB: (lambda y, g: g, lambda y, g: b.neg(g)),
    Op.MUL: (
        lambda y, g: b.mul(g, y.inputs[1]),
        lambda y, g: b.mul(g, y.inputs[0]),
    ),
    Op.DIV: (
        lambda y, g: b.div(g, y.inputs[1]),
        lambda y, g: b.neg(b.mul(g, b.div(y, y.inputs[1]))),  # -g * x / d²
    ),
    Op.FLOORDIV: (_zero(0), _zero(1)),
    Op.MOD: (
        lambda y, g: g,
        lambda y, g: b.neg(b.mul(g, make(Op.FLOORDIV, *y.inputs))),  # x % d = x - d * (x // d)
    ),
    Op.POW: (_pow_base, _pow_exponent),
    Op.MAXIMUM: (_extremum(0, True), _extremum(1, True)),
    Op.MINIMUM: (_extremum(0, False), _extremum(1, False)),
    Op.WHERE: (
        None,
        lambda y, g: b.where(y.inputs[0], g, b.const_like(g, 0)),
        lambda y, g: b.where(y.inputs[0], b.const_like(g, 0), g),
    ),
    Op.CAST: (lambda y, g: b.cast_to(g, y.inputs[0].dtype),),
    Op.REDUCE_SUM: (_sum,),
    Op.REDUCE_PROD: (_prod,),
    Op.REDUCE_MAX: (_reduce_extremum,),
    Op.REDUCE_MIN: (_reduce_extremum,),
    Op.SCAN_SUM: (_scan_sum,),
    Op.SCAN_PROD: (_scan_prod,),
    Op.SCAN_MAX: (_scan_extremum,),
    Op.SCAN_MIN: (_scan_extremum,),
    Op.SCAN_LINEAR: (_scan_linear_factor, _scan_linear_term),
    Op.RESHAPE: (lambda y, g: b.reshape_to(g, y.inputs[0].shape),),
    Op.PERMUTE: (_permute,),
    Op.EXPAND: (lambda y, g: b.reduce_to(g, y.inputs[0].shape),),
    Op.PAD: (_pad,),
    Op.SLICE: (_slice,),
    Op.FLIP: (lambda y, g: make(Op.FLIP, g, axes=y.attr("axes")),),
    Op.WINDOW: (_window,),
    Op.GATHER: (_gather, None),
    Op.SCATTER: (_scatter_base, None, _scatter_src),
    Op.DOT: (_dot(0), _dot(1)),
}

_BITS = "its result is bits of an integer or bool"
_LEAF = "it has no inputs"

NO_VJP: dict[Op, str] = {
    Op.NOT: _BITS,
    Op.AND: _BITS,
    Op.OR: _BITS,
    Op.XOR: _BITS,
    Op.SHL: _BITS,
    Op.SHR: _BITS,
    Op.LT: "a comparison is constant almost everywhere",
    Op.LE: "a comparison is constant almost everywhere",
    Op.EQ: "a comparison is constant almost everywhere",
    Op.NE: "a comparison is constant almost everywhere",
    Op.BITCAST: "the bits of a float are not a differentiable function of it",
    Op.PHILOX: "random bits do not depend on any float",
    Op.ARGSORT: "places are constant almost everywhere; gather the values by them",
    Op.LIBRARY: "each function of tgrad.linalg declares the VJP of its results",
    Op.COLLECTIVE: "those of tgrad.distributed.nn declare theirs; others write in place",
    Op.IOTA: _LEAF,
    Op.CONST: _LEAF,
    Op.BUFFER: _LEAF,
    Op.CUSTOM_VJP: "its rule is registered by name (autodiff/backward.py)",
}
"""Ops that no gradient flows through by a rule of the table, and why."""
