"""Regions that are calls of a library.

In: a `library` or `collective` node. Out: its region, which has slots and no expression. Invariant:
operands and result are whole buffers in row-major order; nothing is fused into a call.
"""

from __future__ import annotations

from typing import Any

from tgrad.fusion.builder import Built
from tgrad.fusion.region import Region, Slot, Space
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.library import LibraryCall
from tgrad.graph.node import Node, below
from tgrad.graph.op import Op


def build_call(name: str, node: Node) -> Built:
    """The region of a call and the nodes of its slots."""
    inputs = tuple(below(x, (Op.RESHAPE,)) for x in node.inputs)
    slots = [Slot(f"in{i}", x.dtype, x.size, "in") for i, x in enumerate(inputs)]
    slots.append(Slot("out0", node.dtype, node.size, "out"))
    shapes = tuple(x.shape for x in node.inputs)
    attributes: dict[str, Any] = dict(node.attrs)
    make = LibraryCall if node.op is Op.LIBRARY else CollectiveCall
    call = make(shapes=shapes, dtype=node.dtype, **attributes)
    region = Region(name, (), tuple(slots), (), (), node.source, Space("call", ()), call=call)
    return Built(region, inputs, (node,))
