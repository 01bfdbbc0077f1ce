"""Functions of tensors whose graph is made again from a template.

In: a function that makes graph and does nothing else, and its operands. Out: its results.
Invariant: the graph is the one that the function makes; it is called where more than the types of
operands and a few modes may decide. See docs/decisions/0083.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from tgrad.aliases import is_reordered
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph.node import Node, current_source
from tgrad.graph.op import Op
from tgrad.graph.size import running_scope
from tgrad.graph.template import Function, made_again, template_of
from tgrad.modes import process, thread
from tgrad.unread import loops, note_inner, settle

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


_ASIDE = frozenset((Op.EXPAND, Op.RESHAPE, Op.CUSTOM_VJP))
"""Ops that mostly come with another, in one operation of a tensor."""

usual: set[type] = set()
"""Classes whose tensors make the same graph as others: parameters and buffers say so here."""


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


def of_tensors(
    function: Callable[..., Sequence[Any]],
    key: Hashable,
    operands: Sequence[Tensor],
    is_deferred: bool = False,
) -> Sequence[Any]:
    """`function(*operands)`, mostly of tensors that require no gradient.

    Args:
        function: makes new tensors, no views, or None in place of some.
        key: as above.
        operands: tensors, at least one.
        is_deferred: whether nodes are made when somebody looks behind the results.
    """
    from tgrad.tensor import Tensor

    known, device = modes(), operands[0]._device
    if known is None or any(t._requires_grad or not _is_plain(t) for t in operands):
        return function(*operands)

    def on_nodes(*nodes: Node) -> list[Node | None]:
        results = function(*[Tensor._of(n, device) for n in nodes])
        return [None if t is None else t._node for t in results]

    nodes = [t._node for t in operands]
    template = template_of(on_nodes, (key, known), nodes)
    if template is None:
        return function(*operands)
    made = template.deferred_on(nodes) if is_deferred else template.on(nodes)
    return [None if n is None else Tensor._result(n, device, ()) for n in made]


def _is_plain(t: Tensor) -> bool:
    """Whether results depend on nothing of a tensor but its node: its order in memory is the usual
    one, and it is of no class that a program may have written."""
    return _is_known_class(t) and (t._memory is None or not is_reordered(t))


def _is_known_class(t: Tensor) -> bool:
    from tgrad.tensor import Tensor

    return type(t) is Tensor or type(t) in usual


def composite(
    function: Callable[..., Sequence[Tensor]],
    key: Hashable,
    operands: Sequence[Tensor],
    keeps_order: bool = True,
) -> Sequence[Tensor]:
    """`function(*operands)`, of a forward pass: operands and results may have histories.

    Args:
        function: makes new tensors, no views.
        key: as above.
        operands: tensors, at least one.
        keeps_order: whether results lie in memory as operands do.
    """
    from tgrad.tensor import Tensor

    known, wanted = modes(), [t._requires_grad for t in operands]
    is_usual = _is_plain if keeps_order else _is_known_class
    if known is None or not all(map(is_usual, operands)):
        return function(*operands)
    if loops.is_due:
        settle(operands)
    device = operands[0]._device

    def on_nodes(*nodes: Node) -> list[Node | None]:
        tensors = [Tensor._of(n, device) for n in nodes]
        for t, requires_grad in zip(tensors, wanted):
            t._requires_grad = requires_grad
        made = function(*tensors)
        return [*(t._node for t in made), *(t._node if t._requires_grad else None for t in made)]

    nodes = [t._node for t in operands]
    has_history = is_grad_enabled()
    place = (key, known, has_history, *wanted, current_source())
    template = template_of(on_nodes, place, nodes, with_sources=True)
    if template is None:
        return function(*operands)
    inner = [row.source for row in template.rows if row.op not in _ASIDE]
    note_inner(inner, any(wanted) and has_history)
    made = template.on(nodes)
    count = len(made) // 2
    pairs = zip(made[:count], made[count:])
    return [Tensor._result(n, device, operands if g else ()) for n, g in pairs if n is not None]
