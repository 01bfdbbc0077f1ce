"""Scans and sorts of rows that are too long for one program, in pieces.

In: canonical nodes, the device's limits. Out: nodes that compute the same, each of whose scans and
sorts one program does well. Invariant: pure; nodes without such rows are the same objects.

    scan of n      blocks of B scanned; their ends scanned; each block after the end before it
    argsort of n   blocks of B sorted, then merged two by two: an element of the result finds its
                   source by a binary search on its diagonal (Odeh, Green, Mwassi, Shmueli, Birk:
                   Merge Path, 2012), so that a merge is one elementwise kernel
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.dtype import int64
from tgrad.fusion.device_limits import Limits
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import ROWWISE, SCAN, SCAN_COMBINE, Op
from tgrad.graph.rewrite import rewrite, rule
from tgrad.graph.rules import CANONICAL


def split_long_rows(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs with long rows in pieces, canonical again."""
    if not any(_is_long(n, limits) for n in toposort(outputs)):
        return list(outputs)

    @rule("row op of a long row = row ops of its pieces, joined", *sorted(ROWWISE))
    def pieces(node: Node) -> Node | None:
        if not _is_long(node, limits):
            return None
        axis = node.attr("axis")
        order = (*(a for a in range(len(node.shape)) if a != axis), axis)
        rows = [b.permute(x, order) for x in node.inputs]
        scan_or_sort = _merge_sort if node.op is Op.ARGSORT else _block_scan
        done = scan_or_sort(node.op, rows, limits)
        return b.permute(done, tuple(order.index(a) for a in range(len(order))))

    return rewrite(outputs, (pieces, *CANONICAL))


def _is_long(node: Node, limits: Limits) -> bool:
    if node.op in SCAN:
        n = node.shape[node.attr("axis")]
        return n >= 4 * limits.scan_block and node.size // n < limits.scan_rows
    return node.op is Op.ARGSORT and node.shape[node.attr("axis")] > limits.sort_row


def _block_scan(op: Op, rows: list[Node], limits: Limits) -> Node:
    """Each block's own scan, and what the blocks before it end with."""
    lead, n, size = rows[0].shape[:-1], rows[0].shape[-1], limits.scan_block
    last, count = len(lead), -(-n // size)
    blocks = [
        b.reshape_to(b.fit_axis(x, last, 0, count * size), (*lead, count, size)) for x in rows
    ]
    own = make(op, *blocks, axis=last + 1)
    factors = make(Op.SCAN_PROD, blocks[0], axis=last + 1) if op is Op.SCAN_LINEAR else None

    def ends(x: Node) -> Node:
        return b.reshape_to(b.slice_axis(x, last + 1, size - 1, size), (*lead, count))

    totals = make(op, *map(ends, (own,) if factors is None else (factors, own)), axis=last)
    shape = (*lead, count - 1, size)
    before = b.slice_axis(totals, last, 0, count - 1)
    before = b.expand_to(b.reshape_to(before, (*lead, count - 1, 1)), shape)
    later = b.slice_axis(own, last, 1, count)
    if factors is None:
        joined = make(SCAN_COMBINE[op], before, later)
    else:
        joined = b.add(b.mul(b.slice_axis(factors, last, 1, count), before), later)
    return _first_block_and_rest(own, joined, n)


def _first_block_and_rest(own: Node, rest: Node, n: int) -> Node:
    """Block 0 of `own`, then `rest`, as rows of n."""
    at = len(own.shape) - 2
    shifted = b.pad_axis(rest, at, 1, 0)
    block = make(Op.IOTA, shape=own.shape, axis=at, dtype=int64)
    whole = b.where(b.equal(block, b.const_like(block, 0)), own, shifted)
    flat = b.reshape_to(whole, (*own.shape[:-2], own.shape[-2] * own.shape[-1]))
    return b.slice_axis(flat, at, 0, n)


def _merge_sort(op: Op, rows: list[Node], limits: Limits) -> Node:
    """Blocks sorted by themselves; then runs of twice the length until one is left."""
    (x,) = rows
    *lead, n = x.shape
    last, size = len(lead), limits.sort_row
    total = -(-n // size) * size
    place = make(Op.IOTA, shape=(*lead, total), axis=last, dtype=int64)
    beyond = b.const(int(x.dtype.max), x.dtype, place.shape)
    keys = b.where(b.less(place, b.const_like(place, n)), b.fit_axis(x, last, 0, total), beyond)
    shape = (*lead, total // size, size)
    blocks = b.reshape_to(keys, shape)
    order = make(op, blocks, axis=last + 1)
    keys = b.reshape_to(make(Op.GATHER, blocks, order, axis=last + 1), place.shape)
    start = make(Op.IOTA, shape=shape, axis=last, dtype=int64)
    order = b.add(order, b.mul(start, b.const_like(start, size)))
    order = b.reshape_to(order, place.shape)
    while size < total:
        source = _merged_from(keys, size)
        keys, order = (make(Op.GATHER, v, source, axis=last) for v in (keys, order))
        size *= 2
    return b.slice_axis(order, last, 0, n)


def _merged_from(keys: Node, size: int) -> Node:
    """Where each element of the merged runs comes from: runs 2k and 2k + 1 of `size` become one.

    Element d of a merged run has before it i elements of the left run and d - i of the right, with
    i the number of steps at which left[i - 1] <= right[d - i].
    """
    last, total = len(keys.shape) - 1, keys.shape[-1]
    here = make(Op.IOTA, shape=keys.shape, axis=last, dtype=int64)

    def number(value: int) -> Node:
        return b.const_like(here, value)

    def least(p: Node, q: Node) -> Node:
        return make(Op.MINIMUM, p, q)

    def key(at: Node) -> Node:
        inside = make(Op.MAXIMUM, least(at, number(total - 1)), number(0))
        return make(Op.GATHER, keys, inside, axis=last)

    left = b.mul(make(Op.FLOORDIV, here, number(2 * size)), number(2 * size))
    right = least(b.add(left, number(size)), number(total))
    d = b.sub(here, left)
    in_left, in_right = b.sub(right, left), least(number(size), b.sub(number(total), right))
    i = make(Op.MAXIMUM, b.sub(d, in_right), number(0))
    most, step = least(d, in_left), size
    while step:
        probe = b.add(i, number(step))
        is_left_first = make(
            Op.LE, key(b.add(left, b.sub(probe, number(1)))), key(b.add(right, b.sub(d, probe)))
        )
        i = b.where(b.both(make(Op.LE, probe, most), is_left_first), probe, i)
        step //= 2
    j = b.sub(d, i)
    is_left = make(Op.LE, key(b.add(left, i)), key(b.add(right, j)))
    is_left = b.both(b.less(i, in_left), make(Op.OR, make(Op.LE, in_right, j), is_left))
    return b.where(is_left, b.add(left, i), b.add(right, j))
