"""Loops over products that take no step where masks leave nothing to add.

In: a Kernel. Out: a Kernel whose loops over products begin, end and need what masks ask of a whole
tile. Invariant: the products that are left are the same; those left out have an operand outside its
mask, which is 0.

Of a gradient through a convolution of stride 2 three pixels of four get nothing. Where a tile lies
at pixels of one kind, its program stores zeros at once. Where it lies at one pixel of 7x7, two rows
of seven have two of the three rows of a 3x3 window, and a tenth of all steps is left out:

    loop k:                                        loop k if 0 <= m // 200704 < 1:
        t1 = load in0[...] if 0 <= m // 200704 < 1     t1 = load in0[...]
        sum += dot t1, t2                    =>        sum += dot t1, t2

    loop k:                                        loop k from 1536 - m // 896 * 1536 to ...:
        t1 = load in0[...]                             t1 = load in0[...]
            if 0 <= k // 1536 + m // 896 - 1 < 7
"""

from __future__ import annotations

from dataclasses import replace

from tgrad.graph.index import Bound, Div, Index, Var
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel
from tgrad.triton_gen.emit_index import IndexPrinter

PLAIN = (ir.LoadTile, ir.ConstTile, ir.IndexTile, ir.InsideTile, ir.ComputeTile, ir.DotTile)
"""Statements of loops that may be left out: but for products they are without effect."""


def with_needed_steps(kernel: Kernel) -> Kernel:
    """The kernel with its loops changed so; itself where none is."""
    index = IndexPrinter(kernel, {}, frozenset())
    body = tuple(_needed(kernel, s, index) if isinstance(s, ir.Loop) else s for s in kernel.body)
    return kernel if body == kernel.body else replace(kernel, body=body)


def _needed(kernel: Kernel, loop: ir.Loop, index: IndexPrinter) -> ir.Loop:
    dots = [s for s in loop.body if isinstance(s, ir.DotTile)]
    if not dots or not all(isinstance(s, PLAIN) for s in loop.body):
        return loop
    loads = {s.out.id: s for s in loop.body if isinstance(s, ir.LoadTile)}
    asked = [
        dict.fromkeys(b for t in (dot.a, dot.b) if t.id in loads for b in loads[t.id].mask)
        for dot in dots
    ]
    common = [
        b for b in asked[0] if all(b in others for others in asked) and _is_of_tiles(b, index)
    ]
    needs = tuple(b for b in common if loop.axis not in b.index.variables())
    ranges = {b: r for b in common if (r := _steps_within(b, loop.axis, kernel)) is not None}
    if not needs and not ranges:
        return loop
    body = tuple(_without(s, {*needs, *ranges}) for s in loop.body)
    extent = kernel.axis(loop.axis).extent
    starts = [first for first, _ in ranges.values() if first.hi > 0]
    stops = [end for _, end in ranges.values() if end.lo < extent]
    start, stop = (*loop.start, *starts), (*loop.stop, *stops)
    return replace(loop, body=body, start=start, stop=stop, needs=needs)


def _is_of_tiles(bound: Bound, index: IndexPrinter) -> bool:
    """Whether it holds for a whole tile or for nothing of it."""
    return not (bound.is_always or bound.index.loaded() or index.dims(bound.index))


def _steps_within(bound: Bound, axis: str, kernel: Kernel) -> tuple[Index, Index] | None:
    """Where steps that keep to the bound begin and end, if they follow each other: with q for
    axis // divisor, low <= factor * q + rest < high."""
    block = kernel.axis(axis).block
    for atom, factor in bound.index.terms:
        if not isinstance(atom, Div) or atom.divisor % block:
            continue
        walked, rest = atom.base.atom, bound.index - Index(((atom, factor),), 0)
        roles = {kernel.axis(name).role for name in rest.variables()}
        if isinstance(walked, Var) and walked.name == axis and roles <= {ir.Role.GRID}:
            if factor > 0:
                first, end = ((rest * -1 + x - 1) // factor + 1 for x in (bound.lo, bound.hi))
            else:
                first, end = ((rest - x) // -factor + 1 for x in (bound.hi, bound.lo))
            return first * atom.divisor, end * atom.divisor
    return None


def _without(stmt: ir.Stmt, bounds: set[Bound]) -> ir.Stmt:
    if not isinstance(stmt, ir.LoadTile):
        return stmt
    return replace(stmt, mask=tuple(b for b in stmt.mask if b not in bounds))
