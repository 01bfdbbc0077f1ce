"""`torch.compiler`'s names: what a program asks about being compiled.

In: nothing, or a function. Out: whether a trace runs; a function that is never traced. Invariant:
a plan holds all that its function does, so what must not be traced raises inside of one.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_api.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from tgrad.errors import UnsupportedError
from tgrad.modes import process
from tgrad.tracing import tracer

__all__ = [
    "allow_in_graph", "compile", "cudagraph_mark_step_begin", "disable", "is_compiling",
    "is_dynamo_compiling", "is_exporting", "list_backends", "nested_compile_region", "reset",
    "set_stance",
]  # fmt: skip


STANCES = ("default", "force_eager", "eager_on_recompile", "fail_on_recompile")


def compile(*args: Any, **kwargs: Any) -> Any:
    """`tgrad.compile`."""
    from tgrad.compiling.function import compile as compiled

    return compiled(*args, **kwargs)


def is_compiling() -> bool:
    """Whether `tgrad.compile` traces the program that asks.

    >>> import tgrad
    >>> tgrad.compiler.is_compiling(), tgrad.compile(tgrad.compiler.is_compiling)()
    (False, True)
    """
    return tracer() is not None


is_dynamo_compiling = is_compiling


def is_exporting() -> bool:
    """False: nothing is exported."""
    return False


def allow_in_graph(fn: Any) -> Any:
    """The function as it is: plans hold all that functions compute."""
    return fn


def nested_compile_region(fn: Any = None) -> Any:
    """The function as it is, or a decorator: what repeats in a plan is one kernel in any case."""
    return (lambda given: given) if fn is None else fn


def list_backends(exclude_tags: Any = ()) -> list[str]:
    """What `compile` takes as its backend.

    >>> list_backends()
    ['tgrad']
    """
    return ["tgrad"]


class set_stance:
    """Say what compiled functions of this process do; also a context manager and a decorator,
    whose end brings back what was said before.

    Args:
        stance: "default"; "force_eager" calls the functions themselves; where no plan is kept for a
            call, "eager_on_recompile" does so, and "fail_on_recompile" raises.
        skip_guard_eval_unsafe: only False.
        force_backend: only None.

    Raises:
        UnsupportedError: another stance, or one of the other two.

    >>> import tgrad
    >>> double = tgrad.compile(lambda x: x * 2)
    >>> with tgrad.compiler.set_stance("force_eager"):
    ...     double(tgrad.ones(1)).item(), len(double.plans)
    (2.0, 0)
    """

    def __init__(
        self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False,
        force_backend: Any = None,
    ):  # fmt: skip
        if stance not in STANCES or skip_guard_eval_unsafe or force_backend is not None:
            raise UnsupportedError(
                f"set_stance({stance!r}, {skip_guard_eval_unsafe=}, {force_backend=}).",
                f"Give one of {', '.join(STANCES)} alone.",
            )
        self.stance, self._before = stance, process.stance
        process.stance = stance

    def __enter__(self) -> None:
        process.stance = self.stance

    def __exit__(self, *exc: object) -> None:
        process.stance = self._before

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        process.stance = self._before

        @wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with set_stance(self.stance):
                return fn(*args, **kwargs)

        return call


def cudagraph_mark_step_begin() -> None:
    """Nothing: results of a plan are not overwritten by its next run."""


def reset() -> None:
    """Nothing: each compiled function keeps its plans as long as it lives, and makes another one
    where they do not hold."""


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """A function that no plan may hold: called while `tgrad.compile` traces, it raises, since a
    plan has no gaps that Python runs in.

    Args:
        fn: what is called; left out, a decorator is returned.
        recursive: accepted; what it calls does not get traced either.
        reason: for the message.

    Raises:
        TraceError: by the function, while a trace runs.

    >>> import tgrad
    >>> tgrad.compiler.disable(lambda x: x + 1)(tgrad.ones(1)).item()
    2.0
    """
    if fn is None:
        return lambda given: disable(given, recursive, reason=reason)
    name = getattr(fn, "__name__", type(fn).__name__)

    def call(*args: Any, **kwargs: Any) -> Any:
        trace = tracer()
        if trace is not None:
            because = f" ({reason})" if reason else ""
            trace.refuse(f"{name!r}, which compiler.disable marks{because}, is called")
        return fn(*args, **kwargs)

    found: Callable[..., Any] = wraps(fn)(call) if hasattr(fn, "__name__") else call
    return found
