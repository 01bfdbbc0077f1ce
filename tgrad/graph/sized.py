"""Nodes of symbolic sizes: what an op is whose shape differs from run to run.

In: nodes, and shapes with symbolic sizes. Out: nodes of the largest sizes, marked with the limits.
Invariant: where no trace has symbolic sizes, each function is the plain one; a Node's shape and
attributes are plain numbers always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

from tgrad.dtype import int64
from tgrad.errors import TraceError
from tgrad.graph.build import const
from tgrad.graph.layout import (
    Axis,
    Factor,
    Unknown,
    is_uniform,
    layout_of,
    limit,
    size_of,
)
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.size import Extent, Scope, Size, is_same, running_scope

Shape = tuple[Any, ...]


class SizedPart(Protocol):
    """A part of a tensor that a trace over a range of sizes can follow."""

    @property
    def is_run(self) -> bool:
        """Whether its elements lie one after the other."""

    def take(self, x: Node) -> Node: ...
    def put(self, x: Node, new: Node) -> Node: ...


def shape_of(node: Node) -> Shape:
    """The shape, with the symbolic sizes."""
    scope = running_scope()
    if scope is None:
        return node.shape
    return tuple(size_of(axis) for axis in layout_of(node, scope))


def are_same(a: Sequence[Extent], b: Sequence[Extent]) -> bool:
    """Whether two shapes are equal in every call, asked without a guard."""
    if running_scope() is None:
        return tuple(a) == tuple(b)
    return len(a) == len(b) and all(is_same(m, n) for m, n in zip(a, b))


def may_be_one(node: Node) -> bool:
    """Whether an axis of symbolic size has one element in some call, whose stride says nothing."""
    return any(isinstance(n, Size) and n.bounds[0] < 2 for n in shape_of(node))


def capacity_of(n: Extent) -> int:
    """Elements that memory holds for an axis of this size."""
    return n.capacity if isinstance(n, Size) else n


def sized(op: Op, *inputs: Node, **attrs: Any) -> Node:
    """`make` of an op whose attribute `shape`, if it has one, may hold symbolic sizes."""
    scope = running_scope()
    if scope is None or "shape" not in attrs:
        return make(op, *inputs, **attrs)
    wanted: Shape = attrs["shape"]
    have = shape_of(inputs[0]) if inputs else ()
    lead = len(wanted) - len(have)
    is_kept = [
        op is Op.EXPAND and a >= lead and is_same(have[a - lead], n) for a, n in enumerate(wanted)
    ]
    attrs["shape"] = tuple(
        inputs[0].shape[a - lead] if kept else capacity_of(n)
        for a, (n, kept) in enumerate(zip(wanted, is_kept))
    )
    if op is Op.RESHAPE and prod(attrs["shape"]) != inputs[0].size:
        raise TraceError(
            f"reshape from {have} to {wanted} merges axes of symbolic sizes that are not largest "
            "together.",
            "Leave one of them out of dynamic=, or reshape outside the compiled function.",
        )
    return _claimed(make(op, *inputs, **attrs), wanted, scope)


def flat_places(shape: Shape, size_node: Callable[[Size], Node]) -> Node:
    """The place of each element among those that exist, in row-major order (int64).

    Args:
        shape: sizes, some symbolic.
        size_node: gives the 0-d int64 node of a size.
    """
    total: Node | None = None
    for axis in range(len(shape)):
        place = places_along(shape, axis)
        stride = prod(shape[axis + 1 :])
        step = size_node(stride) if isinstance(stride, Size) else const(stride, int64)
        part = make(Op.MUL, place, filled_with(step, shape))
        total = part if total is None else make(Op.ADD, total, part)
    assert total is not None
    return total


def places_along(shape: Shape, axis: int) -> Node:
    """The place of each element along an axis (int64)."""
    return sized(Op.IOTA, shape=shape, axis=axis, dtype=int64)


def filled_with(x: Node, shape: Shape) -> Node:
    """A value without axes, for each element."""
    return sized(Op.EXPAND, x, shape=shape) if shape else x


def gathered(x: Node, axis: int, start: Node, n: Extent, step: int) -> Node:
    """x[start : start + n * step : step] along an axis: a gather at start + i * step.

    Args:
        start: 0-d int64, known when the plan runs.
    """
    shape = replaced(shape_of(x), axis, n)
    place = places_along(shape, axis)
    if step != 1:
        place = make(Op.MUL, place, filled_with(const(step, int64), shape))
    return make(Op.GATHER, x, make(Op.ADD, filled_with(start, shape), place), axis=axis)


def placed(x: Node, axis: int, low: Node, total: Extent, size_node: Callable[[Size], Node]) -> Node:
    """x within zeros along an axis: y[i] = x[i - low] where 0 <= i - low < n, else 0.

    Args:
        low: 0-d int64, known when the plan runs.
        size_node: gives the 0-d int64 node of a symbolic size.
    """
    n = shape_of(x)[axis]
    shape = replaced(shape_of(x), axis, total)
    at = make(Op.SUB, places_along(shape, axis), filled_with(low, shape))
    end = (
        make(Op.SUB, size_node(n), const(1, int64)) if isinstance(n, Size) else const(n - 1, int64)
    )
    first, last = filled_with(const(0, int64), shape), filled_with(end, shape)
    inside = make(Op.AND, make(Op.LE, first, at), make(Op.LE, at, last))
    nearest = make(Op.MINIMUM, make(Op.MAXIMUM, at, first), last)
    values = make(Op.GATHER, x, nearest, axis=axis)
    return make(Op.WHERE, inside, values, filled_with(const(0, x.dtype), shape))


def replaced(shape: Shape, axis: int, size: Extent) -> Shape:
    """The shape with another size of an axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def _claimed(node: Node, wanted: Shape, scope: Scope) -> Node:
    """The node with axes of the wanted sizes, which are what they are, or free to be anything."""
    axes: list[Axis | None] = []
    for n, capacity, axis in zip(wanted, node.shape, layout_of(node, scope)):
        known = not isinstance(axis[0], Unknown)
        if known and is_same(size_of(axis), n):
            axes.append(None)
            continue
        if not (is_uniform(axis) or node.op is Op.IOTA):
            raise axis[0].reason if isinstance(axis[0], Unknown) else TraceError(
                f"{node.op} of an axis of size {size_of(axis)} to {n}.",
                "Split and merge axes of symbolic size as they were merged and split before.",
                node.source,
            )  # fmt: skip
        axes.append((Factor(capacity, n, is_uniform(axis)),))
    return node if all(a is None for a in axes) else limit(node, axes)
