"""Loops over products that take no step where masks leave nothing to add.

In: a Kernel. Out: a Kernel whose loops of products need what masks ask of a whole tile. Invariant:
a product with an operand outside its mask is 0; a tile of them stays as it was.

Of a gradient through a convolution of stride 2 three pixels of four get nothing. Where a tile lies
at pixels of one kind, its program stores zeros at once:

    loop k:                                        loop k if 0 <= m // 200704 < 1:
        t1 = load in0[...] if 0 <= m // 200704 < 1     t1 = load in0[...]
        sum += dot t1, t2                    =>        sum += dot t1, t2
"""

from __future__ import annotations

from dataclasses import replace

from tgrad.graph.index import Bound
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel
from tgrad.triton_gen.emit_index import IndexPrinter

PLAIN = (ir.LoadTile, ir.ConstTile, ir.IndexTile, ir.InsideTile, ir.ComputeTile, ir.DotTile)
"""Statements of loops that may be left out: but for products they are without effect."""


def with_needed_steps(kernel: Kernel) -> Kernel:
    """The kernel with its loops changed so; itself where none is."""
    index = IndexPrinter(kernel, {}, frozenset())
    body = tuple(_needed(s, index) if isinstance(s, ir.Loop) else s for s in kernel.body)
    return kernel if body == kernel.body else replace(kernel, body=body)


def _needed(loop: ir.Loop, index: IndexPrinter) -> ir.Loop:
    dots = [s for s in loop.body if isinstance(s, ir.DotTile)]
    if not dots or not all(isinstance(s, PLAIN) for s in loop.body):
        return loop
    loads = {s.out.id: s for s in loop.body if isinstance(s, ir.LoadTile)}
    asked = [
        {b for tile in (dot.a, dot.b) if tile.id in loads for b in _of_tiles(loads[tile.id], index)}
        for dot in dots
    ]
    needs = {b for b in set.intersection(*asked) if loop.axis not in b.index.variables()}
    if not needs:
        return loop
    body = tuple(
        replace(s, mask=tuple(b for b in s.mask if b not in needs))
        if isinstance(s, ir.LoadTile)
        else s
        for s in loop.body
    )
    ordered = dict.fromkeys(b for s in loads.values() for b in s.mask if b in needs)
    return replace(loop, body=body, needs=tuple(ordered))


def _of_tiles(load: ir.LoadTile, index: IndexPrinter) -> list[Bound]:
    """The bounds of its mask that hold for a whole tile or for nothing of it."""
    return [
        b for b in load.mask if not (b.is_always or b.index.loaded() or index.dims(b.index))
    ]  # fmt: skip
