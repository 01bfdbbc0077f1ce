"""C spellings of the elementwise ops, of dtypes and of numbers.

In: an op, dtypes and the C text of arguments. Out: the C text of the result. Invariant: every
elementwise op of graph/op.py has a row; nothing spelled here is undefined behaviour for any input.

Floats of 16 and 8 bits live in memory as integers and in registers as a float that the dtype holds:
each op computes in float and rounds, as PyTorch's CPU kernels do. bool is `_Bool` in registers and
a byte in memory. Signed integers wrap. Source of casts and of floor division: c10/util of PyTorch.

Placeholders: {0} {1} {2} arguments, {T} result type, {U} its unsigned type, {W} an unsigned type of
at least 32 bits, {f} "f" for float, {t} short name (f32, f64, i32, i64), {bits} width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.graph.op import SCAN_COMBINE, Op, identity_of


@dataclass(frozen=True, slots=True)
class Spelling:
    """C text of an op by kind of its (first value) argument; None where the op does not take it."""

    f: str | None = None
    i: str | None = None
    u: str | None = None
    b: str | None = None


def _all(text: str) -> Spelling:
    return Spelling(text, text, text, text)


def _ints(text: str, b: str | None = None, u: str | None = None) -> Spelling:
    return Spelling(None, text, u or text, b)


def _wrapping(sign: str) -> Spelling:
    text = f"({{T}})(({{W}}){{0}} {sign} ({{W}}){{1}})"
    return Spelling(f"({{0}} {sign} {{1}})", text, text, text)


def _select(name: str, sign: str, logic: str) -> Spelling:
    text = f"({{0}} {sign} {{1}} ? {{0}} : {{1}})"
    return Spelling(f"tg_{name}_{{t}}({{0}}, {{1}})", text, text, f"({{0}} {logic} {{1}})")


SPELLINGS: dict[Op, Spelling] = {
    Op.NEG: Spelling("(-{0})", "({T})(0 - ({W}){0})", "({T})(0 - ({W}){0})"),
    Op.ABS: Spelling(
        "__builtin_fabs{f}({0})", "({0} < 0 ? ({T})(0 - ({W}){0}) : {0})", "{0}", "{0}"
    ),
    Op.EXP: Spelling("{exp}({0})"),
    Op.LOG: Spelling("{log}({0})"),
    Op.SIN: Spelling("{sin}({0})"),
    Op.COS: Spelling("{cos}({0})"),
    Op.TANH: Spelling("{tanh}({0})"),
    Op.ERF: Spelling("{erf}({0})"),
    Op.SIGMOID: Spelling("tg_sigmoid_{t}({0})"),
    Op.SQRT: Spelling("__builtin_sqrt{f}({0})"),
    Op.RSQRT: Spelling("(1 / __builtin_sqrt{f}({0}))"),
    Op.FLOOR: Spelling("__builtin_floor{f}({0})"),
    Op.ROUND: Spelling("__builtin_rint{f}({0})"),
    Op.TRUNC: Spelling("__builtin_trunc{f}({0})"),
    Op.NOT: _ints("({T})~{0}", b="(!{0})"),
    Op.ADD: _wrapping("+"),
    Op.SUB: _wrapping("-"),
    Op.MUL: _wrapping("*"),
    Op.DIV: Spelling("({0} / {1})"),
    Op.FLOORDIV: Spelling(
        "tg_floordiv_{t}({0}, {1})", "({T})tg_floordiv_{t}({0}, {1})", "({1} ? {0} / {1} : 0)"
    ),
    Op.MOD: Spelling("tg_mod_{t}({0}, {1})", "({T})tg_mod_{t}({0}, {1})", "({1} ? {0} % {1} : 0)"),
    Op.POW: Spelling(
        "{pow}({0}, {1})",
        "({T})tg_pow_int((int64_t){0}, (int64_t){1})",
        "({T})tg_pow_int((int64_t){0}, (int64_t){1})",
    ),
    Op.MAXIMUM: _select("max", ">", "|"),
    Op.MINIMUM: _select("min", "<", "&"),
    Op.AND: _ints("({T})({0} & {1})", b="({0} & {1})"),
    Op.OR: _ints("({T})({0} | {1})", b="({0} | {1})"),
    Op.XOR: _ints("({T})({0} ^ {1})", b="({0} ^ {1})"),
    Op.SHL: _ints("(({U}){1} < {bits} ? ({T})(({W}){0} << {1}) : ({T})0)"),
    Op.SHR: _ints(
        "({T})({0} >> (({U}){1} < {bits} ? {1} : {bits} - 1))",
        u="({1} < {bits} ? ({T})({0} >> {1}) : ({T})0)",
    ),
    Op.LT: _all("({0} < {1})"),
    Op.LE: _all("({0} <= {1})"),
    Op.EQ: _all("({0} == {1})"),
    Op.NE: _all("({0} != {1})"),
    Op.WHERE: _all("({0} ? {1} : {2})"),
    Op.CAST: _all("{cast}"),
    Op.BITCAST: _all("{bitcast}"),
    Op.PHILOX: Spelling(None, "tg_philox({0}, {1}, {2}, {word})"),
}
"""A row for each op of graph.op.ELEMENTWISE; {cast} and {bitcast} stand for functions below."""

FUNCTIONS = ("exp", "log", "tanh", "erf", "sin", "cos", "pow")
"""Spelled tg_NAME for float32 (float_functions.py) and as the C library's for float64."""
OF_DOUBLES = ("exp", "log", "tanh", "erf", "pow")
"""Those that are tg_NAME_f64 (double_functions.py) instead."""

EXACT = frozenset(
    {Op.NEG, Op.ABS, Op.FLOOR, Op.ROUND, Op.TRUNC, Op.MAXIMUM, Op.MINIMUM, Op.WHERE, Op.BITCAST}
)
"""Ops whose float result needs no rounding when the arguments had none."""

_INT = {"b": "_Bool", "u": "uint{}_t", "i": "int{}_t"}


def register_type(dtype: DType) -> str:
    """C type of a value in a variable."""
    if dtype.is_float:
        return "double" if dtype is dt.float64 else "float"
    return _INT[dtype.kind].format(dtype.itemsize * 8)


def memory_type(dtype: DType) -> str:
    """C type of an element of a buffer."""
    if dtype.is_bool:
        return "uint8_t"
    if dtype.is_narrow:
        return f"uint{8 * dtype.itemsize}_t"
    return register_type(dtype)


def array_type(dtype: DType) -> str:
    """C type of an element of a tile kept in a local array."""
    return "uint8_t" if dtype.is_bool else register_type(dtype)


def array_itemsize(dtype: DType) -> int:
    """Bytes of an element of such an array, which may be wider than one in memory."""
    return 4 if dtype.is_float and dtype.itemsize < 4 else dtype.itemsize


def from_memory(dtype: DType, text: str) -> str:
    """A buffer's element as a register value."""
    if dtype.is_narrow:
        return f"tg_load_{dtype.short}({text})"
    return f"({text} != 0)" if dtype.is_bool else text


def to_memory(dtype: DType, text: str) -> str:
    """A register value as a buffer's element."""
    return f"tg_store_{dtype.short}({text})" if dtype.is_narrow else text


def number(value: bool | int | float, dtype: DType) -> str:
    """C literal of a Python number in a dtype."""
    if dtype.is_bool:
        return "1" if value else "0"
    if dtype.is_float:
        suffix = "" if dtype is dt.float64 else "f"
        rounded = dtype.rounded(value)
        if math.isnan(rounded):
            return f'__builtin_nan{suffix}("")'
        if math.isinf(rounded):
            return f"(-__builtin_inf{suffix}())" if rounded < 0 else f"__builtin_inf{suffix}()"
        text = repr(rounded) if dtype is dt.float64 else str(np.float32(rounded))
        text = text if any(c in text for c in ".en") else text + ".0"
        return f"({text}{suffix})" if text.startswith("-") else text + suffix
    bits = dtype.itemsize * 8
    whole = int(value) % (1 << bits)
    if dtype.kind == "u":
        return f"{whole}u" if bits <= 32 else f"{whole}ull"
    whole = whole - (1 << bits) if whole >> (bits - 1) else whole
    if whole == -(1 << (bits - 1)):
        return f"INT{bits}_MIN"
    text = str(whole) if bits <= 32 else f"{whole}ll"
    return f"({text})" if whole < 0 else text


def cast(text: str, source: DType, target: DType) -> str:
    """A register value converted as PyTorch's `Tensor.to` does on the CPU.

    float -> integer truncates; what int32 or int64 cannot hold, NaN too, becomes their least value;
    other integers wrap through int64.
    """
    if source is target:
        return text
    if target.is_bool:
        return f"({text} != 0)"
    if target.is_float and source.is_bool:  # a select: gcc makes no vectors of the conversion
        return f"({text} ? {number(1, target)} : {number(0, target)})"
    if target.is_float:
        converted = text
        if register_type(source) != register_type(target):
            converted = f"({register_type(target)}){text}"
        exact = source.is_float and source.itemsize < target.itemsize
        return converted if exact else round_to(converted, target)
    if not source.is_float:
        return f"({register_type(target)}){text}"
    suffix = "f64" if source is dt.float64 else "f32"
    if target is dt.uint64:
        return f"tg_u64_{suffix}({text})"
    if target is dt.int32:
        return f"tg_i32_{suffix}({text})"
    inner = f"tg_i64_{suffix}({text})"
    return inner if target is dt.int64 else f"({register_type(target)}){inner}"


def _bits_of(text: str, dtype: DType) -> str:
    if dtype.is_narrow:
        return f"tg_store_{dtype.short}({text})"
    if dtype is dt.float32:
        return f"tg_bits({text})"
    return f"tg_bits64({text})" if dtype is dt.float64 else text


def bitcast(text: str, source: DType, target: DType) -> str:
    """A register value whose bits are read as another dtype of the same size."""
    bits = _bits_of(text, source)
    if target.is_bool:
        return f"({bits} != 0)"
    if target.is_narrow:
        return f"tg_load_{target.short}(({memory_type(target)}){bits})"
    if target is dt.float32:
        return f"tg_float((uint32_t){bits})"
    if target is dt.float64:
        return f"tg_double((uint64_t){bits})"
    return f"({register_type(target)}){bits}"


def round_to(text: str, dtype: DType) -> str:
    """A float expression rounded to what the dtype can hold."""
    return f"tg_round_{dtype.short}({text})" if dtype.is_narrow else text


def spell(
    op: Op, args: Sequence[str], dtypes: Sequence[DType], result: DType, word: int = 0
) -> str:
    """C text of an elementwise op.

    Args:
        op: an op of `graph.op.ELEMENTWISE`.
        args: C text of the arguments, free of side effects.
        dtypes: dtypes of the arguments.
        result: dtype of the result.
        word: which of the four words of philox.
    """
    kind = dtypes[1] if op is Op.WHERE else dtypes[0]
    template = getattr(SPELLINGS[op], kind.kind)
    assert template is not None, f"{op} does not take {kind}"
    bits = kind.itemsize * 8
    double = kind is dt.float64
    name = {"f": "f64" if double else "f32"}.get(kind.kind, "i64" if bits == 64 else "i32")
    text: str = template.format(
        *args,
        T=register_type(result),
        U=f"uint{bits}_t",
        W="uint64_t" if bits == 64 else "uint32_t",
        f="" if double else "f",
        t=name,
        bits=bits,
        word=word,
        cast=cast(args[0], dtypes[0], result) if op is Op.CAST else "",
        bitcast=bitcast(args[0], dtypes[0], result) if op is Op.BITCAST else "",
        **{f: _function(f, double) for f in FUNCTIONS},
    )
    return text if op in EXACT or op is Op.CAST else round_to(text, result)


def _function(name: str, double: bool) -> str:
    if not double:
        return f"tg_{name}"
    return f"tg_{name}_f64" if name in OF_DOUBLES else f"__builtin_{name}"


def exp2(dtype: DType) -> str:
    """The function that computes powers of two in the register type of a dtype."""
    return "tg_exp2_f64" if dtype is dt.float64 else "tg_exp2"


def combine(op: Op, a: str, b: str, dtype: DType) -> str:
    """C text of an accumulation in the register type (a carry is never rounded in between)."""
    wide = dt.float32 if dtype.is_narrow else dtype
    return spell(op, (a, b), (wide, wide), wide)


def identity(op: Op, dtype: DType) -> str:
    """C literal of the value that leaves the other operand of an accumulation as it is."""
    return number(identity_of(op, dtype), dtype)


def scan_step(op: Op, carry: str, args: Sequence[str], dtype: DType) -> str:
    """C text of a scan's carry after one more element."""
    if op is Op.SCAN_LINEAR:
        return f"{args[0]} * {carry} + {args[1]}"
    return combine(SCAN_COMBINE[op], carry, args[0], dtype)


def scan_carry(op: Op, dtype: DType) -> DType:
    """dtype of a scan's carry: a long float32 sum keeps its digits in float64, as PyTorch's."""
    is_exact = op in (Op.SCAN_MAX, Op.SCAN_MIN)
    return dt.float64 if dtype is dt.float32 and not is_exact else dtype


def reduction_clause(op: Op, dtype: DType) -> str:
    """Name of the OpenMP reduction that joins partial results of `op`."""
    if op is Op.ADD:
        return "+"
    if op is Op.MUL:
        return "*"
    name = "max" if op is Op.MAXIMUM else "min"
    if dtype.is_bool:
        return "|" if op is Op.MAXIMUM else "&"
    if dtype.is_float:
        return f"tg_{name}_{'f64' if dtype is dt.float64 else 'f32'}"
    return name
