"""Stores over what other threads of the program have yet to read.

In: a Kernel that writes results over inputs, its Config. Out: the stores before which all threads
of a program must have come as far. Invariant: between the load of an element by any thread and the
store over it there is a barrier, or the stored value is made of what was loaded.

A row of logits whose weight is overwritten by the row's maximum: a number is loaded by all threads
and stored by one, so the first warp could store before the last one has loaded.

    t11 = tl.load(out0_ptr + i)
    tl.debug_barrier()
    tl.store(out0_ptr + i, t10)
"""

from __future__ import annotations

from math import prod

from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Kernel

WIDEST_WARP = 64
"""Threads of a warp on AMD; NVIDIA's have 32."""


def stores_that_wait(kernel: Kernel, config: Config) -> frozenset[int]:
    """The id() of each of these statements.

    A store need not wait where each thread has loaded what it overwrites: the tile has no fewer
    elements than the program threads, so that none is loaded twice, and the value is made of it.
    """
    waiting: set[int] = set()
    read: dict[int, list[ir.Tile]] = {}
    made_of: dict[int, frozenset[int]] = {}
    threads = config.num_warps * WIDEST_WARP * config.epilogue_parts
    for stmt in ir.statements(kernel.body):
        if isinstance(stmt, ir.LoadTile) and kernel.slots[stmt.slot].role == "inout":
            read.setdefault(stmt.slot, []).append(stmt.out)
            made_of[stmt.out.id] = frozenset({stmt.out.id})
        elif isinstance(stmt, ir.StoreTile):
            value = made_of.get(stmt.value.id, frozenset())
            loads = read.get(stmt.slot, ())
            if any(t.id not in value or _elements(kernel, t) < threads for t in loads):
                waiting.add(id(stmt))
                read.clear()
        else:
            for made, parts in _made(stmt):
                found = (made_of.get(t.id, frozenset()) for t in parts)
                made_of[made.id] = made_of.get(made.id, frozenset()).union(*found)
    return frozenset(waiting)


def _elements(kernel: Kernel, tile: ir.Tile) -> int:
    return prod(kernel.axis(d).block for d in tile.dims)


def _made(stmt: ir.Stmt) -> list[tuple[ir.Tile, tuple[ir.Tile, ...]]]:
    """Tiles that a statement makes or adds to, and of which ones."""
    match stmt:
        case ir.ComputeTile():
            return [(stmt.out, stmt.args)]
        case ir.ReduceTile() | ir.SortTile():
            return [(stmt.out, (stmt.arg,))]
        case ir.ScanTile():
            return [(stmt.out, stmt.args)]
        case ir.Accumulate():
            return [(stmt.carry, (stmt.value,))]
        case ir.AccumulateExp():
            return [(stmt.largest, (stmt.value,)), (stmt.total, (stmt.value,))]
        case ir.JoinExp():
            parts = (stmt.largest, stmt.total)
            return [(stmt.out_largest, parts), (stmt.out_total, parts)]
        case ir.DotTile():
            return [(stmt.carry, (stmt.a, stmt.b))]
    return []
