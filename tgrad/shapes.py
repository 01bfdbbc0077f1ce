"""Shapes as PyTorch gives them: tuples that count their elements.

In: sizes. Out: a `Size`. Invariant: it is, prints as and equals the plain tuple of them; shapes of
nodes are plain tuples, which Python indexes four times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from operator import index
from typing import Any

_new = tuple.__new__


class Size(tuple[int, ...]):
    """The shape of a tensor, as torch.Size: a tuple; slices and sums of it are of this class too.

    Args:
        sizes: integers.

    Raises:
        TypeError: one of them is no integer.

    >>> import tgrad
    >>> tgrad.ones(2, 3, 4).shape[1:].numel(), tgrad.Size([2, 3]) + (4,)
    (12, (2, 3, 4))
    """

    __slots__ = ()

    def __new__(cls, sizes: Iterable[Any] = ()) -> Size:
        return _new(cls, map(_checked, sizes))

    def numel(self) -> int:
        """How many elements a tensor of this shape has."""
        return prod(self)

    def __getitem__(self, item: Any) -> Any:
        found = _item(self, item)
        return _new(Size, found) if item.__class__ is slice else found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return _new(Size, (*self, *other))

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return _new(Size, (*other, *self))

    def __mul__(self, times: Any) -> Any:
        return _new(Size, tuple.__mul__(self, times))

    __rmul__ = __mul__


_item = tuple.__getitem__


def size_of(shape: tuple[Any, ...]) -> Size:
    """A shape as users get it: its sizes, which may be symbolic, are not looked at."""
    return _new(Size, shape)


def _checked(n: Any) -> int:
    """A size: an integer, a tensor of one, or what stands for one in a trace (graph/size.py)."""
    return n if isinstance(n, int) or hasattr(n, "capacity") else index(n)
