"""Scans and sorts in Triton.

In: a ScanTile or SortTile, the Emitter that prints its kernel. Out: lines. Invariant: lanes beyond
the end of a row come last, so they change nothing before them.

A scan over blocks of a row, and a sort, whose keys carry their places in the low word:

    t1 = tl.full([BLOCK_I], 0.0, tl.float32)
    for r0 in tl.range(0, 5000, BLOCK_R):
        ...
        t3 = _scan_sum(t2, 1)
        t3 = t3 + t1[:, None]
        t1 = tl.sum(tl.where((tl.arange(0, BLOCK_R) == BLOCK_R - 1)[None, :], t3, 0.0), 1)

    t4_pair = _sort((t3.to(tl.uint64) << 32) | r.to(tl.uint64))
    t4 = (t4_pair & 0xFFFFFFFF).to(tl.int32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad.dtype import uint64
from tgrad.errors import UnsupportedError
from tgrad.graph.op import SCAN_COMBINE, Op
from tgrad.kernel import ir
from tgrad.triton_gen.emit_index import Named, expand
from tgrad.triton_gen.op_table import TRITON_TYPES, Operand, spell, spell_cast

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter


def emit_scan(emitter: Emitter, stmt: ir.ScanTile) -> None:
    """A scan along one axis of a tile, after the carry of the tiles before."""
    out, dtype = stmt.out, stmt.out.dtype
    args = [_whole(emitter, a, out) for a in stmt.args]
    if stmt.axis not in out.dims:
        assert stmt.carry is not None
        emitter.line(f"{stmt.carry} = {_joined(emitter, stmt, args)}")
        emitter.assign(out, str(stmt.carry))
        return
    axis = out.dims.index(stmt.axis)
    name = f"_{stmt.op.value}"
    if stmt.op is Op.SCAN_LINEAR:
        factor = f"{out}_factor"
        emitter.line(f"{factor}, {out} = {name}({args[0]}, {args[1]}, {axis})")
        args = [factor, str(out)]
    else:
        call = f"{name}({args[0]}, {axis})"
        if dtype.is_bool:
            call = f"({name}({args[0]}.to(tl.int32), {axis}) != 0)"
        emitter.line(f"{out} = {call}")
        args = [str(out)]
    if stmt.carry is not None:
        emitter.line(f"{out} = {_joined(emitter, stmt, args)}")
        emitter.line(f"{stmt.carry} = {_last_lane(emitter, stmt)}")
    emitter.tiles[out.id] = Named(str(out), dtype, out.dims)


def _last_lane(emitter: Emitter, stmt: ir.ScanTile) -> str:
    """What a scan holds after the whole tile."""
    out, dtype = stmt.out, stmt.out.dtype
    block = f"BLOCK_{stmt.axis.upper()}"
    is_last = expand(f"tl.arange(0, {block}) == {block} - 1", (stmt.axis,), out.dims)
    zero = "0.0" if dtype.is_float else "0"
    value = f"{out}.to(tl.int32)" if dtype.is_bool else str(out)
    text = f"tl.sum(tl.where({is_last}, {value}, {zero}), {out.dims.index(stmt.axis)})"
    return f"({text} != 0)" if dtype.is_bool else f"{text}.to({TRITON_TYPES[dtype.name]})"


def _whole(emitter: Emitter, tile: ir.Tile, out: ir.Tile) -> str:
    """The tile over all dims of the result."""
    text = emitter.text(tile, out.dims)
    if set(tile.dims) == set(out.dims):
        return text
    return f"tl.broadcast_to({text}, {emitter.shape(out.dims)})"


def _joined(emitter: Emitter, stmt: ir.ScanTile, args: list[str]) -> str:
    """The carry, then the elements of this tile."""
    assert stmt.carry is not None
    dtype = stmt.out.dtype
    carry = expand(str(stmt.carry), stmt.carry.dims, stmt.out.dims)
    if stmt.op is Op.SCAN_LINEAR:
        return f"{args[0]} * {carry} + {args[1]}"
    operands = [Operand(carry, dtype), Operand(args[0], dtype)]
    return spell(SCAN_COMBINE[stmt.op], operands, dtype)


def emit_sort(emitter: Emitter, stmt: ir.SortTile) -> None:
    """A sort of whole rows by (key, place)."""
    out, arg = stmt.out, stmt.arg
    if out.dims[-1] != stmt.axis:
        raise UnsupportedError(
            f"{emitter.kernel.name}: Triton sorts along the last axis of a tile.",
            "Lower it with the row last.",
            source=emitter.kernel.source,
        )
    key = spell_cast(_whole(emitter, arg, out), arg.dtype, uint64)
    place = expand(f"{stmt.axis}.to(tl.uint64)", (stmt.axis,), out.dims)
    pair = f"({key} << 32) | {place}"
    pair = emitter.keep(pair, out.dims, emitter.lanes((stmt.axis,)), "0xFFFFFFFFFFFFFFFF")
    emitter.line(f"{out}_pair = _sort({pair})")
    emitter.assign(out, f"({out}_pair & 0xFFFFFFFF).to(tl.int32)")
