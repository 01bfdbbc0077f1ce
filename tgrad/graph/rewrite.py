"""The rewrite engine: rules are data, one engine applies them.

In: output nodes and rules. Out: equivalent output nodes that no rule changes any more. Invariant:
pure; a rewritten node keeps its shape, its dtype and the user's line of the node it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tgrad.errors import VerifyError
from tgrad.graph.node import Node, on_inputs, source_scope
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
        drops_inputs: the rule is tried first, on inputs as they are, so that those it drops are
            never visited.
    """

    name: str
    equation: str
    ops: tuple[Op, ...]
    match: Match
    drops_inputs: bool = False


def rule(equation: str, *ops: Op, drops_inputs: bool = False) -> Callable[[Match], Rule]:
    """Decorator: the `Rule` of a match function, named after it."""

    def build(match: Match) -> Rule:
        return Rule(match.__name__.strip("_"), equation, ops, match, drops_inputs)

    return build


def rewrite(outputs: Sequence[Node], rules: Iterable[Rule]) -> list[Node]:
    """The outputs with the rules applied, inputs first, until none applies.

    Raises:
        VerifyError: a rule changes a shape or dtype, or the rules run in a circle.
    """
    first, then = _Table(), _Table()
    for each in rules:
        for op in each.ops:
            (first if each.drops_inputs else then).setdefault(op, []).append(each)
    done: dict[Node, Node] = {}
    for node in outputs:
        _rewrite(node, first, then, done)
    return [done[node] for node in outputs]


_Table = dict[Op, list[Rule]]


def _rewrite(root: Node, first: _Table, then: _Table, done: dict[Node, Node]) -> None:
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
        same, replaced = node, _apply(first, node)
        if replaced is None:
            todo = [x for x in node.inputs if x not in done]
            if todo:
                stack.extend(reversed(todo))
                continue
            same = on_inputs(node, tuple(done[x] for x in node.inputs))
            replaced = _apply(then, same)
        if replaced is None:
            done[node] = done[same] = same
            continue
        waiting[node] = replaced
        stack.append(replaced)


def _apply(table: _Table, node: Node) -> Node | None:
    """What the first rule that applies makes of the node."""
    rules = table.get(node.op)
    if not rules:
        return None
    with source_scope(node.source):
        for each in rules:
            result = each.match(node)
            if result is None or result is node:
                continue
            if (result.shape, result.dtype) != (node.shape, node.dtype):
                raise VerifyError(
                    f"rule {each.name!r} turns {node!r} into {result!r}.", source=node.source
                )
            return result
    return None
