"""Rows in segments between which masks change.

In: a Kernel without loops, a row of whose results a program computes. Out: a Kernel that computes
the same, in which each segment of the row is an axis of its own. Invariant: every element is
computed once, by the operations that computed it before, less those that masks decide.

    grid x (0..60), in one tile:                  full x0 (0..2):  out[x0] = 0
      a[x] = load in0[x - 2] if 2 <= x < 58  =>   full x1 (0..56): out[x1 + 2] = load in0[x1]
      out[x] = a                                  full x2 (0..2):  out[x2 + 58] = 0

Loops without masks are vectors, or copies, whatever the width of their elements; and rows stay
together, which pieces of a kernel (pieces.py) pass several times. (8x32x56x56 floats of 16 bits
padded by two, a core of Zen 4: 0.74 to 0.12 ms; 2026-11.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise

from tgrad.cpu_fallback.code import is_scatter
from tgrad.cpu_fallback.pieces import LEAST_LANES, Simplifier, changes_along, part_of
from tgrad.cpu_fallback.unroll import Unroller
from tgrad.graph.index import Index, constant
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, TileAxis
from tgrad.kernel.statements import changed, without_unread

MOST_SEGMENTS = 8
"""Segments of a row."""


def in_segments(kernel: ir.Kernel) -> ir.Kernel:
    """The kernel with its rows in segments, or itself."""
    wide = [a for a in kernel.axes if a.block > 1]
    is_plain = kernel.table is None and not kernel.limits and len(wide) == 1
    if not is_plain or wide[0].role is not Role.GRID or wide[0].steps != 1:
        return kernel
    if not all(isinstance(s, ir.Pure | ir.StoreTile) and not is_scatter(s) for s in kernel.body):
        return kernel
    (axis,) = wide
    cuts = sorted({0, axis.extent} | changes_along(kernel.body, axis))
    longest = max(b - a for a, b in pairwise(cuts))
    if not 2 < len(cuts) <= MOST_SEGMENTS + 1 or longest < LEAST_LANES:
        return kernel
    unroller, axes, body = Unroller(kernel), list(kernel.axes), list[ir.Stmt]()
    for number, (start, stop) in enumerate(pairwise(cuts)):
        part, place = _segment(axis, f"{axis.name}s{number}", start, stop)
        simpler = Simplifier(unroller, {axis.name: place})
        body += _over(simpler.body(kernel.body, True), axis.name, part)
        if part is not None:
            axes.insert(axes.index(axis), part)
    axes.remove(axis)
    return dataclasses.replace(kernel, axes=tuple(axes), body=without_unread(body))


def _segment(axis: TileAxis, name: str, start: int, stop: int) -> tuple[TileAxis | None, Index]:
    """The axis of a segment, and the index of the row's element; one element needs no axis."""
    if stop - start == 1:
        return None, constant(start)
    part, place = part_of(axis, name, start, stop)
    return dataclasses.replace(part, role=Role.FULL), place


def _over(stmts: Iterable[ir.Stmt], name: str, part: TileAxis | None) -> list[ir.Stmt]:
    """The statements over the axis of a segment instead of the row's."""
    own = () if part is None else (part.name,)

    def tile(t: Tile) -> Tile:
        dims = (own if d == name else (d,) for d in t.dims)
        return dataclasses.replace(t, dims=tuple(d for some in dims for d in some))

    return [changed(s, tile, lambda e: e) for s in stmts]
