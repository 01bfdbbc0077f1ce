"""From the C that both languages share to OpenCL C 1.2.

In: C text of a kernel and of the functions of preamble.py. Out: OpenCL C. Invariant: each function
is written once, in C; what differs is a word of this table or a piece below it.

    static inline uint32_t tg_store(float x) ..    ->  static inline uint tg_store(float x) ..
    __builtin_fabsf(x) < __builtin_inff()          ->  fabs(x) < INFINITY
    9223372036854775807ll                          ->  9223372036854775807L
"""

from __future__ import annotations

import re
from functools import cache

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.preamble import pieces_of
from tgrad.dtype import DTYPES, DType
from tgrad.graph.op import SCATTER_COMBINE

WORDS = {
    **{f"{c}int{bits}_t": f"{c}{name}" for c in ("", "u") for bits, name in
       ((8, "char"), (16, "short"), (32, "int"), (64, "long"))},
    "ptrdiff_t": "long",
    "_Bool": "bool",
    "INT8_MIN": "CHAR_MIN",
    "INT16_MIN": "SHRT_MIN",
    "INT32_MIN": "INT_MIN",
    "INT64_MIN": "LONG_MIN",
    "UINT64_MAX": "ULONG_MAX",
}  # fmt: skip
"""int8_t is char, which has a sign in OpenCL C."""

FUNCTIONS = (
    "fabs", "sqrt", "floor", "rint", "trunc", "exp", "log", "tanh", "erf", "sin", "cos", "pow",
    "fmod", "copysign",
)  # fmt: skip
"""Of gcc's names that end in f for float, which OpenCL C overloads."""

SPELLED = (
    (re.compile(r"#pragma [^\\\n]*(?:\\\n[^\\\n]*)*\n"), ""),
    (re.compile(r"__builtin_inff\(\)"), "INFINITY"),
    (re.compile(r"__builtin_inf\(\)"), "(double)INFINITY"),
    (re.compile(r'__builtin_nanf\(""\)'), "NAN"),
    (re.compile(r'__builtin_nan\(""\)'), "(double)NAN"),
    (re.compile(rf"__builtin_({'|'.join(FUNCTIONS)})f?\("), r"\1("),
    (re.compile(r"\b(\d+)ull\b"), r"\1UL"),
    (re.compile(r"\b(\d+)ll\b"), r"\1L"),
    (re.compile(rf"\b({'|'.join(WORDS)})\b"), lambda found: WORDS[found[1]]),
)

_PIECES = {
    "tg_bits": "#define tg_bits(x) as_uint(x)\n",
    "tg_float": "#define tg_float(u) as_float(u)\n",
    "tg_bits64": "#define tg_bits64(x) as_ulong(x)\n",
    "tg_double": "#define tg_double(u) as_double(u)\n",
    **{f"tg_fma_{t}": f"#define tg_fma_{t}(a, b, c) fma(a, b, c)\n" for t in ("f32", "f64")},
    "tg_pow_f64": "#define tg_pow_f64(a, b) pow(a, b)\n",
    "tg_fmod": "#define tg_fmod(a, b) fmod(a, b)\n",
    **{
        f"tg_product_{short}": f"""\
static inline {ctype} tg_product_{short}({ctype} a, {ctype} b) {{ /* no FMA takes it in */
  return fma(a, b, -({ctype})0);
}}
"""
        for short, ctype in (("f32", "float"), ("f64", "double"))
    },
}
"""What OpenCL C has words of its own for."""

_NAMES = """
kernel global local constant private half bool uchar ushort uint ulong size_t image1d_t image2d_t
image3d_t sampler_t event_t program work read_only write_only read_write pipe vec_step fma
as_uint as_ulong as_float as_double
"""
RESERVED = frozenset((*_NAMES.split(), *FUNCTIONS))
"""Names that no axis or slot may have beside those of C."""

DOUBLE = "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n"
ATOMIC64 = "#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable\n"


def to_opencl(text: str) -> str:
    """C text in the words of OpenCL C.

    >>> to_opencl("const uint8_t t0 = __builtin_fabsf(x) < __builtin_inff();")
    'const uchar t0 = fabs(x) < INFINITY;'
    """
    for pattern, replacement in SPELLED:
        text = pattern.sub(replacement, text)
    return text


def atomic_name(combine: str, dtype: DType) -> str:
    """The function that joins a value with an element of a buffer."""
    return f"tg_atomic_{combine}_{dtype.short}"


@cache
def _atomic_piece(combine: str, dtype: DType) -> str:
    """Compare and swap of the word that holds the element, for floats and for what has less than
    four bytes too. A buffer begins at a word, and nothing else lies in its last one."""
    memory, register = ops.memory_type(dtype), ops.register_type(dtype)
    bits = 8 * dtype.itemsize
    (unsigned,) = (d for d in DTYPES.values() if d.kind == "u" and 8 * d.itemsize == bits)
    word, swap = ("uint64_t", "atom_cmpxchg") if bits == 64 else ("uint32_t", "atomic_cmpxchg")
    made = ops.round_to(ops.combine(SCATTER_COMBINE[combine], "old", "value", dtype), dtype)
    at, part, new = "place", "seen", ops.bitcast("made", dtype, unsigned)
    shift = ""
    if bits < 32:
        lanes = ops.number((1 << bits) - 1, unsigned)
        shift = "\n  const int shift = 8 * (int)((uintptr_t)place & 3);"
        at, part = "((uintptr_t)place & ~(uintptr_t)3)", "(seen >> shift)"
        new = f"(seen & ~({lanes} << shift)) | (uint32_t){new} << shift"
        part = f"({ops.memory_type(unsigned)}){part}"
    head = f"static inline void {atomic_name(combine, dtype)}"
    return f"""\
{head}(__global {memory} *place, {register} value) {{{shift}
  volatile __global {word} *word = (volatile __global {word} *){at};
  for ({word} seen = *word, found;; seen = found) {{
    const {register} old = {ops.bitcast(part, unsigned, dtype)};
    const {register} made = {made};
    found = {swap}(word, seen, {new});
    if (found == seen) return;
  }}
}}
"""


def _find(name: str) -> str | None:
    """The piece that OpenCL C has in place of C's; None for those that it takes from there."""
    found = re.fullmatch(r"tg_atomic_(\w+?)_(\w+)", name)
    if found:
        (dtype,) = (d for d in DTYPES.values() if d.short == found[2])
        return _atomic_piece(found[1], dtype)
    return _PIECES.get(name)


def program_text(kernel: str) -> str:
    """A kernel in OpenCL C with the functions that it uses, dependencies first.

    Args:
        kernel: its text, already in OpenCL C.
    """
    text = to_opencl(pieces_of(kernel, _find)) + kernel
    double = DOUBLE if re.search(r"\bdouble\b", text) else ""
    atomic = ATOMIC64 if "atom_cmpxchg(" in text else ""
    return double + atomic + text
