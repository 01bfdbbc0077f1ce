"""Pooling over windows.

In: (N, C, *sizes) or (C, *sizes). Out: the same with smaller sizes. Invariant: windows are index
arithmetic; the gradient of a maximum goes to the first one of its window in row-major order, as in
PyTorch, and is gathered, never scattered. Source:
https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.creation import places
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn.functional.convolution import IntOrSizes, Sizes, as_axes, spread, windows
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


@labelled("max_pool1d")
def max_pool1d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    dilation: IntOrSizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window of the last axis; see `max_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.max_pool1d(tgrad.tensor([[1.0, 3.0, 2.0, 0.0]]), 2).tolist()
    [[3.0, 2.0]]
    """
    refuse("max_pool1d", ceil_mode=ceil_mode, return_indices=return_indices)
    return _max_pool(input, kernel_size, stride, padding, dilation, 1)


@labelled("max_pool2d")
def max_pool2d(
    input: Tensor,
    kernel_size: IntOrSizes,
    stride: IntOrSizes | None = None,
    padding: IntOrSizes = 0,
    dilation: IntOrSizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: sizes of the windows.
        stride: distance of windows, by default their size.
        padding: elements of -inf at each end, at most half the kernel.
        dilation: distance of the elements of a window.
        ceil_mode, return_indices: not supported.

    Raises:
        ShapeError: the windows do not fit.
        UnsupportedError: ceil_mode or return_indices.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.max_pool2d(tgrad.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    refuse("max_pool2d", ceil_mode=ceil_mode, return_indices=return_indices)
    return _max_pool(input, kernel_size, stride, padding, dilation, 2)


def _window_arguments(
    input: Tensor, kernel_size: IntOrSizes, stride: IntOrSizes | None, padding: IntOrSizes,
    dilation: IntOrSizes, rank: int, name: str,
) -> tuple[Sizes, Sizes, Sizes, Sizes]:  # fmt: skip
    """Kernel, stride, padding and dilation, one number an axis."""
    kernel = as_axes(kernel_size, rank, f"{name}: kernel_size")
    given = kernel_size if stride is None or stride == () else stride
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
    sizes = input.shape[input.ndim - rank :]
    for n, k, p, d in zip(sizes, kernel, pads, gaps):
        if n + 2 * p < d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: a window of {k} does not fit an axis of size {n}, padded by {p}.",
                "Take a smaller kernel.",
            )
    return kernel, steps, pads, gaps


def _max_pool(
    input: Tensor, kernel_size: IntOrSizes, stride: IntOrSizes | None, padding: IntOrSizes,
    dilation: IntOrSizes, rank: int,
) -> Tensor:  # fmt: skip
    kernel, steps, pads, gaps = _window_arguments(
        input, kernel_size, stride, padding, dilation, rank, f"max_pool{rank}d"
    )
    first = input.ndim - rank
    if kernel == steps and not any(pads) and all(d == 1 for d in gaps):
        blocks, axes = _blocks(input, first, kernel)
        return with_vjp("max_pool_blocks", blocks.amax(axes), input, params=(kernel,))
    x = _pad_lowest(input, first, pads)
    view = windows(x, first, kernel, steps, gaps)
    y = view.amax(tuple(range(input.ndim, view.ndim)))
    return with_vjp("max_pool_windows", y, input, params=(kernel, steps, pads, gaps))


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


def _pad_lowest(x: Tensor, first: int, pads: Sizes) -> Tensor:
    """Padded with the smallest value of the dtype."""
    if not any(pads):
        return x
    low = (0,) * first + pads
    inside = x._constant(1, dt.bool_).expand(x.shape)._pad_zero(low, low)
    return x._pad_zero(low, low).where(inside, x.dtype.min)


def _place(view: Tensor, axes: Sizes) -> Tensor:
    """The row-major position in the window, for each element of a view of windows; int32."""
    total: Tensor | None = None
    for axis in axes:
        part = places(view.shape, axis, device=view.device, dtype=dt.int32)
        total = part if total is None else total * view.shape[axis] + part
    assert total is not None
    return total


def _wins(view: Tensor, top: Tensor) -> Tensor:
    """Where an element is the maximum; a NaN is."""
    hit = view == top
    return hit | (view != view) if view.dtype.is_float else hit


@define_vjp("max_pool_blocks")
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


@define_vjp("max_pool_windows")
def _windows_backward(
    g: Tensor, y: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, pads: Sizes, dilation: Sizes
) -> tuple[Tensor]:
    """dx[p] = Σ_k g[i] over i * stride + k * dilation - pad = p, where k is the first maximum of
    window i"""
    rank, lead = len(kernel), x.ndim - len(kernel)
    view = windows(_pad_lowest(x, lead, pads), lead, kernel, stride, dilation)
    axes = tuple(range(x.ndim, view.ndim))
    place = _place(view, axes)
    top = y.reshape(*y.shape, *(1,) * rank)
    first = place.where(_wins(view, top), math.prod(kernel)).amin(axes) + 1  # 0 is "no window"
    around = [_around(t, x.shape, lead, kernel, stride, pads, dilation) for t in (first, g)]
    wanted = math.prod(kernel) - _place(around[0], axes)
    chosen = around[1].where(around[0] == wanted, 0.0)
    return (chosen.sum(axes),)


def _around(
    t: Tensor, shape: Sizes, lead: int, kernel: Sizes, stride: Sizes, pads: Sizes, dilation: Sizes
) -> Tensor:
    """For each element of the input, what `t` holds for each window that may hold the element, the
    last position in the window first; 0 where there is no window."""
    t = spread(t, lead, stride)
    low, high = [0] * lead, [0] * lead
    for axis, (k, p, d) in enumerate(zip(kernel, pads, dilation), lead):
        reach = d * (k - 1)
        low.append(reach - p)
        extra = shape[axis] + p - t.shape[axis]
        if extra < 0:
            t = t.narrow(axis, 0, t.shape[axis] + extra)
        high.append(max(extra, 0))
        if low[axis] < 0:
            t = t.narrow(axis, -low[axis], t.shape[axis] + low[axis])
            low[axis] = 0
    return windows(t._pad_zero(low, high), lead, kernel, (1,) * len(kernel), dilation)


def _mean_pool(
    input: Tensor, kernel_size: IntOrSizes, stride: IntOrSizes | None, padding: IntOrSizes,
    count_include_pad: bool, divisor: int | None, rank: int,
) -> Tensor:  # fmt: skip
    kernel, steps, pads, gaps = _window_arguments(
        input, kernel_size, stride, padding, 1, rank, f"avg_pool{rank}d"
    )
    first = input.ndim - rank
    wide = input.to(input.dtype.accumulator)
    if kernel == steps and not any(pads):
        view, axes = _blocks(wide, first, kernel)
    else:
        low = (0,) * first + pads
        padded = wide._pad_zero(low, low) if any(pads) else wide
        view = windows(padded, first, kernel, steps, gaps)
        axes = tuple(range(input.ndim, view.ndim))
    total = view.sum(axes)
    if divisor is not None or count_include_pad or not any(pads):
        return (total * (1.0 / (divisor or math.prod(kernel)))).to(input.dtype)
    ones = wide._constant(1, wide.dtype).expand(input.shape[first:])._pad_zero(pads, pads)
    count = windows(ones, 0, kernel, steps, gaps).sum(tuple(range(rank, 2 * rank)))
    return (total / count).to(input.dtype)


@labelled("avg_pool1d")
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
    refuse("avg_pool1d", ceil_mode=ceil_mode)
    return _mean_pool(input, kernel_size, stride, padding, count_include_pad, None, 1)


@labelled("avg_pool2d")
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
        kernel_size, stride, padding: see `max_pool2d`; padding is of zeros.
        ceil_mode: not supported.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead.

    Raises:
        UnsupportedError: ceil_mode.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.avg_pool2d(tgrad.ones(1, 1, 4, 4), 2).shape
    (1, 1, 2, 2)
    """
    refuse("avg_pool2d", ceil_mode=ceil_mode)
    return _mean_pool(input, kernel_size, stride, padding, count_include_pad, divisor_override, 2)


@labelled("adaptive_avg_pool2d")
def adaptive_avg_pool2d(input: Tensor, output_size: IntOrSizes | tuple[int | None, ...]) -> Tensor:
    """The mean of equal blocks, as many as `output_size` says.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: number of blocks along each axis; None keeps the input's size.

    Raises:
        UnsupportedError: a size does not divide the input's.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_avg_pool2d(tgrad.ones(1, 1, 4, 6), (1, 2)).shape
    (1, 1, 1, 2)
    """
    return _adaptive(input, output_size, 2).to(input.dtype)


@labelled("adaptive_avg_pool1d")
def adaptive_avg_pool1d(input: Tensor, output_size: IntOrSizes) -> Tensor:
    """The mean of equal blocks of the last axis; see `adaptive_avg_pool2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.adaptive_avg_pool1d(tgrad.tensor([[1.0, 3.0]]), 1).tolist()
    [[2.0]]
    """
    return _adaptive(input, output_size, 1).to(input.dtype)


def _adaptive(input: Tensor, output_size: IntOrSizes | tuple[int | None, ...], rank: int) -> Tensor:
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"adaptive_avg_pool{rank}d of shape {input.shape}.")
    first = input.ndim - rank
    given = (output_size,) * rank if isinstance(output_size, int) else tuple(output_size)
    wanted = [input.shape[first + a] if n is None else n for a, n in enumerate(given)]
    if len(wanted) != rank or any(m < 1 or n % m for n, m in zip(input.shape[first:], wanted)):
        raise UnsupportedError(
            f"adaptive_avg_pool{rank}d: output_size={output_size} of shape {input.shape}.",
            "Sizes of the output must divide those of the input.",
        )
    kernel = tuple(n // m for n, m in zip(input.shape[first:], wanted))
    view, axes = _blocks(input.to(input.dtype.accumulator), first, kernel)
    return view.mean(axes)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "max_pool1d",
    "max_pool2d",
]  # fmt: skip
