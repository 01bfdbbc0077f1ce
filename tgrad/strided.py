"""Strided views of elements that lie in a row, as graph.

In: a vector, sizes, strides and an offset. Out: the elements of the view, or the vector with these
replaced. Invariant: places are numbers of the row, out[i, j] = row[offset + i * stride[0] + ...].
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tgrad.dtype import int64
from tgrad.graph import build as b
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op


def picked(row: Node, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Node:
    """The elements of the view."""
    found = make(Op.GATHER, row, _places(size, stride, offset), axis=0)
    return b.reshape_to(found, size)


def with_picked(
    row: Node, new: Node, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> Node:
    """The row with the elements of the view replaced, each of which lies at a place of its own."""
    flat = b.reshape_to(new, (prod(size),))
    return make(Op.SCATTER, row, _places(size, stride, offset), flat, axis=0, combine="set")


def are_apart(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether no two elements of a view lie at one place."""
    reach = 0
    for n, step in sorted(zip(size, stride, strict=True), key=lambda pair: pair[1]):
        if n > 1 and step <= reach:
            return _are_different(size, stride)
        reach += (n - 1) * step
    return True


def _are_different(size: Sequence[int], stride: Sequence[int]) -> bool:
    places = sum(np.arange(n).reshape(-1, *(1,) * (len(size) - 1 - a)) * step
                 for a, (n, step) in enumerate(zip(size, stride)))  # fmt: skip
    return np.unique(places).size == prod(size)


def _places(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Node:
    """Where each element lies, in the order of the view."""
    places = b.const(offset, int64, size)
    for axis, step in enumerate(stride):
        number = make(Op.IOTA, shape=size, axis=axis, dtype=int64)
        places = b.add(places, b.mul(number, b.const_like(number, step)))
    return b.reshape_to(places, (prod(size),))
