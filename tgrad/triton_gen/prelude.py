"""Small functions that generated kernels call, printed above the kernel that needs them.

In: a set of names, a dialect. Out: source text. Invariant: the same kernel body runs in all
dialects; what Triton's interpreter cannot do (libdevice, bfloat16 rounding, NaN in reductions), and
what only GPUs with float8_e4m3fn can, differs here and nowhere else.

Where numbers come from: tanh near 0 is Lambert's continued fraction
x/(1 + x^2/(3 + x^2/(5 + ...))), cut after 9 (relative error 6e-10 at 0.6) for float32 and after 15
(4e-18) for float64. exp adds back what rounding x*log2(e) loses, about |x| units in the last place
otherwise. The short forms, for results that are rounded to 16 bits (rounded.py), are quotients of
polynomials that were fitted in relative error: 5e-7 of tanh and of erf; the square of a reciprocal
root is quicker than a division. exp(x - y) as 2^(x*log2(e) - y*log2(e)) would be NaN or infinite
where y*log2(e) is too large for a float32; there all floats but y are 2^104 away or more, and with
the scale 2^-90 the result is 0, 1 or infinite as it should be. Philox is Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3" (2011). LLVM takes a comparison with an integer that was
clamped, or chosen, back to 64 bits, and one with that of _place not.
"""

from __future__ import annotations

import re

GPU, GPU_FLOAT8, INTERPRET = "gpu", "gpu_float8", "interpret"

_ALL: dict[str, str] = {
    "_halves": """
def _halves(x):
    pairs = tl.reshape(x, [x.shape[0], 2, x.shape[1] // 2])
    return tl.split(tl.permute(pairs, [0, 2, 1]))
""",
    "_tanh_f32": """
def _tanh_f32(x):
    s = x * x
    near = x * (945.0 + s * (105.0 + s)) / (945.0 + s * (420.0 + s * 15.0))
    e = tl.exp(tl.abs(x) * -2.0)
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.6, near, tl.where(x < 0, far * -1.0, far))
""",
    "_tanh_f64": """
def _tanh_f64(x):
    s = tl.where(tl.abs(x) < 0.6, x * x, 0.0)
    p = 2027025.0 + s * (270270.0 + s * (6930.0 + s * 36.0))
    q = 2027025.0 + s * (945945.0 + s * (51975.0 + s * (630.0 + s)))
    e = tl.exp(tl.abs(x) * -2.0)
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.6, x * p / q, tl.where(x < 0, far * -1.0, far))
""",
    "_sigmoid_f32": """
def _sigmoid_f32(x):
    return 1.0 / (1.0 + _exp_f32(x * -1.0))
""",
    "_sigmoid_f64": """
def _sigmoid_f64(x):
    return 1.0 / (1.0 + tl.exp(x * -1.0))
""",
    "_whole_i32": """
def _whole_i32(x):
    inside = (x >= -2147483648.0) & (x < 2147483648.0)
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int32), -2147483648)
""",
    "_whole_i64": """
def _whole_i64(x):
    inside = (x >= -9223372036854775808.0) & (x < 9223372036854775808.0)
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int64), -9223372036854775808)
""",
    "_whole_u64": """
def _whole_u64(x):
    high = (x >= 9223372036854775808.0) & (x < 18446744073709551616.0)
    rest = tl.where(high, x - 9223372036854775808.0, x)
    whole = _whole_i64(rest).to(tl.uint64)
    whole = tl.where(high, whole + 0x8000000000000000, whole)
    return tl.where(x >= 18446744073709551616.0, 0xFFFFFFFFFFFFFFFF, whole)
""",
    "_half_of_e4m3": """
def _half_of_e4m3(x):
    bits = x.to(tl.uint16)
    half = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
    return tl.where((bits & 0x7F) == 0x7F, float("nan"), half)
""",
    "_half_of_e5m2": """
def _half_of_e5m2(x):
    return (x.to(tl.uint16) << 8).to(tl.float16, bitcast=True)
""",
    "_from_e4m3": """
def _from_e4m3(x):
    return _half_of_e4m3(x).to(tl.float32) * 256.0
""",
    "_from_e5m2": """
def _from_e5m2(x):
    return _half_of_e5m2(x).to(tl.float32)
""",
    "_to_e4m3": """
def _to_e4m3(x):
    size = tl.minimum(tl.abs(x), 448.0)
    bits = size.to(tl.uint32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 0x3C0
    small = (size + 16384.0).to(tl.uint32, bitcast=True) - 0x46800000
    code = tl.where(x == x, tl.where(size < 0.015625, small, normal), 0x7F)
    return (code | ((x.to(tl.uint32, bitcast=True) >> 24) & 0x80)).to(tl.uint8)
""",
    "_to_e5m2": """
def _to_e5m2(x):
    size = tl.abs(x)
    bits = size.to(tl.uint32, bitcast=True)
    normal = tl.minimum(((bits + 0xFFFFF + ((bits >> 21) & 1)) >> 21) - 0x1C0, 0x7C)
    small = (size + 128.0).to(tl.uint32, bitcast=True) - 0x43000000
    code = tl.where(x == x, tl.where(size < 0.00006103515625, small, normal), 0x7F)
    return (code | ((x.to(tl.uint32, bitcast=True) >> 24) & 0x80)).to(tl.uint8)
""",
    "_round_even": """
def _round_even(x):
    low = tl.floor(x)
    part = x - low
    even = low + (low - 2.0 * tl.floor(low * 0.5))
    r = tl.where(part == 0.5, even, tl.where(part > 0.5, low + 1.0, low))
    return tl.where(r == 0, x * 0.0, r)
""",
    "_mod_float": """
def _mod_float(a, b):
    r = _fmod(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
    "_floordiv_float": """
def _floordiv_float(a, b):
    r = _fmod(a, b)
    q = (a - r) / b
    q = tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1.0, q)
    low = tl.floor(q)
    low = tl.where(q - low > 0.5, low + 1.0, low)
    low = tl.where(q == 0, a / b * 0.0, low)
    return tl.where(b == 0, a / b, low)
""",
    "_pow_f32": """
def _pow_f32(x, y):
    return _pow_f64(x.to(tl.float64), y.to(tl.float64)).to(tl.float32)
""",
    "_pow_f64": """
def _pow_f64(x, y):
    x, y = tl.broadcast(x, y)
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(y * 0.5) != y * 0.5)
    size = tl.exp(y * tl.log(tl.abs(x)))
    size = tl.where((y == 0) | (x == 1), 1.0, size)
    size = tl.where((x == -1) & (tl.abs(y) == float("inf")), 1.0, size)
    size = tl.where((x < 0) & (x != -float("inf")) & (whole == 0), float("nan"), size)
    negative = (x.to(tl.int64, bitcast=True) < 0) & odd
    return tl.where(negative, size * -1.0, size)
""",
    "_floordiv_signed": """
def _floordiv_signed(a, b):
    d = tl.where(b == 0, 1, b)
    q = a // d
    r = a - q * d
    q = tl.where((r != 0) & ((r < 0) != (d < 0)), q - 1, q)
    return tl.where(b == 0, 0, q)
""",
    "_mod_signed": """
def _mod_signed(a, b):
    d = tl.where(b == 0, 1, b)
    r = a - (a // d) * d
    r = tl.where((r != 0) & ((r < 0) != (d < 0)), r + d, r)
    return tl.where(b == 0, 0, r)
""",
    "_floordiv_unsigned": """
def _floordiv_unsigned(a, b):
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b))
""",
    "_mod_unsigned": """
def _mod_unsigned(a, b):
    return tl.where(b == 0, 0, a % tl.where(b == 0, 1, b))
""",
    "_pow_unsigned": """
def _pow_unsigned(x, y, BITS: tl.constexpr):
    r = x * 0 + y * 0 + 1
    for _ in range(BITS):
        r = tl.where((y & 1) == 1, r * x, r)
        x = x * x
        y = y >> 1
    return r
""",
    "_pow_signed": """
def _pow_signed(x, y, BITS: tl.constexpr):
    r = _pow_unsigned(x, y, BITS - 1)
    sign = tl.where((y & 1) == 1, x, 1)
    below = tl.where(x == 1, 1, tl.where(x == -1, sign, 0))
    return tl.where(y < 0, below, r)
""",
    "_shift_left": """
def _shift_left(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return tl.where(inside, a << tl.where(inside, b, 0), 0)
""",
    "_shift_right_signed": """
def _shift_right_signed(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return a >> tl.where(inside, b, BITS - 1)
""",
    "_shift_right_unsigned": """
def _shift_right_unsigned(a, b, BITS: tl.constexpr):
    inside = b < BITS
    return tl.where(inside, a >> tl.where(inside, b, 0), 0)
""",
    "_place": """
def _place(x):
    return x.to(tl.int32) | ((x >> 31) != 0).to(tl.int32) * -1
""",
    "_philox": """
def _philox(index, offset, key, WORD: tl.constexpr):
    c0 = index.to(tl.uint32)
    c1 = (index >> 32).to(tl.uint32)
    c2 = offset.to(tl.uint32)
    c3 = (offset >> 32).to(tl.uint32)
    k0 = key.to(tl.uint32)
    k1 = (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, 0xD2511F53)
        high2 = tl.umulhi(c2, 0xCD9E8D57)
        next1 = c2 * 0xCD9E8D57
        next3 = c0 * 0xD2511F53
        c0 = high2 ^ c1 ^ k0
        c2 = high0 ^ c3 ^ k1
        c1 = next1
        c3 = next3
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    if WORD == 0:
        return c0
    elif WORD == 1:
        return c1
    elif WORD == 2:
        return c2
    else:
        return c3
""",
    "_larger": """
def _larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "_smaller": """
def _smaller(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "_multiply": """
def _multiply(a, b):
    return a * b
""",
    "_chain": """
def _chain(a, b, c, d):
    return a * c, b * c + d
""",
    "_scan_prod": """
def _scan_prod(x, AXIS: tl.constexpr):
    return tl.associative_scan(x, AXIS, _multiply)
""",
    "_scan_max": """
def _scan_max(x, AXIS: tl.constexpr):
    return tl.associative_scan(x, AXIS, _larger)
""",
    "_scan_min": """
def _scan_min(x, AXIS: tl.constexpr):
    return tl.associative_scan(x, AXIS, _smaller)
""",
    "_scan_linear": """
def _scan_linear(a, b, AXIS: tl.constexpr):
    return tl.associative_scan((a, b), AXIS, _chain)
""",
    "_exp_sum_f32": """
def _exp_sum_f32(largest, total, x):
    x = tl.reshape(x, [largest.shape[0], x.shape[0] // largest.shape[0]])
    found = _larger(largest, _reduce_max(x, 1))
    at = tl.where(found == -float("inf"), 0.0, found)
    total = total * _exp_f32(largest - at) + tl.sum(_exp_f32(x - at[:, None]), 1)
    return found, total
""",
    "_reduce_prod": """
def _reduce_prod(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, _multiply)
""",
}

_GPU: dict[str, str] = {
    "_exp_short": """
def _exp_short(x):
    return tl.exp2(x * 1.4426950408889634)
""",
    "_exp_from": """
def _exp_from(x, y, SCALE: tl.constexpr = 1.4426950408889634):
    # y from 2^29 on: by a power of two, with nothing to round, that keeps neighbours far apart
    exponent = (y.to(tl.int32, bitcast=True) >> 23) & 255
    power = ((286 - exponent) << 23).to(tl.float32, bitcast=True)
    scale = tl.where(exponent < 156, SCALE, power)
    return tl.exp2(x * scale - y * scale)
""",
    "_exp_sum_short": """
def _exp_sum_short(largest, total, x):
    x = tl.reshape(x, [largest.shape[0], x.shape[0] // largest.shape[0]])
    found = _larger(largest, _reduce_max(x, 1))
    at = tl.where(found == -float("inf"), 0.0, found)
    total = total * _exp_from(largest, at) + tl.sum(_exp_from(x, at[:, None]), 1)
    return found, total
""",
    "_sigmoid_short": """
def _sigmoid_short(x):
    return 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))
""",
    "_tanh_short": """
def _tanh_short(x):
    x = _smaller(_larger(x, -8.0), 8.0)
    s = x * x
    p = 2.69641926e-3 + s * (7.16256216e-6 + s * -6.14238661e-9)
    p = 0.999999785 + s * (0.127123212 + s * p)
    q = tl.rsqrt(1.0 + s * (0.460454827 + s * (0.0228502437 + s * 1.96746346e-4)))
    return (x * p) * (q * q)
""",
    "_erf_short": """
def _erf_short(x):
    x = _smaller(_larger(x, -3.6), 3.6)
    s = x * x
    p = 7.36851261e-3 + s * (1.94687546e-4 + s * -1.23573484e-6)
    p = 1.1283790 + s * (2.95639290e-1 + s * (6.26236159e-2 + s * p))
    q = 1.53968400e-1 + s * (2.20766099e-2 + s * 1.73612960e-3)
    q = tl.rsqrt(1.0 + s * (5.95331967e-1 + s * q))
    return (x * p) * (q * q)
""",
    "_exp_f32": """
def _exp_f32(x):
    t = x * 1.4426950216293335
    r = tl.exp2(t)
    lost = tl.fma(x, 1.4426950216293335, t * -1.0) + x * 1.925962991126617e-8
    return tl.where(tl.abs(t) < 200.0, r + r * (lost * 0.6931471805599453), r)
""",
    "_matrix_e4m3": """
def _matrix_e4m3(x):
    return _half_of_e4m3(x) * 256.0
""",
    "_matrix_e5m2": """
def _matrix_e5m2(x):
    return _half_of_e5m2(x)
""",
    "_from_bf16": """
def _from_bf16(x):
    return x.to(tl.float32)
""",
    "_to_bf16": """
def _to_bf16(x):
    return x.to(tl.bfloat16)
""",
    "_fmod": """
def _fmod(a, b):
    return libdevice.fmod(a, b)
""",
    "_sort": """
def _sort(x):
    return tl.sort(x)
""",
    "_plus": """
def _plus(a, b):
    return a + b
""",
    "_scan_sum": """
def _scan_sum(x, AXIS: tl.constexpr):
    return tl.associative_scan(x, AXIS, _plus)
""",
    "_reduce_max": """
def _reduce_max(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, _larger)
""",
    "_reduce_min": """
def _reduce_min(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, _smaller)
""",
}

_FLOAT8: dict[str, str] = {
    "_from_e4m3": """
def _from_e4m3(x):
    return x.to(tl.float8e4nv, bitcast=True).to(tl.float32)
""",
    "_to_e4m3": """
def _to_e4m3(x):
    return x.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
""",
    "_matrix_e4m3": """
def _matrix_e4m3(x):
    return x.to(tl.float8e4nv, bitcast=True)
""",
    "_matrix_e5m2": """
def _matrix_e5m2(x):
    return x.to(tl.float8e5, bitcast=True)
""",
}
"""Where e4m3 is an instruction's type. Its conversion saturates as PyTorch's does; that to e5m2
does too, where PyTorch gives an infinity, so e5m2 is rounded as everywhere."""

_INTERPRET: dict[str, str] = {
    "_exp_f32": """
def _exp_f32(x):
    return tl.exp(x)
""",
    "_from_bf16": """
def _from_bf16(x):
    bits = x.to(tl.uint16, bitcast=True).to(tl.uint32)
    return (bits << 16).to(tl.float32, bitcast=True)
""",
    "_to_bf16": """
def _to_bf16(x):
    bits = x.to(tl.uint32, bitcast=True)
    even = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    bits = tl.where(x == x, even, (bits >> 16) | 0x40)
    return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
""",
    "_fmod": """
def _fmod(a, b):
    return a % b
""",
    "_sort": """
def _sort(x):
    LAST: tl.constexpr = len(x.shape) - 1
    column = tl.expand_dims(x, LAST + 1)
    rank = tl.sum((tl.expand_dims(x, LAST) < column).to(tl.int32), LAST + 1)
    rank = tl.where(x == 0xFFFFFFFFFFFFFFFF, -1, rank)
    hit = tl.expand_dims(rank, LAST + 1) == tl.arange(0, x.shape[LAST])
    return tl.sum(tl.where(hit, column, 0), LAST)
""",
    "_scan_sum": """
def _scan_sum(x, AXIS: tl.constexpr):
    return tl.cumsum(x, AXIS).to(x.dtype)
""",
    "_reduce_max": """
def _reduce_max(x, AXIS: tl.constexpr):
    has_nan = tl.max((x != x).to(tl.int32), AXIS) != 0
    return tl.where(has_nan, float("nan"), tl.max(x, AXIS))
""",
    "_reduce_min": """
def _reduce_min(x, AXIS: tl.constexpr):
    has_nan = tl.max((x != x).to(tl.int32), AXIS) != 0
    return tl.where(has_nan, float("nan"), tl.min(x, AXIS))
""",
}

_NAME = re.compile(r"(?<![\w.])_[a-z]\w*")


def functions(dialect: str) -> dict[str, str]:
    """Source of each function by name, without its decorator."""
    own = {GPU: _GPU, GPU_FLOAT8: _GPU | _FLOAT8, INTERPRET: _INTERPRET}
    return _ALL | own[dialect]


def print_prelude(body: str, dialect: str) -> str:
    """Definitions of the functions that `body` calls, callees first; "" if there are none."""
    table = functions(dialect)
    ordered: list[str] = []

    def visit(text: str, own: str) -> None:
        for name in _NAME.findall(text):
            if name in table and name != own and name not in ordered:
                visit(table[name], name)
                ordered.append(name)

    visit(body, "")
    parts = [f"@triton.jit{table[name]}" for name in ordered]
    text = "\n\n".join(parts)
    if "libdevice." in text:
        text = "\n" + text
    return text


def imports(prelude: str) -> str:
    """Import lines of a generated module."""
    lines = ["import triton", "import triton.language as tl"]
    if "libdevice." in prelude:
        lines.append("from triton.language.extra import libdevice")
    return "\n".join(lines) + "\n"
