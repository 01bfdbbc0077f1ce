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
from tgrad.errors import GradientError
from tgrad.grad_mode import no_grad
from tgrad.graph.node import Node, is_leaf_mark, source_scope, toposort
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
            inputs: the tensors whose `grad` is filled, computed ones too; by default all leaves.

        Raises:
            GradientError: nothing requires a gradient, one of `inputs` does not, or `gradient` is
                missing or misshapen.
        """
        from tgrad.tensor import gradient_tensor, gradients_of, leaf_of

        with source_scope(label="backward"):
            order = toposort([self._node])
            marks = [n for n in order if is_leaf_mark(n)]
            owners = [leaf_of(mark) for mark in marks]
            if inputs is not None:
                marks, owners = _places_of(inputs, marks)
            found = gradients_of(self, gradient, marks, create_graph, order)
            totals: dict[Tensor, Tensor] = {}
            for owner, g in zip(owners, found):
                if g is None or owner is None or not owner.requires_grad:
                    continue
                part = gradient_tensor(g, owner, create_graph)
                totals[owner] = totals[owner] + part if owner in totals else part
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


def _places_of(
    inputs: Tensor | Sequence[Tensor], marks: Sequence[Node]
) -> tuple[list[Node], list[Tensor | None]]:
    """The nodes whose gradients some tensors get, each with its tensor; None where a hook fills
    `grad`, as `retain_grad` has it.

    Raises:
        GradientError: one of the tensors requires no gradient, or there are none.
    """
    wanted = dict.fromkeys(inputs if isinstance(inputs, Sequence) else [inputs])
    if not wanted or not all(t._requires_grad for t in wanted):
        raise GradientError(
            "backward: inputs that require no gradient.", "Name tensors that require one."
        )
    pairs: list[tuple[Node, Tensor | None]] = []
    for t in wanted:
        if t._token is None:
            pairs.append((hooks.history_of(t._node), None if hooks.retains_grad(t) else t))
        else:
            pairs += [(n, t) for n in marks if n.attr("params")[0] == t._token]
    return [n for n, _ in pairs], [t for _, t in pairs]
