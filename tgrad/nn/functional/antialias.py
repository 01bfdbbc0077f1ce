"""Interpolation without aliases: a pixel is a weighted mean over all that it covers.

In: one axis of images, its new size, how many old pixels a new one spans. Out: the axis resampled.
Invariant: windows, filters and the order of roundings are PyTorch's, so that windows end at the
same pixels; where images grow, the filters are as narrow as those of plain interpolation.
Source: the resampling of Pillow, https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
"""

from __future__ import annotations

from math import ceil, pi

from tgrad import dtype as dt
from tgrad.creation import places
from tgrad.tensor import Tensor

CUBIC = -0.5
"""The free parameter of cubic convolution, Pillow's."""

LOBES = 3
"""Of the Lanczos filter, on either side."""


def _linear(distance: Tensor) -> Tensor:
    return (1.0 - distance).clamp(min=0.0)


def _cubic(distance: Tensor) -> Tensor:
    near = ((CUBIC + 2.0) * distance - (CUBIC + 3.0)) * distance * distance + 1.0
    far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * CUBIC
    return near.where(distance < 1.0, far.where(distance < 2.0, 0.0))


def _lanczos(distance: Tensor) -> Tensor:
    angle = distance * pi
    product = angle.sin() * (angle / LOBES).sin() * LOBES / (angle * angle)
    return product.where(distance < LOBES, 0.0).where(distance != 0.0, 1.0)


FILTERS = {"bilinear": (1.0, _linear), "bicubic": (2.0, _cubic), "lanczos": (3.0, _lanczos)}
"""Of each mode: half of the filter's width in pixels, and its height at a distance."""


def resampled(x: Tensor, axis: int, size: int, scale: float, mode: str) -> Tensor:
    """One axis of another size.

    Args:
        x: images in the dtype that sums are made in.
        axis: of x.
        size: its new size.
        scale: old pixels for a new one.
        mode: a key of `FILTERS`.

    >>> import tgrad
    >>> resampled(tgrad.tensor([1.0, 2.0, 3.0, 4.0]), 0, 2, 2.0, "bilinear").tolist()
    [1.71428..., 3.28571...]
    """
    n = x.shape[axis]
    if size == n and scale == 1.0:
        return x
    half, height = FILTERS[mode]
    stretch = max(scale, 1.0)
    reach = half * stretch
    wide = dt.float64 if x.dtype is dt.float64 else dt.float32
    shape = (size, 2 * ceil(reach) + 1)
    centre = (places((size, 1), 0, device=x.device).to(wide) + 0.5) * scale
    first = (centre - reach + 0.5).trunc().clamp(min=0.0)
    last = (centre + reach + 0.5).trunc().clamp(max=n)
    place = first + places(shape, 1, device=x.device).to(wide)
    inside = place < last
    heights = height(((place - centre + 0.5) * (1.0 / stretch)).abs()).where(inside, 0.0)
    weights = (heights / heights.sum(1, keepdim=True)).to(x.dtype)
    rows = x.index_select(axis, place.clamp(max=n - 1).long().reshape(-1)).unflatten(axis, shape)
    around = [shape[a - axis] if a in (axis, axis + 1) else 1 for a in range(x.ndim + 1)]
    return (rows * weights.reshape(around)).where(inside.reshape(around), 0.0).sum(axis + 1)
