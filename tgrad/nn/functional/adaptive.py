"""Adaptive pooling to sizes of the output, and its inverse, unpooling.

In: (N, C, *sizes) or (C, *sizes). Out: the same with the sizes asked for. Invariant: window i of m
over n elements is floor(i n / m) to ceil((i + 1) n / m); windows of one size are blocks and never
gathered. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math
from typing import Any

from tgrad.creation import places
from tgrad.errors import ShapeError
from tgrad.from_template import from_template
from tgrad.methods.slopes import by_formula, define_vjp
from tgrad.nn.functional.convolution import IntOrSizes, Sizes, as_axes
from tgrad.tensor import Tensor, labelled, with_vjp

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "max_unpool1d", "max_unpool2d",
    "max_unpool3d",
]  # fmt: skip

OutputSize = IntOrSizes | tuple[int | None, ...]


@labelled("adaptive_avg_pool1d")
@from_template()
def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean of parts of the last axis; see `adaptive_avg_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_avg_pool1d(tgrad.tensor([[1.0, 3.0]]), 1).tolist()
    [[2.0]]
    """
    return _mean_parts(input, output_size, 1)


@labelled("adaptive_avg_pool2d")
@from_template()
def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean of parts, as many as `output_size` says.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: number of parts along each axis; None keeps the input's size.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_avg_pool2d(tgrad.ones(1, 1, 4, 6), (1, 2)).shape
    (1, 1, 1, 2)
    """
    return _mean_parts(input, output_size, 2)


@labelled("adaptive_avg_pool3d")
@from_template()
def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean of parts of the last three axes; see `adaptive_avg_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_avg_pool3d(tgrad.ones(1, 4, 4, 4), 2).shape
    (1, 2, 2, 2)
    """
    return _mean_parts(input, output_size, 3)


@labelled("adaptive_max_pool1d")
@from_template()
def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """The largest element of parts of the last axis; see `adaptive_max_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_max_pool1d(tgrad.tensor([[1.0, 3.0]]), 1).tolist()
    [[3.0]]
    """
    return _largest_parts(input, output_size, 1, return_indices)


@labelled("adaptive_max_pool2d")
@from_template()
def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """The largest element of parts, as many as `output_size` says.

    Args:
        input, output_size: see `adaptive_avg_pool2d`.
        return_indices: return (values, their row-major places in the plane, int64).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_max_pool2d(tgrad.arange(9.0).reshape(1, 3, 3), 2).tolist()
    [[[4.0, 5.0], [7.0, 8.0]]]
    """
    return _largest_parts(input, output_size, 2, return_indices)


@labelled("adaptive_max_pool3d")
@from_template()
def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """The largest element of parts of the last three axes; see `adaptive_max_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_max_pool3d(tgrad.ones(1, 4, 4, 4), 2).shape
    (1, 2, 2, 2)
    """
    return _largest_parts(input, output_size, 3, return_indices)


def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: OutputSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool1d` with return_indices=True."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: OutputSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool2d` with return_indices=True."""
    return adaptive_max_pool2d(input, output_size, True)


def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: OutputSize, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool3d` with return_indices=True."""
    return adaptive_max_pool3d(input, output_size, True)


def _sizes(input: Tensor, output_size: OutputSize, rank: int, name: str) -> Sizes:
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} of shape {input.shape}.", f"The input has {rank + 1} or {rank + 2} axes."
        )
    given = (output_size,) * rank if isinstance(output_size, int) else tuple(output_size)
    given = given * rank if len(given) == 1 else given
    sizes = input.shape[input.ndim - rank :]
    wanted = tuple(n if m is None else m for n, m in zip(sizes, given))
    if len(given) != rank or min(wanted, default=0) < 0 or not all(sizes):
        raise ShapeError(f"{name}: output_size={output_size} of shape {input.shape}.")
    return wanted


def _parts(x: Tensor, axis: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """An axis as (part, element of the part), which elements belong to the part, and their places
    in the axis."""
    n = x.shape[axis]
    ends = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
    size = max((b - a for a, b in ends), default=1)
    shape = (*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    part, inside = (places((count, size), a, device=x.device) for a in (0, 1))
    start = part * n // max(count, 1)
    belongs = start + inside < -(-(part + 1) * n // max(count, 1))
    place = (start + inside).clamp(max=n - 1)
    if n % max(count, 1) == 0:
        picked = x.reshape(shape)
    else:
        picked = x.index_select(axis, place.reshape(-1)).reshape(shape)
    column = [count if a == axis else size if a == axis + 1 else 1 for a in range(len(shape))]
    return picked, belongs.reshape(column), place.reshape(column)


def _mean_parts(input: Tensor, output_size: OutputSize, rank: int) -> Tensor:
    wanted = _sizes(input, output_size, rank, f"adaptive_avg_pool{rank}d")
    x = input.to(input.dtype.accumulator)
    lead, sizes = input.shape[: input.ndim - rank], input.shape[input.ndim - rank :]
    if not math.prod(wanted):
        return x.reshape(-1)[:0].reshape(*lead, *wanted).to(input.dtype)
    if all(n % m == 0 for n, m in zip(sizes, wanted)):
        parts = [size for n, m in zip(sizes, wanted) for size in (m, n // m)]
        inner = tuple(range(len(lead) + 1, len(lead) + 2 * rank, 2))
        x = x.reshape(*lead, *parts).mean(inner)
    else:
        for axis, count in enumerate(wanted, len(lead)):
            picked, belongs, _ = _parts(x, axis, count)
            share = belongs.to(x.dtype)
            x = (picked * share).sum(axis + 1) / share.sum(axis + 1)
    result = x.to(input.dtype)
    return result if math.prod(wanted) == 1 else by_formula(result, input)


def _largest_parts(input: Tensor, output_size: OutputSize, rank: int, return_indices: bool) -> Any:
    """Maxima axis by axis; where they lie is computed for who asks, or for the gradient."""
    wanted = _sizes(input, output_size, rank, f"adaptive_max_pool{rank}d")
    lead, x = input.ndim - rank, input.detach()
    if math.prod(wanted) == 1:
        x = x.amax(tuple(range(lead, input.ndim)), keepdim=True)
    else:
        for axis in range(lead, input.ndim):
            picked, belongs, _ = _parts(x, axis, wanted[axis - lead])
            x = picked.where(belongs, x.dtype.min).amax(axis + 1)
    values = with_vjp("adaptive_max", x, input, params=(wanted,))
    return (values, _places_of_largest(input, wanted)) if return_indices else values


def _places_of_largest(input: Tensor, wanted: Sizes) -> Tensor:
    """Axis by axis from the last, so that the first of equal ones is first in row-major order."""
    lead, x = input.ndim - len(wanted), input.detach()
    if math.prod(wanted) == 1:
        return x.flatten(lead).argmax(lead).reshape(*x.shape[:lead], *wanted)
    index: Tensor = x._constant(0, places((1,), 0, device=x.device).dtype).expand(x.shape)
    inner = 1
    for axis in reversed(range(lead, input.ndim)):
        picked, belongs, place = _parts(x, axis, wanted[axis - lead])
        best = picked.where(belongs, x.dtype.min).argmax(axis + 1, keepdim=True)
        x = picked.gather(axis + 1, best).squeeze(axis + 1)
        indices, _, _ = _parts(index, axis, wanted[axis - lead])
        rows = place.expand(picked.shape).gather(axis + 1, best).squeeze(axis + 1)
        index = indices.gather(axis + 1, best).squeeze(axis + 1) + rows * inner
        inner *= input.shape[axis]
    return index


@define_vjp("adaptive_max", is_formula=True)
def _adaptive_max_backward(g: Tensor, y: Tensor, x: Tensor, wanted: Sizes) -> tuple[Tensor]:
    """each g to the one element that is largest"""
    lead = x.ndim - len(wanted)
    index = _places_of_largest(x, wanted)
    base = g._constant(0, g.dtype).expand(*x.shape[:lead], math.prod(x.shape[lead:]))
    return (base.scatter_add(lead, index.flatten(lead), g.flatten(lead)).reshape(x.shape),)


# -- unpooling -----------------------------------------------------------------------------------


@labelled("max_unpool1d")
def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    output_size: Any = None,
) -> Tensor:
    """The values of `max_pool1d` back in their places, zeros elsewhere; see `max_unpool2d`."""
    return _unpool(input, indices, kernel_size, stride, padding, output_size, 1)


@labelled("max_unpool2d")
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    output_size: Any = None,
) -> Tensor:
    """The values of `max_pool2d` back in their places, zeros elsewhere.

    Args:
        input, indices: what `max_pool2d` returned with return_indices=True.
        kernel_size, stride, padding: what it was given.
        output_size: sizes of its input, where they do not follow from the others.

    >>> import tgrad, tgrad.nn.functional as F
    >>> values, places = F.max_pool2d(tgrad.arange(4.0).reshape(1, 2, 2), 2, return_indices=True)
    >>> F.max_unpool2d(values, places, 2).tolist()
    [[[0.0, 0.0], [0.0, 3.0]]]
    """
    return _unpool(input, indices, kernel_size, stride, padding, output_size, 2)


@labelled("max_unpool3d")
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    output_size: Any = None,
) -> Tensor:
    """The values of `max_pool3d` back in their places, zeros elsewhere; see `max_unpool2d`."""
    return _unpool(input, indices, kernel_size, stride, padding, output_size, 3)


def _unpool(
    input: Tensor, indices: Tensor, kernel_size: IntOrSizes, stride: IntOrSizes | None,
    padding: IntOrSizes, output_size: Any, rank: int,
) -> Tensor:  # fmt: skip
    name, lead = f"max_unpool{rank}d", input.ndim - rank
    if input.shape != indices.shape or lead not in (1, 2):
        raise ShapeError(f"{name} of shapes {input.shape} and {indices.shape}.")
    kernel = as_axes(kernel_size, rank, f"{name}: kernel_size")
    steps = kernel if stride is None else as_axes(stride, rank, f"{name}: stride")
    pads = as_axes(padding, rank, f"{name}: padding", 0)
    sizes = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(input.shape[lead:], steps, pads, kernel)
    )
    if output_size is not None:
        sizes = tuple(int(n) for n in output_size)[-rank:]
    base = input._constant(0, input.dtype).expand(*input.shape[:lead], math.prod(sizes))
    rows = [t.flatten(lead) for t in (indices, input)]
    return base.scatter(lead, *rows).reshape(*input.shape[:lead], *sizes)
