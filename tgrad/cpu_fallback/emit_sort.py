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
Where few of the places are needed, or keys are of 64 bits, tg_first_uint32_t collects the pairs
below a limit, the last of as many as are needed of those seen so far, and sorts what is left.
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

SPARE = 256
"""Pairs that are collected beyond twice the needed ones, before the largest are thrown out."""

BLOCK = 64
"""Keys that are compared with the limit at once."""


def emit_sort(stmt: ir.SortTile, body: Body) -> None:
    """The call that sorts a row."""
    n = body.kernel.axis(stmt.axis).extent
    ctype = ops.array_type(stmt.arg.dtype)
    bits = 8 * stmt.arg.dtype.itemsize
    body.declare_array(stmt.out)
    if stmt.first:
        pairs = min(n, 2 * stmt.first + SPARE) + stmt.first + BLOCK
        work = body.on_heap((16 if bits == 64 else 8) * pairs)
        pair = f"(tg_pair_{bits} *)({work})"
        body.code.line(f"tg_first_{bits}({stmt.arg}, {n}, {stmt.first}, {stmt.out}, {pair});")
        return
    digit = 11 if n in WIDE_DIGITS and stmt.arg.dtype.itemsize > 2 else 8
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


_PART = """\
static void tg_part_BITS(tg_pair_BITS *v, ptrdiff_t n, ptrdiff_t first) { /* the least first */
  uint32_t seed = 1;
  for (ptrdiff_t lo = 0, hi = n; lo < first && first < hi;) {
    tg_pair_BITS p[3];
    for (int i = 0; i < 3; i++) {
      seed = seed * 1664525u + 1013904223u;
      p[i] = v[lo + (ptrdiff_t)((uint64_t)seed * (uint64_t)(hi - lo) >> 32)];
    }
    const tg_pair_BITS a = p[0] < p[1] ? p[0] : p[1], b = p[0] < p[1] ? p[1] : p[0];
    const tg_pair_BITS pivot = p[2] < a ? a : p[2] > b ? b : p[2];
    ptrdiff_t at = lo;
    for (ptrdiff_t i = lo; i < hi; i++) {
      const tg_pair_BITS x = v[i];
      v[i] = v[at];
      v[at] = x;
      at += x <= pivot;
    }
    if (at > first) hi = at;
    else lo = at;
  }
}
"""

_MERGE = """\
static void tg_sort_BITS(tg_pair_BITS *v, ptrdiff_t n, tg_pair_BITS *other) {
  for (ptrdiff_t run = 0; run < n; run += 16)
    for (ptrdiff_t i = run + 1; i < n && i < run + 16; i++) {
      const tg_pair_BITS x = v[i];
      ptrdiff_t at = i;
      for (; at > run && v[at - 1] > x; at--) v[at] = v[at - 1];
      v[at] = x;
    }
  tg_pair_BITS *from = v, *to = other;
  for (ptrdiff_t width = 16; width < n; width *= 2) {
    for (ptrdiff_t lo = 0; lo < n; lo += 2 * width) {
      const ptrdiff_t mid = lo + width < n ? lo + width : n;
      const ptrdiff_t hi = lo + 2 * width < n ? lo + 2 * width : n;
      ptrdiff_t a = lo, b = mid, out = lo;
      while (a < mid && b < hi) {
        const int is_b = from[b] < from[a];
        to[out++] = is_b ? from[b] : from[a];
        b += is_b;
        a += !is_b;
      }
      while (a < mid) to[out++] = from[a++];
      while (b < hi) to[out++] = from[b++];
    }
    tg_pair_BITS *const old = from;
    from = to;
    to = old;
  }
  for (ptrdiff_t i = 0; from != v && i < n; i++) v[i] = from[i];
}
"""


@cache
def pair_piece(name: str, bits: int) -> str:
    """The type of a key of so many bits above its place, and what orders such pairs: tg_part, which
    brings the `first` least to the front, and tg_sort, which merges runs of 16."""
    pair = "uint64_t" if bits < 64 else "unsigned __int128"
    texts = {"pair": f"typedef {pair} tg_pair_{bits};\n", "part": _PART, "sort": _MERGE}
    return texts[name].replace("BITS", str(bits))


@cache
def first_piece(bits: int) -> str:
    """C function that writes the places of the `first` least of `n` keys in ascending order, and 0
    after them; `work` holds 2 first + SPARE pairs, or n, and a block and `first` pairs more."""
    key = f"uint{bits}_t"
    return f"""\
static void tg_first_{bits}(
    const {key} *restrict key, ptrdiff_t n, ptrdiff_t first, int32_t *restrict place,
    tg_pair_{bits} *work) {{
  ptrdiff_t most = 2 * first + {SPARE}, count = n < most ? n : most;
  for (ptrdiff_t i = 0; i < count; i++) work[i] = (tg_pair_{bits})key[i] << 32 | (uint32_t)i;
  ptrdiff_t seen = count;
  {key} limit = 0;
  for (int is_full = 1; seen < n; seen += {BLOCK}) {{
    if (is_full) {{
      tg_part_{bits}(work, count, first);
      count = first;
      limit = 0;
      for (ptrdiff_t i = 0; i < first; i++) {{
        const {key} kept = ({key})(work[i] >> 32);
        limit = kept > limit ? kept : limit;
      }}
    }}
    const ptrdiff_t end = seen + {BLOCK} < n ? seen + {BLOCK} : n;
    {key} least = ({key})~({key})0;
#pragma omp simd reduction(min : least)
    for (ptrdiff_t i = seen; i < end; i++) least = key[i] < least ? key[i] : least;
    if (least < limit) /* equal keys come later in the order */
      for (ptrdiff_t i = seen; i < end; i++) {{
        work[count] = (tg_pair_{bits})key[i] << 32 | (uint32_t)i;
        count += key[i] < limit;
      }}
    is_full = count > most;
  }}
  tg_part_{bits}(work, count, first);
  tg_sort_{bits}(work, first, work + first);
  for (ptrdiff_t i = 0; i < n; i++) place[i] = i < first ? (int32_t)(uint32_t)work[i] : 0;
}}
"""
