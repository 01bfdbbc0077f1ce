"""Scans in C of what costs much to compute: a part of a row at a time, in vectors around the scan.

In: a loop with scans whose body is scalar, and the Body that emits its kernel. Out: C lines instead
of the loop. Invariant: results are those of the plain loop.

    for (int j_lo = 0; j_lo < 1024; j_lo += 256) {
      const int j_hi = tg_min(j_lo + 256, 1024);
      float t1_part[256];
    #pragma omp simd
      for (int j = j_lo; j < j_hi; j++) { ... t1_part[j - j_lo] = tg_exp(t0); }
      for (int j = j_lo; j < j_hi; j++) { t2 = (t2 + t1_part[j - j_lo]); ... }
    }

A step of a scan waits for the one before, so its loop is no vector, nor would an exponential in it
be (32768 rows of 64 exponentials, two cores of a Xeon: 3.4 ms, so 1.9; 2026-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tgrad.cpu_fallback import op_table as ops
from tgrad.graph.op import is_expensive
from tgrad.kernel import ir
from tgrad.kernel.statements import reads_of, writes_of

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

PART = 256
"""Elements of a part: with those of a few values the first-level cache holds it."""
LEAST = 16
"""Elements of a row that is worth it."""


def emit_scan(body: Body, loop: ir.Loop, start: str, stop: str) -> bool:
    """Emit the loop, if it is one of scans and costly values; whether it is."""
    before, within, after = _phases(loop.body)
    if not _is_costly(after):
        within, after = [*within, *after], []
    is_short = body.kernel.axis(loop.axis).extent < LEAST
    if is_short or not (_is_costly(before) or after):
        return False
    phases = (before, within, after)
    if not all(body.may_vectorise(list(phase), loop.axis) for phase in phases):
        return False
    code, name = body.code, body.axis_name[loop.axis]
    saved = dict(body.scalars)
    with code.block(
        f"for ({body.ctype} {name}_lo = {start}; {name}_lo < {stop}; {name}_lo += {PART})"
    ):
        code.line(f"const {body.ctype} {name}_hi = tg_min({name}_lo + {PART}, {stop});")
        for number, phase in enumerate(phases):
            if phase:
                later = [s for rest in phases[number + 1 :] for s in rest]
                _emit_phase(body, loop, phase, later, is_vector=number != 1)
    body.scalars = saved
    return True


def _is_costly(stmts: Sequence[ir.Stmt]) -> bool:
    return any(isinstance(s, ir.ComputeTile) and is_expensive(s.op) for s in stmts)


def _phases(stmts: Sequence[ir.Stmt]) -> tuple[list[ir.Stmt], list[ir.Stmt], list[ir.Stmt]]:
    """What no scan is needed for, the scans with what lies between them, and what follows."""
    scans = [at for at, s in enumerate(stmts) if isinstance(s, ir.ScanTile)]
    before, within, after = list[ir.Stmt](), list[ir.Stmt](), list[ir.Stmt]()
    scanned = set[int]()
    for at, stmt in enumerate(stmts):
        is_of_scan = isinstance(stmt, ir.ScanTile) or not scanned.isdisjoint(reads_of(stmt))
        if is_of_scan or isinstance(stmt, (ir.StoreTile, ir.Accumulate)):
            scanned |= writes_of(stmt)
            (within if at <= scans[-1] else after).append(stmt)
        else:
            before.append(stmt)
    return before, within, after


def _emit_phase(
    body: Body,
    loop: ir.Loop,
    phase: Sequence[ir.Stmt],
    later: Sequence[ir.Stmt],
    is_vector: bool,
) -> None:
    """A loop over the part; what later phases read is kept in arrays."""
    code, name = body.code, body.axis_name[loop.axis]
    read = {tile for s in later for tile in reads_of(s)}
    made = (s.out for s in phase if isinstance(s, ir.Pure | ir.ScanTile | ir.Unstash))
    kept = [tile for tile in made if tile.id in read]
    for tile in kept:
        code.line(f"{ops.register_type(tile.dtype)} {tile}_part[{PART}];")
    if is_vector and not any(isinstance(s, ir.Accumulate) for s in phase):
        code.pragma("omp simd")
    with code.block(body.lane_loop(loop.axis)):
        for stmt in phase:
            body.statement(stmt, escapes=False)
        for tile in kept:
            code.line(f"{tile}_part[{name} - {name}_lo] = {body.element(tile)};")
    for tile in kept:
        body.scalars[tile.id] = f"{tile}_part[{name} - {name}_lo]"
