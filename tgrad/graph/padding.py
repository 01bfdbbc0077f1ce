"""Graph of symbolic sizes as graph of the largest ones, in which what does not exist is not seen.

In: nodes with marks of limits, in a scope of symbols. Out: nodes of the same values at all elements
that exist, without these marks. Invariant: wherever values of different positions meet, those of
positions that do not exist are the identity of what joins them; elsewhere they are left as they
come, since no result shows them.

    %2 = reduce_sum %1 axes=(1,)                        with axis 1 limited to n
    ->
    %2 = where (iota axis=1 < n), %1, 0
    %3 = reduce_sum %2 axes=(1,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tgrad import dtype as dt
from tgrad.errors import TraceError
from tgrad.graph import build as b
from tgrad.graph.demand import Condition, Needed
from tgrad.graph.key import computed
from tgrad.graph.layout import (
    FILL,
    Layout,
    contracted,
    factors_of,
    is_static,
    layout_of,
    places_layout,
)
from tgrad.graph.node import Node, make, on_inputs, source_scope
from tgrad.graph.op import REDUCE, SCATTER_COMBINE, Op, identity_of
from tgrad.graph.size import Scope, Size

SizeNode = Callable[[Size], Node]
"""The 0-d int64 node of a size."""

_LARGEST_INT32 = 2**31 - 1


def without_padding(outputs: Sequence[Node], scope: Scope, size_node: SizeNode) -> list[Node]:
    """The outputs, computed in the layout of the largest sizes.

    Args:
        outputs: nodes of one device.
        scope: what their symbolic sizes mean.
        size_node: how to read a size when the plan runs.

    Raises:
        TraceError: an op cannot be done for a symbolic size.
    """
    done: dict[Node, Node] = {}
    for node in computed(outputs):
        inputs = [done[x] for x in node.inputs[:1]] if node.op is Op.CUSTOM_VJP else [
            done[x] for x in node.inputs
        ]  # fmt: skip
        layouts = [layout_of(x, scope) for x in node.inputs[: len(inputs)]]
        layout_of(node, scope)
        with source_scope(node.source):
            if any(not is_static(axis) for layout in layouts for axis in layout):
                inputs = _hidden(node, inputs, layouts, size_node)
            if node.op is Op.CUSTOM_VJP:
                done[node] = inputs[0]
            elif node.op is Op.FLIP:
                done[node] = _flipped(node, inputs[0], layouts[0], size_node)
            elif node.op is Op.SCATTER:
                done[node] = _scattered(node, inputs, layouts, size_node)
            else:
                done[node] = on_inputs(node, tuple(inputs))
    return [done[node] for node in outputs]


def _hidden(
    node: Node, inputs: list[Node], layouts: list[Layout], size_node: SizeNode
) -> list[Node]:
    """The inputs of a node, with identities where it would see what does not exist."""

    def masked(i: int, axes: Iterable[int], value: bool | int | float) -> Node:
        return _masked(inputs[i], layouts[i], axes, value, size_node)

    if node.op is Op.CUSTOM_VJP and node.attr("rule") == FILL:
        return [masked(0, range(len(node.shape)), 0)]
    if node.op in REDUCE:
        _check_not_empty(node, layouts[0])
        return [masked(0, node.attr("axes"), identity_of(node.op, node.dtype))]
    if node.op is Op.ARGSORT:
        return [masked(0, (node.attr("axis"),), int(node.inputs[0].dtype.max))]
    if node.op is Op.PAD:
        after = [a for a, high in enumerate(node.attr("high")) if high]
        return [masked(0, after, 0)]
    if node.op is Op.DOT:
        axes = node.attr("contract")
        common = contracted(node, layouts)
        return [
            _masked(x, _with_axes(layout, at, common), at, 0, size_node)
            for x, layout, at in zip(inputs, layouts, axes)
        ]
    if node.op is Op.GATHER:
        places = places_layout(node, layouts)
        return [inputs[0], _masked(inputs[1], places, range(len(places)), 0, size_node)]
    return inputs


def _scattered(node: Node, inputs: list[Node], layouts: list[Layout], size_node: SizeNode) -> Node:
    """What does not exist adds nothing to the first place, or is set beyond the last one:

    %4 = scatter %1, %2, %3 axis=0 set                      with n places in %2
    ->
    %4 = slice (scatter (pad %1), (where (iota axis=0 < n), %2, N), %3 axis=0 set) start=0 stop=N
    """
    base, index, source = inputs
    along, places = node.attr("axis"), places_layout(node, layouts)
    is_set = node.attr("combine") == "set"
    is_wide = is_set and not is_static(places[along])
    beyond = base.shape[along] if is_wide else 0
    index = _masked(index, places, range(len(places)), beyond, size_node)
    if not is_set:
        neutral = identity_of(SCATTER_COMBINE[node.attr("combine")], node.dtype)
        source = _masked(source, places, (along,), neutral, size_node)
    if not is_wide:
        return on_inputs(node, (base, index, source))
    wide = on_inputs(node, (b.pad_axis(base, along, 0, 1), index, source))
    return b.slice_axis(wide, along, 0, beyond)


def _flipped(node: Node, x: Node, layout: Layout, size_node: SizeNode) -> Node:
    """x[n - 1 - i] along axes of symbolic size n"""
    whole = tuple(a for a in node.attr("axes") if is_static(layout[a]))
    y = make(Op.FLIP, x, axes=whole) if whole else x
    for axis in (a for a in node.attr("axes") if a not in whole):
        (factor,) = factors_of(layout[axis])
        assert isinstance(factor.size, Size)
        last = b.sub(size_node(factor.size), b.const(1, dt.int64))
        place = b.sub(
            b.expand_to(last, x.shape), make(Op.IOTA, shape=x.shape, axis=axis, dtype=dt.int64)
        )
        first = b.const(0, dt.int64, x.shape)
        y = make(Op.GATHER, y, make(Op.MAXIMUM, place, first), axis=axis)
    return y


def conditions_on(layout: Layout, size_node: SizeNode) -> Needed:
    """Which elements of a node exist, as conditions on their places in memory."""
    conditions: list[Condition] = []
    inner = 1
    for axis in reversed(layout):
        for f in reversed(factors_of(axis)):
            if isinstance(f.size, Size):
                conditions.append(Condition(inner, f.capacity, size_node(f.size)))
            inner *= f.capacity
    return frozenset(conditions)


def _check_not_empty(node: Node, layout: Layout) -> None:
    if node.op in (Op.REDUCE_SUM, Op.REDUCE_PROD):
        return
    for axis in node.attr("axes"):
        for f in factors_of(layout[axis]):
            if isinstance(f.size, Size) and f.size.bounds[0] < 1:
                raise TraceError(
                    f"{node.op} over an axis of size {f.size}, which may be 0.",
                    "Give a range in dynamic= that starts at 1.",
                    node.source,
                )


def _with_axes(layout: Layout, places: Sequence[int], axes: Sequence[object]) -> Layout:
    """The layout with other axes at some places."""
    table = dict(zip(places, axes))
    return tuple(table.get(a, axis) for a, axis in enumerate(layout))  # type: ignore[misc]


def _masked(
    x: Node,
    layout: Layout,
    axes: Iterable[int],
    value: bool | int | float,
    size_node: SizeNode,
) -> Node:
    """`value` where no element of these axes exists, else x."""
    exists: Node | None = None
    for axis in axes:
        inner = 1
        for f in reversed(factors_of(layout[axis])):
            if isinstance(f.size, Size):
                inside = _below(x.shape, axis, inner, f.capacity, size_node(f.size))
                exists = inside if exists is None else b.both(exists, inside)
            inner *= f.capacity
    return x if exists is None else b.where(exists, x, b.const_like(x, value))


def _below(shape: tuple[int, ...], axis: int, inner: int, capacity: int, size: Node) -> Node:
    """Whether `place // inner % capacity < size`, for the place of each element along an axis."""
    wide = dt.int64 if shape[axis] > _LARGEST_INT32 else dt.int32
    place = make(Op.IOTA, shape=shape, axis=axis, dtype=wide)
    if inner > 1:
        place = make(Op.FLOORDIV, place, b.const_like(place, inner))
    if capacity * inner < shape[axis]:
        place = make(Op.MOD, place, b.const_like(place, capacity))
    return b.less(place, b.expand_to(b.cast_to(size, wide), shape))
