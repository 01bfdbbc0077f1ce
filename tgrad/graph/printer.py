"""The graph as text.

In: output nodes. Out: stable text, one node a line, inputs before users. Invariant: the text
depends on structure and source lines alone: buffers are numbered in order of first use, no identity
or address is printed, and constants, which a whole program shares, have no source line.

    %0 = buffer 0 : f32[4,8] on cpu  # train.py:11
    %1 = const 2.0 : f32[]
    %2 = expand %1 shape=(4, 8) : f32[4,8]
    %3 = mul %0, %2 : f32[4,8]  # train.py:12
    return %3
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.dtype import DType
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op


def print_graph(outputs: Sequence[Node], sources: bool = True) -> str:
    """The text of all nodes that the outputs depend on; with the users' lines if `sources`."""
    numbers: dict[Node, int] = {}
    buffers: dict[int, int] = {}
    has_line: set[Node] = set()
    lines = []
    for node in toposort(outputs):
        numbers[node] = len(numbers)
        if node.source.line and (node.op is Op.BUFFER or not has_line.isdisjoint(node.inputs)):
            has_line.add(node)
        source = f"  # {node.source}" if sources and node in has_line else ""
        lines.append(f"%{numbers[node]} = {_expression(node, numbers, buffers)}{source}")
    lines.append(" ".join(("return", ", ".join(f"%{numbers[node]}" for node in outputs))).rstrip())
    return "\n".join(lines)


def type_text(node: Node) -> str:
    """Such as `f32[4,8]`."""
    return f"{node.dtype.short}[{','.join(map(str, node.shape))}]"


def _expression(node: Node, numbers: dict[Node, int], buffers: dict[int, int]) -> str:
    parts = [str(node.op)]
    if node.op is Op.BUFFER:
        parts.append(str(buffers.setdefault(id(node.attr("storage")), len(buffers))))
    elif node.op is Op.CONST:
        parts.append(repr(node.attr("value")))
    else:
        if node.inputs:
            parts.append(", ".join(f"%{numbers[x]}" for x in node.inputs))
        parts += [f"{name}={_attribute(value)}" for name, value in node.attrs]
    place = f" on {node.device}" if node.op is Op.BUFFER else ""
    return f"{' '.join(parts)} : {type_text(node)}{place}"


def _attribute(value: object) -> str:
    return value.short if isinstance(value, DType) else str(value)
