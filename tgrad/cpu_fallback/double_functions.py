"""Elementary functions of float64 in C.

In: nothing. Out: C text by function name, for preamble.py. Invariant: each function is branch-free,
so that loops that call it are vectorised, which those of a C library are not; NaN, infinities, -0.0
and denormal numbers give what the C standard says. Errors in units of the last place
(tests/cpu_fallback/test_accuracy.py; gcc 12): exp 1.0, exp2 1.0, log 0.8, tanh 2.6, erf 1.1,
pow 0.9.

exp is a Taylor series, which is exact to a double where |x| <= ln(2)/2. log is s * (2 + s^2 *
R(s^2)) with s = f/(2 + f) and the coefficients of FreeBSD's msun (e_log.c). erf is a polynomial of
x^2 near 0, and from 1 on one of 1/(x + 2) times e^-x^2 is its distance from 1: interpolations at
Chebyshev's points, 50 digits.
"""

from __future__ import annotations

from math import factorial

DOUBLE_FUNCTIONS: dict[str, str] = {}
"""Text of each function, by name."""


def _series(first: int, last: int) -> str:
    """Lines of r^first/first! + ... + r^last/last! divided by r^first."""
    terms = [f"  double p = {1 / factorial(last)!r};"]
    terms += [f"  p = p * r + {1 / factorial(n)!r};" for n in range(last - 1, first - 1, -1)]
    return "\n".join(terms)


DOUBLE_FUNCTIONS["tg_exp_reduced_f64"] = f"""\
static inline double tg_exp_reduced_f64(double x, double *t) {{ /* e^x = 2^n * (1 + result),
  |x| <= 750; n are the lowest bits of t */
  *t = x * 1.4426950408889634 + 0x1.8p52;
  double k = *t - 0x1.8p52;
  double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
{_series(2, 13)}
  return p * (r * r) + r;
}}
"""

DOUBLE_FUNCTIONS["tg_exp_f64"] = """\
static inline double tg_exp_f64(double x) {
  x = x > 710.0 ? 710.0 : x;
  x = x < -746.0 ? -746.0 : x;
  double t, u = tg_exp_reduced_f64(x, &t);
  uint64_t n = tg_bits64(t) - tg_bits64(0x1.8p52) + 2048u, h = n >> 1;
  double s = tg_double((h - 1u) << 52), rest = tg_double((n - h - 1u) << 52); /* 2^n = s * rest */
  return (s * u + s) * rest;
}
"""

DOUBLE_FUNCTIONS["tg_log_f64"] = """\
static inline double tg_log_f64(double x) { /* n*ln(2) + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2) */
  double y = x < 0x1p-1022 ? x * 0x1p54 : x;
  uint64_t u = tg_bits64(y) - 0x3fe6a09e667f3bcdu + 0x8000000000000000u;
  double n = tg_double(0x4330000000000000u | (u >> 52)) - (x < 0x1p-1022 ? 0x1.0000000000836p52
                                                                        : 0x1.00000000008p52);
  double f = tg_double((u & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
  double s = f / (2.0 + f), z = s * s;
  double p = 1.479819860511658591e-01;
  p = p * z + 1.531383769920937332e-01;
  p = p * z + 1.818357216161805012e-01;
  p = p * z + 2.222219843214978396e-01;
  p = p * z + 2.857142874366239149e-01;
  p = p * z + 3.999999999940941908e-01;
  p = p * z + 6.666666666666735130e-01;
  double square = 0.5 * f * f;
  double low = s * (square + p * z) + n * 1.90821492927058770002e-10;
  double r = n * 0.693147180369123816490 + (f - (square - low));
  r = x < __builtin_inf() ? r : x;
  r = x == 0.0 ? -__builtin_inf() : r;
  return x < 0.0 ? __builtin_nan("") : r;
}
"""

DOUBLE_FUNCTIONS["tg_tanh_f64"] = """\
static inline double tg_tanh_f64(double x) { /* e/(e + 2), e = e^2|x| - 1 */
  double a = __builtin_fabs(x), t, b = a > 20.0 ? 20.0 : a;
  double u = tg_exp_reduced_f64(2.0 * b, &t);
  double s = tg_double((tg_bits64(t) << 52) + 0x3ff0000000000000u);
  double e = s * u + (s - 1.0);
  return __builtin_copysign(e / (e + 2.0), x);
}
"""

DOUBLE_FUNCTIONS["tg_erf_f64"] = """\
static inline double tg_erf_f64(double x) { /* a polynomial to 1, then 1 - erfc: e^-x^2 by one */
  double a = __builtin_fabs(x), z = x * x;
  double p = -7.795898827002142e-10;
  p = p * z + 1.3720064546777686e-08;
  p = p * z - 1.6208483801871705e-07;
  p = p * z + 1.6447424703317362e-06;
  p = p * z - 1.492473690741966e-05;
  p = p * z + 0.00012055294904839707;
  p = p * z - 0.0008548325975389692;
  p = p * z + 0.0052239776071164225;
  p = p * z - 0.02686617064323777;
  p = p * z + 0.11283791670945006;
  p = p * z - 0.37612638903183543;
  p = p * z + 0.12837916709551256;
  double b = a > 6.0 ? 6.0 : a; /* erf is 1 from there on */
  double y = 9.6 / (b + 2.0) - 2.2; /* -1 to 1 */
  double q = 1.8620989806815163e-11;
  q = q * y - 7.290508535165398e-11;
  q = q * y - 2.634243021000669e-10;
  q = q * y + 2.622350032514279e-09;
  q = q * y - 5.926361315281833e-10;
  q = q * y - 7.005170205475373e-08;
  q = q * y + 1.6350102372087984e-07;
  q = q * y + 1.979561158209264e-06;
  q = q * y - 7.340518284999869e-06;
  q = q * y - 8.079220411804128e-05;
  q = q * y + 0.00019713917776008889;
  q = q * y + 0.0055888162818258785;
  q = q * y + 0.038560570425181566;
  q = q * y + 0.16189356804102537;
  q = q * y + 0.2214295402299318;
  double large = __builtin_copysign(1.0 - q * tg_exp_f64(-b * b), x);
  return a < 1.0 ? p * x + x : large;
}
"""

DOUBLE_FUNCTIONS["tg_exp2_reduced_f64"] = """\
static inline double tg_exp2_reduced_f64(double f, double more) { /* 2^f - 1 + more,
  |f| <= 1/2 */
  double p = 4.45410341058704e-10;
  p = p * f + 7.070977866508138e-09;
  p = p * f + 1.0178067267449427e-07;
  p = p * f + 1.3215451633221434e-06;
  p = p * f + 1.5252733820795803e-05;
  p = p * f + 0.00015403530424776529;
  p = p * f + 0.0013333558146423213;
  p = p * f + 0.009618129107618665;
  p = p * f + 0.05550410866482158;
  p = p * f + 0.24022650695910075;
  double rest = (p * f + 2.3190468138462996e-17) * f + more;
  return tg_fma_f64(f, 0.6931471805599453, rest); /* the larger product is not rounded */
}
"""

DOUBLE_FUNCTIONS["tg_scaled_f64"] = """\
static inline double tg_scaled_f64(double u, double shifted) { /* 2^n (1 + u), n the lowest bits of
  shifted, |n| < 1100 */
  uint64_t n = tg_bits64(shifted) - tg_bits64(0x1.8p52) + 2048u, h = n >> 1;
  double s = tg_double((h - 1u) << 52), rest = tg_double((n - h - 1u) << 52); /* 2^n = s * rest */
  return (s * u + s) * rest;
}
"""

DOUBLE_FUNCTIONS["tg_exp2_f64"] = """\
static inline double tg_exp2_f64(double x) {
  x = x > 1025.0 ? 1025.0 : x;
  x = x < -1080.0 ? -1080.0 : x;
  double t = x + 0x1.8p52, f = x - (t - 0x1.8p52);
  return tg_scaled_f64(tg_exp2_reduced_f64(f, 0.0), t);
}
"""

DOUBLE_FUNCTIONS["tg_pow_f64"] = """\
#if defined(__FMA__) || defined(__aarch64__)
/* 2^(y * log2|x|). Names in l are what the number before them lacks: log2 = 2/ln(2) * atanh(s) has
   65 bits, with s = f/(2 + f) and atanh(s) = s * (1 + s^2 * (1/3 + s^2 * P(s^2))). */
static inline double tg_pow_f64(double x, double y) {
  double a = __builtin_fabs(x), c = a < 0x1p-1022 ? a * 0x1p54 : a;
  uint64_t u = tg_bits64(c) - 0x3fe6a09e667f3bcdu + 0x8000000000000000u;
  double n = tg_double(0x4330000000000000u | (u >> 52)) - (a < 0x1p-1022 ? 0x1.0000000000836p52
                                                                        : 0x1.00000000008p52);
  double f = tg_double((u & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
  double b = 2.0 + f, bl = f - (b - 2.0), inverse = 1.0 / b;
  double s = f * inverse, sl = (__builtin_fma(-s, b, f) - s * bl) * inverse;
  double z = s * s, zl = __builtin_fma(s, s, -z) + 2.0 * s * sl;
  double p = 0.058615255140488765;
  p = p * z + 0.05853124270461193;
  p = p * z + 0.06667402119112673;
  p = p * z + 0.07692297485447729;
  p = p * z + 0.09090909167657202;
  p = p * z + 0.11111111110828116;
  p = p * z + 0.14285714285714682;
  p = (p * z + 0.2) * z;
  double q = 0.3333333333333333 + p, ql = (p - (q - 0.3333333333333333)) + 1.850371707708594e-17;
  double r = z * q, rl = __builtin_fma(z, q, -r) + (z * ql + zl * q);
  double t = s * r, tl = __builtin_fma(s, r, -t) + (s * rl + sl * r);
  double e = s + t, el = (t - (e - s)) + (tl + sl);
  double g = e * 2.8853900817779268;
  double gl = __builtin_fma(e, 2.8853900817779268, -g)
      + (e * 4.0710547481862066e-17 + el * 2.8853900817779268);
  double l = n + g, ll = (g - (l - n)) + gl;
  l = a < __builtin_inf() ? l : __builtin_inf();
  l = a == 0.0 ? -__builtin_inf() : l;
  double v = y * l, vl = __builtin_fma(y, l, -v) + y * ll;
  vl = __builtin_fabs(v) < 1090.0 ? vl : 0.0;
  v = v > 1090.0 ? 1090.0 : v;
  v = v < -1090.0 ? -1090.0 : v;
  double shifted = v + 0x1.8p52, d = v - (shifted - 0x1.8p52);
  double whole = d + vl, lost = vl - (whole - d);
  double result = tg_scaled_f64(tg_exp2_reduced_f64(whole, lost * 0.6931471805599453), shifted);
  /* y is a whole number if adding 2^52 and taking it away again changes nothing, odd if half of it
     is none. From 2^53 on all are even. */
  double h = __builtin_fabs(y), half = 0.5 * h;
  int is_whole = (h >= 0x1p52) | ((h + 0x1p52) - 0x1p52 == h);
  int is_odd = is_whole & (half < 0x1p52) & ((half + 0x1p52) - 0x1p52 != half);
  result = (a == 1.0) & (h == __builtin_inf()) ? 1.0 : result;
  double sign = tg_double((tg_bits64(x) & 0x8000000000000000u) | 0x3ff0000000000000u);
  result = is_odd ? result * sign : result;
  result = (x < 0.0) & !is_whole & (a < __builtin_inf()) ? __builtin_nan("") : result;
  result = (x != x) | (y != y) ? __builtin_nan("") : result;
  return (x == 1.0) | (y == 0.0) ? 1.0 : result;
}
#else
#define tg_pow_f64(x, y) __builtin_pow(x, y)
#endif
"""
