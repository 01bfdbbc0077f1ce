"""The largest of a row and the sum of exp(x - largest), as Triton text.

In: AccumulateExp and JoinExp of a row. Out: calls of prelude.py's functions. Invariant: as in
kernel/ir.py. A thread's neighbouring elements, those of one wide load, share a largest and a sum:
so the sum is scaled once for eight elements of 16 bits.

    t1 = tl.full([BLOCK_R // 8], -float("inf"), tl.float32)
    t4 = tl.full([BLOCK_R // 8], 0.0, tl.float32)
    for r0 in tl.range(0, 49152, BLOCK_R):
        ...
        t1, t4 = _exp_sum_short(t1, t4, x)
    t2 = _reduce_max(t1, 0)
    t5 = tl.sum(t4 * _exp_f32(t1 - t2), 0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter

WIDEST_LOAD = 16
"""Bytes of a thread's load."""


def groups_of(kernel: Kernel) -> dict[int, int]:
    """Elements that share a lane of the carries, by the number of a carry."""
    found: dict[int, int] = {}
    for loop in (s for s in ir.statements(kernel.body) if isinstance(s, ir.Loop)):
        loads = [s.out for s in loop.body if isinstance(s, ir.LoadTile)]
        sizes = [t.dtype.itemsize for t in loads if loop.axis in t.dims]
        for stmt in loop.body:
            if isinstance(stmt, ir.AccumulateExp):
                group = WIDEST_LOAD // max(sizes, default=4)
                group = min(group, kernel.axis(loop.axis).block)
                found |= {stmt.largest.id: group, stmt.total.id: group}
    return found


def emit_step(out: Emitter, stmt: ir.AccumulateExp) -> None:
    """What a tile adds to the carries."""
    value = stmt.value
    text = out.keep(out.text(value, value.dims), value.dims, out.lanes(value.dims), '-float("inf")')
    short = stmt.total.id in out.rounded or value.id in out.halves
    largest, total = out.carry(stmt.largest), out.carry(stmt.total)
    name = "_exp_sum_short" if short else "_exp_sum_f32"
    out.line(f"{largest}, {total} = {name}({largest}, {total}, {text})")


def emit_end(out: Emitter, stmt: ir.JoinExp) -> None:
    """What all lanes have together."""
    pairs = [(str(stmt.largest), str(stmt.total))]
    if out.rest_of(stmt.largest):
        pairs.append((f"{stmt.largest}_rest", f"{stmt.total}_rest"))
    largest = [f"_reduce_max({m}, 0)" for m, _ in pairs]
    out.assign(
        stmt.out_largest, largest[0] if len(pairs) == 1 else f"_larger({', '.join(largest)})"
    )
    sums = [f"tl.sum({s} * _exp_f32({m} - {stmt.out_largest}), 0)" for m, s in pairs]
    out.assign(stmt.out_total, " + ".join(sums))
