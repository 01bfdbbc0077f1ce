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


def can_repeat() -> bool:
    """Whether what is made now follows from operands' types and a few modes: no trace runs, no
    symbolic sizes, no transformed function, and nothing is cast or refused by a mode."""
    from tgrad.batching import is_inside_transform

    is_apart = thread.tracer is not None or thread.autocast or process.deterministic
    return not is_apart and running_scope() is None and not is_inside_transform()


def of_nodes(function: Function, key: Hashable, operands: Sequence[Node]) -> Sequence[Node | None]:
    """`function(*operands)`.

    Args:
        function: of nodes; one that looks at values, or draws random numbers, is not to be given.
        key: which function it is, with all that its graph depends on beside types and modes.
        operands: nodes, at least one.
    """
    if not can_repeat():
        return function(*operands)
    return made_again(function, (key, process.floats, process.precision), operands)


def of_tensors(function: Any, key: Hashable, operands: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The same of a function of tensors, which have no history and are on one device."""
    from tgrad.tensor import Tensor

    device = operands[0].device

    def on_nodes(*nodes: Node) -> list[Node | None]:
        results = function(*[Tensor._of(n, device) for n in nodes])
        return [None if t is None else t._node for t in results]

    made = of_nodes(on_nodes, key, [t._node for t in operands])
    return [None if n is None else Tensor._of(n, device) for n in made]
