"""Resampling of images: interpolation to other sizes, and at any points of a grid.

In: (N, C, *sizes). Out: (N, C, *other sizes). Invariant: interpolation goes axis by axis, each a
gather of a few rows by places that the kernel computes; coordinates are float32, of float64 images
float64, as in PyTorch.
Source: https://docs.pytorch.org/docs/stable/nn.functional.html#vision-functions
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import places
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.joining import stack
from tgrad.methods.slopes import reached
from tgrad.nn.functional import antialias as aa
from tgrad.nn.functional.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from tgrad.tensor import Tensor, labelled

__all__ = [
    "affine_grid", "grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d",
    "interpolate", "upsample", "upsample_bilinear", "upsample_nearest",
]  # fmt: skip

RANKS = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "linear": (1,), "bilinear": (2,),
    "bicubic": (2,), "trilinear": (3,), "area": (1, 2, 3), "lanczos": (2,),
}  # fmt: skip
"""How many axes each mode takes."""

ALIGNED = ("linear", "bilinear", "bicubic", "trilinear")
"""Modes that know corners."""

CUBIC = -0.75
"""The free parameter of cubic convolution, PyTorch's."""


@labelled("interpolate")
@from_template()
def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Images of another size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W), floating point.
        size: the new sizes, one number or one an axis.
        scale_factor: or how many times larger.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area", or,
            with antialias, "lanczos".
        align_corners: whether the centres of corner elements (True) or their outer edges stay.
        recompute_scale_factor: whether scales follow from the rounded sizes.
        antialias: whether pixels of smaller images are means over all that they cover; modes
            "bilinear", "bicubic" and "lanczos".

    Raises:
        UnsupportedError: a mode that does not take so many axes, that is not made with antialias or
            only with it, or has no corners; or one that computes between neighbours, of integers.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.interpolate(tgrad.tensor([[[1.0, 3.0]]]), scale_factor=2).tolist()
    [[[1.0, 1.0, 3.0, 3.0]]]
    """
    rank = input.ndim - 2
    _check_mode(input, mode, align_corners, antialias)
    if (size is None) == (scale_factor is None):
        raise ShapeError("interpolate with size and scale_factor, or neither.", "Give one of them.")
    factors = None if scale_factor is None else _each(scale_factor, rank)
    if factors is None:
        sizes = tuple(int(n) for n in _each(size, rank))
    else:
        sizes = tuple(int(n * float(f)) for n, f in zip(input.shape[2:], factors))
    if recompute_scale_factor:
        factors = None
    if mode == "area":
        pool = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[rank - 1]
        return pool(input, sizes)
    if 0 in (*sizes, *input.shape[1:]):
        raise ShapeError(f"interpolate of shape {input.shape} to {sizes}.", "No size may be 0.")
    return resized(input, sizes, factors, mode, bool(align_corners), antialias)


def _check_mode(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    """
    Raises:
        UnsupportedError: as `interpolate` says.
    """
    rank = input.ndim - 2
    if rank not in RANKS.get(mode, ()):
        raise UnsupportedError(
            f"interpolate: mode={mode!r} of shape {input.shape}.",
            f"Modes of {rank} axes: {', '.join(m for m, ranks in RANKS.items() if rank in ranks)}.",
        )
    if mode not in aa.FILTERS if antialias else mode == "lanczos":
        raise UnsupportedError(
            f"interpolate: mode={mode!r} with antialias={antialias}.",
            f"With antialias: {', '.join(aa.FILTERS)}; lanczos is only with it.",
        )
    given = align_corners if mode == "lanczos" else align_corners is not None
    if given and mode not in ALIGNED:
        raise UnsupportedError(
            f"interpolate: align_corners={align_corners} with mode={mode!r}.",
            f"Modes with corners: {', '.join(ALIGNED)}.",
        )
    if not (input.dtype.is_float or "nearest" in mode):
        raise UnsupportedError(
            f"interpolate: mode={mode!r} of {input.dtype.name}.", "Use x.float() or a nearest mode."
        )


def resized(
    input: Tensor,
    sizes: Sequence[int],
    factors: Sequence[float | None] | None,
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> Tensor:
    """Images of other sizes, axis by axis; scales follow from factors where there are any."""
    x = input if "nearest" in mode else input.to(input.dtype.accumulator)
    for axis, n in enumerate(sizes, 2):
        factor = factors[axis - 2] if factors is not None else None
        if antialias:
            x = aa.resampled(x, axis, n, _scale(x.shape[axis], n, factor, align_corners), mode)
        else:
            x = _resized(x, axis, n, factor, mode, align_corners)
    return x.to(input.dtype).clone()


def _each(value: Any, rank: int) -> tuple[Any, ...]:
    given = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(given) != rank:
        raise ShapeError(f"interpolate: {value} for {rank} axes.", "Give one number an axis.")
    return given


def _scale(n: int, size: int, factor: float | None, align_corners: bool) -> float:
    """Old pixels for a new one."""
    if align_corners:
        return (n - 1) / (size - 1) if size > 1 else 0.0
    return n / size if not factor else 1.0 / float(factor)


def _resized(
    x: Tensor, axis: int, size: int, factor: float | None, mode: str, align_corners: bool
) -> Tensor:
    """One axis of another size: Σ_t x[place_t] * weight_t."""
    n = x.shape[axis]
    is_wide = x.dtype is dt.float64 and "nearest" not in mode
    at = places((size,), 0, device=x.device).to(dt.float64 if is_wide else dt.float32)
    scale = _scale(n, size, factor, align_corners)
    if mode != "bicubic" and "nearest" not in mode and size == n:
        return x  # whatever the factor that is rounded to this size, as in PyTorch
    if "nearest" in mode and size % n == 0 and scale == n / size:
        return _repeated(x, axis, size // n)
    if "nearest" in mode:
        offset = 0.5 if mode == "nearest-exact" else 0.0
        place = ((at + offset) * scale).floor().long().clamp(max=n - 1)
        return x.index_select(axis, place)
    if align_corners:
        source = at * scale
    else:
        source = (at + 0.5) * scale - 0.5
        source = source if mode == "bicubic" else source.clamp(min=0.0)
    total: Any = 0.0
    for place, weight in _taps(source, mode == "bicubic"):
        rows = x.index_select(axis, place.clamp(0, n - 1))
        column = weight.to(x.dtype).reshape([size if a == axis else 1 for a in range(x.ndim)])
        total = rows * column + total
    return total


def _repeated(x: Tensor, axis: int, times: int) -> Tensor:
    """Each element of an axis so many times; its gradient is a sum of neighbours."""
    lead, rest = x.shape[: axis + 1], x.shape[axis + 1 :]
    wide = x.unsqueeze(axis + 1).expand(*lead, times, *rest)
    return wide.reshape(*lead[:-1], lead[-1] * times, *rest)


def _taps(source: Tensor, cubic: bool) -> list[tuple[Tensor, Tensor]]:
    """Places around a coordinate, and their weights."""
    low = source.floor()
    t, first = source - low, low.long()
    if not cubic:
        return [(first, 1.0 - t), (first + 1, t)]
    weights = _far(t + 1.0), _near(t), _near(1.0 - t), _far(2.0 - t)
    return [(first + k, w) for k, w in zip((-1, 0, 1, 2), weights)]


def _near(t: Tensor) -> Tensor:
    """The cubic for distances up to 1."""
    return ((CUBIC + 2.0) * t - (CUBIC + 3.0)) * t * t + 1.0


def _far(t: Tensor) -> Tensor:
    """The cubic for distances from 1 to 2."""
    return ((CUBIC * t - 5.0 * CUBIC) * t + 8.0 * CUBIC) * t - 4.0 * CUBIC


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "nearest"."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "bilinear" and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", True)


# -- at any points -------------------------------------------------------------------------------


@labelled("grid_sample")
@from_template()
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Images read at the points of a grid.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W).
        grid: (N, OH, OW, 2) or (N, OD, OH, OW, 3) of coordinates (x, y[, z]) in [-1, 1].
        mode: "bilinear" (trilinear in 3d), "nearest", or "bicubic" (2d only).
        padding_mode: outside are "zeros", the "border", or a "reflection".
        align_corners: whether -1 and 1 are the centres of corner elements (True) or their edges.

    Returns:
        (N, C, *sizes of the grid).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.grid_sample(tgrad.ones(1, 1, 2, 2), tgrad.zeros(1, 1, 1, 2)).item()
    1.0
    """
    rank = input.ndim - 2
    if rank not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != rank:
        raise ShapeError(f"grid_sample of shapes {input.shape} and {grid.shape}.")
    if mode not in ("bilinear", "nearest", "bicubic") or (mode == "bicubic" and rank == 3):
        raise UnsupportedError(f"grid_sample: mode={mode!r}.", 'Use "bilinear" or "nearest".')
    if padding_mode not in ("zeros", "border", "reflection"):
        raise UnsupportedError(
            f"grid_sample: padding_mode={padding_mode!r}.",
            'Use "zeros", "border" or "reflection".',
        )
    sizes, corners = input.shape[2:], bool(align_corners)
    taps: list[list[tuple[Tensor, Tensor | None]]] = []
    for axis, n in enumerate(sizes):
        x = grid.select(-1, rank - 1 - axis)
        at = (x + 1.0) * ((n - 1) / 2) if corners else ((x + 1.0) * n - 1.0) * 0.5
        if mode != "bicubic":
            at = _padded(at, n, padding_mode, corners)
        if mode == "nearest":
            taps.append([(at.round(), None)])
            continue
        found = [(place.to(at.dtype), weight) for place, weight in _taps(at, mode == "bicubic")]
        outer = padding_mode if mode == "bicubic" else "zeros"
        taps.append([(_padded(place, n, outer, corners), weight) for place, weight in found])
    total: Any = None
    for corner in product(*taps):
        part = _read(input, [place for place, _ in corner])
        for _, weight in corner:
            part = part if weight is None else part * weight.unsqueeze(1)
        total = part if total is None else total + part
    return reached(total, grid) if mode == "nearest" else total


def _padded(at: Tensor, n: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Coordinates brought back into the image."""
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
        if span <= 0:
            return at * 0.0
        away = (at - low).abs()
        flips, rest = (away / span).detach().floor(), away.fmod(span)
        at = (rest + low).where(flips % 2 == 0, span - rest + low)
    inside = (at > 0) & (at < n - 1)
    return at.where(inside, at.detach().clamp(0, n - 1))


def _read(input: Tensor, coordinates: Sequence[Tensor]) -> Tensor:
    """input[n, :, c0, c1, ..] of each sample, and 0 outside."""
    sizes, count = input.shape[2:], input.shape[:2]
    index: Any = 0
    inside: Any = None
    for at, n in zip(coordinates, sizes):
        at = at.detach()
        hit = (at >= 0) & (at <= n - 1)
        inside = hit if inside is None else inside & hit
        index = index * n + at.where(hit, 0.0).to(dt.int64)
    shape = index.shape[1:]
    rows = index.flatten(1).unsqueeze(1)
    rows = rows.expand(*count, rows.shape[-1])
    picked = input.flatten(len(count)).gather(2, rows).reshape(*count, *shape)
    return picked.where(inside.unsqueeze(1), 0.0)


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample`, with modes as numbers: "bilinear", "nearest", "bicubic"; "zeros", "border",
    "reflection"."""
    mode = ("bilinear", "nearest", "bicubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    return grid_sample(input, grid, mode, padding, align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler


@labelled("affine_grid")
@from_template()
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid of `grid_sample` for affine maps.

    Args:
        theta: (N, 2, 3), or (N, 3, 4) in 3d.
        size: (N, C, H, W) or (N, C, D, H, W) of the images to make.
        align_corners: see `grid_sample`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.affine_grid(tgrad.tensor([[[1.0, 0, 0], [0, 1, 0]]]), (1, 1, 2, 2), True)[0, 0].tolist()
    [[-1.0, -1.0], [1.0, -1.0]]
    """
    sizes = tuple(size)[2:]
    columns = []
    for axis in reversed(range(len(sizes))):
        n = sizes[axis]
        at = places(sizes, axis, device=theta.device).to(theta.dtype)
        step = 2.0 / (n - 1) if align_corners and n > 1 else 2.0 / n
        start = -1.0 if align_corners and n > 1 else 1.0 / n - 1.0
        columns.append(at * step + start)
    columns.append(columns[0] * 0.0 + 1.0)
    points = stack(columns, -1).reshape(-1, len(columns))
    return points.matmul(theta.transpose(-2, -1)).reshape(theta.shape[0], *sizes, len(sizes))
