"""Canonical rules for scans and sorts.

In: a scan or an argsort. Out: an equal node that generators know. Invariant: after them no scan or
sort runs over an axis of size 1, and sorts have keys of at most 32 bits.
"""

from __future__ import annotations

from tgrad import dtype as dt
from tgrad.graph import build as b
from tgrad.graph.node import Node, make
from tgrad.graph.op import ROWWISE, Op
from tgrad.graph.rewrite import rule


@rule("scan(x) = x, argsort(x) = 0, along an axis of size 1", *sorted(ROWWISE))
def row_of_one(node: Node) -> Node | None:
    if node.shape[node.attr("axis")] != 1:
        return None
    return b.const_like(node, 0) if node.op is Op.ARGSORT else node.inputs[-1]


@rule("argsort(x) = i[argsort(high(x)[i])] with i = argsort(low(x)), for 64 bits", Op.ARGSORT)
def sort_words(node: Node) -> Node | None:
    """A stable sort by the low word and then one by the high word is one by both. One that says how
    many places are needed is of a device that compares 64 bits."""
    (x,), axis = node.inputs, node.attr("axis")
    if x.dtype is not dt.uint64 or dict(node.attrs).get("first", 0):
        return None
    low = make(Op.ARGSORT, b.cast_to(x, dt.uint32), axis=axis)
    high = b.cast_to(make(Op.SHR, x, b.const_like(x, 32)), dt.uint32)
    order = make(Op.ARGSORT, make(Op.GATHER, high, low, axis=axis), axis=axis)
    return make(Op.GATHER, low, order, axis=axis)


ROW_RULES = (row_of_one, sort_words)
