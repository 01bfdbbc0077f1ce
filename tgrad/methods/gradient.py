"""Methods of Tensor that watch gradients.

In: a tensor and a function. Out: a handle. Invariant: the work is done in hooks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tgrad import hooks
from tgrad.hooks import RemovableHandle


class GradientMethods:
    """Hooks on gradients."""

    __slots__ = ()

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

    def retain_grad(self: Any) -> None:
        """Fill `grad` in backward, though this tensor was computed."""
        hooks.retain_grad(self)
