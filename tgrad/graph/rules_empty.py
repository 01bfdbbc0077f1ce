"""Rules for tensors with no elements: nothing that is computed has size zero.

In: nodes. Out: `EMPTY_RULES`, part of graph/rules.py. Invariant: after them, a node of size zero is
a buffer or an expanded constant, and no reduction or dot runs over an empty axis.
"""

from __future__ import annotations

from tgrad.graph import build
from tgrad.graph.node import Node
from tgrad.graph.op import OPS, Kind, Op
from tgrad.graph.rewrite import Rule, rule

_COMPUTED = tuple(
    op for op, spec in OPS.items() if op is Op.IOTA or spec.kind not in (Kind.LEAF, Kind.MARK)
)


@rule("f(...) = 0, if it has no elements", *_COMPUTED)
def _empty_result(node: Node) -> Node | None:
    if node.size or (node.op is Op.EXPAND and node.inputs[0].op is Op.CONST):
        return None
    return build.const_like(node, False if node.dtype.is_bool else 0)


@rule("reduce(x) = identity, if x has no elements", Op.REDUCE_SUM, Op.REDUCE_PROD)
def _empty_reduction(node: Node) -> Node | None:
    if node.inputs[0].size or not node.size:
        return None
    return build.const_like(node, 0 if node.op is Op.REDUCE_SUM else 1)


@rule("dot(a, b) = 0, if the contracted axis is empty", Op.DOT)
def _empty_dot(node: Node) -> Node | None:
    if not node.size or (node.inputs[0].size and node.inputs[1].size):
        return None
    return build.const_like(node, 0)


@rule("scatter(x, i, v) = x, if i has no elements", Op.SCATTER)
def _empty_scatter(node: Node) -> Node | None:
    return None if node.inputs[1].size else node.inputs[0]


@rule("pad(x) = 0, if x has no elements", Op.PAD)
def _empty_pad(node: Node) -> Node | None:
    if node.inputs[0].size or not node.size:
        return None
    return build.const_like(node, False if node.dtype.is_bool else 0)


EMPTY_RULES: tuple[Rule, ...] = (
    _empty_result, _empty_reduction, _empty_dot, _empty_scatter, _empty_pad,
)  # fmt: skip
