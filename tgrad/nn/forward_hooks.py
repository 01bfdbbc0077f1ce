"""One call of a module that has hooks.

In: a module and the arguments of a call. Out: its result, as the hooks leave it. Invariant: hooks
see the arguments and the result of that moment; those that are always called are, once, whatever
the others or the forward raise. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tgrad.nn.backward_hooks import BackwardHooks

if TYPE_CHECKING:
    from tgrad.nn.module import Module

Hook = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class AlwaysCalled:
    """A hook after forward that is called although the call raises."""

    hook: Hook

    def __call__(self, *args: Any) -> Any:
        return self.hook(*args)


class HookedCall:
    """A call of a module.

    Args:
        module: with hooks.
        args, kwargs: of the call.
    """

    def __init__(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.module, self.args, self.kwargs = module, args, kwargs
        self.result: Any = None
        self.called: set[int] = set()

    def run(self) -> Any:
        """The result.

        Raises:
            Exception: what the forward or a hook raises, after the hooks that are always called.
        """
        try:
            return self._run()
        except Exception:
            self._run_always_called()
            raise

    def _run(self) -> Any:
        module = self.module
        for hook, takes_keywords in tuple(module._forward_pre_hooks.values()):
            given = (self.args, self.kwargs) if takes_keywords else (self.args,)
            found = hook(module, *given)
            if found is not None and takes_keywords:
                self.args, self.kwargs = found
            elif found is not None:
                self.args = found if isinstance(found, tuple) else (found,)
        backward = None
        if module._backward_hooks or module._backward_pre_hooks:
            tables = module._backward_hooks, module._backward_pre_hooks
            backward = BackwardHooks(module, *([h for h, _ in t.values()] for t in tables))
            self.args = backward.mark_inputs(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        for number, (hook, takes_keywords) in tuple(module._forward_hooks.items()):
            self._call(number, hook, takes_keywords)
        return self.result if backward is None else backward.mark_result(self.result)

    def _call(self, number: int, hook: Hook, takes_keywords: bool) -> None:
        self.called.add(number)
        given = (self.args, self.kwargs) if takes_keywords else (self.args,)
        found = hook(self.module, *given, self.result)
        self.result = self.result if found is None else found

    def _run_always_called(self) -> None:
        """Call what has not been called; another error of theirs is a warning."""
        for number, (hook, takes_keywords) in tuple(self.module._forward_hooks.items()):
            if not isinstance(hook, AlwaysCalled) or number in self.called:
                continue
            try:
                self._call(number, hook, takes_keywords)
            except Exception as error:
                warnings.warn(
                    "a forward hook with always_call=True raised while another error was raised "
                    f"in forward: {error}",
                    stacklevel=2,
                )
