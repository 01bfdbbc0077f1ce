"""Tensors joined into one.

In: tensors. Out: one lazy tensor. Invariant: elements arrive bit by bit as they were, NaN and -0.0
included: each comes through a chosen branch, never through a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import places
from tgrad.errors import ShapeError
from tgrad.graph.size import is_same
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import are_same, is_sized, placed
from tgrad.tensor import Tensor, labelled


@labelled("cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along an axis.

    Args:
        tensors: of equal sizes but for `dim`; dtypes are promoted. A tensor of shape (0,) is
            skipped, as in PyTorch.
        dim: the axis.

    Raises:
        ShapeError: there is none, or other sizes differ.

    >>> import tgrad
    >>> tgrad.cat([tgrad.ones(1), tgrad.zeros(2)]).tolist()
    [1.0, 0.0, 0.0]
    """
    given = list(tensors)
    if not given:
        raise ShapeError("cat of no tensors.", "Give at least one.")
    dtype = given[0].dtype
    for t in given[1:]:
        dtype = dt.promote(dtype, t.dtype)
    parts = [t.to(dtype) for t in given if not are_same(t.shape, (0,))] or [given[0].to(dtype)]
    if not parts[0].shape:
        raise ShapeError("cat of tensors with no axes.", "Use tgrad.stack.")
    axis = normal_axis(dim, parts[0].ndim)
    for t in parts[1:]:
        same = t.ndim == parts[0].ndim and all(
            is_same(m, n) for a, (m, n) in enumerate(zip(t.shape, parts[0].shape)) if a != axis
        )
        if not same:
            raise ShapeError(
                f"cat of shapes {parts[0].shape} and {t.shape} along axis {axis}.",
                "All sizes but those of that axis must be equal.",
            )
    total = sum(t.shape[axis] for t in parts)
    if is_sized(total):
        return _joined_sizes(parts, axis, total)
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    place = places(shape, axis, device=parts[0].device)
    joined, start = None, 0
    for t in parts:
        low = [start if a == axis else 0 for a in range(t.ndim)]
        start += t.shape[axis]
        high = [total - start if a == axis else 0 for a in range(t.ndim)]
        wide = t._pad_zero(low, high)
        first = start - t.shape[axis]
        joined = wide if joined is None else joined.where(place < first, wide)
    assert joined is not None
    return joined


def _joined_sizes(parts: list[Tensor], axis: int, total: Any) -> Tensor:
    """`cat` where parts begin at symbolic places."""
    joined, start = None, 0
    for t in parts:
        wide, inside = placed(t, axis, start, total)
        start += t.shape[axis]
        joined = wide if joined is None else wide.where(inside, joined)
    assert joined is not None
    return joined


concat = concatenate = cat


@labelled("stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis.

    Raises:
        ShapeError: there is none, or shapes differ.

    >>> import tgrad
    >>> tgrad.stack([tgrad.ones(2), tgrad.zeros(2)]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    given = list(tensors)
    if not given:
        raise ShapeError("stack of no tensors.", "Give at least one.")
    for t in given[1:]:
        if not are_same(t.shape, given[0].shape):
            raise ShapeError(
                f"stack of shapes {given[0].shape} and {t.shape}.", "All shapes must be equal."
            )
    axis = normal_axis(dim, given[0].ndim + 1)
    return cat([t.unsqueeze(axis) for t in given], axis)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 1, or 0 for vectors.

    >>> import tgrad
    >>> tgrad.hstack([tgrad.ones(1), tgrad.zeros(1)]).tolist()
    [1.0, 0.0]
    """
    rows = [t.reshape(1) if not t.shape else t for t in tensors]
    return cat(rows, 0 if rows and rows[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 0; vectors become rows.

    >>> import tgrad
    >>> tgrad.vstack([tgrad.ones(1), tgrad.zeros(1)]).tolist()
    [[1.0], [0.0]]
    """
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)
