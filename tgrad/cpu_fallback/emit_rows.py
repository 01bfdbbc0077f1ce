"""Rows picked from a table: fetched ahead, and copied past the caches where these hold neither end.

In: the statements of an innermost loop and the Body that emits them. Out: C lines before the loop,
or instead of it. Invariant: results are those of the plain loop; a row is fetched only if its
number is inside the table.

    {
      const ptrdiff_t i_next = tg_min(i + 4, 8191);
      {
        const ptrdiff_t i = i_next;
        const int64_t t0 = number[i];
        if ((t0 >= 0) & (t0 < 32768)) tg_fetch(table + t0 * 256 + j_lo, (j_hi - j_lo) * 4);
      }
    }
    if ((t0 >= 0) & (t0 < 32768)) tg_stream(out + i * 256 + j_lo, table + ..., j_hi - j_lo);
    else for (...) out[i * 256 + j] = 0;

Hardware prefetchers need half a short row to find out that it is one, and a plain store first reads
the line that it fills (8192 rows of 256 floats of 32768, a core of Zen 3: 0.73 ms, fetched ahead
0.65, copied past the caches 0.67, both 0.46; where other processes use the caches 1.5 and 0.7 ms;
2026-11). What the last cache holds as a whole is not copied past it (the same on two cores of
Zen 4, whose cache of 32 MiB takes both ends: 0.31 ms, plainly 0.15; 2026-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import is_scatter, traffic_of
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.kernel import ir
from tgrad.kernel.statements import made_by, reads_of, writes_of

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

AHEAD = 4
"""Rows between the one that is copied and the one that is fetched."""

LEAST_ROW = 256
"""Bytes of a row that is worth fetching."""

MOST_FETCHED = 2048
"""Bytes of a row that are fetched; prefetchers find the rest."""


@dataclass(frozen=True)
class _Pick:
    """A load of part of a row whose number is loaded.

    Attributes:
        load: the row's elements.
        steps: scalar statements that make the number.
        along: the grid axis along which the rows come.
    """

    load: ir.LoadTile
    steps: tuple[ir.Stmt, ...]
    along: str


def fetch_rows(body: Body, stmts: Sequence[ir.Stmt], axis: str) -> None:
    """Fetch a later program's rows of large tables that the loop along `axis` reads."""
    for stmt in stmts:
        pick = _find_pick(body, stmt, axis)
        if pick is not None:
            _fetch(body, pick, axis)


def copy_row(body: Body, stmts: Sequence[ir.Stmt], axis: str) -> bool:
    """Copy the row past the caches instead of the loop, if it is nothing else and they do not hold
    what the kernel moves; whether that was done."""
    if len(stmts) != 2 or traffic_of(body.kernel) <= body.machine.l3:
        return False
    load, store = stmts
    pick = _find_pick(body, load, axis)
    if pick is None or not isinstance(store, ir.StoreTile) or store.value is not pick.load.out:
        return False
    slots = [body.kernel.slots[s.slot] for s in (pick.load, store)]
    is_plain = all(s.dtype is dt.float32 for s in slots) and not store.mask
    if not is_plain or is_scatter(store) or run_along(store.index, axis) != Run(0, 1):
        return False
    name = body.axis_name[axis]
    to = body.pointer(store, axis)
    row = body.pointer(pick.load, axis)
    copy = f"tg_stream({to}, {row}, {name}_hi - {name}_lo);"
    condition = body.mask(pick.load.mask)
    if condition == "1":
        body.code.line(copy)
        return True
    place = f"{body.slot_name[store.slot]}[{body.index(store.index)}]"
    body.code.line(f"if ({condition}) {copy}")
    body.code.line(f"else {body.lane_loop(axis)} {place} = 0;")
    return True


def _find_pick(body: Body, stmt: ir.Stmt, axis: str) -> _Pick | None:
    """The statement as a pick of a row along `axis` of a table that the cache does not hold."""
    kernel = body.kernel
    if not isinstance(stmt, ir.LoadTile) or not stmt.index.loaded() or kernel.table is not None:
        return None
    slot = kernel.slots[stmt.slot]
    is_short = body.block(axis) * slot.dtype.itemsize < LEAST_ROW
    is_small = slot.size * slot.dtype.itemsize <= body.machine.l2
    masked = {v for b in stmt.mask for v in b.index.variables()}
    if is_short or is_small or axis in masked or run_along(stmt.index, axis) != Run(0, 1):
        return None
    steps = _steps(body, stmt)
    if steps is None:
        return None
    names = {v for s in steps for e in ir.indices_of(s) for v in e.variables()}
    along = [a for a in kernel.grid if a.block == 1 and a.steps > AHEAD and a.name in names]
    return _Pick(stmt, steps, along[-1].name) if along else None


def _steps(body: Body, load: ir.LoadTile) -> tuple[ir.Stmt, ...] | None:
    """The scalar statements that make the row's number; None if there are others."""
    scalars = [s for s in body.kernel.body if isinstance(s, ir.Pure) and not s.out.dims]
    steps = made_by(load.index.loaded(), scalars)
    needed = load.index.loaded().union(*map(reads_of, steps))
    return steps if needed <= set().union(*map(writes_of, steps)) else None


def _fetch(body: Body, pick: _Pick, axis: str) -> None:
    code, name, along = body.code, body.axis_name[axis], body.axis_name[pick.along]
    slot, last = body.kernel.slots[pick.load.slot], body.kernel.axis(pick.along).extent - 1
    saved = dict(body.scalars)
    with code.block(""):
        code.line(f"const {body.ctype} {along}_next = tg_min({along} + {AHEAD}, {last});")
        with code.block(""):
            code.line(f"const {body.ctype} {along} = {along}_next;")
            for stmt in pick.steps:
                body.statement(stmt, escapes=False)
            row = body.pointer(pick.load, axis)
            nbytes = f"({name}_hi - {name}_lo) * {slot.dtype.itemsize}"
            if body.block(axis) * slot.dtype.itemsize > MOST_FETCHED:
                nbytes = f"tg_min({nbytes}, {MOST_FETCHED})"
            condition = body.mask(pick.load.mask)
            guard = "" if condition == "1" else f"if ({condition}) "
            code.line(f"{guard}tg_fetch({row}, {nbytes});")
    body.scalars = saved
