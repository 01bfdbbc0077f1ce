"""Functions of tensors whose graph is made again from a template.

In: a function that makes graph and does nothing else, and its operands. Out: its results.
Invariant: the graph is the one that the function makes; it is called where more than the types of
operands and a few modes may decide. See docs/decisions/0082.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from tgrad.graph.node import Node
from tgrad.graph.size import running_scope
from tgrad.graph.template import Function, made_again
from tgrad.modes import process, thread

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


def modes() -> Hashable | None:
    """What graph that is made now depends on beside its operands; None where there may be more: in
    traces, with symbolic sizes, in transformed functions, and where a mode casts or refuses."""
    from tgrad.batching import is_inside_transform

    is_apart = thread.tracer is not None or thread.autocast or process.deterministic
    if is_apart or running_scope() is not None or is_inside_transform():
        return None
    return process.floats, process.precision


def of_nodes(function: Function, key: Hashable, operands: Sequence[Node]) -> Sequence[Node | None]:
    """`function(*operands)`.

    Args:
        function: of nodes; one that looks at values, or draws random numbers, is not to be given.
        key: which function it is, with all that its graph depends on beside types and modes.
        operands: nodes, at least one.
    """
    known = modes()
    return function(*operands) if known is None else made_again(function, (key, known), operands)


def of_tensors(function: Any, key: Hashable, operands: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The same of a function of tensors, which have no history and are on one device."""
    from tgrad.tensor import Tensor

    device = operands[0].device

    def on_nodes(*nodes: Node) -> list[Node | None]:
        results = function(*[Tensor._of(n, device) for n in nodes])
        return [None if t is None else t._node for t in results]

    made = of_nodes(on_nodes, key, [t._node for t in operands])
    return [None if n is None else Tensor._of(n, device) for n in made]
