"""Modules that compile themselves.

In: a module. Out: the same, whose forward is a compiled function. Invariant: hooks run around it,
and copies and files of the module hold its forward as it was.
"""

from __future__ import annotations

from typing import Any

_MARK = "_has_compiled_forward"


class CompilableModule:
    """What a Module knows about being compiled."""

    def compile(self: Any, *args: Any, **kwargs: Any) -> None:
        """Compile this module's forward in place, by `tgrad.compile` with these options.

        The module stays what it is: its class, its names and its `state_dict`. Hooks run around
        the compiled forward. Copies and pickles of it are not compiled.

        Raises:
            ValueError, UnsupportedError: as `tgrad.compile`.

        >>> import tgrad
        >>> net = tgrad.nn.Sequential(tgrad.nn.Linear(2, 2), tgrad.nn.ReLU())
        >>> net.compile()
        >>> with tgrad.no_grad():
        ...     shapes = [net(tgrad.ones(3, 2)).shape for _ in range(2)]
        >>> net.forward.traces, list(net.state_dict())
        (1, ['0.weight', '0.bias'])
        """
        from tgrad.compiling.function import compile

        forward = self.forward.__wrapped__ if _MARK in vars(self) else self.forward
        self.forward = compile(forward, *args, **kwargs)
        object.__setattr__(self, _MARK, True)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: the attributes, without a compiled forward."""
        state = dict(vars(self))
        if state.pop(_MARK, False):
            del state["forward"]
        return state
