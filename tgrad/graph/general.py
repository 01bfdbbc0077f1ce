"""One graph for many sizes, made from the graph of some.

    x[6, 8] @ w[8, 3] * 0.25    ->    x[n <= 8, 8] @ w[8, 3] * number

In: a graph's form, a fit of its sizes, ranges of the fit's symbols. Out: a `General`: a graph of
the largest sizes, whose further inputs are sizes and the values that vary. Invariant: where the
symbols have the values of a graph that fits, the elements that exist are those of that graph. An op
that cannot be done for a symbolic size is a TraceError, and the graph stays one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tgrad.device import Device
from tgrad.dtype import DType, int64
from tgrad.errors import UNKNOWN, TraceError
from tgrad.graph import build
from tgrad.graph.demand import Needed
from tgrad.graph.form import FIRST, OPERAND, Form, Site
from tgrad.graph.layout import (
    Axis,
    Factor,
    Layout,
    Unknown,
    is_uniform,
    layout_of,
    limit,
    size_of,
)
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op
from tgrad.graph.padding import conditions_on, without_padding
from tgrad.graph.rules_elementwise import constant_of
from tgrad.graph.size import (
    Extent,
    Scope,
    Size,
    Symbol,
    Terms,
    is_same,
    running_scope,
    sizing,
)
from tgrad.graph.sized import (
    capacity_of,
    filled_with,
    flat_places,
    gathered,
    placed,
    shape_of,
    sized,
)
from tgrad.graph.skeleton import Fit, Named

Shape = tuple[Extent, ...]


@dataclass(frozen=True)
class General:
    """A graph for many sizes.

    Attributes:
        outputs: its results, in memory of the largest sizes.
        leaves: a BUFFER for each leaf of the form, then one for each value that varies.
        sizes: the 0-d int64 BUFFER of each size that is read when it runs.
        given, made: layouts of the form's leaves and of the results.
        needed: which elements of each result exist.
        scope: its symbols, and what was asked about them.
    """

    outputs: list[Node]
    leaves: list[Node]
    sizes: Mapping[Terms, Node]
    given: list[Layout]
    made: list[Layout]
    needed: list[Needed]
    scope: Scope


Buffer = Callable[[DType, Shape], Node]
"""Makes a BUFFER of a dtype and of sizes that may be symbolic."""


def general_graph(
    form: Form,
    outputs: Sequence[Node],
    fit: Fit,
    capacities: Sequence[int],
    values: Sequence[int],
    varying: Sequence[int],
    buffer: Buffer,
) -> General:
    """The graph for all sizes that fit.

    Args:
        form, outputs: of one of the graphs.
        fit: how its sizes follow from symbols.
        capacities: the largest value of each symbol; the least is 2, since 1 broadcasts.
        values: of the symbols, for this graph.
        varying: which of the form's values are inputs.
        buffer: makes its leaves.

    Raises:
        TraceError: an op cannot be done for a symbolic size.
    """
    ranges = enumerate(zip(capacities, values))
    symbols = [Symbol(f"n{i}", 2, capacity, n) for i, (capacity, n) in ranges]
    scope = Scope("a graph of many sizes", UNKNOWN, symbols, _no_tensor)
    sizes = [Size(scope, terms) if any(m for m, _ in terms) else terms[0][1] for terms in fit.terms]
    builder = _Builder(form, buffer, iter([sizes[i] for i in fit.which]))
    for i in varying:
        site = form.sites[i]
        number = buffer(site.dtype, ())
        builder.numbers[site] = number
        builder.values.setdefault(site.node, {})[site.place] = number
    with sizing(scope):
        made = builder.made(outputs)
        layouts = [layout_of(node, scope) for node in made]
        given = [layout_of(leaf, scope) for leaf in builder.leaves]
        plain = without_padding(made, scope, builder.size_node)
        needed = [conditions_on(layout, builder.size_node) for layout in layouts]
    scope.layouts.clear()  # they hold the graph
    leaves = [*builder.leaves, *builder.numbers.values()]
    return General(plain, leaves, builder.sizes, given, layouts, needed, scope)


def _no_tensor(size: Size, device: Device | None) -> Any:
    raise TraceError(f"the size {size} is computed with.", "")


@dataclass
class _Builder:
    """Makes the graph node by node.

    Attributes:
        wanted: the sizes that the form's nodes name, in their order.
        values: inputs in place of values, by node and place.
        numbers: the same by site, in their order.
        leaves, sizes: see `General`.
        done: what stands for each node of the form.
    """

    form: Form
    buffer: Buffer
    wanted: Iterator[Extent]
    values: dict[Node, dict[int, Node]] = field(default_factory=dict)
    numbers: dict[Site, Node] = field(default_factory=dict)
    leaves: list[Node] = field(default_factory=list)
    sizes: dict[Terms, Node] = field(default_factory=dict)
    done: dict[Node, Node] = field(default_factory=dict)

    def size_node(self, size: Size) -> Node:
        """The 0-d int64 input that has the value of a size."""
        if size.terms not in self.sizes:
            self.sizes[size.terms] = self.buffer(int64, ())
        return self.sizes[size.terms]

    def made(self, outputs: Sequence[Node]) -> list[Node]:
        """The results."""
        named = Named.of(self.form)
        for node in self.form.order:
            if node.op is Op.CUSTOM_VJP:
                self.done[node] = self.done[node.inputs[0]]
                continue
            sizes = tuple(next(self.wanted) for _ in named.sizes(node))
            with source_scope(node.source):
                if node in named.leaves:
                    shape = node.shape if node in named.fixed else sizes
                    self.leaves.append(self.buffer(node.dtype, shape))
                    self.done[node] = self.leaves[-1]
                else:
                    self.done[node] = self._made(node, sizes)
        return [self.done[node] for node in outputs]

    def _made(self, node: Node, named: Shape) -> Node:
        """What stands for a node that names these sizes."""
        values = self.values.get(node, {})
        starts = {a: x for a, x in values.items() if node.op in FIRST and a != OPERAND}
        operands: list[Node] = []
        for place, x in enumerate(node.inputs):
            constant = constant_of(x)
            if constant is None:
                operands.append(self.done[x])
                continue
            shape, named = named[: len(x.shape)], named[len(x.shape) :]
            number = values.get(OPERAND if node.op in FIRST else place, constant)
            operands.append(filled_with(number, shape))
        if node.op is Op.SLICE:
            return self._slice(node, operands[0], starts, named)
        if node.op is Op.PAD:
            return self._pad(node, operands[0], starts, named)
        if node.op is Op.WINDOW:
            return _fitted(
                make(Op.WINDOW, *operands, **dict(node.attrs)), node.attr("axis"), *named
            )
        if node.op is Op.RESHAPE and node.inputs[0].op is Op.PHILOX:
            return self._draw(node.inputs[0], named)
        attrs = dict(node.attrs)
        if "shape" in attrs:
            attrs["shape"] = named
        if node.op is Op.RESHAPE and operands[0].size != prod(map(capacity_of, named)):
            raise _refused(node)
        return sized(node.op, *operands, **attrs)

    def _draw(self, draw: Node, shape: Shape) -> Node:
        """Random words of the elements that exist, which count as they do without the others."""
        place, *others = draw.inputs
        if place.op is not Op.IOTA or any(x.op is not Op.EXPAND for x in others):
            raise _refused(draw)
        counters = [flat_places(shape, self.size_node)]
        counters += [filled_with(self.done[x.inputs[0]], shape) for x in others]
        return make(Op.PHILOX, *counters, word=draw.attr("word"))

    # -- parts ------------------------------------------------------------------------------------

    def _slice(self, node: Node, x: Node, starts: Mapping[int, Node], shape: Shape) -> Node:
        """x[start : start + n * step : step], axis by axis."""
        for axis, n in enumerate(shape):
            if node.shape[axis] == node.inputs[0].shape[axis]:
                continue
            step = node.attr("step")[axis]
            if axis in starts:
                x = gathered(x, axis, starts[axis], n, step)
            else:
                x = _cut(node, x, axis, node.attr("start")[axis], n, step)
        return x

    def _pad(self, node: Node, x: Node, lows: Mapping[int, Node], shape: Shape) -> Node:
        """pad(x)[i] = x[i - low] where 0 <= i - low < n, else 0, axis by axis"""
        for axis, total in enumerate(shape):
            if node.shape[axis] == node.inputs[0].shape[axis]:
                continue
            low = node.attr("low")[axis]
            wide = None if axis in lows else _widened(x, axis, low, total)
            if wide is None:
                begin = lows.get(axis, build.const(low, int64))
                wide = placed(x, axis, begin, total, self.size_node)
            x = wide
        return x


def _cut(node: Node, x: Node, axis: int, start: int, n: Extent, step: int) -> Node:
    """A slice that begins at a known place. Graphs that fit have all of its elements."""
    rank, memory, have = len(x.shape), x.shape[axis], shape_of(x)[axis]
    if len(_layout(x)[axis]) > 1 or (isinstance(n, Size) and step != 1):
        raise _refused(node)
    is_rest = step == 1 and is_same(have, n + start)
    stop = memory if is_rest else min(start + (capacity_of(n) - 1) * step + 1, memory)
    bounds = (
        tuple(start if a == axis else 0 for a in range(rank)),
        tuple(stop if a == axis else m for a, m in enumerate(x.shape)),
        tuple(step if a == axis else 1 for a in range(rank)),
    )
    return _fitted(build.slice_(x, *bounds), axis, n)


def _widened(x: Node, axis: int, low: int, total: Extent) -> Node | None:
    """Zeros around what begins at a known place; None where it may end before its memory does."""
    have, high = shape_of(x)[axis], capacity_of(total) - low - x.shape[axis]
    if high < 0 or not (isinstance(have, int) or is_same(have + (low + high), total)):
        return None
    return _claimed(build.pad_axis(x, axis, low, high), axis, total)


def _fitted(x: Node, axis: int, n: Extent) -> Node:
    """The node, with as much memory along an axis, and as many elements, as that size has."""
    found = _claimed(x, axis, n)
    if found.shape[axis] == capacity_of(n):
        return found
    return _claimed(build.fit_axis(found, axis, 0, capacity_of(n)), axis, n)


def _claimed(x: Node, axis: int, n: Extent) -> Node:
    """The node, with as many elements along an axis as there are in graphs that fit."""
    found = _layout(x)[axis]
    if not isinstance(found[0], Unknown) and is_same(size_of(found), n):
        return x
    axes: list[Axis | None] = [None] * len(x.shape)
    axes[axis] = (Factor(x.shape[axis], n, is_uniform(found)),)
    return limit(x, axes)


def _layout(x: Node) -> Layout:
    scope = running_scope()
    assert scope is not None
    return layout_of(x, scope)


def _refused(node: Node) -> TraceError:
    return TraceError(f"{node.op} of a symbolic size.", "", node.source)
