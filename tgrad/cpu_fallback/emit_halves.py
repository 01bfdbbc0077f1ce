"""Loops over rows of float16, which an instruction of the processor widens and rounds.

In: the statements of a loop along an axis and the Body that emits them. Out: C lines around the
loop. Invariant: results are those of the plain loop.

    for (int j_from = 0; j_from < 1024; j_from += 512) {
      const int j_until = tg_min(j_from + 512, 1024);
      float t0_wide[512];
      tg_widen_16(t0_wide, x + j_from, j_until - j_from);
      float t1_wide[512];
      for (int j = j_from; j < j_until; j++) {
        const float t0 = t0_wide[j - j_from];
        t1_wide[j - j_from] = t0 * t0;
      }
      tg_narrow_16(out + j_from, t1_wide, j_until - j_from);
    }

gcc 12 makes no vectors of these instructions, and the same by integer arithmetic takes eight
operations a load and sixteen a store (a million sums of float16, a core of Zen 4: 0.47 ms, so 0.17;
2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import is_scatter
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.kernel import ir

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

PART = 512
"""Elements of a part."""

MOST_WIDE = 8
"""Arrays of a part that the first-level cache holds."""

LEAST = 32
"""Elements of a row that is worth it."""


@contextmanager
def in_halves(
    body: Body, stmts: Sequence[ir.Stmt], axis: str, start: str, stop: str
) -> Iterator[tuple[str, str]]:
    """Between which C texts the loop along the axis goes: all of it, or a part of which what it
    loads and stores is in arrays."""
    rows = [s for s in stmts if _is_row(body, s, axis)]
    if not _is_worth(body, stmts, rows):
        yield start, stop
        return
    code, name, lanes = body.code, body.axis_name[axis], body.machine.lanes(4)
    first, end = f"{name}_from", f"{name}_until"
    narrow: list[str] = []
    with code.block(f"for ({body.ctype} {first} = {start}; {first} < {stop}; {first} += {PART})"):
        code.line(f"const {body.ctype} {end} = tg_min({first} + {PART}, {stop});")
        for s in rows:
            assert isinstance(s, (ir.LoadTile, ir.StoreTile))
            array = f"{s.out}_wide" if isinstance(s, ir.LoadTile) else f"{s.value}_wide{s.slot}"
            place = f"{body.slot_name[s.slot]} + {body.index_at(s.index, {axis: first})}"
            code.line(f"float {array}[{PART}];")
            if isinstance(s, ir.LoadTile):
                code.line(f"tg_widen_{lanes}({array}, {place}, {end} - {first});")
            else:
                narrow.append(f"tg_narrow_{lanes}({place}, {array}, {end} - {first});")
            body.widened[id(s)] = f"{array}[{name} - {first}]"
        yield first, end
        for line in narrow:
            code.line(line)
        for s in rows:
            del body.widened[id(s)]


def _is_worth(body: Body, stmts: Sequence[ir.Stmt], rows: Sequence[ir.Stmt]) -> bool:
    return (
        body.machine.has_f16_words
        and 0 < len(rows) <= MOST_WIDE
        and not any(isinstance(s, ir.StoreTile) and is_scatter(s) for s in stmts)
    )


def _is_row(body: Body, s: ir.Stmt, axis: str) -> bool:
    """Whether the statement loads or stores float16 that lie together along the axis."""
    if not isinstance(s, (ir.LoadTile, ir.StoreTile)):
        return False
    tile = s.out if isinstance(s, ir.LoadTile) else s.value
    return (
        body.kernel.slots[s.slot].dtype is tile.dtype is dt.float16
        and not s.mask
        and not s.index.loaded()
        and body.length(axis) >= LEAST
        and run_along(s.index, axis) == Run(0, 1)
    )


def widening_piece(lanes: int) -> str:
    """Rows of float16 to rows of float32, whose arrays have room for whole vectors, and back."""
    v, half = f"tg_float_{lanes}", f"tg_uint16_t_{lanes}"
    wide = "__AVX512F__" if lanes == 16 else "__F16C__"
    return f"""\
static inline void tg_widen_{lanes}(float *to, const uint16_t *from, ptrdiff_t n) {{
#ifdef {wide}
  {v} x;
  ptrdiff_t i = 0;
  for (; i + {lanes} <= n; i += {lanes}) {{
    __asm__("vcvtph2ps %1, %0" : "=v"(x) : "m"(*(const {half} *)(from + i)));
    *({v} *)(to + i) = x;
  }}
  if (i < n) {{
    {half} rest = {{0}};
    __builtin_memcpy(&rest, from + i, 2 * (n - i));
    __asm__("vcvtph2ps %1, %0" : "=v"(x) : "m"(rest));
    *({v} *)(to + i) = x;
  }}
#else
#pragma omp simd
  for (ptrdiff_t i = 0; i < n; i++) to[i] = tg_load_f16(from[i]);
#endif
}}
static inline void tg_narrow_{lanes}(uint16_t *to, const float *from, ptrdiff_t n) {{
#ifdef {wide}
  ptrdiff_t i = 0;
  for (; i + {lanes} <= n; i += {lanes})
    __asm__("vcvtps2ph $0, %1, %0"
            : "=m"(*({half} *)(to + i)) : "v"(*(const {v} *)(from + i)));
  if (i < n) {{
    {half} rest;
    __asm__("vcvtps2ph $0, %1, %0" : "=m"(rest) : "v"(*(const {v} *)(from + i)));
    __builtin_memcpy(to + i, &rest, 2 * (n - i));
  }}
#else
#pragma omp simd
  for (ptrdiff_t i = 0; i < n; i++) to[i] = tg_store_f16(from[i]);
#endif
}}
"""
