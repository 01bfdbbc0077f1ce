"""Elements of rows with a number of each row: what can be done once a row is not done in each.

In: an elementwise op of a tile and of a value that lacks some of its axes. Out: its text; "" where
nothing is won. Invariant: the same number within what rounded.py allows, for every input.

    r.to(tl.int64) == t0     tl.arange(0, BLOCK_R) == _place(t0) - r0
    e / t2                   e * (1.0 / t2)           of a softmax
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.triton_gen.emit_index import expand, grouped, is_wide
from tgrad.triton_gen.op_table import SIGNED

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter


def with_row_value(out: Emitter, stmt: ir.ComputeTile) -> str:
    """The text of such an op; "" of another."""
    if stmt.op is Op.DIV:
        return _of_softmax(out, stmt)
    return _comparison(out, stmt) if stmt.op in (Op.EQ, Op.NE) else ""


def _is_row_value(out: Emitter, value: ir.Tile, dims: tuple[str, ...]) -> bool:
    return len(value.dims) < len(dims) and out.tiles[value.id].literal is None


def _of_softmax(out: Emitter, stmt: ir.ComputeTile) -> str:
    """A division by a sum of exp(x - largest x): it is 1 or more, and so has a reciprocal."""
    x, y = stmt.args
    if not (stmt.out.id in out.rounded and y.id in out.exp_sums and x.dims == stmt.out.dims):
        return ""
    if stmt.out.dtype is not dt.float32 or not _is_row_value(out, y, x.dims):
        return ""
    return f"{grouped(out.text(x, x.dims))} * (1.0 / {out.text(y, x.dims)})"


def exp_sums(body: tuple[ir.Stmt, ...]) -> frozenset[int]:
    """Numbers of the sums of exp(x - largest x)."""
    found: set[int] = set()
    made: dict[int, ir.Stmt] = {}
    for stmt in ir.statements(body):
        if isinstance(stmt, (ir.ComputeTile, ir.ReduceTile)):
            made[stmt.out.id] = stmt
        if isinstance(stmt, ir.JoinExp):
            found.add(stmt.out_total.id)
        elif isinstance(stmt, ir.ReduceTile) and _is_exp_sum(stmt, made):
            found.add(stmt.out.id)
    return frozenset(found)


def _is_exp_sum(total: ir.ReduceTile, made: Mapping[int, ir.Stmt]) -> bool:
    exp = made.get(total.arg.id)
    if total.op is not Op.REDUCE_SUM or not isinstance(exp, ir.ComputeTile):
        return False
    less = made.get(exp.args[0].id) if exp.op is Op.EXP else None
    if not isinstance(less, ir.ComputeTile) or less.op is not Op.SUB:
        return False
    x, y = less.args
    largest = made.get(y.id)
    if not isinstance(largest, ir.ReduceTile) or largest.op is not Op.REDUCE_MAX:
        return False
    return (largest.arg, largest.axes) == (x, total.axes)


def _comparison(out: Emitter, stmt: ir.ComputeTile) -> str:
    """Whether a place along an axis is a 64-bit integer: in 32 bits, where what does not fit them
    is -1."""
    place = next((a for a in stmt.args if a.id in out.places and a.dims == stmt.out.dims), None)
    if place is None or any(a.dtype is not dt.int64 for a in stmt.args):
        return ""
    index = out.places[place.id]
    other = stmt.args[stmt.args[0] == place]
    if not _is_row_value(out, other, place.dims) or index.lo < 0 or is_wide(index):
        return ""
    lane = grouped(out.index.at(index, place.dims))
    wanted = f"_place({out.text(other, other.dims)})"
    if lane in out.open:  # LLVM gives a loop's variable 64 bits, and all that is compared with it
        lane, wanted = f"tl.arange(0, {out.size(lane)})", f"{wanted} - {lane}0"
    texts = {place.id: lane, other.id: expand(wanted, other.dims, place.dims)}
    return SIGNED[stmt.op].format(*(texts[a.id] for a in stmt.args))
