"""The last pass over a row that lies in memory: its result goes past the caches, a part at a time,
while the next program's row is fetched.

In: a vector loop over scalars that stores one result, and the Body that emits its kernel. Out: C
lines instead of the loop. Invariant: results are those of the plain loop.

    const int i_next = tg_min(i + 1, 4095);
    for (int j_lo = 0; j_lo < 4096; j_lo += 64) {
      const int j_hi = tg_min(j_lo + 64, 4096);
      tg_fetch(in0 + i_next * 4096 + j_lo, 256);
      float part[64];
    #pragma omp simd
      for (int j = j_lo; j < j_hi; j++) { ... part[j - j_lo] = t8; }
      tg_stream(out0 + i * 4096 + j_lo, part, j_hi - j_lo);
    }

A kernel that passes over a row several times reads memory in the first pass alone and writes it in
the last: in between memory is idle, and while it writes, plain stores read each line that they
fill. Kernels of one pass, whose loads and stores overlap, are no quicker so (see decision 0066).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import is_scatter
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.graph.index import Index, Var
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, statements

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

PART = 64
"""Elements that are computed before they leave the caches."""

LINE = 16
"""Floats of a line of the caches."""


def emit_last_pass(body: Body, loop: ir.Loop) -> bool:
    """Emit the loop, whose steps may run in any order, if it is such a pass; whether it is."""
    store = _streamed_store(body, loop)
    if store is None:
        return False
    code, name = body.code, body.axis_name[loop.axis]
    fetched = _fetched_loads(body, loop)
    for along in dict.fromkeys(along for _, along in fetched):
        grid, last = body.axis_name[along], body.kernel.axis(along).extent - 1
        code.line(f"const {body.ctype} {grid}_next = tg_min({grid} + 1, {last});")
    extent = body.kernel.axis(loop.axis).extent
    saved = dict(body.scalars)
    with code.block(f"for ({body.ctype} {name}_lo = 0; {name}_lo < {extent}; {name}_lo += {PART})"):
        end = f"{name}_lo + {PART}"
        code.line(f"const {body.ctype} {name}_hi = {_least(end, extent)};")
        for load, along in fetched:
            slot = body.kernel.slots[load.slot]
            next_row = {along: f"{body.axis_name[along]}_next"}
            row = body.index_at(load.index, body.starts(loop.axis) | next_row)
            nbytes = PART * slot.dtype.itemsize
            code.line(f"tg_fetch({body.slot_name[load.slot]} + {row}, {nbytes});")
        part = f"part{store.value.id}"
        code.line(f"float {part}[{PART}] __attribute__((aligned(64)));")
        code.pragma("omp simd")
        with code.block(body.lane_loop(loop.axis)):
            for stmt in loop.body:
                if stmt is not store:
                    body.statement(stmt, escapes=False)
            code.line(f"{part}[{name} - {name}_lo] = {body.stored(store)};")
        to = body.pointer(store, loop.axis)
        code.line(f"tg_stream({to}, {part}, {name}_hi - {name}_lo);")
    body.scalars = saved
    return True


def _least(end: str, extent: int) -> str:
    return end if extent % PART == 0 else f"tg_min({end}, {extent})"


def _streamed_store(body: Body, loop: ir.Loop) -> ir.StoreTile | None:
    """The one store of the last of several passes, of whole lines of a slot that no cache holds."""
    kernel, axis = body.kernel, loop.axis
    passes = [s for s in kernel.body if isinstance(s, ir.Loop) and s.axis == axis]
    if len(passes) < 2 or passes[-1] is not loop or kernel.table is not None or kernel.limits:
        return None
    stores = [s for s in loop.body if isinstance(s, ir.StoreTile)]
    if len(stores) != 1 or any(isinstance(s, (ir.Accumulate, ir.Stash)) for s in loop.body):
        return None
    (store,) = stores
    slot = kernel.slots[store.slot]
    is_plain = slot.dtype is dt.float32 and not store.mask and not is_scatter(store)
    is_large = slot.size * slot.dtype.itemsize > body.machine.l3
    whole = kernel.axis(axis).extent % LINE == 0 and _starts_lines(store.index, axis)
    return store if is_plain and is_large and whole and slot.role == "out" else None


def _starts_lines(e: Index, axis: str) -> bool:
    """Whether the index steps by one along the axis, from the beginning of a line on."""
    others = [c for atom, c in e.terms if not (isinstance(atom, Var) and atom.name == axis)]
    return run_along(e, axis) == Run(0, 1) and all(c % LINE == 0 for c in (*others, e.const))


def _fetched_loads(body: Body, loop: ir.Loop) -> list[tuple[ir.LoadTile, str]]:
    """Loads of rows that come from memory, with the grid axis along which they come, if the second
    level of the caches holds what the kernel has of two programs."""
    found: dict[tuple[int, Index], tuple[ir.LoadTile, str]] = {}
    extent, held = body.kernel.axis(loop.axis).extent, 0
    for stmt in statements(body.kernel.body):
        if isinstance(stmt, (ir.LoadTile, ir.Stash)):
            held += extent * stmt.out.dtype.itemsize
        if isinstance(stmt, ir.LoadTile) and (stmt.slot, stmt.index) not in found:
            slot = body.kernel.slots[stmt.slot]
            is_large = slot.size * slot.dtype.itemsize > body.machine.l2
            is_row = run_along(stmt.index, loop.axis) == Run(0, 1)
            if is_large and is_row and not stmt.mask and not stmt.index.loaded():
                for along in _moving(body, stmt.index):
                    found[stmt.slot, stmt.index] = stmt, along
    return list(found.values()) if 4 * held <= body.machine.l2 else []


def _moving(body: Body, e: Index) -> Iterator[str]:
    """The innermost axis of the grid, if each of its programs is one step and moves the index."""
    grid = [a for a in body.kernel.grid if a.steps > 1]
    if grid and grid[-1].block == 1 and grid[-1].role is Role.GRID and e.stride(grid[-1].name):
        yield grid[-1].name
