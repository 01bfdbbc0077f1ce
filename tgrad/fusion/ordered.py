"""Scatters in a fixed order: what `use_deterministic_algorithms` makes of races, and products
where programs cannot multiply in memory together.

In: canonical nodes. Out: nodes that compute the same, where numbers that meet at one place are
added or multiplied in the order of their indices. Invariant: pure; the scatters that are left are
of extrema of integers, which are the same in every order, or those that this cannot do: sums whose
indices do not reach over the whole of the other axes.

    %s = scatter %x, %i, %v axis=0 add     order = argsort i             equal places side by side
                                           first, last = the run of each place in it, by scatters
                                     ->    %s = %x + sum over n of v[order[n]], first <= n < last
    ... mul                                of the product, %x times it

    %s = scatter %x, %i, %v axis=0 set     last = scatter -1, i, n axis=0 max
                                     ->    %s = where last >= 0, v[last], %x

The sum is one kernel whose programs own places and walk their runs alone; see `with_live_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrad.dtype import bool_, int64, uint32
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.unordered import unordered
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import Op
from tgrad.graph.rewrite import rewrite, rule
from tgrad.graph.rules import CANONICAL


def order_scatters(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs with races in a fixed order, canonical again."""
    races = frozenset(unordered(outputs, limits))
    if not races:
        return list(outputs)
    return rewrite(outputs, (in_order, *CANONICAL))


def multiply_runs(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs with scattered products as products of runs where programs race: no GPU has an
    atomic multiplication."""
    is_product = any(n.attr("combine") == "mul" for n in toposort(outputs) if n.op is Op.SCATTER)
    if limits.orders_scatters or not is_product:
        return list(outputs)
    return rewrite(outputs, (products_in_order, *CANONICAL))


@rule("scatter(x, i, v) = x + the sum of each run of equal i, sorted", Op.SCATTER)
def in_order(node: Node) -> Node | None:
    """See the module."""
    combine = node.attr("combine")
    if combine not in ("set", "add") or (combine == "add" and not node.dtype.is_float):
        return None
    if not _is_whole(node):
        return None
    places = _places_of(node)
    return _last_written(node, places) if combine == "set" else _of_runs(node, places)


@rule("scatter(x, i, v) = x times the product of each run of equal i, sorted", Op.SCATTER)
def products_in_order(node: Node) -> Node | None:
    """See the module."""
    if node.attr("combine") != "mul":
        return None
    node = node if _is_whole(node) else _with_ones(node)
    return _of_runs(node, _places_of(node))


def _with_ones(node: Node) -> Node:
    """A product whose index reaches over the whole of the other axes: what was not there
    multiplies the first place by 1."""
    base, index, src = node.inputs
    axis = node.attr("axis")
    high = tuple(0 if a == axis else m - n for a, (m, n) in enumerate(zip(base.shape, src.shape)))
    low = (0,) * len(high)
    is_there = b.pad(b.const(True, bool_, src.shape), low, high)
    wide = b.pad(src, low, high)
    whole = b.where(is_there, wide, b.const_like(wide, 1))
    return make(Op.SCATTER, base, b.pad(index, low, high), whole, axis=axis, combine="mul")


def _is_whole(node: Node) -> bool:
    """Whether the index reaches over the whole of the other axes."""
    base, index, _ = node.inputs
    pairs = enumerate(zip(base.shape, index.shape))
    return all(m == n for a, (m, n) in pairs if a != node.attr("axis"))


@dataclass(frozen=True)
class _Places:
    """The index of a scatter: as it is, or the vector that it repeats along all other axes.

    Attributes:
        index: integers.
        axis: of the index, the one that is scattered.
        wide: the same axis of the scatter.
        shape: of the scatter's result.
    """

    index: Node
    axis: int
    wide: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many elements are scattered along the axis."""
        return self.index.shape[self.axis]

    def numbers(self) -> Node:
        """0, 1, .. along the axis."""
        return make(Op.IOTA, shape=self.index.shape, axis=self.axis, dtype=int64)

    def scatter(self, start: int, places: Node, values: Node, combine: str) -> Node:
        """Integers scattered into a number."""
        into = list(self.index.shape)
        into[self.axis] = self.shape[self.wide]
        base = b.const(start, int64, tuple(into))
        return make(Op.SCATTER, base, places, values, axis=self.axis, combine=combine)

    def widened(self, x: Node) -> Node:
        """Numbers along the axis, for each element of the others."""
        size = x.shape[self.axis]
        shape = tuple(size if a == self.wide else n for a, n in enumerate(self.shape))
        if x.shape == shape:
            return x
        return b.restore(x, tuple(a for a in range(len(shape)) if a != self.wide), shape)


def _places_of(node: Node) -> _Places:
    index, axis = node.inputs[1], node.attr("axis")
    if index.op is Op.EXPAND:
        (x,) = index.inputs
        if x.size == index.shape[axis] and x.shape[axis - len(index.shape) :][:1] == (x.size,):
            return _Places(b.reshape_to(x, (x.size,)), 0, axis, node.shape)
    return _Places(index, axis, axis, node.shape)


def _last_written(node: Node, at: _Places) -> Node:
    base, _, src = node.inputs
    last = at.widened(at.scatter(-1, at.index, at.numbers(), "max"))
    zero = b.const_like(last, 0)
    value = make(Op.GATHER, src, make(Op.MAXIMUM, last, zero), axis=at.wide)
    return b.where(make(Op.LE, zero, last), value, base)


def _of_runs(node: Node, at: _Places) -> Node:
    """base and what is scattered to it, joined: over n src[order[n]], from the first to before the
    last of each place."""
    base, _, src = node.inputs
    order = make(Op.ARGSORT, b.cast_to(at.index, uint32), axis=at.axis)
    index, numbers = make(Op.GATHER, at.index, order, axis=at.axis), at.numbers()
    first = at.scatter(at.count, index, numbers, "min")
    last = at.scatter(0, index, b.add(numbers, b.const_like(numbers, 1)), "max")
    values = make(Op.GATHER, src, at.widened(order), axis=at.wide)

    wide, along = (*node.shape[: at.wide + 1], at.count, *node.shape[at.wide + 1 :]), at.wide + 1
    number = make(Op.IOTA, shape=wide, axis=along, dtype=int64)
    begin, end = (b.restore(at.widened(x), (along,), wide) for x in (first, last))
    live = b.both(make(Op.LE, begin, number), b.less(number, end))
    is_sum = node.attr("combine") == "add"
    nothing = b.const(0 if is_sum else 1, node.dtype, wide)
    terms = b.where(live, b.restore(values, (at.wide,), wide), nothing)
    if not is_sum:
        return b.mul(base, make(Op.REDUCE_PROD, terms, axes=(along,)))
    total = b.add(base, b.sum_over(terms, (along,)))
    return b.where(at.widened(b.less(first, last)), total, base)  # -0.0 stays without terms
