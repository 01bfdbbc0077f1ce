"""Sizes for each axis, under PyTorch's names, for layers that programs write themselves.

In: a number, or one an axis. Out: a tuple. Invariant: a sequence is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """A function that repeats a number n times.

    >>> _pair(3), _pair((1, 2)), _ntuple(3)(0.5)
    ((3, 3), (1, 2), (0.5, 0.5, 0.5))
    """

    def parse(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) else (x,) * n

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")
