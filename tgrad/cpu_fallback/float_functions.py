"""Elementary functions of float32 in C.

In: nothing. Out: C text by function name, for preamble.py. Invariant: each function is branch-free,
so that loops that call it are vectorised; NaN, infinities, -0.0 and denormal numbers give what the
C standard says. Errors in units of the last place (tests/cpu_fallback/test_accuracy.py; gcc 12 with
and without fused multiply-add; exp, log, tanh, erf and sigmoid over all floats, others sampled):

    exp 1.1  exp2 0.9  log 0.9  tanh 1.5  erf 1.5 (1.8 without)  sigmoid 1.8  sin 0.6  cos 0.6
    pow 0.51

Polynomials are weighted minimax fits (Lawson's and Remez's iterations, 40 digits and more). sin,
cos and pow reduce their argument in double, which holds a product of two floats exactly; so does
fmod, which is exact.
"""

from __future__ import annotations

FLOAT_FUNCTIONS: dict[str, str] = {}
"""Text of each function, by name."""

FLOAT_FUNCTIONS["tg_exp_reduced"] = """\
static inline float tg_exp_reduced(float x, float *t) { /* e^x = 2^n * (1 + result), |x| <= 104;
  n are the lowest bits of t */
  *t = x * 1.44269504f + 12582912.0f;
  float k = *t - 12582912.0f;
  float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
  float s = r * r; /* pairs of terms, which do not wait for each other */
  float p = (0.00139516697f * s + (0.00836960299f * r + 0.0416661880f)) * s;
  p = p + (0.166665128f * r + 0.500000010f);
  return p * s + r;
}
"""

FLOAT_FUNCTIONS["tg_exp"] = """\
static inline float tg_exp(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  float t, u = tg_exp_reduced(x, &t);
  int32_t n = (int32_t)(tg_bits(t) - 0x4b400000u), h = n >> 1;
  float s = tg_float((uint32_t)(h + 127) << 23);
  return (s * u + s) * tg_float((uint32_t)(n - h + 127) << 23);
}
"""

FLOAT_FUNCTIONS["tg_exp2"] = """\
static inline float tg_exp2(float x) { /* 2^n * (1 + u) */
  x = x > 129.0f ? 129.0f : x;
  x = x < -151.0f ? -151.0f : x;
  float t = x + 12582912.0f, f = x - (t - 12582912.0f);
  float p = 1.52909485e-5f;
  p = p * f + 0.00015453163f;
  p = p * f + 0.00133335223f;
  p = p * f + 0.00961808256f;
  p = p * f + 0.0555041087f;
  p = p * f + 0.240226508f;
  float u = tg_fma_f32(f, 0.693147182f, (p * f - 1.9046543e-9f) * f);
  int32_t n = (int32_t)(tg_bits(t) - 0x4b400000u), h = n >> 1;
  float s = tg_float((uint32_t)(h + 127) << 23);
  return (s * u + s) * tg_float((uint32_t)(n - h + 127) << 23);
}
"""

FLOAT_FUNCTIONS["tg_exp_low"] = """\
static inline float tg_exp_low(float x) { /* x <= 44: 2^(n + 64) is a float, for all n */
  x = x < -104.0f ? -104.0f : x;
  float t, u = tg_exp_reduced(x, &t), s = tg_float((tg_bits(t) << 23) + 0x5f800000u);
  return (s * u + s) * 0x1p-64f;
}
"""

FLOAT_FUNCTIONS["tg_sigmoid_f32"] = """\
static inline float tg_sigmoid_f32(float x) { /* 1/(1 + e^-x) as 2^-25/(2^-25 + ...) */
  float a = -x, t;
  a = a > 104.0f ? 104.0f : a;
  a = a < -30.0f ? -30.0f : a;
  float u = tg_exp_reduced(a, &t), s = tg_float((tg_bits(t) << 23) + 0x33000000u); /* 2^(n - 25) */
  float sum = s + 0x1p-25f, lost = 0x1p-25f - (sum - s); /* by its rounding, where n is 24 or 25 */
  return 0x1p-25f / (sum + (s * u + lost));
}
"""

FLOAT_FUNCTIONS["tg_log"] = """\
static inline float tg_log(float x) { /* n*ln(2) + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)) */
  float y = x < 0x1p-126f ? x * 0x1p23f : x;
  uint32_t u = tg_bits(y) - 0x3f3504f3u;
  float n = (float)((int32_t)u >> 23) - (x < 0x1p-126f ? 23.0f : 0.0f);
  float f = tg_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 0.0674943079f;
  p = p * f - 0.116783510f;
  p = p * f + 0.118883191f;
  p = p * f - 0.124050879f;
  p = p * f + 0.142194548f;
  p = p * f - 0.166680256f;
  p = p * f + 0.200021258f;
  p = p * f - 0.250000090f;
  p = p * f + 0.333333125f;
  float z = f * f;
  float r = n * 0.693145752f + (f + (n * 1.42860677e-6f + (f * z * p - 0.5f * z)));
  r = x < __builtin_inff() ? r : x;
  r = x == 0.0f ? -__builtin_inff() : r;
  return x < 0.0f ? __builtin_nanf("") : r;
}
"""

FLOAT_FUNCTIONS["tg_tanh"] = """\
static inline float tg_tanh(float x) { /* a polynomial to 0.3, then e/(e + 2), e = e^2|x| - 1 */
  float a = __builtin_fabsf(x), z = x * x, t;
  float small = x + x * z * ((-0.0503662415f * z + 0.133148327f) * z - 0.333330601f);
  float b = a > 20.0f ? 20.0f : a;
  float u = tg_exp_reduced(2.0f * b, &t), s = tg_float((tg_bits(t) << 23) + 0x3f800000u);
  float e = s * u + (s - 1.0f);
  return __builtin_copysignf(a < 0.3f ? small : e / (e + 2.0f), x); /* small is 0.0 at -0.0 */
}
"""

FLOAT_FUNCTIONS["tg_erf"] = """\
static inline float tg_erf(float x) { /* a polynomial to 1.15, then 1 - erfc by its fourth root */
  float a = __builtin_fabsf(x), s = x * x;
  float p = 6.85635605e-5f;
  p = p * s - 7.68884493e-4f;
  p = p * s + 5.14947344e-3f;
  p = p * s - 0.0268321596f;
  p = p * s + 0.1128304f;
  p = p * s - 0.376125753f;
  p = p * s + 0.128379151f;
  float v = (a > 4.0f ? 4.0f : a) - 1.125f, w = v * v; /* pairs of terms, as in tg_exp_reduced */
  float q = (-0.000183098629f * v + 0.0018429159f) * w + (-0.00520585757f * v - 0.00631385157f);
  q = q * w + (0.0479308218f * v + 0.0229643956f);
  q = q * w + (-0.412060916f * v + 0.577999592f);
  q = q * q;
  float large = __builtin_copysignf(1.0f - q * q, x);
  return a > 1.15f ? large : p * x + x;
}
"""

_TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE
"""floor(2 / pi * 2**200)."""


def _window(name: str, start: int) -> str:
    """C lines of `name` = the 64 bits of 2 / pi from bit `start` + (e & 96) on, bit 0 of weight 2.

    Masks choose among the four: gcc 12 computes conditions of 64-bit numbers in 32 bits.
    """
    bits = [((_TWO_OVER_PI << 64) >> (202 - start - e)) % (1 << 64) for e in (0, 32, 64, 96)]
    pairs = ((f"{name}0", bits[0], bits[2]), (f"{name}1", bits[1], bits[3]))
    lines = [f"  uint64_t {x} = {a:#x}u ^ ({a ^ b:#x}u & m64);" for x, a, b in pairs]
    return "\n".join([*lines, f"  uint64_t {name} = {name}0 ^ (({name}0 ^ {name}1) & m32);"])


FLOAT_FUNCTIONS["tg_quadrant"] = f"""\
/* x = *q * pi/2 + r modulo 2 pi, |r| <= pi/4: Payne and Hanek's reduction. A float of
   exponent e >= 0 is a 24-bit number m times 2^e, and 2^e * 2/pi modulo 4 is high + low: 29 bits of
   2/pi from bit e on, whose product with m is exact in double, so that its integer part goes
   without a rounding, and the 52 bits after them. */
static inline double tg_quadrant(float x, uint32_t *q) {{
  uint32_t t = tg_bits(x);
  int32_t e = (int32_t)((t >> 23) & 0xffu) - 150;
  e &= ~(e >> 31); /* not below 0 */
  double m = tg_float(t - ((uint32_t)e << 23));
  uint64_t wide = (uint64_t)e, s = wide & 31u;
  uint64_t m32 = 0u - (wide >> 5 & 1u), m64 = 0u - (wide >> 6);
{_window("u", 0)}
{_window("v", 64)}
  uint64_t above = (u << s) >> 35, below = ((u << (s + 29)) | (v >> (35 - s))) >> 12;
  double high = tg_double(0x4330000000000000u | above) - 0x1p52;
  double low = tg_double(0x4330000000000000u | below) - 0x1p52;
  double y = m * (high * 0x1p-27), z = m * (low * 0x1p-79);
  double shifted = (y + z) + 0x1.8p52;
  *q = (uint32_t)tg_bits64(shifted);
  return ((y - (shifted - 0x1.8p52)) + z) * 1.5707963267948966;
}}
"""

SIN_OR_COS = """\
static inline float tg_{name}(float x) {{ /* first terms of the series in double, others in float */
  uint32_t q;
  double r = {quadrant}(x, &q), square = r * r;
  double rc = 1.0 - 0.5 * square, rs = r * (1.0 - 0.16666666666666666 * square);
  q += {shift}u;
  float s = (float)square;
  float a = 2.7181143e-6f;
  a = a * s - 1.9839315e-4f;
  a = (a * s + 8.333333e-3f) * s * s;
  float b = 2.4438384e-5f;
  b = b * s - 1.3887367e-3f;
  b = (b * s + 0.041666647f) * s * s;
  uint32_t odd = 0u - (q & 1u); /* bits, not ?: which gcc branches on */
  uint64_t odds = 0u - (uint64_t)(q & 1u);
  double head = tg_double((tg_bits64(rs) & ~odds) | (tg_bits64(rc) & odds));
  double scale = tg_double((tg_bits64(r) & ~odds) | (tg_bits64(1.0) & odds));
  float sum = (float)(head + scale * tg_float((tg_bits(a) & ~odd) | (tg_bits(b) & odd)));
  uint32_t y = tg_bits(sum) ^ ((q & 2u) << 30);
{tiny}  return __builtin_fabsf(x) < __builtin_inff() ? tg_float(y) : __builtin_nanf("");
}}
"""

TINY = """\
  uint32_t tiny = 0u - (uint32_t)(__builtin_fabsf(x) < 0x1p-12f);
  y = (y & ~tiny) | (tg_bits(x) & tiny);
"""

FLOAT_FUNCTIONS["tg_sin"] = SIN_OR_COS.format(
    name="sin", shift=0, tiny=TINY, quadrant="tg_quadrant"
)
FLOAT_FUNCTIONS["tg_cos"] = SIN_OR_COS.format(name="cos", shift=1, tiny="", quadrant="tg_quadrant")

FLOAT_FUNCTIONS["tg_pow"] = """\
static inline float tg_pow(float x, float y) { /* 2^(y * log2|x|) in double */
  float a = __builtin_fabsf(x), c = a < 0x1p-126f ? a * 0x1p23f : a;
  uint32_t u = tg_bits(c) - 0x3f3504f3u;
  double n = (double)(((int32_t)u >> 23) - (a < 0x1p-126f ? 23 : 0));
  double g = tg_float((u & 0x7fffffu) + 0x3f3504f3u); /* sqrt(1/2) <= g < sqrt(2) */
  double s = (g - 1.0) / (g + 1.0), z = s * s;
  double p = 0.282908167746137;
  p = p * z + 0.3199051016652104;
  p = p * z + 0.41220926786706547;
  p = p * z + 0.5770779422002783;
  p = p * z + 0.9617966941139549;
  p = p * z + 2.8853900817778495;
  double l = n + s * p;
  l = a < __builtin_inff() ? l : __builtin_inf();
  l = a == 0.0f ? -__builtin_inf() : l;
  double t = y * l;
  t = t > 200.0 ? 200.0 : t;
  t = t < -200.0 ? -200.0 : t;
  double shifted = t + 0x1.8p52, f = t - (shifted - 0x1.8p52);
  double e = 1.5201937712417717e-05;
  e = e * f + 0.00015469292038802637;
  e = e * f + 0.0013333922485583823;
  e = e * f + 0.00961802725036106;
  e = e * f + 0.05550410353560262;
  e = e * f + 0.2402265119818727;
  e = e * f + 0.6931471807284044;
  e = e * f + 0.9999999999616783;
  int32_t k = (int32_t)(uint32_t)tg_bits64(shifted);
  float r = (float)(e * tg_double((uint64_t)(uint32_t)(k + 1023) << 52));
  /* y is a whole number if adding 2^23 and taking it away again changes nothing, odd if half of it
     is none. From 2^24 on all are even. */
  float b = __builtin_fabsf(y), h = 0.5f * b;
  int is_whole = (b >= 0x1p23f) | ((b + 0x1p23f) - 0x1p23f == b);
  int is_odd = is_whole & (h < 0x1p23f) & ((h + 0x1p23f) - 0x1p23f != h);
  r = (a == 1.0f) & (b == __builtin_inff()) ? 1.0f : r;
  int is_negative = tg_bits(x) >> 31;
  r = is_negative & is_odd ? -r : r;
  r = (x < 0.0f) & !is_whole & (a < __builtin_inff()) ? __builtin_nanf("") : r;
  r = (x != x) | (y != y) ? __builtin_nanf("") : r;
  return (x == 1.0f) | (y == 0.0f) ? 1.0f : r;
}
"""

FLOAT_FUNCTIONS["tg_fmod"] = """\
#if defined(__FMA__) || defined(__aarch64__)
/* Long division: a digit is a whole number below 2^52, so what its product with the divisor leaves
   is a double; after a digit that was rounded up it is less than 0. */
static inline float tg_fmod(float a, float b) {
  double r = __builtin_fabsf(a), y = __builtin_fabsf(b), d = y * 0x1p260;
#pragma GCC unroll 6
  for (int digit = 0; digit < 6; digit++, d *= 0x1p-52) {
    r = __builtin_fma(-__builtin_trunc(r / d), d, r);
    r = r < 0.0 ? r + d : r;
  }
  r = (y > 0x1p128) & (__builtin_fabsf(a) < __builtin_inff()) ? __builtin_fabsf(a) : r;
  return __builtin_copysignf((float)r, a);
}
#else
#define tg_fmod(a, b) __builtin_fmodf(a, b)
#endif
"""
