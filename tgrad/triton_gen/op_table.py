"""How each elementwise op is written in Triton.

In: an op, its operands as text, their dtype. Out: an expression and the names of the functions
(prelude.py) that it calls. Invariant: every op of graph.op.ELEMENTWISE has a spelling for each
dtype kind of its domain, with PyTorch's meaning: NaN passes through maximum and minimum, floor
division rounds down, integer division by zero gives 0, rounding is half to even. float16 and
bfloat16 compute in float32 and round after each op. A tile of 8-bit floats holds their bits as
uint8, so that it exists on every target; prelude.py converts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.graph.op import Op
from tgrad.triton_gen.emit_index import closes_at_end

TRITON_TYPES: dict[str, str] = {
    "bool": "tl.int1",
    "float8_e4m3fn": "tl.uint8",
    "float8_e5m2": "tl.uint8",
    "float16": "tl.float16",
    "bfloat16": "tl.bfloat16",
    "float32": "tl.float32",
    "float64": "tl.float64",
    **{f"{sign}int{bits}": f"tl.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Triton's name of the type that a tile of each dtype has in registers."""

POINTER_TYPES: dict[str, str] = {
    "bool": "*u8",
    "float8_e4m3fn": "*u8",
    "float8_e5m2": "*u8",
    "float16": "*fp16",
    "bfloat16": "*bf16",
    "float32": "*fp32",
    "float64": "*fp64",
    **{f"int{bits}": f"*i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"*u{bits}" for bits in (8, 16, 32, 64)},
}
"""Signature entry of a pointer to each dtype; bool is a byte in memory."""

FLOAT: dict[Op, str] = {
    Op.NEG: "{0} * -1.0",
    Op.ABS: "tl.abs({0})",
    Op.EXP: "_exp_{t}({0})",
    Op.LOG: "tl.log({0})",
    Op.SIN: "tl.sin({0})",
    Op.COS: "tl.cos({0})",
    Op.TANH: "_tanh_{t}({0})",
    Op.ERF: "tl.erf({0})",
    Op.SIGMOID: "_sigmoid_{t}({0})",
    Op.SQRT: "tl.sqrt_rn({0})",
    Op.RSQRT: "tl.rsqrt({0})",
    Op.FLOOR: "tl.floor({0})",
    Op.ROUND: "_round_even({0})",
    Op.TRUNC: "tl.where({0} < 0, tl.ceil({0}), tl.floor({0}))",
    Op.ADD: "{0} + {1}",
    Op.SUB: "{0} - {1}",
    Op.MUL: "{0} * {1}",
    Op.DIV: "tl.div_rn({0}, {1})",
    Op.FLOORDIV: "_floordiv_float({0}, {1})",
    Op.MOD: "_mod_float({0}, {1})",
    Op.POW: "_pow_{t}({0}, {1})",
    Op.MAXIMUM: "_larger({0}, {1})",
    Op.MINIMUM: "_smaller({0}, {1})",
    Op.LT: "{0} < {1}",
    Op.LE: "{0} <= {1}",
    Op.EQ: "{0} == {1}",
    Op.NE: "{0} != {1}",
    Op.WHERE: "tl.where({0}, {1}, {2})",
}
"""Spellings for float32 and float64; {t} is the dtype's short name."""

SHORT: dict[Op, str] = {
    Op.EXP: "_exp_short({0})",
    Op.TANH: "_tanh_short({0})",
    Op.ERF: "_erf_short({0})",
    Op.SIGMOID: "_sigmoid_short({0})",
    Op.DIV: "{0} / {1}",
    Op.SQRT: "tl.sqrt({0})",
}
"""Where float32 results are rounded to 16 bits afterwards; see rounded.py."""

FLOAT64: dict[Op, str] = {
    Op.EXP: "tl.exp({0})",
    Op.DIV: "{0} / {1}",
    Op.SQRT: "tl.sqrt({0})",
}
"""Where float64 differs: its plain division and root are correctly rounded, its exp accurate."""

SIGNED: dict[Op, str] = {
    Op.NEG: "-{0}",
    Op.ABS: "tl.abs({0})",
    Op.NOT: "~{0}",
    Op.ADD: "{0} + {1}",
    Op.SUB: "{0} - {1}",
    Op.MUL: "{0} * {1}",
    Op.FLOORDIV: "_floordiv_signed({0}, {1})",
    Op.MOD: "_mod_signed({0}, {1})",
    Op.POW: "_pow_signed({0}, {1}, {bits})",
    Op.MAXIMUM: "tl.maximum({0}, {1})",
    Op.MINIMUM: "tl.minimum({0}, {1})",
    Op.AND: "{0} & {1}",
    Op.OR: "{0} | {1}",
    Op.XOR: "{0} ^ {1}",
    Op.SHL: "_shift_left({0}, {1}, {bits})",
    Op.SHR: "_shift_right_signed({0}, {1}, {bits})",
    Op.LT: "{0} < {1}",
    Op.LE: "{0} <= {1}",
    Op.EQ: "{0} == {1}",
    Op.NE: "{0} != {1}",
    Op.WHERE: "tl.where({0}, {1}, {2})",
    Op.PHILOX: "_philox({0}, {1}, {2}, {word})",
}

UNSIGNED: dict[Op, str] = {
    **SIGNED,
    Op.NEG: "0 - {0}",
    Op.NOT: "{0} ^ {max}",
    Op.ABS: "{0}",
    Op.FLOORDIV: "_floordiv_unsigned({0}, {1})",
    Op.MOD: "_mod_unsigned({0}, {1})",
    Op.POW: "_pow_unsigned({0}, {1}, {bits})",
    Op.SHR: "_shift_right_unsigned({0}, {1}, {bits})",
}

BOOL: dict[Op, str] = {
    Op.NOT: "~{0}",
    Op.MAXIMUM: "{0} | {1}",
    Op.MINIMUM: "{0} & {1}",
    Op.AND: "{0} & {1}",
    Op.OR: "{0} | {1}",
    Op.XOR: "{0} ^ {1}",
    Op.LT: "~{0} & {1}",
    Op.LE: "~{0} | {1}",
    Op.EQ: "~({0} ^ {1})",
    Op.NE: "{0} ^ {1}",
    Op.WHERE: "tl.where({0}, {1}, {2})",
}

INFIX = frozenset(
    {Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.AND, Op.OR, Op.XOR, Op.LT, Op.LE, Op.EQ, Op.NE, Op.WHERE}
)
"""Ops that take a Python number as one operand and give it the other's type."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Text of a tile where it is used.

    Attributes:
        text: a name, an indexing of one, or the literal.
        dtype: of the tile.
        literal: the number, if the operand is a constant.
    """

    text: str
    dtype: DType
    literal: bool | int | float | None = None


def templates(dtype: DType) -> dict[Op, str]:
    """Spellings for operands of a dtype (float32's for the narrow floats)."""
    if dtype is dt.float64:
        return FLOAT | FLOAT64
    return {"f": FLOAT, "i": SIGNED, "u": UNSIGNED, "b": BOOL}[dtype.kind]


def literal(value: bool | int | float, dtype: DType) -> str:
    """A number as Python text, rounded to a narrow float's dtype first."""
    if dtype.is_bool:
        return str(bool(value))
    if not dtype.is_float:
        return str(int(value))
    number = float(value)
    if number != number:
        return 'float("nan")'
    if number in (float("inf"), float("-inf")):
        return 'float("inf")' if number > 0 else '-float("inf")'
    if dtype.is_narrow:
        number = dtype.rounded(number)
        if number in (float("inf"), float("-inf")):
            return literal(number, dt.float32)
    return repr(number)


def typed(operand: Operand) -> str:
    """The operand with a type of its own, which a bare literal does not have."""
    if operand.literal is None:
        return operand.text
    if operand.dtype.is_narrow:
        return constant("[]", operand.literal, operand.dtype)
    text = literal(operand.literal, operand.dtype)
    return f"tl.full([], {text}, {TRITON_TYPES[operand.dtype.name]})"


def constant(shape: str, value: bool | int | float, dtype: DType) -> str:
    """A tile of a narrow float with one number in every lane. Of 8-bit floats its bits: where two
    pairs of numbers to convert are equal, ptxas 12.8 leaves the second pair zero."""
    if dtype.is_float8:
        bits = dt.saturated(np.array(value, np.float32), dtype).astype(dtype.numpy).view(np.uint8)
        return f"tl.full({shape}, {int(bits)}, tl.uint8)"
    return narrow(f"tl.full({shape}, {literal(value, dtype)}, tl.float32)", dtype)


def widen(text: str, dtype: DType) -> str:
    """An expression of a narrow float in float32; others as they are."""
    if dtype is dt.float16:
        return f"{_atom(text)}.to(tl.float32)"
    return f"_from_{dtype.short}({text})" if dtype.is_narrow else text


def narrow(text: str, dtype: DType) -> str:
    """A float32 expression rounded to a narrow float; others as they are."""
    if dtype is dt.float16:
        return f"{_atom(text)}.to(tl.float16)"
    return f"_to_{dtype.short}({text})" if dtype.is_narrow else text


def spell_cast(text: str, source: DType, target: DType) -> str:
    """A conversion with PyTorch's meaning: to bool is != 0, to small integers wraps."""
    if source is target:
        return text
    if target.is_narrow:
        wide = spell_cast(text, source, dt.float32)
        return narrow(wide, target)
    if source.is_narrow:
        return spell_cast(widen(text, source), dt.float32, target)
    if target.is_bool:
        return f"({_atom(text)} != 0)"
    if source.is_float and target.is_int:
        own = target in (dt.int32, dt.int64, dt.uint64)
        whole = f"_whole_{target.short if own else 'i64'}({text})"
        return whole if own else f"{whole}.to({TRITON_TYPES[target.name]})"
    return f"{_atom(text)}.to({TRITON_TYPES[target.name]})"


def spell_bitcast(text: str, source: DType, target: DType) -> str:
    """The same bits as another type of the same size."""
    if source.is_bool:
        return spell_bitcast(f"{_atom(text)}.to(tl.uint8)", dt.uint8, target)
    if target.is_bool:
        return f"({spell_bitcast(text, source, dt.uint8)} != 0)"
    if source is target:
        return text
    return f"{_atom(text)}.to({TRITON_TYPES[target.name]}, bitcast=True)"


def spell(
    op: Op, args: Sequence[Operand], out: DType, word: int = 0, is_short: bool = False
) -> str:
    """The Triton expression for `op(args)`, of dtype `out`.

    Args:
        is_short: whether the short form of a float32 function is exact enough.

    >>> from tgrad import dtype as dt
    >>> x = Operand("x", dt.float32)
    >>> spell(Op.MUL, [x, Operand("", dt.float32, 0.5)], dt.float32)
    'x * 0.5'
    """
    if op is Op.CAST:
        return spell_cast(typed(args[0]), args[0].dtype, out)
    if op is Op.BITCAST:
        return spell_bitcast(typed(args[0]), args[0].dtype, out)
    dtype = args[-1].dtype
    template = templates(dtype)[op]
    if is_short and op in SHORT and (dtype is dt.float32 or dtype.is_narrow):
        template = SHORT[op]
    in_place = op is Op.WHERE and (dtype.is_float8 or all(a.literal is None for a in args[1:]))
    compute = dt.float32 if dtype.is_narrow and not in_place else dtype
    texts = _operands(op, args, compute)
    result = template.format(
        *texts, t=compute.short, bits=compute.itemsize * 8, word=word, max=_largest(compute)
    )
    if out.is_narrow and not in_place:
        return narrow(result, out)
    if out.itemsize < 4 and out.is_int and op in (Op.MAXIMUM, Op.MINIMUM):
        return f"{_atom(result)}.to({TRITON_TYPES[out.name]})"
    return result


def _operands(op: Op, args: Sequence[Operand], compute: DType) -> list[str]:
    """Operands in the compute dtype; literals bare where the other operand types them."""
    data = args[1:] if op is Op.WHERE else args
    bare = op in INFIX or (op in (Op.MAXIMUM, Op.MINIMUM) and compute in (dt.float32, dt.int32))
    bare = bare and not compute.is_bool and not compute.is_float8
    bare = bare and any(a.literal is None for a in data)
    texts = [typed(args[0])] if op is Op.WHERE else []
    for a in data:
        if a.literal is None:
            texts.append(widen(a.text, a.dtype) if a.dtype is not compute else a.text)
        elif bare:
            texts.append(_signed(literal(a.literal, a.dtype)))
        else:
            number = a.dtype.rounded(a.literal) if a.dtype.is_narrow else a.literal
            texts.append(typed(Operand("", compute, number)))
    return texts


def _signed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _atom(text: str) -> str:
    """Text that a method call or an operator may follow."""
    if text.replace("_", "").isalnum():
        return text
    if text[0] == "(" and closes_at_end(text):
        return text
    depth = 0
    for ch in text:
        depth += ch in "(["
        depth -= ch in ")]"
        if depth == 0 and ch in " -~":
            return f"({text})"
    return text


def _largest(dtype: DType) -> int:
    """All bits set."""
    return (1 << 8 * dtype.itemsize) - 1
