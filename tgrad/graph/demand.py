"""Which elements of each node are needed, where sizes of the run decide.

In: canonical nodes, and which elements of the results are needed. Out: for each node, conditions on
the place of an element in memory; one that fails any of them is read by nobody. Invariant: going
from users to inputs, a condition is kept, moved to where the input has the element, or dropped;
dropped is always right, since more is computed then.

    %3 = where (iota axis=1 < n), %2, 0         of shape 4x32: %2 is needed where place % 32 < n
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tgrad.graph.node import Node, below, toposort
from tgrad.graph.op import REDUCE, Op, is_elementwise
from tgrad.graph.shape import dot_axes

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """place // inner % capacity < size, for the place of an element in row-major memory.

    Attributes:
        size: a 0-d integer node, which is there when the elements are computed.
    """

    inner: int
    capacity: int
    size: Node


Needed = frozenset[Condition]
EVERYTHING: Needed = frozenset()


def needed_elements(results: Mapping[Node, Needed]) -> dict[Node, Needed]:
    """For each node that the results depend on, the conditions that a needed element meets."""
    found: dict[Node, Needed] = {}
    order = toposort(results)
    for node in reversed(order):
        if node in results:
            found[node] = found[node] & results[node] if node in found else results[node]
        for x, conditions in zip(node.inputs, _of_inputs(node, found[node])):
            found[x] = found[x] & conditions if x in found else conditions
    return found


def _of_inputs(node: Node, needed: Needed) -> Sequence[Needed]:
    """What a node needs of its inputs for those of its own elements that are needed."""
    everything = [EVERYTHING] * len(node.inputs)
    if node.op is Op.WHERE:
        chosen = frozenset(conditions_of(node.inputs[0]))
        return [needed, needed | chosen, needed]
    if is_elementwise(node.op):
        return [needed] * len(node.inputs)
    if node.op is Op.RESHAPE:
        return [needed]
    if node.op is Op.DOT:
        x, y = node.inputs
        (batch_x, batch_y), shapes = node.attr("batch"), (x.shape, y.shape)
        free_x, free_y = dot_axes(*shapes, dict(node.attrs))
        rank, width = len(batch_x), len(free_x)
        to_x = dict(enumerate((*batch_x, *free_x)))
        to_y = {**dict(enumerate(batch_y)), **{rank + width + i: a for i, a in enumerate(free_y)}}
        return [_moved(node, needed, x.shape, to_x), _moved(node, needed, y.shape, to_y)]
    if not node.inputs:
        return []
    shape = node.inputs[0].shape
    if node.op in REDUCE:
        kept = [a for a in range(len(shape)) if a not in node.attr("axes")]
        return [_moved(node, needed, shape, dict(enumerate(kept)))]
    if node.op is Op.PERMUTE:
        return [_moved(node, needed, shape, dict(enumerate(node.attr("axes"))))]
    if node.op is Op.EXPAND:
        lead = len(node.shape) - len(shape)
        return [_moved(node, needed, shape, {a + lead: a for a in range(len(shape))})]
    if node.op in (Op.PAD, Op.SLICE, Op.WINDOW):
        same = {a: a for a, n in enumerate(shape) if node.shape[a] == n and _is_whole(node, a)}
        return [_moved(node, needed, shape, same)]
    if node.op is Op.GATHER:
        return [EVERYTHING, needed]
    return everything


def _is_whole(node: Node, axis: int) -> bool:
    """Whether a pad, slice or window leaves an axis as it is."""
    if node.op is Op.WINDOW:
        return axis != node.attr("axis")
    return node.attr("low" if node.op is Op.PAD else "start")[axis] == 0


def _moved(node: Node, needed: Needed, shape: Shape, axes: Mapping[int, int]) -> Needed:
    """The conditions on a node's axes as conditions on an input's; `axes` says which they are."""
    result: list[Condition] = []
    for c in needed:
        for a, b in axes.items():
            stride = prod(node.shape[a + 1 :])
            fits = c.inner % stride == 0 and c.inner * c.capacity <= stride * node.shape[a]
            if fits and node.shape[a] == shape[b] and node.shape[a] > 1:
                inner = c.inner // stride * prod(shape[b + 1 :])
                result.append(Condition(inner, c.capacity, c.size))
                break
    return frozenset(result)


def conditions_of(mask: Node) -> Iterable[Condition]:
    """The conditions that a mask by places stands for, as graph/padding.py makes them; those of
    others are not found."""
    if mask.op is Op.AND:
        return [*conditions_of(mask.inputs[0]), *conditions_of(mask.inputs[1])]
    if mask.op in (Op.EXPAND, Op.RESHAPE):
        inner = frozenset(conditions_of(mask.inputs[0]))
        if mask.op is Op.RESHAPE:
            return inner
        shape, lead = mask.inputs[0].shape, len(mask.shape) - len(mask.inputs[0].shape)
        return _moved(mask.inputs[0], inner, mask.shape, {a: a + lead for a in range(len(shape))})
    if mask.op is not Op.LT:
        return []
    place, size = mask.inputs
    while size.op in (Op.EXPAND, Op.CAST, Op.RESHAPE) and (size.shape or size.op is Op.CAST):
        (size,) = size.inputs
    if size.shape or not size.dtype.is_int:
        return []
    found = _place(place)
    return [] if found is None else [Condition(*found, size)]


def _place(node: Node) -> tuple[int, int] | None:
    """(inner, capacity) of iota // a % b."""
    capacity, divisor = None, 1
    node = _plain(node)
    if node.op is Op.MOD:
        capacity = _constant(node.inputs[1])
        node = _plain(node.inputs[0])
        if capacity is None:
            return None
    if node.op is Op.FLOORDIV:
        found = _constant(node.inputs[1])
        if found is None:
            return None
        divisor, node = found, _plain(node.inputs[0])
    if node.op is not Op.IOTA:
        return None
    axis, shape = node.attr("axis"), node.shape
    stride, whole = prod(shape[axis + 1 :]), shape[axis] // divisor
    return divisor * stride, whole if capacity is None else capacity


def _plain(node: Node) -> Node:
    """Places without what does not change them: another shape, other integers that hold them."""
    while node.op is Op.RESHAPE or (
        node.op is Op.CAST and node.dtype.is_int and node.dtype.max >= node.size
    ):
        (node,) = node.inputs
    return node


def _constant(node: Node) -> int | None:
    node = below(node, (Op.EXPAND, Op.RESHAPE))
    value = node.attr("value") if node.op is Op.CONST else None
    return value if isinstance(value, int) and value > 0 else None
