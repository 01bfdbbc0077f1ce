"""Strides as PyTorch would have them: how the elements of a tensor would lie in its memory.

In: shapes and strides, in elements. Out: strides. Invariant: nothing of this is how tgrad stores
anything; it decides which tensors share memory in PyTorch, and what `stride()` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]
Strides = tuple[int, ...] | None
"""Elements between neighbours; None where a path does not tell."""


class Run(NamedTuple):
    """Neighbouring axes that walk through memory as one axis would."""

    size: int
    stride: int


@lru_cache(maxsize=4096)
def contiguous(shape: Shape) -> tuple[int, ...]:
    """Strides of rows one after the other.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(prod(shape[a + 1 :]) for a in range(len(shape)))


def channels_last(shape: Shape) -> tuple[int, ...]:
    """Strides of images [N, C, *sizes] whose channels are neighbours.

    >>> channels_last((2, 3, 4, 5))
    (60, 1, 15, 3)
    """
    n, channels, *sizes = shape
    first, *others = contiguous((n, *sizes, channels))
    return (first, 1, *others[:-1])


def memory_order(shape: Shape, strides: Sequence[int]) -> tuple[int, ...] | None:
    """The axes in the order in which elements lie, the nearest neighbours last; None where they
    lie with gaps between, or several are one.

    >>> memory_order((2, 3), (1, 2)), memory_order((2, 3), (6, 2))
    ((1, 0), None)
    """
    walked = [axis for axis, n in enumerate(shape) if n != 1]
    sorted_axes = sorted(walked, key=lambda axis: -strides[axis])
    taken = 1
    for axis in reversed(sorted_axes):
        if strides[axis] != taken and 0 not in shape:
            return None
        taken *= shape[axis]
    place_of = dict(zip(walked, sorted_axes))
    return tuple(place_of.get(axis, axis) for axis in range(len(shape)))


def runs(shape: Shape, strides: tuple[int, ...]) -> list[Run]:
    """The axes merged as far as memory allows; those of size 1 do not count."""
    found: list[Run] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if found and found[-1].stride == n * stride:
            found[-1] = Run(found[-1].size * n, stride)
        else:
            found.append(Run(n, stride))
    return [] if 0 in shape else found


def reshaped(given: Sequence[Run], shape: Shape) -> Strides:
    """Strides of a view of that shape: each run is split into axes of it. None if there is none."""
    if 0 in shape:
        return contiguous(shape)
    strides = [1] * len(shape)
    axis = len(shape)
    for run in reversed(given):
        taken = 1
        while taken < run.size:
            axis -= 1
            strides[axis] = run.stride * taken
            taken *= shape[axis]
        if taken != run.size:
            return None
    return tuple(strides)


def in_order_of(shape: Shape, operands: Sequence[Strides]) -> Strides:
    """Strides of what PyTorch computes element by element: without gaps, its axes in the order of
    the operands' strides, the first that tells two axes apart deciding.

    Args:
        shape: of the result.
        operands: their strides as expanded to it, 0 along what is broadcast; None is not known.

    Source: reorder_dimensions of ATen/TensorIterator.cpp.

    >>> in_order_of((2, 3), [(1, 2)]), in_order_of((2, 3), [(0, 1), (1, 2)])
    ((1, 2), (1, 2))
    """
    known = [s for s in operands if s is not None]
    if len(known) < len(operands):
        return None
    order = list(range(len(shape)))[::-1]  # the innermost first
    for i in range(1, len(order)):
        at = i
        for j in range(i - 1, -1, -1):
            side = _compared(order[j], order[at], shape, known)
            if side < 0:
                break
            if side > 0:
                order[j], order[at] = order[at], order[j]
                at = j
    strides, taken = [1] * len(shape), 1
    for axis in order:
        strides[axis], taken = taken, taken * shape[axis]
    return tuple(strides)


def _compared(inner: int, outer: int, shape: Shape, operands: Sequence[tuple[int, ...]]) -> int:
    """1 where the two axes have to change places, -1 where they are in order, 0 if nobody tells."""
    for strides in operands:
        a, b = strides[inner], strides[outer]
        if 0 in (a, b):
            continue
        if a != b:
            return 1 if a > b else -1
        if shape[inner] > shape[outer]:
            return 1
    return 0
