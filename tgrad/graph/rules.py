"""The canonical form of a graph, as a table of equations.

In: nothing. Out: `CANONICAL`, rules for graph/rewrite.py, and `COMPILED`, which also has those that
generated kernels gain from, and that look at no index. Invariant: each rule is an equation that
holds for every input in the dtype's arithmetic; each is pinned in tests/graph/test_rules.py as text
before and after, and checked there by the interpreter.
"""

from __future__ import annotations

from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.graph.rewrite import Rule, rule
from tgrad.graph.rules_elementwise import ELEMENTWISE_RULES
from tgrad.graph.rules_empty import EMPTY_RULES
from tgrad.graph.rules_movement import MOVEMENT_RULES
from tgrad.graph.rules_reduce import REDUCE_RULES, scatter_of_one
from tgrad.graph.rules_rows import ROW_RULES


@rule("custom_vjp(x, ...) = x", Op.CUSTOM_VJP, drops_inputs=True)
def strip_custom_vjp(node: Node) -> Node | None:
    return node.inputs[0]


CANONICAL: tuple[Rule, ...] = (
    strip_custom_vjp,
    *EMPTY_RULES,
    *ELEMENTWISE_RULES,
    *MOVEMENT_RULES,
    *REDUCE_RULES,
    *ROW_RULES,
)

COMPILED = (*CANONICAL, scatter_of_one)
