"""Elementary functions of float64 in C.

In: nothing. Out: C text by function name, for preamble.py. Invariant: each function is branch-free,
so that loops that call it are vectorised, which those of a C library are not; NaN, infinities, -0.0
and denormal numbers give what the C standard says. Errors in units of the last place
(tests/cpu_fallback/test_accuracy.py; gcc 12): exp 1.0, log 0.8, tanh 2.6, erf 1.1.

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
