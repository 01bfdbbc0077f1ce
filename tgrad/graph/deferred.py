"""Nodes that are made when somebody looks at what is behind them.

In: a template, and nodes in place of its operands. Out: its results, as nodes of which shape,
dtype, device and line are known. Invariant: a deferred node is a node like any other; whoever asks
for its op, inputs or attributes has the graph that the template says, on the same lines. See
docs/decisions/0091.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from tgrad.errors import Source
from tgrad.graph.node import Node, join_row, locked, runs, source_here

if TYPE_CHECKING:
    from tgrad.graph.template import Template

_BEHIND = frozenset(("op", "inputs", "attrs"))


class Deferred(Node):
    """A result of an instance.

    Attributes:
        instance: whose result it is; None when it has its op, inputs and attributes.
        place: which of the instance's nodes it is.
    """

    __slots__ = ("instance", "place")
    instance: Instance | None
    place: int

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        instance = self.instance if name in _BEHIND else None
        if instance is not None:
            instance.make()
        return object.__getattribute__(self, name)


class Instance:
    """A template on its operands.

    Attributes:
        template: see graph/template.py.
        operands: nodes.
        before: how many nodes come before those of the template's rows.
        source: the line of nodes that have none of their own.
        born: how many plans had run when it was made.
        results: by place those that somebody may hold; None when all nodes are made.
    """

    __slots__ = ("template", "operands", "before", "source", "born", "results")

    def __init__(self, template: Template, operands: Sequence[Node]):
        self.template, self.operands = template, tuple(operands)
        self.before = len(template.fixed) + len(operands)
        self.source: Source = source_here(2)
        self.born = runs.count
        self.results: dict[int, ReferenceType[Deferred]] | None = {}

    def used_operands(self) -> list[Node]:
        """Those that a row reads."""
        return [self.operands[i] for i in self.template.used]

    def result(self, place: int) -> Node:
        """The node at a place, which counts the template's fixed nodes, operands and rows."""
        if place < self.before:
            return (*self.template.fixed, *self.operands)[place]
        assert self.results is not None
        known = self.results.get(place)
        node = None if known is None else known()
        if node is None:
            row = self.template.rows[place - self.before]
            node = Deferred.__new__(Deferred)
            node.shape, node.size, node.dtype = row.shape, row.size, row.dtype
            node.device, node.source, node.born = row.device, row.source or self.source, self.born
            node.is_computed = node.is_held = False
            node.instance, node.place = self, place
            self.results[place] = ref(node)
        return node

    def make(self) -> None:
        """Make all nodes. Where one is there that is equal to a result, that is a reshape of it to
        its own shape: equal structure stays one node."""
        with locked:
            if self.results is None:
                return
            results = {place: node for place, r in self.results.items() if (node := r())}
            made = [*self.template.fixed, *self.operands]
            for row in self.template.rows:
                node = results.get(len(made))
                made.append(join_row(row, made, self.source, self.born, node))
            self._note_computed(made, {p for p, n in results.items() if n.is_computed})
            self.results = None
            for node in results.values():
                node.instance = None

    def _note_computed(self, made: Sequence[Node], computed: set[int]) -> None:
        """What a plan has computed was computed of all that it depends on."""
        for place in range(len(made) - 1, self.before - 1, -1):
            if place in computed:
                made[place].is_computed = True
                computed.update(self.template.rows[place - self.before].inputs)


def is_pending(node: Node) -> bool:
    """Whether what is behind a node is not made yet."""
    return type(node) is Deferred and node.instance is not None
