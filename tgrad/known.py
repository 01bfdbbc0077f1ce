"""Values that are known before anything runs: constants, tensors stored on the host, views of both.

In: tensors. Out: their values, or None. Invariant: nothing is computed, nothing pending runs, and
nobody waits for a GPU. Where plans are made and not run, memory holds no values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tgrad.graph.interpret import evaluate, interpret
from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.runtime.planning import current_planning
from tgrad.runtime.storage import lent
from tgrad.tensor import Tensor
from tgrad.tracing import Refuse, check_values, tracer

_VIEWS = (Op.RESHAPE, Op.PERMUTE, Op.EXPAND)


def check_elements(t: Tensor, refuse: Refuse, *args: Any) -> None:
    """Let `refuse(values, *args)` see the elements of a tensor, in any order and shape, if they are
    known: now, and in a trace those of an argument at each call."""
    if t._storage is not None:
        return check_stored(t, refuse, *args)
    base, _ = _below_views(t._node)
    if base.op is Op.CONST:
        refuse(evaluate(base, ()), *args)
    elif base.op is Op.BUFFER:
        storage = base.attr("storage")
        check_stored(Tensor._of(base, storage.device, storage), refuse, *args)


def check_stored(t: Tensor, refuse: Refuse, *args: Any) -> None:
    """`check_elements` of a tensor that has memory of its own, in its order and shape."""
    if current_planning() is None:
        check_values(t, refuse, *args)


def known_values(t: Tensor) -> np.ndarray | None:
    """The values, if they are known; in a trace only constants are.

    >>> import tgrad
    >>> known_values(tgrad.ones(2)), known_values(tgrad.ones(2).exp())
    (array([1., 1.], dtype=float32), None)
    """
    base, views = _below_views(t._node)
    storage = t._storage
    if storage is None and base.op is Op.BUFFER:
        storage = base.attr("storage")
    elif storage is not None:
        views = []
    if storage is None and base.op is not Op.CONST:
        return None
    if storage is None:
        values = evaluate(base, ())
    elif tracer() is not None or not storage.is_at_hand or current_planning() is not None:
        return None
    else:
        values = lent(storage)
    for node in reversed(views):
        values = evaluate(node, (values,))
    return values


def values_by_hand(values: np.ndarray, function: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What a function of tensors makes of an array, computed by the interpreter alone."""
    from tgrad.creation import as_tensor
    from tgrad.tracing import tracing

    with tracing(None):
        made = function(as_tensor(values, device="numpy"))
        return interpret([made._node], lent)[0]


def _below_views(node: Node) -> tuple[Node, list[Node]]:
    """What a node is a view of, and the views, the last first."""
    views = []
    while node.op in _VIEWS or (node.op is Op.CUSTOM_VJP and node.attr("rule") in ("copy", "leaf")):
        views.append(node)
        node = node.inputs[0]
    return node, views
