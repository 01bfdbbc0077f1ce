"""The key of a graph: equal for two graphs that do the same work on different buffers.

In: output nodes. Out: a hashable key and the leaf buffers in order of first use. Invariant: two
iterations of one training loop have equal keys, so the second one compiles nothing; a key says all
of the work, so that `graph_of` makes an equal graph of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op


@dataclass(frozen=True, slots=True)
class GraphKey:
    """A hashable description of a graph, with its buffers renamed in order of first use."""

    rows: tuple[Hashable, ...]

    def digest(self, *more: Hashable) -> str:
        """The same in every process; of what else a plan depends on, too."""
        return hashlib.sha256(repr((self.rows, more)).encode()).hexdigest()[:24]


def graph_key(outputs: Sequence[Node]) -> tuple[GraphKey, list[Node]]:
    """Key of the graph and its BUFFER nodes.

    A custom_vjp node counts as its result: marks and histories compute nothing, and the token of a
    leaf made anew in each step would be another one each time.
    """
    number: dict[Node, int] = {}
    rows: list[Hashable] = []
    leaves: list[Node] = []
    for node in computed(outputs):
        if node.op is Op.CUSTOM_VJP:
            number[node] = number[node.inputs[0]]
            continue
        number[node] = len(rows)
        if node.op is Op.BUFFER:
            leaves.append(node)
            rows.append((node.shape, node.dtype))
        else:
            rows.append(row_of(node, tuple(number[x] for x in node.inputs)))
    rows.append(tuple(number[n] for n in outputs))
    return GraphKey(tuple(rows)), leaves


@dataclass(frozen=True, slots=True)
class Sources:
    """The user's lines of a graph.

    Attributes:
        lines: of each row of the graph's key but the last.
        is_own: whether the row depends on a buffer. Others, such as numbers, are one node in all
            graphs that are alive, of the line that made it first: whichever that is.
    """

    lines: tuple[Source, ...]
    is_own: tuple[bool, ...]

    def pattern(self) -> list[tuple[int, str] | None]:
        """Which rows are of one line, and what was called there."""
        first: dict[Source, int] = {}
        return [
            (first.setdefault(s, n), s.label) if own else None
            for n, (s, own) in enumerate(zip(self.lines, self.is_own))
        ]

    def rows(self) -> dict[Source, int]:
        """A row of each line, which is the same in all graphs of one key and pattern."""
        found: dict[Source, int] = {}
        for wanted in (True, False):
            for n, (s, own) in enumerate(zip(self.lines, self.is_own)):
                if own is wanted:
                    found.setdefault(s, n)
        return found


def sources_of(outputs: Sequence[Node]) -> Sources:
    """The user's line of each row of the graph's key."""
    nodes = computed(outputs)
    own: dict[Node, bool] = {}
    for n in nodes:
        own[n] = n.op is Op.BUFFER or any(own.get(x, False) for x in n.inputs)
    rows = [n for n in nodes if n.op is not Op.CUSTOM_VJP]
    return Sources(tuple(n.source for n in rows), tuple(own[n] for n in rows))


def graph_of(
    key: GraphKey, sources: Sources, leaf: Callable[[tuple[int, ...], DType], Node]
) -> tuple[list[Node], list[Node]]:
    """A graph of this key: its outputs, and its BUFFER nodes in order of first use.

    Args:
        key: from `graph_key`.
        sources: from `sources_of`.
        leaf: a new BUFFER of a shape and dtype.
    """
    made: list[Node] = []
    leaves: list[Node] = []
    *rows, outputs = cast("list[tuple[Any, ...]]", key.rows)
    for row, source in zip(rows, sources.lines):
        with source_scope(source):
            if not isinstance(row[0], Op):
                made.append(leaf(*row))
                leaves.append(made[-1])
            elif row[0] is Op.CONST:
                made.append(make(Op.CONST, value=_number(row[1]), dtype=row[2]))
            else:
                op, inputs, attrs = row
                made.append(make(op, *(made[n] for n in inputs), **dict(attrs)))
    return [made[n] for n in outputs], leaves


def _number(text: str) -> bool | int | float:
    """The Python number of this repr."""
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return float(text)


def row_of(node: Node, inputs: tuple[Hashable, ...]) -> Hashable:
    """What a node does to operands of these descriptions."""
    if not inputs and node.op is Op.CONST:
        return (node.op, repr(node.attr("value")), node.dtype)
    return (node.op, inputs, node.attrs)


def computed(outputs: Sequence[Node]) -> list[Node]:
    """What the outputs' values depend on, inputs before users, without the arguments of VJPs."""
    return toposort(outputs, without_arguments)


def without_arguments(node: Node) -> tuple[Node, ...]:
    """The nodes that its value depends on: not the history that a mark adds."""
    return node.inputs[:1] if node.op is Op.CUSTOM_VJP else node.inputs
