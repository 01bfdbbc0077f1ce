"""Pools whose windows start at random places (Graham 2014, arXiv 1412.6071).

In: images. Out: the largest element of each window. Invariant: the starts depend on one number of
an image, channel and axis, PyTorch's `_random_samples`; the windows are read by a gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.creation import arange
from tgrad.errors import ShapeError
from tgrad.nn.functional.convolution import as_axes
from tgrad.random import rand
from tgrad.tensor import Tensor, labelled

__all__ = [
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]  # fmt: skip

Counts = int | Sequence[int]
Ratios = float | Sequence[float] | None


@labelled("fractional_max_pool2d")
def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Counts,
    output_size: Counts | None = None,
    output_ratio: Ratios = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest element of windows that start at random places, evenly spread.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of a window.
        output_size: how many windows, or
        output_ratio: their share of the input's size.
        return_indices: also the place of each in its image, int64.
        _random_samples: (N, C, 2) in [0, 1), for columns and rows; by default drawn.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.fractional_max_pool2d(tgrad.ones(1, 1, 5, 5), 2, output_size=3).shape
    (1, 1, 3, 3)
    """
    settings = kernel_size, output_size, output_ratio, _random_samples
    return _pool(input, 2, settings, return_indices)


@labelled("fractional_max_pool3d")
def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Counts,
    output_size: Counts | None = None,
    output_ratio: Ratios = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """`fractional_max_pool2d` of (N, C, D, H, W) or (C, D, H, W); samples are (N, C, 3), for
    D, H and W.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.fractional_max_pool3d(tgrad.ones(1, 4, 4, 4), 2, output_ratio=0.5).shape
    (1, 2, 2, 2)
    """
    settings = kernel_size, output_size, output_ratio, _random_samples
    return _pool(input, 3, settings, return_indices)


def fractional_max_pool2d_with_indices(*args: Any, **kwargs: Any) -> Any:
    """`fractional_max_pool2d` with return_indices=True."""
    return fractional_max_pool2d(*args, **{**kwargs, "return_indices": True})


def fractional_max_pool3d_with_indices(*args: Any, **kwargs: Any) -> Any:
    """`fractional_max_pool3d` with return_indices=True."""
    return fractional_max_pool3d(*args, **{**kwargs, "return_indices": True})


def _pool(input: Tensor, rank: int, settings: tuple[Any, ...], return_indices: bool) -> Any:
    kernel_size, output_size, output_ratio, samples = settings
    name = f"fractional_max_pool{rank}d"
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} of shape {input.shape}.", f"It has {rank + 1} or {rank + 2} axes."
        )
    if (output_size is None) == (output_ratio is None):
        raise ShapeError(f"{name}: output_size or output_ratio.", "Give one of them.")
    sizes = input.shape[-rank:]
    kernel = as_axes(kernel_size, rank, f"{name}: kernel_size", 1)
    if output_size is None:
        is_one = isinstance(output_ratio, (int, float))
        ratios = [output_ratio] * rank if is_one else list(output_ratio)
        output_size = [int(n * ratio) for n, ratio in zip(sizes, ratios)]
    count = as_axes(output_size, rank, f"{name}: output_size", 1)
    if any(n < k + c - 1 for n, k, c in zip(sizes, kernel, count)):
        raise ShapeError(
            f"{name}: {count} windows of {kernel} in {sizes}.",
            "An axis needs kernel_size + output_size - 1 elements.",
        )
    x = input if input.ndim == rank + 2 else input.unsqueeze(0)
    if samples is None:
        samples = rand(*x.shape[:2], rank, dtype=input.dtype, device=input.device)
    place = _places(samples, sizes, kernel, count)
    flat = x.flatten(2)
    read = flat.gather(2, place.flatten(2)).reshape(place.shape)
    largest, which = read.max(-1)
    if input.ndim == rank + 1:
        largest = largest.squeeze(0)
    if not return_indices:
        return largest
    indices = place.gather(-1, which.unsqueeze(-1)).squeeze(-1)
    return largest, indices.squeeze(0) if input.ndim == rank + 1 else indices


def _places(
    samples: Tensor, sizes: Sequence[int], kernel: Sequence[int], count: Sequence[int]
) -> Tensor:
    """(N, C, *count, elements of a window): the place of each element in its image."""
    rank = len(sizes)
    wide = samples.detach().to(samples.dtype.accumulator)
    place: Any = 0
    for axis, (size, k, c) in enumerate(zip(sizes, kernel, count)):
        u = wide[..., 1 - axis if rank == 2 else axis].unsqueeze(-1)
        number = arange(c, device=samples.device)
        spread = (size - k) / (c - 1) if c > 1 else 0.0
        start = ((number + u) * spread).long() - (u * spread).long()
        start = start._constant(size - k, start.dtype).where(number == c - 1, start)
        start = start.reshape(*start.shape[:2], *(c if a == axis else 1 for a in range(rank)),
                              *(1,) * rank)  # fmt: skip
        offset = arange(k, device=samples.device)
        offset = offset.reshape(*(k if a == axis else 1 for a in range(rank)))
        place = place * size + start + offset
    return place.flatten(2 + rank)
