"""Contractions: tl.dot where Triton has it, a broadcast product and a sum elsewhere.

In: a DotTile. Out: one statement that updates its carry. Invariant: lanes beyond the end of k
contribute exactly 0 whatever the operands hold there; the precision is always stated. 8-bit floats
meet as they are where the target multiplies them, and as float16, which holds them all, elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.dtype import DType, promote
from tgrad.kernel.ir import DotTile, Kernel, Tile
from tgrad.triton_gen.emit_index import expand
from tgrad.triton_gen.op_table import TRITON_TYPES, spell_cast, widen
from tgrad.triton_gen.prelude import INTERPRET

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter

MATRIX_TYPES: dict[DType, DType] = {
    dt.float8_e4m3fn: dt.float32,
    dt.float8_e5m2: dt.float32,
    dt.float16: dt.float32,
    dt.bfloat16: dt.float32,
    dt.float32: dt.float32,
    dt.int8: dt.int32,
}
"""Operand dtypes that tl.dot takes on every target, and the accumulator of each."""


PARTIAL_SUM = 128
"""Products of 8-bit floats that Hopper's wgmma adds before the sum joins the float32 accumulator:
its own sums keep 14 bits. Triton's default is never to join it; with less than 32 it does not use
wgmma."""


def operand_type(a: DType, b: DType) -> DType:
    """The dtype in which both operands meet; two 8-bit floats each stay what they are."""
    return a if a is b or (a.is_float8 and b.is_float8) else promote(a, b)


def is_matrix(kernel: Kernel, stmt: DotTile) -> bool:
    """Whether tl.dot takes the statement: shapes, dtypes and block sizes."""
    common = operand_type(stmt.a.dtype, stmt.b.dtype)
    if set(stmt.carry.dims) != {stmt.m, stmt.n} or kernel.axis(stmt.k).block < 16:
        return False
    if kernel.axis(stmt.m).block < 16 or kernel.axis(stmt.n).block < 16:
        return False
    return MATRIX_TYPES.get(common) is stmt.carry.dtype


def emit_dot(out: Emitter, stmt: DotTile) -> None:
    """Print the statement."""
    if is_matrix(out.kernel, stmt):
        _matrix(out, stmt)
    else:
        _product(out, stmt)


def _matrix(out: Emitter, stmt: DotTile) -> None:
    common = operand_type(stmt.a.dtype, stmt.b.dtype)
    carry = stmt.carry
    left, right, m, n = stmt.a, stmt.b, stmt.m, stmt.n
    if carry.dims != (m, n):  # the transposed product
        left, right, m, n = right, left, n, m
    a = _operand(out, left, (m, stmt.k), stmt.k, common)
    b = _operand(out, right, (stmt.k, n), stmt.k, common)
    exact, precision = "", out.config.input_precision if common is dt.float32 else "ieee"
    if common.is_float8:
        exact = f", max_num_imprecise_acc={min(PARTIAL_SUM, out.kernel.axis(stmt.k).block)}"
    out.line(
        f'{carry} = tl.dot({a}, {b}, {carry}, input_precision="{precision}", '
        f"out_dtype={TRITON_TYPES[carry.dtype.name]}{exact})"
    )


def _operand(out: Emitter, tile: Tile, dims: tuple[str, str], k: str, common: DType) -> str:
    """A tile as a matrix over `dims`, with zeros beyond the end of k."""
    order = out.index.sort(dims)
    text = out.text(tile, order)
    if tile.dims != order:
        text = f"tl.broadcast_to({text}, {out.shape(order)})"
    common = tile.dtype if common.is_float8 else common
    text = spell_cast(text, tile.dtype, common)
    if out.dialect == INTERPRET:
        text = widen(text, common)
    elif common.is_float8 and tile.id not in out.float8:
        text = f"_matrix_{common.short}({text})"
    lanes = out.lanes([k])
    if lanes and k not in out.zero_lanes.get(tile.id, frozenset()):
        text = out.keep(text, order, lanes, _zero(out, common))
    return text if order == dims else f"tl.trans({text})"


def _zero(out: Emitter, dtype: DType) -> str:
    if out.dialect == INTERPRET and dtype is dt.bfloat16:
        return "0.0"
    return "0.0" if dtype.is_float else "0"


def _product(out: Emitter, stmt: DotTile) -> None:
    """carry += sum over k of a * b, with the operands broadcast against each other."""
    carry, axis = stmt.carry, out.kernel.axis(stmt.k)
    names = {*carry.dims, *stmt.a.dims, *stmt.b.dims}
    if axis.block > 1:
        names.add(stmt.k)
    dims = out.index.sort(names)
    a, b = (
        spell_cast(expand(out.text(t, t.dims), t.dims, dims), t.dtype, carry.dtype)
        for t in (stmt.a, stmt.b)
    )
    text = f"{a} * {b}"
    if axis.block > 1:
        if stmt.k not in stmt.a.dims and stmt.k not in stmt.b.dims:
            text = f"tl.broadcast_to({text}, {out.shape(dims)})"
        text = out.keep(text, dims, out.lanes([stmt.k]), _zero(out, carry.dtype))
        text = f"tl.sum({text}, {dims.index(stmt.k)})"
    out.line(f"{carry} += {text}")
