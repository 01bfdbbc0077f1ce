"""Results larger than the caches, copied past them.

In: the statements of an innermost loop and the Body that emits them. Out: C lines instead of the
loop. Invariant: results are those of the plain loop.

    tg_stream(out + i * 4096 + j_lo, t0 + (i - i_lo) * 64, j_hi - j_lo);

A plain store first reads the line that it fills: a third of a transposition's traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import is_scatter
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.kernel import ir

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body


def stream_rows(body: Body, stmts: Sequence[ir.Stmt], axis: str) -> bool:
    """Copy the rows, if the statements do nothing but store them; whether that was done."""
    stores = [s for s in stmts if isinstance(s, ir.StoreTile) and _is_streamed(body, s, axis)]
    if len(stores) != len(stmts):
        return False
    name = body.axis_name[axis]
    for s in stores:
        array = body.arrays[s.value.id]
        source = f"{array.base} + {body.offset(array.strides[:-1])}"
        body.code.line(f"tg_stream({body.pointer(s, axis)}, {source}, {name}_hi - {name}_lo);")
    return True


def _is_streamed(body: Body, stmt: ir.StoreTile, axis: str) -> bool:
    """Whether the statement copies rows of a local array to a slot that no cache holds."""
    if is_scatter(stmt) or stmt.mask:
        return False
    slot, array = body.kernel.slots[stmt.slot], body.arrays.get(stmt.value.id)
    return (
        array is not None
        and array.strides[-1:] == ((axis, 1),)
        and stmt.value.dtype is slot.dtype is dt.float32
        and 4 * slot.size > body.machine.l3
        and run_along(stmt.index, axis) == Run(0, 1)
    )
