"""Whether new results may require gradients, thread by thread.

In: `with no_grad():` and friends. Out: the mode that `Tensor` looks at. Invariant: leaving a block
restores the mode that it found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from tgrad.modes import thread

P = ParamSpec("P")
R = TypeVar("R")


def is_grad_enabled() -> bool:
    """Whether new results may require gradients."""
    return thread.gradients


def is_inference_mode_enabled() -> bool:
    """Whether this is inside of an `inference_mode`."""
    return thread.inference


def restore_grad_mode(enabled: bool) -> None:
    """Put the mode back to what `is_grad_enabled` said: Ctrl-C may arrive between a `with` and the
    block that it opens, and then nothing else does."""
    thread.gradients = enabled


class GradMode:
    """Context manager and decorator that switches gradients on or off."""

    def __init__(self, mode: bool):
        self.mode = mode
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(is_grad_enabled())
        thread.gradients = self.mode

    def __exit__(self, *exc: object) -> None:
        thread.gradients = self.previous.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with GradMode(self.mode):
                return function(*args, **kwargs)

        return call


class set_grad_enabled(GradMode):
    """Switch gradients on or off, from here on or, in a `with` or as a decorator, inside.

    >>> import tgrad
    >>> with tgrad.set_grad_enabled(False):
    ...     tgrad.is_grad_enabled()
    False
    >>> tgrad.is_grad_enabled()
    True
    """

    def __init__(self, mode: bool):
        super().__init__(mode)
        self.before = is_grad_enabled()
        thread.gradients = mode

    def __enter__(self) -> None:
        self.previous.append(self.before)
        thread.gradients = self.mode

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        thread.gradients = self.before
        return super().__call__(function)


class _Bare(GradMode):
    """A mode of one meaning, which decorates a function without being called first, too."""

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class no_grad(_Bare):
    """Results inside do not require gradients.

    >>> import tgrad
    >>> w = tgrad.ones(2, requires_grad=True)
    >>> with tgrad.no_grad():
    ...     (w * 2).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_Bare):
    """Results inside require gradients again."""

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(GradMode):
    """Results inside do not require gradients; with mode=False they do again.

    PyTorch's tensors made inside may never be used in a graph; here they may. It decorates a
    function too, called first or not.

    >>> import tgrad
    >>> with tgrad.inference_mode():
    ...     tgrad.is_grad_enabled()
    False
    """

    def __new__(cls, mode: Any = True) -> Any:
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True):
        super().__init__(not mode)
        self.outer: list[bool] = []

    def __enter__(self) -> None:
        super().__enter__()
        self.outer.append(thread.inference)
        thread.inference = not self.mode

    def __exit__(self, *exc: object) -> None:
        thread.inference = self.outer.pop()
        super().__exit__(*exc)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with inference_mode(not self.mode):
                return function(*args, **kwargs)

        return call
