"""Sorts in C: keys of a row in memory, a radix sort of (key, place), places in memory.

In: a SortTile, the Body that emits its kernel. Out: C lines, and the function that they call.
Invariant: stable; arrays of a row are on the heap, for a row may be longer than the stack.

    char *const heap = tg_heap(240000);
    uint32_t *restrict const t3 = (uint32_t *)(heap + 0);
    for (int j = j_lo; j < j_hi; j++) t3[j] = ...;                      keys
    tg_argsort_uint32_t_11(t3, 10000, t4, heap + 80000);
    for (int j = j_lo; j < j_hi; j++) out[j] = t4[j];
    free(heap);

The sort is by digits from the lowest on, of 8 or 11 bits; a digit that all keys share is skipped.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tgrad.cpu_fallback import op_table as ops
from tgrad.kernel import ir

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

WIDE_DIGITS = range(4096, 1 << 18)
"""Lengths of rows that digits of 11 bits suit: their 2048 counters are fewer than the elements, and
the places they write to are in the second-level cache."""


def emit_sort(stmt: ir.SortTile, body: Body) -> None:
    """The call that sorts a row."""
    n = body.kernel.axis(stmt.axis).extent
    ctype = ops.array_type(stmt.arg.dtype)
    digit = 11 if n in WIDE_DIGITS and stmt.arg.dtype.itemsize > 2 else 8
    body.declare_array(stmt.out)
    work = body.on_heap(16 * n)
    body.code.line(
        f"tg_argsort_{ctype}_{digit}({stmt.arg}, {n}, {stmt.out}, (uint64_t *)({work}));"
    )


@cache
def sort_piece(ctype: str, digit: int) -> str:
    """C function that writes the places of `n` keys in ascending order; `work` holds 2 n pairs."""
    bits = int(ctype.removeprefix("uint").removesuffix("_t"))
    digits = 1 << digit
    return f"""\
static void tg_argsort_{ctype}_{digit}(
    const {ctype} *restrict key, ptrdiff_t n, int32_t *restrict place, uint64_t *work) {{
  uint64_t *from = work, *to = work + n;
  for (ptrdiff_t i = 0; i < n; i++) from[i] = (uint64_t)key[i] << 32 | (uint64_t)i;
  if (n <= 48) {{
    for (ptrdiff_t i = 1; i < n; i++) {{
      const uint64_t pair = from[i];
      ptrdiff_t at = i;
      for (; at > 0 && from[at - 1] > pair; at--) from[at] = from[at - 1];
      from[at] = pair;
    }}
  }} else
    for (int shift = 32; shift < 32 + {bits}; shift += {digit}) {{
      uint32_t start[{digits}] = {{0}}, sum = 0;
      for (ptrdiff_t i = 0; i < n; i++) start[from[i] >> shift & {digits - 1}]++;
      if (start[from[0] >> shift & {digits - 1}] == n) continue;
      for (int d = 0; d < {digits}; d++) {{
        const uint32_t count = start[d];
        start[d] = sum;
        sum += count;
      }}
      for (ptrdiff_t i = 0; i < n; i++) to[start[from[i] >> shift & {digits - 1}]++] = from[i];
      uint64_t *const other = from;
      from = to;
      to = other;
    }}
  for (ptrdiff_t i = 0; i < n; i++) place[i] = (int32_t)from[i];
}}
"""
