"""`torch.jit`'s marks: programs carry them, and here they change nothing.

In: functions and modules. Out: the same. Invariant: there is no second language; Python runs, and
`tgrad.compile` makes one plan of it. Source: https://docs.pytorch.org/docs/stable/jit.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from tgrad.absent import nobody

__all__ = [
    "Final", "ScriptFunction", "ScriptModule", "annotate", "export", "fork", "freeze", "ignore",
    "is_scripting", "is_tracing", "optimize_for_inference", "script", "script_if_tracing", "unused",
    "wait",
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


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives, for `wait`: it is called now.

    >>> import tgrad
    >>> tgrad.jit.wait(tgrad.jit.fork(sum, [1, 2]))
    3
    """
    return func(*args, **kwargs)


def wait(future: Any) -> Any:
    """What `fork` gave."""
    return future


def freeze(mod: T, *unused: Any, **options: Any) -> T:
    """A module as it is."""
    return mod


def optimize_for_inference(mod: T, *unused: Any, **options: Any) -> T:
    """A module as it is; `tgrad.compile` makes one plan of its call."""
    return mod


_NO_SCRIPTS = "Python runs; use tgrad.compile, and state_dict for files."
ScriptModule, ScriptFunction, RecursiveScriptModule, TracedModule = (
    nobody(name, _NO_SCRIPTS)
    for name in ("ScriptModule", "ScriptFunction", "RecursiveScriptModule", "TracedModule")
)


def __getattr__(name: str) -> object:
    raise AttributeError(f"tgrad.jit has no {name}: use tgrad.compile, and state_dict for files.")
