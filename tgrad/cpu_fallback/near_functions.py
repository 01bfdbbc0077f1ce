"""Functions of arguments that are not far out, in C: a quick way for loops that have looked.

In: nothing. Out: C text by function name, for preamble.py, and when each function is right, by op.
Invariant: where the condition holds, results are those of the function for all arguments but for
rounding (tests/cpu_fallback/test_accuracy.py: sin, cos 0.6 of float32, 1.0 of float64; quotients
and remainders equal).

    x = k * pi/2 + r by Cody and Waite's parts of pi/2: no table of the digits of 2/pi. Those of
    float32 have 33 bits and the rest, in double; those of float64 have 53 bits each, and r is a sum
    of two.
    a - trunc(a / b) * b is exact by a fused multiply-add: no long division.

sin and cos of float64 are polynomials of FreeBSD's msun (k_sin.c, k_cos.c).
"""

from __future__ import annotations

from tgrad import dtype as dt
from tgrad.cpu_fallback.float_functions import SIN_OR_COS, TINY
from tgrad.dtype import DType
from tgrad.graph.op import Op

NEAR_FUNCTIONS: dict[str, str] = {}
"""Text of each function, by name."""

_ANGLE = "__builtin_fabs{f}({0}) < 0x1p{bits}{f}"
_QUOTIENT = (
    "(__builtin_fabs{f}({0}) < __builtin_fabs{f}({1}) * 0x1p{bits}{f})"
    " & (__builtin_fabs{f}({1}) < __builtin_inf{f}())"
)
_CONDITIONS = {
    Op.SIN: (_ANGLE, 20, 30),
    Op.COS: (_ANGLE, 20, 30),
    Op.MOD: (_QUOTIENT, 22, 50),
    Op.FLOORDIV: (_QUOTIENT, 22, 50),
}
"""By op: its condition, and how many bits are near in float32 and in float64."""


def has_near(op: Op, dtype: DType) -> bool:
    """Whether an op has such a function for arguments of a dtype."""
    return op in _CONDITIONS and dtype.is_float


def is_near(op: Op, args: list[str], dtype: DType) -> str:
    """C text of whether the function is right."""
    text, short, long = _CONDITIONS[op]
    f, bits = ("", long) if dtype is dt.float64 else ("f", short)
    return text.format(*args, f=f, bits=bits)


def near(op: Op, args: list[str], dtype: DType) -> str:
    """C text of its call."""
    kind = "f64" if dtype is dt.float64 else "f32"
    return f"tg_near_{op.value}_{kind}({', '.join(args)})"


NEAR_FUNCTIONS["tg_near_quadrant"] = """\
static inline double tg_near_quadrant(float x, uint32_t *q) { /* as tg_quadrant, |x| < 2^20 */
  double wide = x, shifted = wide * 0.6366197723675814 + 0x1.8p52, k = shifted - 0x1.8p52;
  *q = (uint32_t)tg_bits64(shifted);
  return (wide - k * 1.5707963267341256) - k * 6.077100506506192e-11;
}
"""

for _name, _shift, _tiny in (("sin", 0, TINY), ("cos", 1, "")):
    NEAR_FUNCTIONS[f"tg_near_{_name}_f32"] = SIN_OR_COS.format(
        name=f"near_{_name}_f32", shift=_shift, tiny=_tiny, quadrant="tg_near_quadrant"
    )
    NEAR_FUNCTIONS[f"tg_near_{_name}_f64"] = f"""\
#if defined(__FMA__) || defined(__aarch64__)
static inline double tg_near_{_name}_f64(double x) {{
  uint32_t q;
  double rest, r = tg_near_quadrant_f64(x, &rest, &q);
  double y = tg_sin_or_cos_f64(r, rest, q + {_shift}u);
  return {"__builtin_fabs(x) < 0x1p-27 ? x : y" if _shift == 0 else "y"};
}}
#else
#define tg_near_{_name}_f64(x) __builtin_{_name}(x)
#endif
"""

NEAR_FUNCTIONS["tg_near_quadrant_f64"] = """\
/* x = *q * pi/2 + result + *rest modulo 2 pi, |x| < 2^30; x - k * the first part is exact. */
static inline double tg_near_quadrant_f64(double x, double *rest, uint32_t *q) {
  double shifted = x * 0.6366197723675814 + 0x1.8p52, k = shifted - 0x1.8p52;
  double first = __builtin_fma(-k, 1.5707963267948966, x);
  double w = k * 6.123233995736766e-17, wl = __builtin_fma(k, 6.123233995736766e-17, -w);
  double r = first - w, back = r - first;
  double lost = (first - (r - back)) - (w + back);
  *rest = __builtin_fma(k, 1.4973849048591698e-33, lost - wl);
  *q = (uint32_t)tg_bits64(shifted);
  return r;
}
"""

NEAR_FUNCTIONS["tg_sin_or_cos_f64"] = """\
static inline double tg_sin_or_cos_f64(double r, double rest, uint32_t q) { /* q turns by pi/2 */
  double z = r * r, cube = z * r;
  double a = 1.58969099521155010221e-10;
  a = a * z - 2.50507602534068634195e-08;
  a = a * z + 2.75573137070700676789e-06;
  a = a * z - 1.98412698298579493134e-04;
  a = a * z + 8.33333333332248946124e-03;
  double sine = r - ((z * (0.5 * rest - cube * a) - rest) + cube * 1.66666666666666324348e-01);
  double b = -1.13596475577881948265e-11;
  b = b * z + 2.08757232129817482790e-09;
  b = b * z - 2.75573143513906633035e-07;
  b = b * z + 2.48015872894767294178e-05;
  b = b * z - 1.38888888888741095749e-03;
  b = b * z + 4.16666666666666019037e-02;
  double half = 0.5 * z, w = 1.0 - half;
  double cosine = w + (((1.0 - w) - half) + (z * z * b - r * rest));
  uint64_t odd = 0u - (uint64_t)(q & 1u); /* bits, not ?: which gcc branches on */
  uint64_t y = (tg_bits64(sine) & ~odd) | (tg_bits64(cosine) & odd);
  return tg_double(y ^ ((uint64_t)(q & 2u) << 62));
}
"""

for _t, _c, _s, _fmod in (
    ("f32", "float", "f", "tg_fmod"), ("f64", "double", "", "__builtin_fmod"),
):  # fmt: skip
    NEAR_FUNCTIONS[f"tg_near_fmod_{_t}"] = f"""\
#if defined(__FMA__) || defined(__aarch64__)
static inline {_c} tg_near_fmod_{_t}({_c} a, {_c} b) {{ /* a quotient that was rounded up is one
  too large */
  {_c} x = __builtin_fabs{_s}(a), y = __builtin_fabs{_s}(b);
  {_c} r = __builtin_fma{_s}(-__builtin_trunc{_s}(x / y), y, x);
  return __builtin_copysign{_s}(r < 0 ? r + y : r, a);
}}
#else
#define tg_near_fmod_{_t}(a, b) {_fmod}(a, b)
#endif
"""
