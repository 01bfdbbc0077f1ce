"""`torch.jit`'s marks: programs carry them, and here they change nothing.

In: functions and modules. Out: the same. Invariant: there is no second language; Python runs, and
`tgrad.compile` makes one plan of it. Source: https://docs.pytorch.org/docs/stable/jit.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = [
    "Final", "annotate", "export", "ignore", "is_scripting", "is_tracing", "script",
    "script_if_tracing", "unused",
]  # fmt: skip

T = TypeVar("T")


def script(obj: T, *unused: Any, **options: Any) -> T:
    """A function, class or module as it is, which computes what a scripted one would.

    >>> import tgrad
    >>> @tgrad.jit.script
    ... def double(x):
    ...     return x * 2
    >>> double(tgrad.ones(1)).item()
    2.0
    """
    return obj


def script_if_tracing(fn: T) -> T:
    """The function as it is."""
    return fn


def export(fn: T) -> T:
    """The function as it is."""
    return fn


def unused(fn: T) -> T:
    """The function as it is."""
    return fn


def ignore(drop: Any = False, **options: Any) -> Any:
    """The function as it is; with arguments, a decorator that gives it back."""
    if callable(drop):
        return drop
    keep: Callable[[T], T] = lambda fn: fn  # noqa: E731
    return keep


def annotate(the_type: Any, the_value: T) -> T:
    """The value."""
    return the_value


def is_scripting() -> bool:
    """False: Python runs."""
    return False


def is_tracing() -> bool:
    """False: a trace of `tgrad.compile` is not one of PyTorch's."""
    return False


def __getattr__(name: str) -> object:
    raise AttributeError(f"tgrad.jit has no {name}: use tgrad.compile, and state_dict for files.")
