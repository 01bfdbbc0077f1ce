"""The graph's verifier.

In: output nodes. Out: nothing, or a `VerifyError` that names the first broken node. Invariant:
what passes obeys the shape and dtype rules of graph/shape.py at every node, has one device, and,
once lowered, holds no op that later stages do not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.errors import TgradError, VerifyError
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import OPS, Op
from tgrad.graph.shape import infer


def verify(outputs: Sequence[Node], lowered: bool = False) -> None:
    """Check all nodes that the outputs depend on.

    Args:
        outputs: nodes.
        lowered: the graph is canonical (graph/rules.py), so no custom_vjp may be left.

    Raises:
        VerifyError: a node breaks the rules of its op.
    """
    for node in toposort(outputs):
        problem = _problem(node, lowered)
        if problem:
            raise VerifyError(f"{node!r}: {problem}", source=node.source)


def _problem(node: Node, lowered: bool) -> str:
    if node.op not in OPS:
        return f"{node.op!r} is not an op."
    if lowered and node.op is Op.CUSTOM_VJP:
        return "a custom_vjp is left in a lowered graph."
    try:
        shape, dtype = infer(node.op, node.inputs, dict(node.attrs))
    except (TgradError, KeyError, ValueError) as error:
        return f"does not fit its inputs: {error!r}."
    if (shape, dtype) != (node.shape, node.dtype):
        return f"should be {dtype.name} of shape {shape}."
    inputs = node.inputs[:1] if node.op is Op.CUSTOM_VJP else node.inputs
    devices = {x.device for x in inputs} - {None}
    if len(devices) > 1 or (devices and node.device not in devices):
        return f"is on {node.device}, its inputs on {', '.join(sorted(map(str, devices)))}."
    return ""
