"""Functions that backward calls with gradients.

In: a tensor and a function. Out: a handle that takes the function away again. Invariant: hooks hang
on the node of a value, so they see its gradient whatever graph it flows through; tensors that were
computed alike have nodes of their own (docs/decisions/0090).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, finalize, ref

from tgrad.autodiff.backward import node_hooks
from tgrad.errors import GradientError
from tgrad.graph.node import Node, is_leaf_mark
from tgrad.graph.op import Op
from tgrad.weak_table import WeakTable

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Hooks = dict[int, Callable[..., Any]]

_numbers = itertools.count()
_of_nodes: WeakKeyDictionary[Node, Hooks] = WeakKeyDictionary()
_originals: WeakKeyDictionary[Node, Node] = WeakKeyDictionary()
_of_leaves: dict[int, Hooks] = {}
_after: dict[int, Hooks] = {}
_retained: WeakTable[int, Tensor] = WeakTable()
_keepers: dict[int, RemovableHandle] = {}
_LAST = 1 << 62
"""Added to the numbers of hooks that others come before."""


class RemovableHandle:
    """What a hook is removed with; also a context manager."""

    def __init__(self, hooks: dict[int, Any], hook: Any, is_last: bool = False):
        self.hooks, self.number = hooks, next(_numbers) + (_LAST if is_last else 0)
        hooks[self.number] = hook

    def remove(self) -> None:
        """Take the hook away."""
        self.hooks.pop(self.number, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def history_of(node: Node) -> Node:
    """The node that a value was computed by; a stored value remembers it."""
    while node.op is Op.CUSTOM_VJP and node.attr("rule") == "realised":
        node = node.inputs[1]
    return node


def register_hook(
    t: Tensor, hook: Callable[[Tensor], Tensor | None], is_last: bool = False
) -> RemovableHandle:
    """Call `hook` with the gradient of a tensor; what it returns takes the gradient's place.

    Args:
        is_last: whether hooks that are registered later come before it.

    Raises:
        GradientError: the tensor does not require a gradient.
    """
    if not t._requires_grad:
        raise GradientError(
            "a hook on a tensor that does not require a gradient.", "Call requires_grad_() first."
        )

    def on_node(g: Node) -> Node:
        from tgrad.tensor import Tensor

        result = hook(Tensor._of(g, t_device))
        if result is None:
            return g
        if result.shape != g.shape or result.dtype is not g.dtype:
            raise GradientError(
                f"a hook returns {result.dtype.name} of shape {result.shape} for a gradient of "
                f"{g.dtype.name} of shape {g.shape}.",
                "Return a gradient of the same dtype and shape, or None.",
            )
        return result._node

    t_device = t._device
    node_hooks.find, node_hooks.before_walk = hooks_of, _follow_retained
    return RemovableHandle(_hooks_of_tensor(t), on_node, is_last)


def _hooks_of_tensor(t: Tensor) -> Hooks:
    if t._token is None:
        return _of_nodes.setdefault(history_of(t._node), {})
    return _of_token(_of_leaves, t)


def _of_token(table: dict[int, Hooks], t: Tensor) -> Hooks:
    token = t._token
    assert token is not None
    if token not in table:
        table[token] = {}
        finalize(t, table.pop, token, None)
    return table[token]


def hooks_of(node: Node) -> Hooks | None:
    """The hooks on a node's gradient."""
    if is_leaf_mark(node):
        return _of_leaves.get(node.attr("params")[0])
    while node not in _of_nodes and node in _originals:
        node = _originals[node]
    return _of_nodes.get(node)


def share_hooks(copy: Node, original: Node) -> None:
    """Let hooks on the original, those that are registered later too, see the copy's gradient."""
    _originals[copy] = original


def register_post_accumulate_grad_hook(
    t: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Call `hook` with a leaf after each backward that has added to its `grad`.

    Raises:
        GradientError: it is no leaf that requires a gradient.
    """
    if t._token is None:
        raise GradientError(
            "register_post_accumulate_grad_hook of a tensor that is no leaf.",
            "Use register_hook, or a leaf that requires a gradient.",
        )
    return RemovableHandle(_of_token(_after, t), hook)


class _Queue(threading.local):
    """What this thread's backward calls at its end."""

    def __init__(self) -> None:
        self.callbacks: dict[Callable[[], None], None] = {}


_queue = _Queue()


def after_backward(callback: Callable[[], None]) -> None:
    """For hooks: call this once, when the backward that runs has called all of its hooks."""
    _queue.callbacks[callback] = None


def run_after_accumulation(leaves: Iterable[Tensor]) -> None:
    """Call the hooks that wait for the gradients of leaves, and then what these asked for."""
    try:
        for leaf in leaves:
            if leaf._token is not None:
                for hook in list(_after.get(leaf._token, {}).values()):
                    hook(leaf)
        for callback in list(_queue.callbacks):
            callback()
    finally:
        _queue.callbacks.clear()


def retains_grad(t: Tensor) -> bool:
    """Whether `grad` of a computed tensor is filled."""
    return _retained.find(id(t)) is not None


def retain_grad(t: Tensor) -> None:
    """Fill `grad` of a computed tensor, as of a leaf."""
    if t._token is not None or retains_grad(t):
        return
    held = ref(t)

    def keep(g: Tensor) -> None:
        from tgrad.pending import mark_pending

        found = held()
        if found is not None:
            g = g._without_history()
            found.grad = g if found.grad is None else found.grad + g
            mark_pending(found.grad)

    key = id(t)
    _keepers[key] = register_hook(t, keep, is_last=True)
    _retained.keep(key, t)
    finalize(t, _keepers.pop, key, None)


def _follow_retained() -> None:
    """Tensors that were changed in place keep the gradients of the values that they have now."""
    for t in _retained.living():
        handle = _keepers[id(t)]
        if not t._requires_grad:
            continue
        hooks = _hooks_of_tensor(t)
        if hooks is not handle.hooks:
            hooks[handle.number] = handle.hooks.pop(handle.number)
            handle.hooks = hooks
