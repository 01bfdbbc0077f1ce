"""Loops over a row that is no multiple of the block: whole blocks without masks, then the rest.

In: a loop that sums or takes the largest of a row, or writes one. Out: a loop of which no lane is
beyond the row's end, and a step with a smaller tile and a mask. Invariant: each element is taken
once; the rest has sums of its own, which the reduction of the whole ones' ends with.

    for r0 in tl.range(0, 49152, BLOCK_R):        x = load(...)              t2 = t2 + x
    for r0 in tl.range(49152, 50304, REST_R):     x = load(..., mask=r_ok)   t2_rest = t2_rest + x
    t9 = tl.sum(t2, 0) + tl.sum(t2_rest, 0)

With one masked loop the mask takes a fifth of the instructions of a row's maximum, and the last
step of a row of 50304 in blocks of 16384 computes 15232 elements that do not exist.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tgrad.graph.index import Div, Index, Mod
from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Kernel, Role
from tgrad.triton_gen.overwritten import WIDEST_WARP

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter

LEAST_STEPS = 3
"""Steps of a loop that is worth two."""
_SIMPLE = (ir.LoadTile, ir.ConstTile, ir.IndexTile, ir.InsideTile, ir.ComputeTile, ir.Accumulate,
           ir.AccumulateExp, ir.StoreTile)  # fmt: skip


def rests_of(kernel: Kernel, config: Config) -> dict[str, int]:
    """Elements of the tile for the rest of each axis whose loops are in two parts."""
    found: dict[str, int] = {}
    if kernel.table is not None:
        return found
    for axis in kernel.axes:
        rest = axis.extent % axis.block
        if axis.role is not Role.LOOP or not rest or axis.steps < LEAST_STEPS:
            continue
        loops = [s for s in ir.statements(kernel.body) if _is_over(s, axis.name)]
        if not loops or not all(s in kernel.body and _is_simple(s, axis.name) for s in loops):
            continue
        others = prod(a.block for a in kernel.axes if a.name != axis.name)
        # no thread may have an element that another one writes over; see overwritten.py
        least = max(config.num_warps * WIDEST_WARP // others, 1)
        found[axis.name] = min(max(1 << (rest - 1).bit_length(), least), axis.block)
    return found


def _is_over(stmt: ir.Stmt, axis: str) -> bool:
    return isinstance(stmt, ir.Loop) and stmt.axis == axis


def _is_simple(stmt: ir.Stmt, axis: str) -> bool:
    """Whether the loop's body is the same for a tile of any size."""
    if not isinstance(stmt, ir.Loop) or stmt.start or stmt.stop:
        return False
    if not all(isinstance(s, _SIMPLE) for s in stmt.body):
        return False
    return not any(
        axis in e.variables() and _is_divided(e) for s in stmt.body for e in ir.indices_of(s)
    )


def _is_divided(e: Index) -> bool:
    return any(isinstance(atom, (Div, Mod)) for atom, _ in e.terms)


def emit_with_rest(out: Emitter, loop: ir.Loop) -> None:
    """Print the loop over whole blocks, and that over the rest."""
    axis = out.kernel.axis(loop.axis)
    whole = axis.extent // axis.block * axis.block
    with out.only_whole(axis.name):
        out.steps(loop, "0", str(whole))
    with out.only_rest(axis.name):
        out.steps(loop, str(whole), str(axis.extent))


def emit_init(out: Emitter, stmt: ir.Init) -> None:
    """A carry, and that of the rest."""
    tile = stmt.out
    out.assign(tile, out.full(_shape(out, tile), stmt.value, tile.dtype))
    for axis in out.rest_of(tile):
        with out.only_rest(axis):
            text = out.full(_shape(out, tile), stmt.value, tile.dtype)
            out.line(f"{out.carry(tile)} = {text}")


def _shape(out: Emitter, carry: ir.Tile) -> str:
    group = out.groups.get(carry.id, 1)
    return f"[{out.size(carry.dims[0])} // {group}]" if group > 1 else out.shape(carry.dims)
