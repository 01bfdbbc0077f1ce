"""What a region knows before it runs: values at fixed indices are constants.

In: an op, its operands as values of a region. Out: a Const, the number of the operand that it is
equal to, or None. Invariant: the same element in every bit, but for the sign of a zero (x + 0), as
the rules of graph/rules_elementwise.py, which see no indices.

Slices of a concatenation have fixed indices: `where(index 3 < 4, a, b)` is a. So equal steps of a
loop that Python unrolled are equal regions, whose source is generated and compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tgrad.dtype import DType
from tgrad.fusion.region import Const, Value
from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.graph.rules_elementwise import FOLDED, constant_result


def fold(
    op: Op, args: tuple[int, ...], values: Sequence[Value], dtype: DType
) -> Const | int | None:
    """What an elementwise op on earlier values is without computing it; None if it is not known."""
    operands = [values[a] for a in args]
    constants = [v for v in operands if isinstance(v, Const)]
    if not constants or op not in FOLDED:
        return None
    if len(constants) == len(operands):
        return Const(constant_result(op, [(c.value, c.dtype) for c in constants], dtype), dtype)
    if op in (Op.ADD, Op.SUB) and isinstance(operands[1], Const) and operands[1].value == 0:
        return args[0]
    if op is Op.ADD and isinstance(operands[0], Const) and operands[0].value == 0:
        return args[1]
    return None


def next_operand(node: Node, at: int, value_of: Callable[[Node], Value]) -> Node | None:
    """The operand of an elementwise node that is computed after `at` others, None after the last:
    of a choice whose condition is known, only what is chosen.

    Args:
        value_of: of an operand that was computed.
    """
    if at == 0 or node.op is not Op.WHERE:
        return node.inputs[at] if at < len(node.inputs) else None
    test = value_of(node.inputs[0])
    if isinstance(test, Const):
        return node.inputs[1 if test.value else 2] if at == 1 else None
    return node.inputs[at] if at < 3 else None
