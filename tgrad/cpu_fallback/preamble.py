"""C functions that generated kernels call, picked by use.

In: source text of kernels. Out: the declarations and functions that it needs, nothing else.
Invariant: each function is branch-free in C (selects only), so that gcc and clang vectorise the
loops that call it; NaN, infinities and denormal numbers are handled without -ffast-math.

The polynomials of float32 functions are in float_functions.py. Philox: Salmon et al., SC 2011.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tgrad.cpu_fallback.dot_words import WORD_PIECES
from tgrad.cpu_fallback.double_functions import DOUBLE_FUNCTIONS
from tgrad.cpu_fallback.emit_halves import widening_piece
from tgrad.cpu_fallback.emit_sort import first_piece, pair_piece, sort_piece
from tgrad.cpu_fallback.float_functions import FLOAT_FUNCTIONS
from tgrad.cpu_fallback.near_functions import NEAR_FUNCTIONS
from tgrad.cpu_fallback.register_tiles import dot_piece, runs_piece, transpose_piece, vector_piece
from tgrad.cpu_fallback.winograd import transform_piece

HEADER = """\
#include <stdint.h>
#include <stddef.h>
#define inline inline __attribute__((always_inline)) /* loops with calls are no vectors */
"""

_PIECES: dict[str, str] = {**FLOAT_FUNCTIONS, **DOUBLE_FUNCTIONS, **NEAR_FUNCTIONS, **WORD_PIECES}


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
  uint32_t u = tg_bits(x), e = u & 0x7f800000u;
  e = e < 0x38800000u ? 0x38800000u : e;
  float unit = tg_float((e > 0x47000000u ? 0x47000000u : e) + 0x06c00000u);
  float r = ((x + unit) - unit) * 0x1p112f * 0x1p-112f; /* infinite from 2^16 on */
  return tg_float((tg_bits(r) & 0x7fffffffu) | (u & 0x80000000u));
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
static inline double tg_sigmoid_f64(double x) { return 1 / (1 + tg_exp_f64(-x)); }
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
    _s, _fmod = ("f", "tg_fmod") if _t == "f32" else ("", "__builtin_fmod")
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
        f"tg_fma_{_t}",
        f"""
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define tg_fma_{_t}(a, b, c) __builtin_fma{_s}(a, b, c) /* the product is not rounded */
#else
#define tg_fma_{_t}(a, b, c) ((a) * (b) + (c))
#endif
""",
    )
    for _near, _rest in (("", _fmod), ("near_", f"tg_near_fmod_{_t}")):
        _piece(
            f"tg_{_near}mod_{_t}",
            f"""
static inline {_c} tg_{_near}mod_{_t}({_c} a, {_c} b) {{
  {_c} r = {_rest}(a, b);
  return (r != 0) & ((r < 0) != (b < 0)) ? r + b : r;
}}
""",
        )
        _piece(
            f"tg_{_near}floordiv_{_t}",
            f"""
static inline {_c} tg_{_near}floordiv_{_t}({_c} a, {_c} b) {{
  {_c} r = {_rest}(a, b), q = (a - r) / b;
  q -= (r != 0) & ((r < 0) != (b < 0));
  {_c} f = __builtin_floor{_s}(q);
  f += q - f > ({_c})0.5;
  f = q != 0 ? f : __builtin_copysign{_s}(0, a / b);
  return b != 0 ? f : a / b;
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
  {_c} r = a % ((b == 0) | (b == -1) ? 1 : b);
  return r + (b & -({_c})((r != 0) & ((r ^ b) < 0))); /* signs of numbers are not foreseen */
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
    "tg_part_float tg_part_uint16_t tg_window",
    """
static inline uint32_t tg_low_bits(ptrdiff_t n) {
  n = n < 0 ? 0 : n > 16 ? 16 : n;
  return (1u << n) - 1;
}
static inline uint32_t tg_window(ptrdiff_t lo, ptrdiff_t hi) { /* bits lo to hi - 1 of 16 */
  return tg_low_bits(hi) & ~tg_low_bits(lo);
}
static inline tg_float_16 tg_part_float(tg_float_16 v, const float *from, uint32_t lanes) {
#if defined(__AVX512F__)
  return __builtin_ia32_loadups512_mask(from, v, (uint16_t)lanes);
#else
  for (int i = 0; i < 16; i++)
    if (lanes >> i & 1) v[i] = from[i];
  return v;
#endif
}
static inline tg_uint16_t_16 tg_part_uint16_t(
    tg_uint16_t_16 v, const uint16_t *from, uint32_t lanes) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  typedef short vector __attribute__((vector_size(32)));
  return (tg_uint16_t_16)__builtin_ia32_loaddquhi256_mask(
      (const vector *)from, (vector)v, (uint16_t)lanes);
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

for _name, _sign in (("max", ">"), ("min", "<")):
    _piece(
        f"tg_{_name}_8",
        f"""
static inline tg_float_8 tg_{_name}_8(tg_float_8 a, tg_float_8 b) {{ /* NaN if either is */
  tg_int32_t_8 first = (a {_sign} b) | (a != a);
  return (tg_float_8)(((tg_int32_t_8)a & first) | ((tg_int32_t_8)b & ~first));
}}
""",
    )

_piece("tg_prod_8", "#define tg_prod_8(a, b) ((a) * (b))")

for _name in ("max", "min", "prod"):
    _piece(
        f"tg_all_{_name}_8",
        f"""
static inline float tg_all_{_name}_8(tg_float_8 v) {{
  v = tg_{_name}_8(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  v = tg_{_name}_8(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
  return tg_{_name}_8(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6))[0];
}}
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


_CTYPE = r"(float|double|u?int\d+_t)"
_KIND = r"(float|double|u?int\d+_t|bf16|[su]{2})"
_TILE = r"(\d+)x(\d+)x(\d+)_(\d+)_(\d+)"


def _find(name: str) -> str | None:
    if name in _PIECES:
        return _PIECES[name]
    if found := re.fullmatch(rf"tg_transpose_{_CTYPE}_(\d+)", name):
        return transpose_piece(found[1], int(found[2]))
    if found := re.fullmatch(rf"tg_dot_{_KIND}_{_TILE}(?:_(\d+))?", name):
        return dot_piece(found[1], *(int(n) for n in found.groups()[1:] if n))
    if found := re.fullmatch(rf"tg_runs_{_KIND}_{_TILE}((?:_\d+to\d+)*)", name):
        parts = re.findall(r"(\d+)to(\d+)", found[7])
        sizes = (int(n) for n in found.groups()[1:6])
        return runs_piece(found[1], *sizes, tuple(range(int(a), int(b)) for a, b in parts))
    if found := re.fullmatch(r"tg_winograd_([a-z]+)_(\d+)_(\d+)_(\d+)", name):
        return transform_piece(found[1], *map(int, found.groups()[1:]))
    if found := re.fullmatch(r"tg_argsort_(uint\d+_t)_(\d+)", name):
        return sort_piece(found[1], int(found[2]))
    if found := re.fullmatch(r"tg_first_(\d+)", name):
        return first_piece(int(found[1]))
    if found := re.fullmatch(r"tg_(pair|part|sort)_(\d+)", name):
        return pair_piece(found[1], int(found[2]))
    if found := re.fullmatch(r"tg_(?:widen|narrow)_(\d+)", name):
        return widening_piece(int(found[1]))
    if found := re.fullmatch(rf"tg_{_CTYPE}_(\d+)", name):
        return vector_piece(found[1], int(found[2]))
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
