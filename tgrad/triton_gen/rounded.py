"""Which float32 tiles end in float16 or bfloat16, whatever they are computed with on the way.

In: a Kernel. Out: numbers of tiles. Invariant: no tile is among them that a store of float32 or
float64 receives. One exception: numbers of rows beside products of half types, such as the sums of
a softmax, whose error is that of the products.

exp, tanh, sigmoid and erf of such tiles are written with fewer instructions (prelude.py): their
error of 1e-6 is far below the rounding that follows, 2e-4 for float16 and 2e-3 for bfloat16. Beside
a product the instructions are what counts: an element of attention's scores has about ten in the
time that matrix units take for it (sm_90, heads of 64).
"""

from __future__ import annotations

from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel
from tgrad.triton_gen.emit_dot import operand_type


def rounded_tiles(kernel: Kernel) -> frozenset[int]:
    """Numbers of the tiles."""
    flat = list(ir.statements(kernel.body))
    exact = _stored_exactly(kernel, flat)
    while True:
        found = {tile for stmt in flat for tile in _needed(stmt, exact)}
        if found <= exact:
            break
        exact |= found
    made = {s.out.id for s in flat if isinstance(s, (ir.ComputeTile, ir.ReduceTile))}
    return frozenset(made - exact)


def _stored_exactly(kernel: Kernel, flat: list[ir.Stmt]) -> set[int]:
    """Tiles that a buffer of wide numbers, or something that is no float, receives."""
    dots = [s for s in flat if isinstance(s, ir.DotTile)]
    multiplies_halves = bool(dots) and all(_is_narrow(d) for d in dots)
    columns = {d.n for d in dots}
    found: set[int] = set()
    for stmt in flat:
        if isinstance(stmt, ir.StoreTile):
            is_wide = not (stmt.value.dtype.is_narrow or kernel.slots[stmt.slot].dtype.is_narrow)
            is_of_row = columns.isdisjoint(stmt.value.dims)
            if is_wide and not (multiplies_halves and is_of_row):
                found.add(stmt.value.id)
        if isinstance(stmt, (ir.ScanTile, ir.SortTile, ir.Stash)):
            args = stmt.args if isinstance(stmt, ir.ScanTile) else (_argument(stmt),)
            found |= {a.id for a in args}
    return found


def _argument(stmt: ir.SortTile | ir.Stash) -> ir.Tile:
    return stmt.arg if isinstance(stmt, ir.SortTile) else stmt.value


def _is_narrow(dot: ir.DotTile) -> bool:
    return operand_type(dot.a.dtype, dot.b.dtype).is_narrow


def _needed(stmt: ir.Stmt, exact: set[int]) -> list[int]:
    """Tiles that must be exact because what is made of them must; a rounding ends that."""
    match stmt:
        case ir.ComputeTile():
            ends = stmt.out.dtype.is_narrow or stmt.out.id not in exact
            return [] if ends else [a.id for a in stmt.args]
        case ir.ReduceTile():
            return [stmt.arg.id] if stmt.out.id in exact else []
        case ir.Accumulate():
            return [stmt.value.id] if stmt.carry.id in exact else []
        case ir.DotTile():
            return [] if _is_narrow(stmt) else [stmt.a.id, stmt.b.id]
        case _:
            return []
