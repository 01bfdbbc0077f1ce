"""Hooks of modules on their gradients.

In: a module, its hooks, and one call. Out: the call's input and result, marked. Invariant: the mark
of the result is differentiated first, so a hook sees the gradients of both; a module has one result
that is a tensor, and one input whose gradient is wanted, or the call raises. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tgrad.autograd.function import Function
from tgrad.errors import GradientError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled
from tgrad.tensor import Tensor

if TYPE_CHECKING:
    from tgrad.nn.module import Module

Hook = Callable[..., Any]
Gradients = tuple[Tensor | None, ...]


class BackwardHooks:
    """What one call of a module tells its hooks.

    Args:
        module: which is called.
        hooks: called with the module and the gradients of inputs and results; may return others of
            the inputs.
        before: called with the module and the gradients of results; may return others.
    """

    def __init__(self, module: Module, hooks: Iterable[Hook], before: Iterable[Hook]):
        self.module, self.hooks, self.before = module, list(hooks), list(before)
        self.inputs, self.place = 0, -1
        self.of_results: Gradients | None = None

    def mark_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, the one whose gradient is wanted marked."""
        self.inputs = len(args)
        wanted = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        if not is_grad_enabled() or not wanted:
            return args
        if len(wanted) > 1:
            raise UnsupportedError(
                f"backward hooks of {type(self.module).__name__} with {len(wanted)} inputs that "
                "require gradients.",
                "Use register_hook of the tensors.",
            )
        (self.place,) = wanted
        at = self.place
        return *args[:at], _Marked.apply(args[at], self.at_input), *args[at + 1 :]

    def mark_result(self, result: Any) -> Any:
        """The result, marked."""
        if not isinstance(result, Tensor):
            raise UnsupportedError(
                f"backward hooks of {type(self.module).__name__}, which returns a "
                f"{type(result).__name__}.",
                "Use register_hook of the tensors.",
            )
        return _Marked.apply(result, self.at_result) if result.requires_grad else result

    def at_result(self, g: Tensor) -> Tensor:
        """The gradient of the result, as the hooks before leave it."""
        found: Gradients = (g,)
        for hook in self.before:
            found = _replaced(found, hook(self.module, found))
        self.of_results = found
        if self.place < 0:
            self.at_input(None)
        return g if found[0] is None else found[0]

    def at_input(self, g: Tensor | None) -> Tensor | None:
        """The gradient of the input, as the hooks leave it."""
        if self.of_results is None:
            return g
        found: Gradients = tuple(g if i == self.place else None for i in range(self.inputs))
        for hook in self.hooks:
            found = _replaced(found, hook(self.module, found, self.of_results))
        self.of_results = None
        return None if self.place < 0 else found[self.place]


def _replaced(found: Gradients, made: Any) -> Gradients:
    """What a hook returns in place of gradients, if it returns anything."""
    if made is None:
        return found
    made = made if isinstance(made, tuple) else (made,)
    if len(made) != len(found):
        raise GradientError(
            f"a backward hook returns {len(made)} gradients.", f"There are {len(found)}."
        )
    return made


class _Marked(Function):
    """The tensor itself; its gradient is what `hook` makes of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Tensor:
        ctx.hook = hook
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.hook(g), None
