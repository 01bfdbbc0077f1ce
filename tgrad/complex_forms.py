"""The hook by which functions of real tensors hand complex ones on.

In: a function of tensors. Out: the same; where an argument is complex, the row of that name in
complex_numbers/functions.py. Invariant: a call with real tensors does what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from tgrad.methods.elementwise import is_complex

R = TypeVar("R")


def complex_form(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator: complex arguments go to the function of this name in `FUNCTIONS`."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            if not any(map(is_complex, (*args, *kwargs.values()))):
                return function(*args, **kwargs)
            from tgrad.complex_numbers.functions import FUNCTIONS

            return FUNCTIONS[name](*args, **kwargs)

        return call

    return decorate
