"""Functions of sorted data: searches, cumulative integrals, sampling by weight.

In: tensors. Out: lazy tensors. Invariant: a search is a fixed number of steps over gathered
elements, so it shares a kernel with what stands around it.
"""

from __future__ import annotations

from typing import Any

from tgrad import dtype as dt
from tgrad.arguments import with_numpy_names
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError
from tgrad.graph.op import Op
from tgrad.methods.reduction import normal_axis
from tgrad.random import Generator, rand
from tgrad.tensor import Tensor, labelled

__all__ = ["bucketize", "cumulative_trapezoid", "multinomial", "searchsorted"]


@labelled("searchsorted")
def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where elements of `input` could be inserted so that the sequence stays sorted.

    Args:
        sorted_sequence: ascending along the last axis: one row, or a row for each of `input`.
        input: a number or a tensor.
        out_int32: int32 in place of int64.
        right: after equal elements and not before them; also side="right".
        sorter: places that sort the sequence, if it is not sorted itself.

    Raises:
        ShapeError: the leading axes differ, or `side` contradicts `right`.

    >>> import tgrad
    >>> tgrad.searchsorted(tgrad.tensor([1, 3, 5]), tgrad.tensor([3, 4])).tolist()
    [1, 2]
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ShapeError(f"searchsorted with side={side!r}, right={right}.", "Give one of them.")
    row = sorted_sequence.detach()
    if sorter is not None:
        if sorter.shape != row.shape or sorter.dtype is not dt.int64:
            raise ShapeError(
                f"a sorter of shape {sorter.shape}, {sorter.dtype.name}.",
                f"Give int64 of shape {row.shape}, as argsort does.",
            )
        row = row.gather(-1, sorter)
    wanted = input.detach() if isinstance(input, Tensor) else row._constant(input, row.dtype)
    is_one_row = row.ndim == 1
    if not row.ndim or not (is_one_row or row.shape[:-1] == wanted.shape[:-1]):
        raise ShapeError(
            f"searchsorted of {wanted.shape} in {row.shape}.",
            "All axes but the last must be equal, or the sequence has one axis.",
        )
    flat = wanted.reshape(-1) if is_one_row else wanted
    found = _search(row, flat, right or side == "right")
    return found.reshape(wanted.shape).to(dt.int32 if out_int32 else dt.int64)


def _search(row: Tensor, wanted: Tensor, is_right: bool) -> Tensor:
    """The number of elements before each wanted one, by steps of falling powers of two."""
    n = row.shape[-1]
    zero = row._constant(0, dt.int64).expand(wanted.shape)
    if not n or not wanted.numel():
        return zero
    found, step = zero, 1 << (n.bit_length() - 1)
    while step:
        probe = found + step
        key = row._apply(Op.GATHER, (probe - 1).minimum(n - 1), axis=row.ndim - 1)
        is_after = (key > wanted) if is_right else (key >= wanted)
        found = probe.where((probe <= n) & ~is_after, found)
        step //= 2
    return found


@labelled("bucketize")
def bucketize(
    input: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the interval between boundaries that each element lies in.

    Args:
        boundaries: ascending, one axis.
        out_int32, right: see `searchsorted`.

    >>> import tgrad
    >>> tgrad.bucketize(tgrad.tensor([0.5, 2.0]), tgrad.tensor([1.0, 2.0])).tolist()
    [0, 1]
    """
    if boundaries.ndim != 1:
        raise ShapeError(f"boundaries of shape {boundaries.shape}.", "Give one axis.")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@with_numpy_names
@labelled("cumulative_trapezoid")
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1
) -> Tensor:
    """The integral of samples from the first up to each later one, by trapezoids.

    Args:
        y: samples.
        x: where they were taken, of y's shape or a vector; by default `dx` apart.
        dim: axis of the samples.

    >>> import tgrad
    >>> tgrad.cumulative_trapezoid(tgrad.tensor([1.0, 1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    axis = normal_axis(dim, y.ndim)
    count = max(y.shape[axis] - 1, 0) if y.ndim else 0
    if not count:
        return y.narrow(axis, 0, 0)
    width: Any = dx
    if x is not None:
        along = x.reshape((-1,) + (1,) * (y.ndim - 1 - axis)) if x.ndim == 1 else x
        at = normal_axis(axis - y.ndim, along.ndim)
        width = along.narrow(at, 1, count) - along.narrow(at, 0, count)
    pairs = y.narrow(axis, 1, count) + y.narrow(axis, 0, count)
    return (pairs * width / 2).cumsum(axis)


@labelled("multinomial")
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Places drawn with the weights of each row.

    With replacement a uniform number is looked up in the cumulative weights. Without, the places of
    the smallest exponential variates are taken (Efraimidis and Spirakis, 2006).

    Args:
        input: weights, not negative, of one or two axes; they need not sum to 1.
        num_samples: draws a row.
        replacement: whether a place may be drawn twice.

    Returns:
        int64 [num_samples] or [rows, num_samples].

    Raises:
        OutOfRangeError: there are fewer places than draws without replacement.

    >>> import tgrad
    >>> tgrad.multinomial(tgrad.tensor([0.0, 1.0]), 3, replacement=True).tolist()
    [1, 1, 1]
    """
    if not input.dtype.is_float or input.ndim not in (1, 2):
        raise DTypeError(
            f"multinomial of shape {input.shape}, {input.dtype.name}.",
            "Give floating-point weights of one or two axes.",
        )
    n = input.shape[-1]
    if num_samples < 1 or (not replacement and num_samples > n):
        raise OutOfRangeError(f"{num_samples} draws of {n} places.", f"Use 1 to {n}.")
    weights = input.detach().to(input.dtype.accumulator)
    lead = input.shape[:-1]
    options: dict[str, Any] = {"generator": generator, "device": input.device}
    if replacement:
        total = weights.cumsum(-1)
        last = total.narrow(-1, n - 1, 1)
        drawn = rand((*lead, num_samples), dtype=weights.dtype, **options) * last
        found = _search(total, drawn, is_right=True)
        return found.minimum((total < last).sum(-1, keepdim=True))
    noise = (1.0 - rand((*lead, n), dtype=weights.dtype, **options)).log() * -1.0
    return (noise / weights).topk(num_samples, -1, largest=False).indices
