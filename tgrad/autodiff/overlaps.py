"""Windows of an axis added up where they overlap: the transpose of Op.WINDOW.

In: a node [.., i, .., k], windows i along an axis, places k in them the last axis. Out: a node with
out[p] = Σ_{i, k} in[i, k] over i * stride + k * dilation = p, zeros where none is. Invariant: sums
and movement only, nothing is scattered.
"""

from __future__ import annotations

from tgrad.graph import build as b
from tgrad.graph.node import Node

UNROLLED_WINDOW = 32
"""Windows of up to this many elements are added one offset at a time."""


def overlap_added(g: Node, axis: int, stride: int, dilation: int, n: int) -> Node:
    """The sum, of n elements along the axis."""
    size, last = g.shape[-1], len(g.shape) - 1
    if size <= stride and dilation == 1:
        return _disjoint(g, axis, stride, n)
    if size > UNROLLED_WINDOW:
        return (
            _skewed_blocks(g, axis, stride, n)
            if stride > 1 and dilation == 1
            else _skewed(g, axis, stride, dilation, n)
        )
    total: Node | None = None
    for k in range(size):
        part = b.reshape_to(b.slice_axis(g, last, k, k + 1), g.shape[:-1])
        part = b.fit_axis(b.dilate_axis(part, axis, stride), axis, k * dilation, n)
        total = part if total is None else b.add(total, part)
    assert total is not None
    return total


def _disjoint(g: Node, axis: int, stride: int, n: int) -> Node:
    """Windows that do not overlap: [.., i, .., k] -> [.., i * stride + k, ..]."""
    last = len(g.shape) - 1
    beside = b.permute(g, (*range(axis + 1), last, *range(axis + 1, last)))
    spread = b.pad_axis(beside, axis + 1, 0, stride - g.shape[last])
    shape = (*g.shape[:axis], g.shape[axis] * stride, *g.shape[axis + 1 : last])
    return b.fit_axis(b.reshape_to(spread, shape), axis, 0, n)


def _skewed_blocks(g: Node, axis: int, stride: int, n: int) -> Node:
    """Windows as blocks of `stride`: block k of window i is added to block i + k of the result.
    Rows k of length count + blocks, read with one less, move by k."""
    last, count = len(g.shape) - 1, g.shape[axis]
    blocks = -(-g.shape[-1] // stride)
    others = tuple(a for a in range(last) if a != axis)
    lead, at = tuple(g.shape[a] for a in others), len(others)
    x = b.fit_axis(b.permute(g, (*others, axis, last)), last, 0, blocks * stride)
    x = b.reshape_to(x, (*lead, count, blocks, stride))
    x = b.permute(x, (*range(at), at + 1, at, at + 2))
    x = b.fit_axis(x, at + 1, 0, count + blocks)
    flat = b.reshape_to(x, (*lead, blocks * (count + blocks), stride))
    rows = count + blocks - 1
    skewed = b.slice_axis(flat, at, 0, blocks * rows)
    total = b.sum_over(b.reshape_to(skewed, (*lead, blocks, rows, stride)), (at,))
    whole = b.fit_axis(b.reshape_to(total, (*lead, rows * stride)), at, 0, n)
    return b.permute(whole, (*range(axis), at, *range(axis, at)))


def _skewed(g: Node, axis: int, stride: int, dilation: int, n: int) -> Node:
    """Any windows: row k of length n + dilation, read with row length n, moves by k * dilation."""
    size, last = g.shape[-1], len(g.shape) - 1
    others = tuple(a for a in range(last) if a != axis)
    rows = b.dilate_axis(b.permute(g, (*others, last, axis)), last, stride)
    rows = b.fit_axis(rows, last, 0, n + dilation)
    lead = tuple(g.shape[a] for a in others)
    flat = b.reshape_to(rows, (*lead, size * (n + dilation)))
    skewed = b.reshape_to(b.slice_axis(flat, len(lead), 0, size * n), (*lead, size, n))
    total = b.sum_over(skewed, (len(lead),))
    return b.permute(total, (*range(axis), len(lead), *range(axis, len(lead))))
