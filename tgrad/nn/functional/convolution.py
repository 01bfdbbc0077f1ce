"""Convolution: a dot over windows of the input, which are index arithmetic and never stored.

In: (N, C, *sizes) and (O, C / groups, *kernel). Out: (N, O, *sizes). Invariant: forward and both
gradients are one dot each over (C, *kernel), (O, *kernel) and (N, *sizes); sums are float32 for
float16 and bfloat16. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any

from tgrad.aliases import own_memory
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.methods.elementwise import is_complex
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

Sizes = tuple[int, ...]
IntOrSizes = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How windows lie on the input; one number an axis."""

    stride: Sizes
    low: Sizes
    high: Sizes
    dilation: Sizes
    groups: int


def as_axes(value: IntOrSizes, rank: int, name: str, least: int = 1) -> Sizes:
    """One number an axis.

    Raises:
        ShapeError: the wrong number of numbers, or one below `least`.
    """
    sizes = (value,) * rank if isinstance(value, int) else tuple(value)
    sizes = sizes * rank if len(sizes) == 1 else sizes
    if len(sizes) != rank or min(sizes) < least:
        raise ShapeError(f"{name}={value}.", f"Give one number, or {rank}, of at least {least}.")
    return sizes


def of_complex_factors(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Decorator: a complex input or weight is multiplied out into its parts."""

    @wraps(function)
    def convolve(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not is_complex(input) and not is_complex(weight):
            return function(input, weight, bias, *args, **kwargs)
        from tgrad.complex_numbers.parts import multiplied

        made = multiplied(lambda x, w: function(x, w, None, *args, **kwargs), [input, weight])
        return made if bias is None else made + bias.reshape(-1, *(1,) * (weight.ndim - 2))

    return convolve


@of_complex_factors
@labelled("conv1d")
@from_template()
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes | str = 0,
    dilation: IntOrSizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over one axis; see `conv2d`.

    Args:
        input: (N, C, L) or (C, L).
        weight: (O, C / groups, K).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv1d(tgrad.ones(1, 1, 4), tgrad.ones(1, 1, 2)).tolist()
    [[[2.0, 2.0, 2.0]]]
    """
    return _convolve(input, weight, bias, stride, padding, dilation, groups, 1)


@of_complex_factors
@labelled("conv2d")
@from_template()
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes | str = 0,
    dilation: IntOrSizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation, as everybody calls it) over two axes.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (O, C / groups, KH, KW).
        bias: (O,).
        stride: distance of windows.
        padding: zeros at each end, "valid" for none, "same" for the input's sizes (stride 1).
        dilation: distance of the elements of a window.
        groups: channels are convolved in so many groups apart.

    Returns:
        (N, O, OH, OW) with OH = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.

    Raises:
        ShapeError: sizes do not fit.
        DTypeError: the dtypes differ.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv2d(tgrad.ones(1, 1, 3, 3), tgrad.ones(1, 1, 2, 2)).shape
    (1, 1, 2, 2)
    """
    return _convolve(input, weight, bias, stride, padding, dilation, groups, 2)


@of_complex_factors
@labelled("conv3d")
@from_template()
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes | str = 0,
    dilation: IntOrSizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over three axes; see `conv2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv3d(tgrad.ones(1, 1, 2, 2, 2), tgrad.ones(1, 1, 2, 2, 2)).item()
    8.0
    """
    return _convolve(input, weight, bias, stride, padding, dilation, groups, 3)


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrSizes,
    padding: IntOrSizes | str,
    dilation: IntOrSizes,
    groups: int,
    rank: int,
) -> Tensor:
    name = f"conv{rank}d"
    if input.ndim == rank + 1:
        batched = _convolve(
            input.unsqueeze(0), weight, bias, stride, padding, dilation, groups, rank
        )
        return batched.squeeze(0)
    _check(input, weight, bias, groups, rank)
    steps = as_axes(stride, rank, f"{name}: stride")
    gaps = as_axes(dilation, rank, f"{name}: dilation")
    kernel = weight.shape[2:]
    low, high = _padding(padding, kernel, steps, gaps, name)
    for axis, (n, k) in enumerate(zip(input.shape[2:], kernel)):
        if n + low[axis] + high[axis] < gaps[axis] * (k - 1) + 1:
            raise ShapeError(
                f"{name}: a kernel of {k} elements, {gaps[axis]} apart, does not fit axis "
                f"{axis + 2} of shape {input.shape}, padded by {low[axis]} and {high[axis]}.",
                "Pad more or take a smaller kernel.",
            )
    geometry = Geometry(steps, low, high, gaps, groups)
    y = with_vjp(
        "conv", convolve_forward(input, weight, geometry), input, weight, params=(geometry,)
    )
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _check(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, rank: int) -> None:
    name, o = f"conv{rank}d", weight.shape[0] if weight.shape else 0
    if input.ndim != rank + 2 or weight.ndim != rank + 2:
        raise ShapeError(
            f"{name} of shapes {input.shape} and {weight.shape}.",
            f"The input has {rank + 2} or {rank + 1} axes, the weight {rank + 2}.",
        )
    if groups < 1 or o % groups or input.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"{name}: input {input.shape}, weight {weight.shape}, groups={groups}.",
            f"The input must have {weight.shape[1] * max(groups, 1)} channels, and groups must "
            "divide the weight's first axis.",
        )
    if bias is not None and bias.shape != (o,):
        raise ShapeError(f"{name}: bias of shape {bias.shape} for {o} output channels.")
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not input.dtype):
        raise DTypeError(
            f"{name} of {input.dtype.name} and {weight.dtype.name}.",
            "Input, weight and bias need one dtype.",
        )


def _padding(
    padding: IntOrSizes | str, kernel: Sizes, stride: Sizes, dilation: Sizes, name: str
) -> tuple[Sizes, Sizes]:
    """Zeros before and after each axis."""
    if not isinstance(padding, str):
        each = as_axes(padding, len(kernel), f"{name}: padding", 0)
        return each, each
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding != "same":
        raise UnsupportedError(f"{name}: padding={padding!r}.", 'Use numbers, "same" or "valid".')
    if any(s != 1 for s in stride):
        raise UnsupportedError(f'{name}: padding="same" with stride={stride}.', "Use stride 1.")
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def windows(x: Tensor, first: int, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """Windows of the axes from `first`; their elements become the last axes."""
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation)):
        x = x._window(first + axis, k, s, d)
    return x


def _padded(x: Tensor, first: int, low: Sizes, high: Sizes) -> Tensor:
    """Zeros around the axes from `first`; a negative number cuts."""
    if min((*low, *high)) < 0:
        for axis, (a, b) in enumerate(zip(low, high)):
            n = x.shape[first + axis]
            cut = max(-a, 0)
            x = x.narrow(first + axis, cut, n - cut - max(-b, 0))
        low, high = tuple(max(a, 0) for a in low), tuple(max(b, 0) for b in high)
    if not any((*low, *high)):
        return x
    return x._pad_zero((0,) * first + low, (0,) * first + high)


def _split_groups(x: Tensor, axis: int, groups: int) -> Tensor:
    """An axis of groups * n as two axes."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def convolve_forward(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """y[n, o, i] = Σ_(c, k) x[n, c, i * stride + k * dilation - low] * w[o, c, k]"""
    g, rank, kernel = geometry.groups, w.ndim - 2, w.shape[2:]
    x = _padded(x, 2, geometry.low, geometry.high)
    view = windows(x, 2, kernel, geometry.stride, geometry.dilation)  # [N, C, *O, *K]
    if g == 1:
        inner = (1, *range(2 + rank, 2 + 2 * rank))
        y = view._dot(w, (inner, tuple(range(1, w.ndim))))  # [N, *O, O]
        return y.permute(0, rank + 1, *range(1, rank + 1))
    view, w = _split_groups(view, 1, g), _split_groups(w, 0, g)  # [N, G, C, ..], [G, O, C, ..]
    inner = (2, *range(3 + rank, 3 + 2 * rank))
    y = view._dot(w, (inner, tuple(range(2, w.ndim))), ((1,), (0,)))  # [G, N, *O, O]
    y = y.permute(1, 0, rank + 2, *range(2, rank + 2))
    return y.reshape(y.shape[0], g * y.shape[2], *y.shape[3:])


@define_vjp("conv")
def _backward(
    dy: Tensor, y: Tensor, x: Tensor, w: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    return input_gradient(dy, x.shape[2:], w, geometry), weight_gradient(dy, x, w, geometry)


def weight_gradient(dy: Tensor, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """dw[o, c, k] = Σ_(n, i) dy[n, o, i] * x[n, c, i * stride + k * dilation - low]"""
    g, rank = geometry.groups, w.ndim - 2
    x = _padded(x, 2, geometry.low, geometry.high)
    view = windows(x, 2, w.shape[2:], geometry.stride, geometry.dilation)
    if g == 1:
        inner = (0, *range(2, 2 + rank))
        return dy._dot(view, (inner, inner))
    view, dy = _split_groups(view, 1, g), _split_groups(dy, 1, g)
    inner = (0, *range(3, 3 + rank))
    return dy._dot(view, (inner, inner), ((1,), (1,))).reshape(w.shape)  # [G, O, C, *K]


def input_gradient(dy: Tensor, sizes: Sizes, w: Tensor, geometry: Geometry) -> Tensor:
    """dx[n, c, p] = Σ_(o, k) dy[n, o, i] * w[o, c, k] over i * stride + k * dilation - low = p

    Gathered: dy with stride - 1 zeros between its elements, padded, against the flipped weight;
    or by phases, where those multiply fewer zeros.
    """
    g, rank, kernel = geometry.groups, w.ndim - 2, w.shape[2:]
    reaches = [Phase.of(*x) for x in zip(sizes, kernel, geometry.stride, geometry.low)]
    is_depthwise = w.shape[0] == g and w.shape[1] == 1
    if prod(p.taps for p in reaches) < prod(kernel) and set(geometry.dilation) == {1}:
        if not is_depthwise:
            return _by_phases(dy, sizes, w, g, reaches)
    dy = spread(dy, 2, geometry.stride)
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel)]
    low = tuple(r - a for r, a in zip(reach, geometry.low))
    high = tuple(n + r - a - m for n, r, a, m in zip(sizes, reach, low, dy.shape[2:]))
    dy = _padded(dy, 2, low, high)
    view = windows(dy, 2, kernel, (1,) * rank, geometry.dilation)  # [N, O, *P, *K]
    w = w.flip(tuple(range(2, w.ndim)))
    if g == 1:
        inner = (1, *range(2 + rank, 2 + 2 * rank))
        dx = view._dot(w, (inner, (0, *range(2, w.ndim))))  # [N, *P, C]
        return dx.permute(0, rank + 1, *range(1, rank + 1))
    view, w = _split_groups(view, 1, g), _split_groups(w, 0, g)
    inner = (2, *range(3 + rank, 3 + 2 * rank))
    dx = view._dot(w, (inner, (1, *range(3, w.ndim))), ((1,), (0,)))  # [G, N, *P, C]
    dx = dx.permute(1, 0, rank + 2, *range(2, rank + 2))
    return dx.reshape(dx.shape[0], g * dx.shape[2], *dx.shape[3:])


@dataclass(frozen=True, slots=True)
class Phase:
    """How one axis of an input gradient is gathered, s elements of it at a time.

    dx[s P + r - shift] = Σ_v dy[P + first + v] * w[r + s (taps - 1 - v) - before],   0 <= r < s

    Attributes:
        stride, first, taps: s, the first v and how many.
        before: zeros before the kernel, so that a multiple of the stride is left of it.
        shift: where dx begins among the elements that are computed.
        count: how many P.
    """

    stride: int
    first: int
    taps: int
    before: int
    shift: int
    count: int

    @staticmethod
    def of(size: int, kernel: int, stride: int, low: int) -> Phase:
        """With the fewest products: where the first window begins left of dx, phases that are
        counted from there reach ceil(kernel / s) elements, others one more."""
        ways = (Phase._from(shift, size, kernel, stride, low) for shift in (0, low % stride))
        return min(ways, key=lambda p: p.taps * p.count)

    @staticmethod
    def _from(shift: int, size: int, kernel: int, stride: int, low: int) -> Phase:
        low -= shift
        first, last = -((kernel - 1 - low) // stride), (stride - 1 + low) // stride
        count = -(-(size + shift) // stride)
        return Phase(stride, first, last - first + 1, stride * last - low, shift, count)


def _by_phases(dy: Tensor, sizes: Sizes, w: Tensor, g: int, phases: Sequence[Phase]) -> Tensor:
    """The input gradient as one product whose columns are (phase, channel): pixels of one phase are
    a dense convolution, and all phases read the same elements of dy."""
    rank = w.ndim - 2
    low = tuple(-p.first for p in phases)
    high = tuple(p.count + p.taps - 1 - n - a for p, n, a in zip(phases, dy.shape[2:], low))
    taps = tuple(p.taps for p in phases)
    view = windows(_padded(dy, 2, low, high), 2, taps, (1,) * rank, (1,) * rank)
    after = tuple(p.taps * p.stride - p.before - k for p, k in zip(phases, w.shape[2:]))
    w = _padded(w, 2, tuple(p.before for p in phases), after)
    w = w.reshape(*w.shape[:2], *(n for p in phases for n in (p.taps, p.stride)))
    w = w.flip(tuple(range(2, 2 + 2 * rank, 2)))  # [O, C, *(tap, phase)]
    w = w.permute(0, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2), 1)
    view, w = _split_groups(view, 1, g), _split_groups(w, 0, g)
    inner = (2, *range(3 + rank, 3 + 2 * rank))
    dx = view._dot(w, (inner, tuple(range(1, 2 + rank))), ((1,), (0,)))  # [G, N, *P, *s, C]
    pairs = (a for i in range(rank) for a in (2 + i, 2 + rank + i))
    dx = dx.permute(1, 0, 2 + 2 * rank, *pairs)
    dx = dx.reshape(dx.shape[0], g * dx.shape[2], *(p.count * p.stride for p in phases))
    for axis, (n, p) in enumerate(zip(sizes, phases), 2):
        dx = dx if dx.shape[axis] == n else dx.narrow(axis, p.shift, n)
    return dx


def spread(x: Tensor, first: int, steps: Sizes) -> Tensor:
    """step - 1 zeros after each element of the axes from `first`: n becomes n * step."""
    for axis, step in enumerate(steps, first):
        if step == 1:
            continue
        shape = x.shape
        column = x.reshape(*shape[: axis + 1], 1, *shape[axis + 1 :])
        high = [step - 1 if a == axis + 1 else 0 for a in range(column.ndim)]
        wide = column._pad_zero((0,) * column.ndim, high)
        x = wide.reshape(*shape[:axis], shape[axis] * step, *shape[axis + 1 :])
    return x


def apart(result: Tensor, input: Tensor) -> Tensor:
    """A result that shares no memory with what it was made of, though sizes of 1 may leave all
    elements where they were."""
    return result.clone() if is_complex(result) else own_memory(result, input)


@labelled("unfold")
@from_template()
def unfold(
    input: Tensor,
    kernel_size: IntOrSizes,
    dilation: IntOrSizes = 1,
    padding: IntOrSizes = 0,
    stride: IntOrSizes = 1,
) -> Tensor:
    """The windows of (N, C, H, W), or without N, as columns (N, C * KH * KW, L), L windows in
    row-major order.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.unfold(tgrad.ones(1, 1, 3, 3), 2).shape
    (1, 4, 4)
    """
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    if input.ndim != 4:
        raise ShapeError(
            f"unfold of shape {input.shape}.", "The shape is (N, C, H, W) or (C, H, W)."
        )
    kernel = as_axes(kernel_size, 2, "unfold: kernel_size")
    pads = as_axes(padding, 2, "unfold: padding", 0)
    steps, gaps = as_axes(stride, 2, "unfold: stride"), as_axes(dilation, 2, "unfold: dilation")
    view = windows(_padded(input, 2, pads, pads), 2, kernel, steps, gaps)
    n, c, oh, ow, kh, kw = view.shape
    return apart(view.permute(0, 1, 4, 5, 2, 3).reshape(n, c * kh * kw, oh * ow), input)


__all__ = ["conv1d", "conv2d", "conv3d", "unfold"]
