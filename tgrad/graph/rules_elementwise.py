"""Canonical rules for elementwise ops.

In: an elementwise node. Out: an equal node that is cheaper or in one form. Invariant: floats stay
exact, NaN and infinities included; only the sign of a zero may change (x + 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp

import numpy as np

from tgrad.dtype import DType
from tgrad.graph import build as b
from tgrad.graph.deferred import Deferred
from tgrad.graph.interpret import elementwise
from tgrad.graph.node import Node, make
from tgrad.graph.op import ELEMENTWISE, Op
from tgrad.graph.rewrite import rule

_SIGNIFICANT_BITS = {
    "float8_e5m2": 3, "float8_e4m3fn": 4, "bfloat16": 8, "float16": 11, "float32": 24,
    "float64": 53,
}  # fmt: skip
_SMALLEST_EXPONENT = {
    "float8_e5m2": -13, "float8_e4m3fn": -5, "bfloat16": -125, "float16": -13, "float32": -125,
    "float64": -1021,
}  # fmt: skip
_COMMUTATIVE = (
    Op.ADD, Op.MUL, Op.MAXIMUM, Op.MINIMUM, Op.EQ, Op.NE, Op.AND, Op.OR, Op.XOR,
)  # fmt: skip
_EXPAND, _CONST = Op.EXPAND, Op.CONST
"""Looked up once: every step of a program asks for the constants of thousands of nodes."""
FOLDED = tuple(op for op in Op if op in ELEMENTWISE - {Op.PHILOX, Op.BITCAST})


def constant_of(x: Node) -> Node | None:
    """The const node that `x` is, or is expanded from; what is deferred is none."""
    if type(x) is Deferred:
        return None
    if x.op is _EXPAND:
        x = x.inputs[0]
    return x if x.op is _CONST else None


def is_constant(x: Node, value: float) -> bool:
    """Whether every element of `x` is known to be `value`."""
    const = constant_of(x)
    return const is not None and const.attr("value") == value


def constant_result(
    op: Op, constants: Sequence[tuple[bool | int | float, DType]], dtype: DType
) -> bool | int | float:
    """What an elementwise op gives for constants of these dtypes, as a Python number."""
    arrays = [elementwise(Op.CAST, [np.array(value)], own) for value, own in constants]
    value = elementwise(op, arrays, dtype).reshape(())
    return float(value) if dtype.is_float else value.item()


@rule("op(constants) = the constant it gives in its dtype", *FOLDED)
def fold_constants(node: Node) -> Node | None:
    constants = [constant_of(x) for x in node.inputs]
    if not all(constants):
        return None
    numbers = [(c.attr("value"), c.dtype) for c in constants if c]
    return b.const(constant_result(node.op, numbers, node.dtype), node.dtype, node.shape)


@rule("1 = 1.0, in a dtype of floats", Op.CONST)
def float_constant(node: Node) -> Node | None:
    value = node.attr("value")
    return b.const(value, node.dtype) if node.dtype.is_float and type(value) is not float else None


@rule("c = c modulo 2^bits, in a dtype of integers", Op.CONST)
def integer_constant(node: Node) -> Node | None:
    value, dtype = node.attr("value"), node.dtype
    if not dtype.is_int or dtype.min <= value <= dtype.max:
        return None
    least = int(dtype.min)
    return b.const((int(value) - least) % (1 << 8 * dtype.itemsize) + least, dtype)


@rule("c + x = x + c, and so for every commutative op", *_COMMUTATIVE)
def constant_second(node: Node) -> Node | None:
    left, right = node.inputs
    return make(node.op, right, left) if constant_of(left) and not constant_of(right) else None


@rule("x + 0 = x, x - 0 = x", Op.ADD, Op.SUB)
def add_zero(node: Node) -> Node | None:
    return node.inputs[0] if is_constant(node.inputs[1], 0) else None


@rule("x * 1 = x, x / 1 = x", Op.MUL, Op.DIV)
def multiply_one(node: Node) -> Node | None:
    return node.inputs[0] if is_constant(node.inputs[1], 1) else None


@rule("x * 0 = 0, for integers (a float may be NaN or infinite)", Op.MUL)
def multiply_zero(node: Node) -> Node | None:
    zero = node.inputs[1]
    return zero if node.dtype.is_int and is_constant(zero, 0) else None


@rule("(x + c) + d = x + (c + d), (x * c) * d = x * (c * d), for integers", Op.ADD, Op.MUL)
def join_constants(node: Node) -> Node | None:
    inner, outer = node.inputs
    if not node.dtype.is_int or inner.op is not node.op or not constant_of(outer):
        return None
    if not constant_of(inner.inputs[1]):
        return None
    return make(node.op, inner.inputs[0], make(node.op, inner.inputs[1], outer))


@rule("x / c = x * (1 / c), for c a power of two", Op.DIV)
def divide_by_power_of_two(node: Node) -> Node | None:
    x, const = node.inputs[0], constant_of(node.inputs[1])
    if const is None or not _has_exact_reciprocal(const.attr("value"), node.dtype):
        return None
    return b.mul(x, b.const_like(x, 1 / const.attr("value")))


def _has_exact_reciprocal(value: float, dtype: DType) -> bool:
    """Whether both the number and its reciprocal are powers of two and normal in the dtype."""
    mantissa, exponent = frexp(value)
    smallest = _SMALLEST_EXPONENT[dtype.name]
    return abs(mantissa) == 0.5 and smallest <= exponent <= 2 - smallest


@rule("-(-x) = x, not (not x) = x", Op.NEG, Op.NOT)
def undo_twice(node: Node) -> Node | None:
    (x,) = node.inputs
    return x.inputs[0] if x.op is node.op else None


@rule("x + (-y) = x - y, x - (-y) = x + y", Op.ADD, Op.SUB)
def add_negative(node: Node) -> Node | None:
    x, y = node.inputs
    if y.op is not Op.NEG:
        return None
    return make(Op.SUB if node.op is Op.ADD else Op.ADD, x, y.inputs[0])


@rule("(-x) * (-y) = x * y, (-x) / (-y) = x / y", Op.MUL, Op.DIV)
def multiply_negatives(node: Node) -> Node | None:
    x, y = node.inputs
    if x.op is not Op.NEG or y.op is not Op.NEG:
        return None
    return make(node.op, x.inputs[0], y.inputs[0])


@rule("x ^ 0 = 1, x ^ 1 = x, x ^ 2 = x * x, x ^ 3 = x * x * x", Op.POW)
def small_power(node: Node) -> Node | None:
    x, exponent = node.inputs
    for n in (0, 1, 2, 3):
        if is_constant(exponent, n):
            product = (b.const_like(x, 1), x, b.mul(x, x))
            return product[n] if n < 3 else b.mul(product[2], x)
    return None


@rule("max(x, x) = x, and so for min, and, or", Op.MAXIMUM, Op.MINIMUM, Op.AND, Op.OR)
def idempotent(node: Node) -> Node | None:
    return node.inputs[0] if node.inputs[0] is node.inputs[1] else None


@rule("x and True = x, x and False = False, x or False = x, x or True = True", Op.AND, Op.OR)
def known_logic(node: Node) -> Node | None:
    x, const = node.inputs[0], constant_of(node.inputs[1])
    if const is None or not node.dtype.is_bool:
        return None
    return x if const.attr("value") == (node.op is Op.AND) else node.inputs[1]


@rule("where(True, x, y) = x, where(False, x, y) = y", Op.WHERE)
def known_condition(node: Node) -> Node | None:
    condition, x, y = node.inputs
    const = constant_of(condition)
    return None if const is None else x if const.attr("value") else y


@rule("where(c, x, x) = x", Op.WHERE)
def same_branches(node: Node) -> Node | None:
    return node.inputs[1] if node.inputs[1] is node.inputs[2] else None


@rule("where(not c, x, y) = where(c, y, x)", Op.WHERE)
def negated_condition(node: Node) -> Node | None:
    condition, x, y = node.inputs
    return b.where(condition.inputs[0], y, x) if condition.op is Op.NOT else None


@rule("cast(x) = x, to its own dtype", Op.CAST, Op.BITCAST)
def same_dtype(node: Node) -> Node | None:
    return node.inputs[0] if node.inputs[0].dtype is node.dtype else None


@rule("cast(cast(x, t), u) = cast(x, u), where t holds every value of x's dtype", Op.CAST)
def cast_chain(node: Node) -> Node | None:
    (middle,) = node.inputs
    if middle.op is not Op.CAST or not is_lossless(middle.inputs[0].dtype, middle.dtype):
        return None
    return b.cast_to(middle.inputs[0], node.dtype)


def is_lossless(have: DType, want: DType) -> bool:
    """Whether every value of one dtype is a value of the other.

    >>> from tgrad.dtype import bfloat16, float16, int16, uint8
    >>> is_lossless(uint8, bfloat16), is_lossless(int16, float16)
    (True, False)
    """
    if have is want or have.is_bool:
        return True
    if have.is_float:
        return want.is_float and have.itemsize < want.itemsize
    if want.is_int:
        return want.min <= have.min and have.max <= want.max
    bits = have.itemsize * 8 - (have.kind == "i")
    return want.is_float and bits <= _SIGNIFICANT_BITS[want.name]


ELEMENTWISE_RULES = (
    fold_constants, float_constant, integer_constant, constant_second, add_zero, multiply_one,
    multiply_zero, join_constants, divide_by_power_of_two, undo_twice, add_negative,
    multiply_negatives, small_power, idempotent, known_logic, known_condition, same_branches,
    negated_condition, same_dtype, cast_chain,
)  # fmt: skip
