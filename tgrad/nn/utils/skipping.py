"""Modules without initial values.

In: a class of modules and its arguments. Out: a module. Invariant: no initial value is drawn.
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.nn.module import Module

T = TypeVar("T", bound=Module)


def skip_init(module_cls: type[T], *args: Any, **kwargs: Any) -> T:
    """A module whose parameters and buffers hold nothing yet, on `device` where that is given.

    >>> import tgrad
    >>> tgrad.nn.utils.skip_init(tgrad.nn.Linear, 3, 2).weight.shape
    (2, 3)
    """
    made = module_cls(*args, **kwargs)
    return made.to_empty(device=kwargs.get("device"))
