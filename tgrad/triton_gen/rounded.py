"""Which float32 tiles end in float16 or bfloat16, whatever they are computed with on the way.

In: a Kernel. Out: numbers of tiles. Invariant: no tile is among them that a store of float32 or
float64 receives. One exception: numbers of rows beside products of half types, such as the sums of
a softmax, whose error is that of the products.

exp, tanh, sigmoid and erf of such tiles are written with fewer instructions (prelude.py): their
error of 1e-6 is far below the rounding that follows, 2e-4 for float16 and 2e-3 for bfloat16. Beside
a product the instructions are what counts: an element of attention's scores has about ten in the
time that matrix units take for it (sm_90, heads of 64).

exp(x - m) of x that was loaded as a half type has the short form wherever it goes: the error is
1e-6, and the rounding of x to 16 bits, 4e-3 of its own size, has changed exp(x) by far more.
"""

from __future__ import annotations

from tgrad.dtype import bfloat16, float16, float32
from tgrad.graph.op import Op
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
    made |= {s.total.id for s in flat if isinstance(s, ir.JoinExp)}
    return frozenset(made - exact)


def exponentials_of_halves(kernel: Kernel, halves: frozenset[int]) -> frozenset[int]:
    """Numbers of the exponentials of such a tile less a number of each row."""
    made = {s.out.id: s for s in ir.statements(kernel.body) if isinstance(s, ir.ComputeTile)}
    found: set[int] = set()
    for number, stmt in made.items():
        less = made.get(stmt.args[0].id) if stmt.op is Op.EXP else None
        if less is not None and less.op is Op.SUB and less.args[0].id in halves:
            found.add(number)
    return frozenset(found)


def loaded_halves(kernel: Kernel) -> frozenset[int]:
    """Numbers of the float32 tiles that are loaded float16 or bfloat16 as it is."""
    halves: set[int] = set()
    for stmt in ir.statements(kernel.body):
        if isinstance(stmt, ir.LoadTile) and stmt.out.dtype in (float16, bfloat16):
            halves.add(stmt.out.id)
        if isinstance(stmt, ir.ComputeTile) and stmt.op is Op.CAST:
            if stmt.args[0].id in halves and stmt.out.dtype is float32:
                halves.add(stmt.out.id)
    return frozenset(halves)


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
        case ir.Accumulate() | ir.Keep():
            return [stmt.value.id] if stmt.carry.id in exact else []
        case ir.AccumulateExp():
            return [stmt.value.id] if {stmt.largest.id, stmt.total.id} & exact else []
        case ir.JoinExp():
            pairs = ((stmt.out_largest, stmt.largest), (stmt.out_total, stmt.total))
            return [carry.id for out, carry in pairs if out.id in exact]
        case ir.DotTile():
            return [] if _is_narrow(stmt) else [stmt.a.id, stmt.b.id]
        case _:
            return []
