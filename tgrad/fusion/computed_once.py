"""Values that are compared with an extremum of themselves, to be computed by one kernel only.

In: canonical nodes in order, and those that are stored. Out: more nodes to store. Invariant: who
asks which element is the largest sees the elements that the maximum was taken of, to the last bit.

    %m = mul %a, %b
    %x = add %m, %c               a compiler may round %x once (FMA), and twice where %m is needed
    %y = reduce_max %x            for something else: no element of %x computed again equals %y
    %w = eq %x, %y            ->  %x is stored, unless one kernel computes all of it
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tgrad.graph.node import Node
from tgrad.graph.op import MOVEMENT, OPS, Op, is_elementwise

_EXTREMA = frozenset({Op.REDUCE_MAX, Op.REDUCE_MIN, Op.SCAN_MAX, Op.SCAN_MIN, Op.SCATTER})
_SELECTING = MOVEMENT | {Op.GATHER, Op.WHERE, Op.CAST}
"""Ops that pass elements on as they are, or rounded in one way."""

_ONE_ROUNDING = 4
"""Cost of the dearest op that IEEE 754 rounds correctly, wherever it is computed."""


def compared_with_extrema(order: Sequence[Node], stored: Collection[Node]) -> set[Node]:
    """Elementwise nodes that two kernels might round differently, where that decides something."""
    found: set[Node] = set()
    for node in order:
        if node.op is not Op.EQ or not node.inputs[0].dtype.is_float:
            continue
        for x, y in (node.inputs, node.inputs[::-1]):
            if any(n.op in _EXTREMA for n in _reached(y, _SELECTING)):
                found |= _reached(x, _SELECTING) & _reached(y, _SELECTING | _EXTREMA)
    return found & _uncertain(order, stored) if found else found


def _reached(node: Node, through: Collection[Op]) -> set[Node]:
    """What a node's elements come from, through such ops."""
    seen, ends, stack = {node}, set[Node](), [node]
    while stack:
        top = stack.pop()
        if top.op not in through:
            ends.add(top)
            continue
        new = [x for x in top.inputs if x.dtype.is_float and x not in seen]
        seen.update(new)
        stack.extend(new)
    return ends


def _uncertain(order: Sequence[Node], stored: Collection[Node]) -> set[Node]:
    """Elementwise floats that may be rounded differently from kernel to kernel."""
    found: set[Node] = set()
    for node in order:
        if node in stored or (not is_elementwise(node.op) and node.op not in _SELECTING):
            continue
        is_fused = node.op in (Op.ADD, Op.SUB) and any(map(_is_product, node.inputs))
        approximate = node.dtype.is_float and OPS[node.op].cost > _ONE_ROUNDING
        if is_fused or approximate or not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def _is_product(node: Node) -> bool:
    """Stored or not: the kernel that stores it may add to it as well."""
    while node.op in MOVEMENT or node.op is Op.NEG:
        node = node.inputs[0]
    return node.op is Op.MUL
