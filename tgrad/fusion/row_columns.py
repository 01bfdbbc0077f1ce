"""Sums over rows of what a kernel of rows reads anyway, so that both are one kernel.

In: canonical nodes, the device's limits. Out: nodes that compute the same, column sums in parts.
Invariant: pure; parts are added in one order, in the accumulator's dtype.

    %s = reduce_sum %x over all rows       ->      %p = reduce_sum %x over the rows of each part
                                                   %s = reduce_sum %p over the parts

A program of the kernel of rows owns a part: it walks its rows, writes what belongs to each, and
keeps the sum of each column in registers. So the gradient of a norm reads its tensors once: the
input's (which needs sums of rows) and those of weight and bias (sums of columns) together.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tgrad.fusion.device_limits import Limits
from tgrad.graph import build as b
from tgrad.graph.node import Node, behind, rebuilt, toposort
from tgrad.graph.op import MOVEMENT, REDUCE, Op, is_elementwise

ROWS_OF_PART = 4
"""Rows that a program walks at least."""
BUSY = 0.75
"""Share of the programs that keep the device busy which there are parts for at least."""
SPREAD = 2
"""Parts for each program that keeps the device busy."""


def split_columns(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs with sums of columns in parts, where a kernel of rows reads the same."""
    order = toposort(outputs)
    beside_rows = summed_beside_rows(order, limits)
    if not beside_rows:
        return list(outputs)
    return rebuilt(outputs, lambda n, same: _in_parts(same, limits) if n in beside_rows else None)


def summed_beside_rows(order: Sequence[Node], limits: Limits) -> set[Node]:
    """Sums of columns of something that a reduction of rows of that length reads too.

    Args:
        order: all nodes, in an order that may run.
    """
    rows = _read_by_rows(order) if limits.columns else set()
    return {n for n in order if _is_shared(n, rows, limits)} if rows else set()


def _read_by_rows(order: Sequence[Node]) -> set[tuple[Node, int]]:
    """What is read by reductions along the last axis, and the length of that axis."""
    found: set[tuple[Node, int]] = set()
    for n in order:
        if n.op in REDUCE:
            (x,) = n.inputs
            if n.attr("axes") == (len(x.shape) - 1,):
                found |= {(leaf, x.shape[-1]) for leaf in _leaves(x)}
    return found


def _leaves(x: Node) -> set[Node]:
    """Values of its size that a value is computed from element by element."""

    def is_by_element(n: Node) -> bool:
        return n.size == x.size and (is_elementwise(n.op) or n.op in MOVEMENT)

    return {n for n in behind([x], is_by_element) if n.size == x.size and not is_by_element(n)}


def _is_shared(n: Node, rows: set[tuple[Node, int]], limits: Limits) -> bool:
    """Whether it is a sum of columns of something that is read by rows."""
    if n.op is not Op.REDUCE_SUM or not n.dtype.is_float:
        return False
    (x,) = n.inputs
    if n.attr("axes") != tuple(range(len(x.shape) - 1)) or x.shape[-1] > limits.columns:
        return False
    return any((leaf, x.shape[-1]) in rows for leaf in _leaves(x))


def _in_parts(n: Node, limits: Limits) -> Node:
    """The sum over parts of rows; itself where there are too few rows for a part each program."""
    (x,) = n.inputs
    lead = x.shape[:-1]
    most = min(SPREAD * limits.programs, prod(lead) // ROWS_OF_PART)
    if most < BUSY * limits.programs:
        return n
    kept, parts = 0, 1
    while kept < len(lead) and parts * lead[kept] <= most:
        parts *= lead[kept]
        kept += 1
    if kept == len(lead):
        return n
    more = next(p for p in range(min(lead[kept], most // parts), 0, -1) if lead[kept] % p == 0)
    if parts * more < BUSY * limits.programs:
        return n
    wide = b.cast_to(x, n.dtype.accumulator)
    shape = (*lead[:kept], more, lead[kept] // more, *lead[kept + 1 :], x.shape[-1])
    summed = tuple(range(kept + 1, len(shape) - 1))
    part = b.sum_over(b.reshape_to(wide, shape), summed)
    return b.cast_to(b.sum_over(part, tuple(range(kept + 1))), n.dtype)
