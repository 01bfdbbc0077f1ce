"""C functions that generated kernels call, picked by use.

In: source text of kernels. Out: the declarations and functions that it needs, nothing else.
Invariant: each function is branch-free in C (selects only), so that gcc and clang vectorise the
loops that call it; NaN, infinities and denormal numbers are handled without -ffast-math.

The polynomials of float32 functions are in float_functions.py. Philox: Salmon et al., SC 2011.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from tgrad.cpu_fallback.emit_sort import sort_piece
from tgrad.cpu_fallback.float_functions import FLOAT_FUNCTIONS
from tgrad.cpu_fallback.winograd import transform_piece

HEADER = """\
#include <stdint.h>
#include <stddef.h>
"""

_PIECES: dict[str, str] = dict(FLOAT_FUNCTIONS)


def _piece(names: str, text: str) -> None:
    for name in names.split():
        _PIECES[name] = text.strip("\n") + "\n"


_piece(
    "tg_bits tg_float",
    """
static inline uint32_t tg_bits(float x) {
  union { float f; uint32_t u; } v = {.f = x};
  return v.u;
}
static inline float tg_float(uint32_t u) {
  union { uint32_t u; float f; } v = {.u = u};
  return v.f;
}
""",
)

_piece(
    "tg_bits64 tg_double",
    """
static inline uint64_t tg_bits64(double x) {
  union { double f; uint64_t u; } v = {.f = x};
  return v.u;
}
static inline double tg_double(uint64_t u) {
  union { uint64_t u; double f; } v = {.u = u};
  return v.f;
}
""",
)

_piece(
    "tg_load_bf16 tg_store_bf16 tg_round_bf16",
    """
static inline float tg_load_bf16(uint16_t h) { return tg_float((uint32_t)h << 16); }
static inline uint16_t tg_store_bf16(float x) { /* to nearest even */
  uint32_t u = tg_bits(x);
  uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (uint16_t)(x != x ? 0x7fc0u : r);
}
static inline float tg_round_bf16(float x) { return tg_load_bf16(tg_store_bf16(x)); }
""",
)

_piece(
    "tg_load_f16 tg_store_f16 tg_round_f16",
    """
static inline float tg_load_f16(uint16_t h) {
  uint32_t em = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
  uint32_t normal = (em << 13) + (em >= 0x7c00u ? 0x70000000u : 0x38000000u);
  float small = (float)(int32_t)em * 0x1p-24f;
  return tg_float(sign | (em < 0x400u ? tg_bits(small) : normal));
}
static inline uint16_t tg_store_f16(float x) { /* to nearest even */
  uint32_t u = tg_bits(x), twice = u + u, exponent = twice & 0xff000000u;
  uint32_t unit = (exponent < 0x71000000u ? 0x71000000u : exponent) / 2 + 0x07800000u;
  float a = __builtin_fabsf(x) * 0x1p112f * 0x1p-110f; /* infinite where f16 is */
  uint32_t r = tg_bits(a + tg_float(unit)); /* the addition rounds */
  r = ((r >> 13) & 0x7c00u) + (r & 0xfffu);
  return (uint16_t)(((u >> 16) & 0x8000u) | (twice > 0xff000000u ? 0x7e00u : r));
}
static inline float tg_round_f16(float x) { /* the addition rounds at the last bit of f16 */
  uint32_t u = tg_bits(x), sign = u & 0x80000000u, a = u ^ sign, e = a & 0x7f800000u;
  float unit = tg_float(((e < 0x38800000u ? 0x38800000u : e) + 0x06800000u) | sign);
  uint32_t r = (tg_bits((x + unit) - unit) & 0x7fffffffu) | sign;
  uint32_t big = (a > 0x7f800000u ? 0x7fc00000u : 0x7f800000u) | sign;
  return tg_float(a >= 0x477ff000u ? big : r);
}
""",
)

_piece(
    "tg_load_e5m2 tg_store_e5m2 tg_round_e5m2",
    """
static inline float tg_load_e5m2(uint8_t code) { return tg_load_f16((uint16_t)(code << 8)); }
static inline uint8_t tg_store_e5m2(float x) { /* to nearest even */
  uint32_t u = tg_bits(x), a = u & 0x7fffffffu;
  uint32_t normal = ((a + 0xfffffu + ((a >> 21) & 1u)) >> 21) - (112u << 2);
  uint32_t small = tg_bits(__builtin_fabsf(x) + 0x1p7f) - 0x43000000u; /* the addition rounds */
  uint32_t r = a < 0x38800000u ? small : normal;
  r = r > 0x7cu ? 0x7cu : r;
  return (uint8_t)((u >> 24 & 0x80u) | (a > 0x7f800000u ? 0x7fu : r));
}
static inline float tg_round_e5m2(float x) { return tg_load_e5m2(tg_store_e5m2(x)); }
""",
)

_piece(
    "tg_load_e4m3 tg_store_e4m3 tg_round_e4m3",
    """
static inline float tg_load_e4m3(uint8_t code) {
  uint32_t em = code & 0x7fu, sign = (uint32_t)(code & 0x80u) << 24;
  uint32_t normal = em == 0x7fu ? 0x7fc00000u : (em << 20) + (120u << 23);
  float small = (float)(int32_t)em * 0x1p-9f;
  return tg_float(sign | (em < 8u ? tg_bits(small) : normal));
}
static inline uint8_t tg_store_e4m3(float x) { /* to nearest even; beyond 448 it is 448 */
  uint32_t u = tg_bits(x), a = u & 0x7fffffffu, kept = a > 0x43e00000u ? 0x43e00000u : a;
  uint32_t normal = ((kept + 0x7ffffu + ((kept >> 20) & 1u)) >> 20) - (120u << 3);
  uint32_t small = tg_bits(tg_float(kept) + 0x1p14f) - 0x46800000u; /* the addition rounds */
  uint32_t r = kept < 0x3c800000u ? small : normal;
  return (uint8_t)((u >> 24 & 0x80u) | (a > 0x7f800000u ? 0x7fu : r));
}
static inline float tg_round_e4m3(float x) { return tg_load_e4m3(tg_store_e4m3(x)); }
""",
)

_piece(
    "tg_sigmoid_f64",
    """
static inline double tg_sigmoid_f64(double x) { return 1 / (1 + __builtin_exp(-x)); }
""",
)

for _t, _c in (("f32", "float"), ("f64", "double")):
    _piece(
        f"tg_where_{_t}",
        f"""
static inline {_c} tg_where_{_t}(_Bool c, {_c} a, {_c} b) {{ return c ? a : b; }} /* loads both */
""",
    )
    _piece(
        f"tg_max_{_t}",
        f"""
static inline {_c} tg_max_{_t}({_c} a, {_c} b) {{ /* two selects: one with | is branched on */
  {_c} m = a > b ? a : b;
  return a != a ? a : m;
}}
#pragma omp declare reduction(tg_max_{_t} : {_c} : omp_out = tg_max_{_t}(omp_in, omp_out)) \\
  initializer(omp_priv = -__builtin_inff())
""",
    )
    _piece(
        f"tg_min_{_t}",
        f"""
static inline {_c} tg_min_{_t}({_c} a, {_c} b) {{ /* two selects: one with | is branched on */
  {_c} m = a < b ? a : b;
  return a != a ? a : m;
}}
#pragma omp declare reduction(tg_min_{_t} : {_c} : omp_out = tg_min_{_t}(omp_in, omp_out)) \\
  initializer(omp_priv = __builtin_inff())
""",
    )
    _s = "f" if _t == "f32" else ""
    _piece(
        f"tg_product_{_t}",
        f"""
static inline {_c} tg_product_{_t}({_c} a, {_c} b) {{ /* rounded by itself: no FMA takes it in */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma{_s}(a, b, -0.0{_s});
#else
  return a * b;
#endif
}}
""",
    )
    _piece(
        f"tg_mod_{_t}",
        f"""
static inline {_c} tg_mod_{_t}({_c} a, {_c} b) {{
  {_c} r = __builtin_fmod{_s}(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}}
""",
    )
    _piece(
        f"tg_floordiv_{_t}",
        f"""
static inline {_c} tg_floordiv_{_t}({_c} a, {_c} b) {{
  if (b == 0) return a / b;
  {_c} r = __builtin_fmod{_s}(a, b), q = (a - r) / b;
  q -= r != 0 && (r < 0) != (b < 0);
  {_c} f = __builtin_floor{_s}(q);
  f += q - f > ({_c})0.5;
  return q != 0 ? f : __builtin_copysign{_s}(0, a / b);
}}
""",
    )
    _piece(
        f"tg_i32_{_t}",
        f"""
static inline int32_t tg_i32_{_t}({_c} x) {{ /* as x86: else the least */
  int is_inside = (x < 0x1p31{_s}) & (x >= -0x1p31{_s});
  int32_t r = (int32_t)(is_inside ? x : 0);
  return is_inside ? r : INT32_MIN;
}}
""",
    )
    _piece(
        f"tg_i64_{_t}",
        f"""
static inline int64_t tg_i64_{_t}({_c} x) {{ /* as x86: else the least */
  int is_inside = (x < 0x1p63{_s}) & (x >= -0x1p63{_s});
  int64_t r = (int64_t)(is_inside ? x : 0);
  return is_inside ? r : INT64_MIN;
}}
""",
    )
    _piece(
        f"tg_u64_{_t}",
        f"""
static inline uint64_t tg_u64_{_t}({_c} x) {{
  if (x >= 0x1p64{_s}) return UINT64_MAX;
  return x >= 0x1p63{_s} ? (uint64_t)x : (uint64_t)tg_i64_{_t}(x);
}}
""",
    )

for _t, _c, _u in (("i32", "int32_t", "uint32_t"), ("i64", "int64_t", "uint64_t")):
    _piece(
        f"tg_floordiv_{_t}",
        f"""
static inline {_c} tg_floordiv_{_t}({_c} a, {_c} b) {{ /* x // 0 = 0 */
  if (b == 0) return 0;
  if (b == -1) return ({_c})(0 - ({_u})a);
  {_c} r = a % b;
  return a / b - ((r != 0) & ((r ^ b) < 0));
}}
""",
    )
    _piece(
        f"tg_mod_{_t}",
        f"""
static inline {_c} tg_mod_{_t}({_c} a, {_c} b) {{ /* x % 0 = 0 */
  if (b == 0 || b == -1) return 0;
  {_c} r = a % b;
  return r + ((r != 0) & ((r ^ b) < 0) ? b : 0);
}}
""",
    )

_piece(
    "tg_pow_int",
    """
static inline uint64_t tg_pow_int(int64_t base, int64_t exponent) { /* modulo 2^64 */
  if (exponent < 0)
    return base == 1 ? 1u : base == -1 ? ((exponent & 1) ? ~(uint64_t)0 : 1u) : 0u;
  uint64_t result = 1, square = (uint64_t)base;
  for (; exponent; exponent >>= 1, square *= square)
    if (exponent & 1) result *= square;
  return result;
}
""",
)

_piece(
    "tg_philox",
    """
static inline uint32_t tg_philox(int64_t index, int64_t offset, int64_t key, int word) {
  uint32_t c0 = (uint32_t)index, c1 = (uint32_t)((uint64_t)index >> 32);
  uint32_t c2 = (uint32_t)offset, c3 = (uint32_t)((uint64_t)offset >> 32);
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)((uint64_t)key >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)b;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}
""",
)

_piece(
    "tg_part tg_window",
    """
static inline uint32_t tg_low_bits(ptrdiff_t n) {
  n = n < 0 ? 0 : n > 16 ? 16 : n;
  return (1u << n) - 1;
}
static inline uint32_t tg_window(ptrdiff_t lo, ptrdiff_t hi) { /* bits lo to hi - 1 of 16 */
  return tg_low_bits(hi) & ~tg_low_bits(lo);
}
static inline tg_float_16 tg_part(tg_float_16 v, const float *from, uint32_t lanes) {
#if defined(__AVX512F__)
  return __builtin_ia32_loadups512_mask(from, v, (uint16_t)lanes);
#else
  for (int i = 0; i < 16; i++)
    if (lanes >> i & 1) v[i] = from[i];
  return v;
#endif
}
""",
)

_piece(
    "tg_stream",
    """
/* A copy past the caches: whole aligned lines if `to` is aligned, else as usual. The barrier at the
   end of a parallel loop, a locked instruction, orders these stores before what follows it. */
static inline void tg_stream(float *to, const float *from, ptrdiff_t n) {
#if defined(__x86_64__)
  typedef float vector __attribute__((vector_size(16), may_alias));
  if ((uintptr_t)to % 64 == 0)
    for (; n >= 16; n -= 16, to += 16, from += 16)
#pragma GCC unroll 4
      for (int i = 0; i < 16; i += 4) {
        vector v;
        __builtin_memcpy(&v, from + i, sizeof v);
#if defined(__clang__)
        __builtin_nontemporal_store(v, (vector *)(to + i));
#else
        __builtin_ia32_movntps(to + i, v);
#endif
      }
#endif
  for (; n > 0; n--) *to++ = *from++;
}
""",
)

_piece(
    "tg_sum_8",
    """
static inline float tg_sum_8(tg_float_8 v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return v[0] + v[1];
}
""",
)

_piece(
    "tg_fetch",
    """
static inline void tg_fetch(const void *from, ptrdiff_t bytes) { /* towards the caches */
  for (ptrdiff_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i);
}
""",
)

_piece(
    "tg_threads",
    """
__attribute__((weak)) int tg_threads = 1; /* set by whoever loads the kernels */
""",
)

_piece("tg_min", "#define tg_min(a, b) ((a) < (b) ? (a) : (b))")
_piece("tg_max", "#define tg_max(a, b) ((a) > (b) ? (a) : (b))")

_piece(
    "tg_member",
    """
/* The last of the members that begins at or before a place. */
static inline ptrdiff_t tg_member(const ptrdiff_t *first, ptrdiff_t members, ptrdiff_t place) {
  ptrdiff_t lo = 0, hi = members;
  while (hi - lo > 1) {
    const ptrdiff_t middle = (lo + hi) / 2;
    if (first[middle] <= place) lo = middle;
    else hi = middle;
  }
  return lo;
}
""",
)

for _name, _what in (
    ("tg_scratch", "a buffer of this thread, kept between calls"),
    ("tg_partials", "another one, for what other threads of the call write"),
):
    _piece(
        _name,
        f"""
extern void *aligned_alloc(size_t, size_t);
extern void free(void *);
static inline void *{_name}(size_t bytes) {{ /* {_what} */
  static _Thread_local char *buffer;
  static _Thread_local size_t size;
  if (size < bytes) {{
    free(buffer);
    size = (bytes + 4095) & ~(size_t)4095;
    buffer = aligned_alloc(4096, size);
    if (!buffer) __builtin_trap();
    for (size_t i = 0; i < size; i++) buffer[i] = 0;
  }}
  return buffer;
}}
""",
    )


_piece(
    "tg_heap",
    """
extern void *aligned_alloc(size_t, size_t);
extern void free(void *);
static inline void *tg_heap(size_t bytes) {
  void *const memory = aligned_alloc(64, bytes);
  if (!memory) __builtin_trap();
  return memory;
}
""",
)


_piece(
    "tg_keep",
    """
#if defined(__x86_64__) || defined(__i386__)
#define tg_keep(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define tg_keep(v) __asm__("" : "+w"(v))
#else
#define tg_keep(v) ((void)0)
#endif
""",
)


def vector_type(ctype: str, lanes: int) -> str:
    """Name of the vector type of `lanes` elements, such as tg_float_16."""
    return f"tg_{ctype}_{lanes}"


@cache
def _vector_piece(ctype: str, lanes: int) -> str:
    size = {"float": 4, "double": 8}.get(ctype) or int(re.sub(r"\D", "", ctype)) // 8
    name = vector_type(ctype, lanes)
    return (
        f"typedef {ctype} {name} __attribute__((vector_size({size * lanes})"
        f", aligned({size}), may_alias));\n"
    )


@cache
def _transpose_piece(ctype: str, lanes: int) -> str:
    """In: `lanes` rows of kc elements, rs apart. Out: kc rows of `lanes` elements, ds apart."""
    v = vector_type(ctype, lanes)
    out = [
        f"static __attribute__((noinline)) void tg_transpose_{ctype}_{lanes}(",
        f"    const {ctype} *src, ptrdiff_t rs, ptrdiff_t kc, {ctype} *dst, ptrdiff_t ds) {{",
        "  ptrdiff_t k = 0;",
        f"  for (; k + {lanes} <= kc; k += {lanes}) {{",
        f"    {v} a[{lanes}], b[{lanes}];",
        f"#pragma GCC unroll {lanes}",
        f"    for (int i = 0; i < {lanes}; i++) a[i] = *(const {v} *)(src + i * rs + k);",
    ]
    source, target, step = "a", "b", lanes // 2
    while step:
        low = ", ".join(str(i - step + lanes if i & step else i) for i in range(lanes))
        high = ", ".join(str(i + lanes if i & step else i + step) for i in range(lanes))
        out += [
            f"#pragma GCC unroll {lanes}",
            f"    for (int i = 0; i < {lanes}; i++)",
            f"      {target}[i] = i & {step}",
            f"        ? __builtin_shufflevector({source}[i & ~{step}], {source}[i],",
            f"                                  {high})",
            f"        : __builtin_shufflevector({source}[i], {source}[i | {step}],",
            f"                                  {low});",
        ]
        source, target, step = target, source, step // 2
    out += [
        f"#pragma GCC unroll {lanes}",
        f"    for (int i = 0; i < {lanes}; i++) *({v} *)(dst + (k + i) * ds) = {source}[i];",
        "  }",
    ]
    if lanes > 4:
        half = lanes // 2
        out += [
            f"  for (int i = 0; k < kc && i < {lanes}; i += {half})",
            f"    tg_transpose_{ctype}_{half}(src + i * rs + k, rs, kc - k, dst + k * ds + i, ds);",
            "}",
        ]
    else:
        out += [
            "  for (; k < kc; k++)",
            f"    for (int i = 0; i < {lanes}; i++) dst[k * ds + i] = src[i * rs + k];",
            "}",
        ]
    return "\n".join(out) + "\n"


def _product(ctype: str, rows: range, nv: int, lanes: int, rs: int) -> list[str]:
    """s[rows, nv*lanes] += a[rows] * b[nv*lanes] with each accumulator a variable of its own.

    b's vectors are kept in registers: where no more than four multiply-adds use one, gcc reads it
    from memory again for each, and a tile of 4x2 vectors takes as long as one of 6x2 (Zen 3).
    """
    v = vector_type(ctype, lanes)
    lines = [f"{v} y{j} = *(const {v} *)(b + {j * lanes}); tg_keep(y{j});" for j in range(nv)]
    for r in rows:
        sums = " ".join(f"s{r}_{j} += x * y{j};" for j in range(nv))
        lines.append(f"{{ const {ctype} x = a[{r * rs}]; {sums} }}")
    return lines


def _accumulators(ctype: str, mr: int, nv: int, lanes: int) -> tuple[list[str], list[str]]:
    """Lines that declare the accumulators, and lines that add them to c or store them.

    They start from zero, so that a long sum is one of partial sums.
    """
    v = vector_type(ctype, lanes)
    cells = [(f"s{r}_{j}", f"(c + {r} * ldc + {j * lanes})") for r in range(mr) for j in range(nv)]
    first = [f"  {v} " + ", ".join(f"{s} = {{0}}" for s, _ in cells) + ";"]
    last = [
        "  if (!first) {",
        *(f"    {s} += *(const {v} *){place};" for s, place in cells),
        "  }",
    ]
    return first, last + [f"  *({v} *){place} = {s};" for s, place in cells]


@cache
def _dot_piece(
    ctype: str, mr: int, nv: int, lanes: int, rs: int, ks: int, ldb: int | None = None
) -> str:
    """c[mr, nv*lanes] (+)= a[mr, kc] @ b[kc, nv*lanes], all of c in registers.

    a's rows are `rs` apart and its columns `ks`; b's rows are `ldb` apart, packed by default.
    """
    first, last = _accumulators(ctype, mr, nv, lanes)
    step, place = (nv * lanes, "") if ldb is None else (ldb, f"_{ldb}")
    name = f"tg_dot_{ctype}_{mr}x{nv}x{lanes}_{rs}_{ks}{place}"
    out = [
        f"static __attribute__((noinline)) void {name}(",
        f"    ptrdiff_t kc, const {ctype} *restrict a, const {ctype} *restrict b,",
        f"    {ctype} *restrict c, ptrdiff_t ldc, int first) {{",
        *first,
        f"  for (ptrdiff_t k = 0; k < kc; k++, a += {ks}, b += {step}) {{",
        *(f"    {line}" for line in _product(ctype, range(mr), nv, lanes, rs)),
        "  }",
        *last,
    ]
    return "\n".join(out) + "\n}\n"


@cache
def _runs_piece(
    ctype: str, mr: int, nv: int, lanes: int, rs: int, ks: int, parts: tuple[range, ...] = ()
) -> str:
    """The same over `runs` pieces of k of kc elements each, a_step and b_step apart.

    With parts, each piece is that many times kc elements, and a part adds to its own rows of c.
    """
    first, last = _accumulators(ctype, mr, nv, lanes)
    out = [
        f"static __attribute__((noinline)) void {runs_name(ctype, mr, nv, lanes, rs, ks, parts)}(",
        "    ptrdiff_t runs, ptrdiff_t a_step, ptrdiff_t b_step, ptrdiff_t kc,",
        f"    const {ctype} *restrict a_run, const {ctype} *restrict b_run,",
        f"    {ctype} *restrict c, ptrdiff_t ldc, int first) {{",
        *first,
        "  for (ptrdiff_t run = 0; run < runs; run++, a_run += a_step, b_run += b_step) {",
        f"    const {ctype} *restrict a = a_run, *restrict b = b_run;",
    ]
    for rows in parts or (range(mr),):
        out += [
            f"    for (ptrdiff_t k = 0; k < kc; k++, a += {ks}, b += {nv * lanes}) {{",
            *(f"      {line}" for line in _product(ctype, rows, nv, lanes, rs)),
            "    }",
        ]
    return "\n".join([*out, "  }", *last]) + "\n}\n"


def runs_name(
    ctype: str, mr: int, nv: int, lanes: int, rs: int, ks: int, parts: tuple[range, ...] = ()
) -> str:
    """The C function of `_runs_piece`."""
    rows = "".join(f"_{part.start}to{part.stop}" for part in parts)
    return f"tg_runs_{ctype}_{mr}x{nv}x{lanes}_{rs}_{ks}{rows}"


_CTYPE = r"(float|double|u?int\d+_t)"
_TILE = r"(\d+)x(\d+)x(\d+)_(\d+)_(\d+)"


def _find(name: str) -> str | None:
    if name in _PIECES:
        return _PIECES[name]
    if found := re.fullmatch(rf"tg_transpose_{_CTYPE}_(\d+)", name):
        return _transpose_piece(found[1], int(found[2]))
    if found := re.fullmatch(rf"tg_dot_{_CTYPE}_{_TILE}(?:_(\d+))?", name):
        return _dot_piece(found[1], *(int(n) for n in found.groups()[1:] if n))
    if found := re.fullmatch(rf"tg_runs_{_CTYPE}_{_TILE}((?:_\d+to\d+)*)", name):
        parts = re.findall(r"(\d+)to(\d+)", found[7])
        sizes = (int(n) for n in found.groups()[1:6])
        return _runs_piece(found[1], *sizes, tuple(range(int(a), int(b)) for a, b in parts))
    if found := re.fullmatch(r"tg_winograd_([a-z]+)_(\d+)_(\d+)_(\d+)", name):
        return transform_piece(found[1], *map(int, found.groups()[1:]))
    if found := re.fullmatch(r"tg_argsort_(uint\d+_t)_(\d+)", name):
        return sort_piece(found[1], int(found[2]))
    if found := re.fullmatch(rf"tg_{_CTYPE}_(\d+)", name):
        return _vector_piece(found[1], int(found[2]))
    return None


def preamble(source: str) -> str:
    """The header and the functions that `source` uses, dependencies first."""
    return HEADER + pieces_of(source)


def pieces_of(source: str, instead: Callable[[str], str | None] = lambda name: None) -> str:
    """The functions that `source` uses, dependencies first.

    Args:
        instead: a function's text by its name, where another language has one of its own.
    """
    order: list[str] = []
    seen: set[str] = set()

    def visit(text: str) -> None:
        for name in sorted(set(re.findall(r"\btg_\w+", text))):
            piece = instead(name) or _find(name)
            if piece is None or piece in seen:
                continue
            seen.add(piece)
            visit(piece)
            order.append(piece)

    visit(source)
    return "".join(order)
