"""The rewrite engine: rules are data, one engine applies them.

In: output nodes and rules. Out: equivalent output nodes that no rule changes any more. Invariant:
pure; a rewritten node keeps its shape, its dtype and the user's line of the node it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tgrad.errors import VerifyError
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op

Match = Callable[[Node], Node | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A local equation, read from left to right.

    Attributes:
        name: what tests and errors call it.
        equation: left = right, with the condition.
        ops: ops of the nodes that it may match.
        match: the replacement of a node, or None where the rule does not apply. It sees only nodes
            whose inputs are rewritten already.
    """

    name: str
    equation: str
    ops: tuple[Op, ...]
    match: Match


def rule(equation: str, *ops: Op) -> Callable[[Match], Rule]:
    """Decorator: the `Rule` of a match function, named after it."""

    def build(match: Match) -> Rule:
        return Rule(match.__name__.strip("_"), equation, ops, match)

    return build


def rewrite(outputs: Sequence[Node], rules: Iterable[Rule]) -> list[Node]:
    """The outputs with the rules applied, inputs first, until none applies.

    Raises:
        VerifyError: a rule changes a shape or dtype, or the rules run in a circle.
    """
    by_op: dict[Op, list[Rule]] = {}
    for each in rules:
        for op in each.ops:
            by_op.setdefault(op, []).append(each)
    done: dict[Node, Node] = {}
    for node in outputs:
        _rewrite(node, by_op, done)
    return [done[node] for node in outputs]


def _rewrite(root: Node, by_op: dict[Op, list[Rule]], done: dict[Node, Node]) -> None:
    """Fill `done` for the root and all that it depends on; a stack, as graphs are deep."""
    waiting: dict[Node, Node] = {}  # node -> its replacement, itself still to be rewritten
    stack = [root]
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        if node in waiting:
            if waiting[node] not in done:
                raise VerifyError(f"rewrite rules run in a circle at {node!r}.", source=node.source)
            done[node] = done[waiting[node]]
            stack.pop()
            continue
        todo = [x for x in node.inputs if x not in done]
        if todo:
            stack.extend(reversed(todo))
            continue
        same, replaced = _step(node, by_op, done)
        if replaced is None:
            done[node] = done[same] = same
            continue
        waiting[node] = replaced
        stack.append(replaced)


def _step(
    node: Node, by_op: dict[Op, list[Rule]], done: dict[Node, Node]
) -> tuple[Node, Node | None]:
    """The node on its rewritten inputs, and what the first rule that applies makes of it."""
    inputs = tuple(done[x] for x in node.inputs)
    rules = by_op.get(node.op, ())
    if not rules and inputs == node.inputs:
        return node, None
    with source_scope(node.source):
        same = node if inputs == node.inputs else make(node.op, *inputs, **dict(node.attrs))
        for each in rules:
            result = each.match(same)
            if result is None or result is same:
                continue
            if (result.shape, result.dtype) != (node.shape, node.dtype):
                raise VerifyError(
                    f"rule {each.name!r} turns {node!r} into {result!r}.", source=node.source
                )
            return same, result
    return same, None
