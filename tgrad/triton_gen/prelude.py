"""Small functions that generated kernels call, printed above the kernel that needs them.

In: a set of names, a dialect. Out: source text. Invariant: the same kernel body runs in both
dialects; what Triton's interpreter cannot do (libdevice, bfloat16 rounding, NaN in reductions)
differs here and nowhere else.

Where numbers come from: tanh near 0 is Lambert's continued fraction
x/(1 + x^2/(3 + x^2/(5 + ...))), cut after 9 (relative error 6e-10 at 0.6) for float32 and after 15
(4e-18) for float64. Philox is Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

import re

GPU, INTERPRET = "gpu", "interpret"

_BOTH: dict[str, str] = {
    "tanh_f32": """
def tanh_f32(x):
    s = x * x
    near = x * (945.0 + s * (105.0 + s)) / (945.0 + s * (420.0 + s * 15.0))
    e = tl.exp(tl.abs(x) * -2.0)
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.6, near, tl.where(x < 0, far * -1.0, far))
""",
    "tanh_f64": """
def tanh_f64(x):
    s = tl.where(tl.abs(x) < 0.6, x * x, 0.0)
    p = 2027025.0 + s * (270270.0 + s * (6930.0 + s * 36.0))
    q = 2027025.0 + s * (945945.0 + s * (51975.0 + s * (630.0 + s)))
    e = tl.exp(tl.abs(x) * -2.0)
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.6, x * p / q, tl.where(x < 0, far * -1.0, far))
""",
    "round_even": """
def round_even(x):
    low = tl.floor(x)
    part = x - low
    even = low + (low - 2.0 * tl.floor(low * 0.5))
    r = tl.where(part == 0.5, even, tl.where(part > 0.5, low + 1.0, low))
    return tl.where(r == 0, x * 0.0, r)
""",
    "mod_float": """
def mod_float(a, b):
    r = fmod(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
    "floordiv_float": """
def floordiv_float(a, b):
    r = fmod(a, b)
    q = (a - r) / b
    q = tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1.0, q)
    low = tl.floor(q)
    low = tl.where(q - low > 0.5, low + 1.0, low)
    low = tl.where(q == 0, a / b * 0.0, low)
    return tl.where(b == 0, a / b, low)
""",
    "pow_f32": """
def pow_f32(x, y):
    return pow_f64(x.to(tl.float64), y.to(tl.float64)).to(tl.float32)
""",
    "pow_f64": """
def pow_f64(x, y):
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(y * 0.5) != y * 0.5)
    size = tl.exp(y * tl.log(tl.abs(x)))
    size = tl.where((y == 0) | (x == 1), 1.0, size)
    size = tl.where((x == -1) & (tl.abs(y) == float("inf")), 1.0, size)
    size = tl.where((x < 0) & (x != -float("inf")) & (whole == 0), float("nan"), size)
    negative = (x.to(tl.int64, bitcast=True) < 0) & odd
    return tl.where(negative, size * -1.0, size)
""",
    "floordiv_signed": """
def floordiv_signed(a, b):
    d = tl.where(b == 0, 1, b)
    q = a // d
    r = a - q * d
    q = tl.where((r != 0) & ((r < 0) != (d < 0)), q - 1, q)
    return tl.where(b == 0, 0, q)
""",
    "mod_signed": """
def mod_signed(a, b):
    d = tl.where(b == 0, 1, b)
    r = a - (a // d) * d
    r = tl.where((r != 0) & ((r < 0) != (d < 0)), r + d, r)
    return tl.where(b == 0, 0, r)
""",
    "floordiv_unsigned": """
def floordiv_unsigned(a, b):
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b))
""",
    "mod_unsigned": """
def mod_unsigned(a, b):
    return tl.where(b == 0, 0, a % tl.where(b == 0, 1, b))
""",
    "pow_unsigned": """
def pow_unsigned(x, y, BITS: tl.constexpr):
    r = x * 0 + y * 0 + 1
    for _ in range(BITS):
        r = tl.where((y & 1) == 1, r * x, r)
        x = x * x
        y = y >> 1
    return r
""",
    "pow_signed": """
def pow_signed(x, y, BITS: tl.constexpr):
    r = pow_unsigned(x, y, BITS - 1)
    sign = tl.where((y & 1) == 1, x, 1)
    below = tl.where(x == 1, 1, tl.where(x == -1, sign, 0))
    return tl.where(y < 0, below, r)
""",
    "shift_left": """
def shift_left(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return tl.where(inside, a << tl.where(inside, b, 0), 0)
""",
    "shift_right_signed": """
def shift_right_signed(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return a >> tl.where(inside, b, BITS - 1)
""",
    "shift_right_unsigned": """
def shift_right_unsigned(a, b, BITS: tl.constexpr):
    inside = b < BITS
    return tl.where(inside, a >> tl.where(inside, b, 0), 0)
""",
    "philox": """
def philox(index, offset, key, WORD: tl.constexpr):
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
    "larger": """
def larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "smaller": """
def smaller(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "multiply": """
def multiply(a, b):
    return a * b
""",
    "reduce_prod": """
def reduce_prod(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, multiply)
""",
}

_GPU: dict[str, str] = {
    "from_bf16": """
def from_bf16(x):
    return x.to(tl.float32)
""",
    "to_bf16": """
def to_bf16(x):
    return x.to(tl.bfloat16)
""",
    "fmod": """
def fmod(a, b):
    return libdevice.fmod(a, b)
""",
    "reduce_max": """
def reduce_max(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, larger)
""",
    "reduce_min": """
def reduce_min(x, AXIS: tl.constexpr):
    return tl.reduce(x, AXIS, smaller)
""",
}

_INTERPRET: dict[str, str] = {
    "from_bf16": """
def from_bf16(x):
    bits = x.to(tl.uint16, bitcast=True).to(tl.uint32)
    return (bits << 16).to(tl.float32, bitcast=True)
""",
    "to_bf16": """
def to_bf16(x):
    bits = x.to(tl.uint32, bitcast=True)
    even = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    bits = tl.where(x == x, even, (bits >> 16) | 0x40)
    return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
""",
    "fmod": """
def fmod(a, b):
    return a % b
""",
    "reduce_max": """
def reduce_max(x, AXIS: tl.constexpr):
    has_nan = tl.max((x != x).to(tl.int32), AXIS) != 0
    return tl.where(has_nan, float("nan"), tl.max(x, AXIS))
""",
    "reduce_min": """
def reduce_min(x, AXIS: tl.constexpr):
    has_nan = tl.max((x != x).to(tl.int32), AXIS) != 0
    return tl.where(has_nan, float("nan"), tl.min(x, AXIS))
""",
}

_CALL = re.compile(r"\b([a-z_0-9]+)\b(?=\()|\b(multiply|larger|smaller)\b")


def functions(dialect: str) -> dict[str, str]:
    """Source of each function by name, without its decorator."""
    return _BOTH | (_INTERPRET if dialect == INTERPRET else _GPU)


def print_prelude(body: str, dialect: str) -> str:
    """Definitions of the functions that `body` calls, callees first; "" if there are none."""
    table = functions(dialect)
    ordered: list[str] = []

    def visit(text: str, own: str) -> None:
        for found in _CALL.findall(text):
            name = found[0] or found[1]
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
