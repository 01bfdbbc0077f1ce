"""Pooling: the largest or the mean of each window.

In: (N, C, *sizes) or (C, *sizes). Out: the same with smaller sizes. Invariant: windows are index
arithmetic; the gradient of a maximum goes to the first one of its window in row-major order, as in
PyTorch, and is gathered, never scattered. Source:
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import places
from tgrad.errors import ShapeError
from tgrad.from_template import from_template
from tgrad.methods.slopes import by_formula
from tgrad.nn.functional.convolution import IntOrSizes, Sizes, as_axes, spread, windows
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d",
    "max_pool3d_with_indices",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows lie on the last axes; one number an axis.

    Attributes:
        low, high: elements before and after the input that windows reach.
        pads: the padding asked for; with ceil_mode `high` may be more.
    """

    kernel: Sizes
    stride: Sizes
    low: Sizes
    high: Sizes
    dilation: Sizes
    pads: Sizes

    @property
    def are_blocks(self) -> bool:
        """Whether windows stand side by side."""
        plain = not any((*self.low, *self.high)) and all(d == 1 for d in self.dilation)
        return self.kernel == self.stride and plain


def _windows_of(
    input: Tensor, kernel_size: IntOrSizes, stride: IntOrSizes | None, padding: IntOrSizes,
    dilation: IntOrSizes, ceil_mode: bool, rank: int, name: str,
) -> Windows:  # fmt: skip
    kernel = as_axes(kernel_size, rank, f"{name}: kernel_size")
    given = kernel_size if stride is None or stride in ((), []) else stride
    steps = as_axes(given, rank, f"{name}: stride")
    pads = as_axes(padding, rank, f"{name}: padding", 0)
    gaps = as_axes(dilation, rank, f"{name}: dilation")
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} of shape {input.shape}.", f"The input has {rank + 1} or {rank + 2} axes."
        )
    if any(2 * p > k for p, k in zip(pads, kernel)):
        raise ShapeError(
            f"{name}: padding={padding} of kernel_size={kernel_size}.",
            "Padding is at most half the kernel.",
        )
    high = []
    for n, k, s, p, d in zip(input.shape[input.ndim - rank :], kernel, steps, pads, gaps):
        rest = n + 2 * p - d * (k - 1) - 1
        if rest < 0 and not ceil_mode:
            raise ShapeError(
                f"{name}: a window of {k} does not fit an axis of size {n}, padded by {p}.",
                "Take a smaller kernel.",
            )
        last = -(-rest // s) if ceil_mode else rest // s
        if ceil_mode and last * s >= n + p:
            last -= 1
        high.append(max(p, last * s + d * (k - 1) + 1 - n - p))
    return Windows(kernel, steps, pads, tuple(high), gaps, pads)


# -- the largest ---------------------------------------------------------------------------------


@labelled("max_pool1d")
@from_template()
def max_pool1d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    dilation: IntOrSizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of the last axis; see `max_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.max_pool1d(tgrad.tensor([[1.0, 3.0, 2.0, 0.0]]), 2).tolist()
    [[3.0, 2.0]]
    """
    w = _windows_of(input, kernel_size, stride, padding, dilation, ceil_mode, 1, "max_pool1d")
    return _max_pool(input, w, return_indices)


def max_pool1d_with_indices(
    input: Tensor, kernel_size: IntOrSizes, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`max_pool1d` with return_indices=True."""
    return max_pool1d(input, kernel_size, *args, **{**options, "return_indices": True})


@labelled("max_pool2d")
@from_template()
def max_pool2d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    dilation: IntOrSizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: sizes of the windows.
        stride: distance of windows, by default their size.
        padding: elements of -inf at each end, at most half the kernel.
        dilation: distance of the elements of a window.
        ceil_mode: whether a last window may reach beyond the end.
        return_indices: return (values, their row-major places in the plane, int64).

    Raises:
        ShapeError: the windows do not fit.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.max_pool2d(tgrad.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    w = _windows_of(input, kernel_size, stride, padding, dilation, ceil_mode, 2, "max_pool2d")
    return _max_pool(input, w, return_indices)


def max_pool2d_with_indices(
    input: Tensor, kernel_size: IntOrSizes, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`max_pool2d` with return_indices=True."""
    return max_pool2d(input, kernel_size, *args, **{**options, "return_indices": True})


@labelled("max_pool3d")
@from_template()
def max_pool3d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    dilation: IntOrSizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of the last three axes; see `max_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.max_pool3d(tgrad.ones(1, 2, 2, 2), 2).tolist()
    [[[[1.0]]]]
    """
    w = _windows_of(input, kernel_size, stride, padding, dilation, ceil_mode, 3, "max_pool3d")
    return _max_pool(input, w, return_indices)


def max_pool3d_with_indices(
    input: Tensor, kernel_size: IntOrSizes, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`max_pool3d` with return_indices=True."""
    return max_pool3d(input, kernel_size, *args, **{**options, "return_indices": True})


def _max_pool(input: Tensor, w: Windows, return_indices: bool) -> Any:
    first = input.ndim - len(w.kernel)
    if w.are_blocks:
        blocks, axes = _blocks(input, first, w.kernel)
        y = with_vjp("max_pool_blocks", blocks.amax(axes), input, params=(w.kernel,))
    else:
        view = windows(_pad_lowest(input, first, w), first, w.kernel, w.stride, w.dilation)
        top = view.amax(tuple(range(input.ndim, view.ndim)))
        y = with_vjp("max_pool_windows", top, input, params=(w,))
    return (y, _winners(input.detach(), y.detach(), w).long()) if return_indices else y


def _blocks(x: Tensor, first: int, kernel: Sizes) -> tuple[Tensor, Sizes]:
    """Windows side by side: [.., H, ..] as [.., H // k, k, ..], and the axes of the elements."""
    shape: list[int] = list(x.shape[:first])
    axes = []
    for axis, k in enumerate(kernel, first):
        count = x.shape[axis] // k
        x = x.narrow(axis, 0, count * k)
        axes.append(len(shape) + 1)
        shape += [count, k]
    return x.reshape(shape), tuple(axes)


def _pad_lowest(x: Tensor, first: int, w: Windows) -> Tensor:
    """Padded with the smallest value of the dtype."""
    if not any((*w.low, *w.high)):
        return x
    inside = _pad_zero(x._constant(1, dt.bool_).expand(x.shape), first, w)
    return _pad_zero(x, first, w).where(inside, x.dtype.min)


def _pad_zero(x: Tensor, first: int, w: Windows) -> Tensor:
    """Padded with zeros."""
    zeros = (0,) * first
    return x._pad_zero(zeros + w.low, zeros + w.high) if any((*w.low, *w.high)) else x


def _place(view: Tensor, axes: Sizes) -> Tensor:
    """The row-major place of each element along some axes; int32 if that holds the last place."""
    total: Tensor | None = None
    dtype = dt.int32 if math.prod(view.shape[a] for a in axes) < dt.int32.max else dt.int64
    for axis in axes:
        part = places(view.shape, axis, device=view.device, dtype=dtype)
        total = part if total is None else total * view.shape[axis] + part
    assert total is not None
    return total


def _wins(view: Tensor, top: Tensor) -> Tensor:
    """Where an element is the maximum; a NaN is."""
    hit = view == top
    return hit | (view != view) if view.dtype.is_float else hit


@define_vjp("max_pool_blocks", is_formula=True)
def _blocks_backward(g: Tensor, y: Tensor, x: Tensor, kernel: Sizes) -> tuple[Tensor]:
    """g where the position in the window is that of the first maximum, else 0"""
    lead = x.ndim - len(kernel)
    blocks, axes = _blocks(x, lead, kernel)
    kept = [1 if a in axes else n for a, n in enumerate(blocks.shape)]
    place = _place(blocks, axes)
    count = math.prod(kernel)
    first = place.where(_wins(blocks, y.reshape(kept)), count).amin(axes, keepdim=True)
    chosen = g.reshape(kept).where(place == first, 0.0)
    dx = chosen.reshape(*x.shape[:lead], *(n // k * k for n, k in zip(x.shape[lead:], kernel)))
    rest = [n - m for n, m in zip(x.shape, dx.shape)]
    return (dx._pad_zero((0,) * x.ndim, rest) if any(rest) else dx,)


@define_vjp("max_pool_windows", is_formula=True)
def _windows_backward(g: Tensor, y: Tensor, x: Tensor, w: Windows) -> tuple[Tensor]:
    """dx[p] = Σ g[i] over the windows i that reach p and whose first maximum is there"""
    lead = x.ndim - len(w.kernel)
    around = [_around(t, x.shape, lead, w) for t in (_winners(x, y, w) + 1, g)]  # 0: no window
    axes = tuple(range(x.ndim, around[0].ndim))
    here = _place(around[0], tuple(range(lead, x.ndim))) + 1
    return (around[1].where(around[0] == here, 0.0).sum(axes),)


def _winners(x: Tensor, y: Tensor, w: Windows) -> Tensor:
    """The row-major place in the input's plane of each window's first maximum, or how many places
    there are where it lies in padding alone; int32 if that holds the last place."""
    lead = x.ndim - len(w.kernel)
    plane = tuple(range(lead, x.ndim))
    view = windows(_pad_lowest(x, lead, w), lead, w.kernel, w.stride, w.dilation)
    none = math.prod(x.shape[lead:])
    inside = _place(x, plane) - none  # not of the padding, which is -inf as well
    at = windows(_pad_zero(inside, lead, w), lead, w.kernel, w.stride, w.dilation) + none
    top = y.reshape(*y.shape, *(1,) * len(w.kernel))
    return at.where(_wins(view, top), none).amin(tuple(range(x.ndim, view.ndim)))


def _around(t: Tensor, shape: Sizes, lead: int, w: Windows) -> Tensor:
    """For each element of the input, what `t` holds for each window that may hold the element, the
    last position in the window first; 0 where there is no window."""
    t = spread(t, lead, w.stride)
    low, high = [0] * lead, [0] * lead
    for axis, (k, p, d) in enumerate(zip(w.kernel, w.low, w.dilation), lead):
        low.append(d * (k - 1) - p)
        extra = shape[axis] + p - t.shape[axis]
        if extra < 0:
            t = t.narrow(axis, 0, t.shape[axis] + extra)
        high.append(max(extra, 0))
        if low[axis] < 0:
            t = t.narrow(axis, -low[axis], t.shape[axis] + low[axis])
            low[axis] = 0
    return windows(t._pad_zero(low, high), lead, w.kernel, (1,) * len(w.kernel), w.dilation)


# -- the mean ------------------------------------------------------------------------------------


def _mean_pool(input: Tensor, w: Windows, count_include_pad: bool, divisor: int | None) -> Tensor:
    return by_formula(_means(input, w, count_include_pad, divisor), input)


def _means(input: Tensor, w: Windows, count_include_pad: bool, divisor: int | None) -> Tensor:
    rank = len(w.kernel)
    first = input.ndim - rank
    wide = input.to(input.dtype.accumulator)
    total = _window_sums(wide, first, w)
    if divisor is not None or not any((*w.low, *w.high)):
        return (total * (1.0 / (divisor or math.prod(w.kernel)))).to(input.dtype)
    if count_include_pad and w.high == w.pads:
        return (total * (1.0 / math.prod(w.kernel))).to(input.dtype)
    return (total / _counts(input, total, w, count_include_pad)).to(input.dtype)


def _counts(input: Tensor, total: Tensor, w: Windows, count_include_pad: bool) -> Tensor:
    """How many elements each window has, in the shape and dtype of the windows' sums."""
    count: Any = 1
    for axis, (k, s, p) in enumerate(zip(w.kernel, w.stride, w.pads), input.ndim - len(w.kernel)):
        start = places(total.shape, axis, device=input.device) * s - p
        reach = p if count_include_pad else 0
        count = count * ((start + k).clamp(max=input.shape[axis] + reach) - start.clamp(min=-reach))
    return count.to(total.dtype)


def _window_sums(x: Tensor, first: int, w: Windows) -> Tensor:
    if w.are_blocks:
        view, axes = _blocks(x, first, w.kernel)
        return view.sum(axes)
    low, high = (0,) * first + w.low, (0,) * first + w.high
    padded = x._pad_zero(low, high) if any((*low, *high)) else x
    view = windows(padded, first, w.kernel, w.stride, w.dilation)
    return view.sum(tuple(range(x.ndim, view.ndim)))


@labelled("avg_pool1d")
@from_template()
def avg_pool1d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of the last axis; see `avg_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.avg_pool1d(tgrad.tensor([[1.0, 3.0]]), 2).tolist()
    [[2.0]]
    """
    w = _windows_of(input, kernel_size, stride, padding, 1, ceil_mode, 1, "avg_pool1d")
    return _mean_pool(input, w, count_include_pad, None)


@labelled("avg_pool2d")
@from_template()
def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, ceil_mode: see `max_pool2d`; padding is of zeros.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.avg_pool2d(tgrad.ones(1, 1, 4, 4), 2).shape
    (1, 1, 2, 2)
    """
    w = _windows_of(input, kernel_size, stride, padding, 1, ceil_mode, 2, "avg_pool2d")
    return _mean_pool(input, w, count_include_pad, divisor_override)


@labelled("avg_pool3d")
@from_template()
def avg_pool3d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of the last three axes; see `avg_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.avg_pool3d(tgrad.ones(1, 2, 2, 2), 2).item()
    1.0
    """
    w = _windows_of(input, kernel_size, stride, padding, 1, ceil_mode, 3, "avg_pool3d")
    return _mean_pool(input, w, count_include_pad, divisor_override)


@labelled("lp_pool1d")
@from_template()
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The signed p-norm of each window: (Σ x^p)^(1/p).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.lp_pool1d(tgrad.ones(1, 2), 1, 2).item()
    2.0
    """
    w = _windows_of(input, kernel_size, stride, 0, 1, ceil_mode, 1, "lp_pool1d")
    return _norm_pool(input, norm_type, w)


@labelled("lp_pool2d")
@from_template()
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The signed p-norm of each window: (Σ x^p)^(1/p).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.lp_pool2d(tgrad.ones(1, 2, 2), 1, 2).item()
    4.0
    """
    w = _windows_of(input, kernel_size, stride, 0, 1, ceil_mode, 2, "lp_pool2d")
    return _norm_pool(input, norm_type, w)


@labelled("lp_pool3d")
@from_template()
def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The signed p-norm of each window: (Σ x^p)^(1/p).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.lp_pool3d(tgrad.ones(1, 2, 2, 2), 1, 2).item()
    8.0
    """
    w = _windows_of(input, kernel_size, stride, 0, 1, ceil_mode, 3, "lp_pool3d")
    return _norm_pool(input, norm_type, w)


def _norm_pool(input: Tensor, norm_type: float, w: Windows) -> Tensor:
    wide = input.to(input.dtype.accumulator)
    total = _window_sums(wide**norm_type, input.ndim - len(w.kernel), w)
    if any(w.high):  # PyTorch's is the mean times the size of a whole window
        total = total * (math.prod(w.kernel) / _counts(input, total, w, True))
    return ((total.sign() * total.abs().relu()) ** (1.0 / norm_type)).to(input.dtype)
