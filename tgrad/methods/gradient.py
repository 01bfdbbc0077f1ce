"""Methods of Tensor that compute gradients and watch them.

In: a tensor, or a tensor and a function. Out: `grad` of leaves, or a handle. Invariant: hooks do
their work in hooks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tgrad import hooks
from tgrad.anomalies import name_of
from tgrad.errors import UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.graph.node import is_leaf_mark, source_scope, toposort
from tgrad.hooks import RemovableHandle
from tgrad.interrupts import Uninterrupted
from tgrad.pending import mark_pending

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


@dataclass(frozen=True)
class GradientFunction:
    """What a computed tensor came from, as `grad_fn` names it."""

    op: str

    def name(self) -> str:
        """The op's name, as in "MulBackward"."""
        return name_of(self.op)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class GradientMethods:
    """Gradients, and hooks on them."""

    __slots__ = ()

    @property
    def grad_fn(self: Any) -> GradientFunction | None:
        """What it was computed by, where its gradient goes on; None of a leaf.

        >>> import tgrad
        >>> x = tgrad.ones(2, requires_grad=True)
        >>> x.grad_fn, (x * 2).grad_fn
        (None, <MulBackward>)
        """
        if self.is_leaf:
            return None
        return GradientFunction(hooks.history_of(self._node).op.name)

    def backward(
        self: Any,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of this tensor to `grad` of every leaf that requires one: in place,
        unless it creates graph.

        Args:
            gradient: of this tensor, of its shape; may be left out for a single element.
            retain_graph: accepted; the graph is always kept until its tensors are gone.
            create_graph: whether the gradients can be differentiated again.
            inputs: the leaves whose `grad` is filled; all by default.

        Raises:
            GradientError: nothing requires a gradient, or `gradient` is missing or misshapen.
            UnsupportedError: one of `inputs` is no leaf.
        """
        from tgrad.tensor import gradient_tensor, gradients_of, leaf_of

        with source_scope(label="backward"):
            order = toposort([self._node])
            marks = [n for n in order if is_leaf_mark(n)]
            if inputs is not None:
                tokens = _tokens(inputs)
                marks = [n for n in marks if n.attr("params")[0] in tokens]
            found = gradients_of(self, gradient, marks, create_graph, order)
            totals: dict[Tensor, Tensor] = {}
            for mark, g in zip(marks, found):
                leaf = leaf_of(mark)
                if g is None or leaf is None or not leaf.requires_grad:
                    continue
                part = gradient_tensor(g, leaf, create_graph)
                totals[leaf] = totals[leaf] + part if leaf in totals else part
            with Uninterrupted():
                for leaf, total in totals.items():
                    _accumulate(leaf, total, create_graph)
            hooks.run_after_accumulation(totals)
        mark_pending(self)

    def register_hook(self: Any, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook` with the gradient of this tensor in every backward; a tensor that it returns
        takes the gradient's place.

        In a compiled function the hook runs while it is traced.

        >>> import tgrad
        >>> x = tgrad.ones(2, requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 3)
        >>> x.sum().backward()
        >>> x.grad.tolist()
        [3.0, 3.0]
        """
        return hooks.register_hook(self, hook)

    def register_post_accumulate_grad_hook(self: Any, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook` with this leaf after each backward that has added to its `grad`."""
        return hooks.register_post_accumulate_grad_hook(self, hook)

    @property
    def retains_grad(self: Any) -> bool:
        """Whether it was computed, and `retain_grad` was called.

        >>> import tgrad
        >>> y = tgrad.ones(2, requires_grad=True) * 2
        >>> y.retains_grad, y.retain_grad(), y.retains_grad
        (False, None, True)
        """
        return hooks.retains_grad(self)

    def retain_grad(self: Any) -> None:
        """Fill `grad` in backward, though this tensor was computed."""
        hooks.retain_grad(self)


def _accumulate(leaf: Tensor, part: Tensor, create_graph: bool) -> None:
    """Add to `grad`: to that tensor itself, whoever holds it, unless the sum leads to graph."""
    held = leaf.grad
    if held is None or create_graph:
        total = part if held is None else held + part
        leaf.grad = total
        mark_pending(total)
        return
    with no_grad():
        held._assign(held + part)


def _tokens(inputs: Tensor | Sequence[Tensor]) -> set[int]:
    leaves = list(inputs) if isinstance(inputs, Sequence) else [inputs]
    if any(t._token is None for t in leaves):
        raise UnsupportedError(
            "backward: inputs that are no leaves that require gradients.",
            "Use tgrad.autograd.grad.",
        )
    return {t._token for t in leaves if t._token is not None}
