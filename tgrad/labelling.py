"""What every function of PyTorch's surface does around its body.

In: PyTorch's name of it. Out: the function, which names what it makes and follows autocast.
Invariant: the outermost name wins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tgrad.autocasting import follow_autocast
from tgrad.graph.node import source_scope
from tgrad.unread import loops, settle

P = ParamSpec("P")
R = TypeVar("R")


def labelled(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: graph made inside belongs to the user's line and carries this name, so kernels
    and errors are named after what the user called; under autocast, its operands have the dtypes
    that PyTorch's operation of this name computes in."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if loops.is_due:
                settle()
            with source_scope(label=name):
                return function(*args, **kwargs)

        return follow_autocast(name, call)

    return decorate
