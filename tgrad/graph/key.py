"""The key of a graph: equal for two graphs that do the same work on different buffers.

In: output nodes. Out: a hashable key and the leaf buffers in order of first use. Invariant: two
iterations of one training loop have equal keys, so the second one compiles nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op


@dataclass(frozen=True, slots=True)
class GraphKey:
    """A hashable description of a graph, with its buffers renamed in order of first use."""

    rows: tuple[Hashable, ...]


def graph_key(outputs: Sequence[Node]) -> tuple[GraphKey, list[Node]]:
    """Key of the graph and its BUFFER nodes."""
    number: dict[Node, int] = {}
    rows: list[Hashable] = []
    leaves: list[Node] = []
    for node in toposort(outputs):
        number[node] = len(rows)
        if node.op is Op.BUFFER:
            leaves.append(node)
            rows.append((node.shape, node.dtype))
        elif node.op is Op.CONST:
            rows.append((node.op, repr(node.attr("value")), node.dtype))
        else:
            rows.append((node.op, tuple(number[x] for x in node.inputs), node.attrs))
    rows.append(tuple(number[n] for n in outputs))
    return GraphKey(tuple(rows)), leaves
