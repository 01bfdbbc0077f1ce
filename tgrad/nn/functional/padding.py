"""Padding, and axes folded into each other.

In: a tensor. Out: a lazy tensor. Invariant: index arithmetic only; nothing is gathered.
Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad import dtype as dt
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.joining import padded
from tgrad.nn.functional.convolution import IntOrSizes, apart, as_axes, spread
from tgrad.tensor import Tensor, labelled

__all__ = ["channel_shuffle", "constant_pad_nd", "fold", "pad", "pixel_shuffle", "pixel_unshuffle"]


@labelled("pad")
def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Elements before and after the last axes.

    Args:
        pad: (before, after) of the last axis, then of the one before it, ...; negative cuts.
        mode: "constant", "reflect" (the edge is not repeated), "replicate" (the edge again) or
            "circular" (from the other end).
        value: the number for "constant", by default 0.

    Raises:
        UnsupportedError: another mode, or a value with it.
        ShapeError: more than there is to reflect.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.pad(tgrad.ones(1), (1, 2), value=5.0).tolist()
    [5.0, 1.0, 5.0, 5.0]
    """
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise UnsupportedError(
            f"pad: mode={mode!r}.", 'Use "constant", "reflect", "replicate" or "circular".'
        )
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(f"pad by {tuple(pad)} of shape {input.shape}.", "Two numbers an axis.")
    if mode == "constant":
        return constant_pad_nd(input, pad, 0 if value is None else value)
    if value:
        raise UnsupportedError(f"pad: value={value!r} with mode={mode!r}.", "Leave it out.")
    for i in range(len(pad) // 2):
        input = padded(input, input.ndim - 1 - i, pad[2 * i], pad[2 * i + 1], mode)
    return input


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """A number before and after the last axes; see `pad`."""
    low, high = [0] * input.ndim, [0] * input.ndim
    for i in range(len(pad) // 2):
        axis = input.ndim - 1 - i
        before, after = pad[2 * i], pad[2 * i + 1]
        length = input.shape[axis] + min(before, 0) + min(after, 0)
        if before < 0 or after < 0:
            input = input.narrow(axis, max(-before, 0), length)
        low[axis], high[axis] = max(before, 0), max(after, 0)
    if not any((*low, *high)):
        return input.clone()
    wide = input._pad_zero(low, high)
    if not value:
        return wide
    inside = input._constant(1, dt.bool_).expand(input.shape)._pad_zero(low, high)
    return wide.where(inside, value).to(input.dtype)


@labelled("fold")
@from_template()
def fold(
    input: Tensor,
    output_size: IntOrSizes,
    kernel_size: IntOrSizes,
    dilation: IntOrSizes = 1,
    padding: IntOrSizes = 0,
    stride: IntOrSizes = 1,
) -> Tensor:
    """The columns of `unfold`, (N, C * KH * KW, L) or without N, added up to (N, C, H, W).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.fold(tgrad.ones(1, 4, 4), 3, 2).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    if input.ndim == 2:
        return fold(
            input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride
        ).squeeze(0)
    sizes, kernel = as_axes(output_size, 2, "fold: output_size"), as_axes(kernel_size, 2, "fold")
    pads, steps = as_axes(padding, 2, "fold: padding", 0), as_axes(stride, 2, "fold: stride")
    gaps = as_axes(dilation, 2, "fold: dilation")
    counts = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, p, s, d in zip(sizes, kernel, pads, steps, gaps)
    ]
    taps = kernel[0] * kernel[1]
    if input.ndim != 3 or input.shape[1] % taps or input.shape[2] != counts[0] * counts[1]:
        raise ShapeError(
            f"fold of shape {input.shape} to {sizes} with windows of {kernel}.",
            f"The shape is (N, C * {taps}, {counts[0] * counts[1]}).",
        )
    x = input.reshape(input.shape[0], input.shape[1] // taps, *kernel, *counts)
    total: Tensor | None = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = spread(x[:, :, i, j], 2, steps)
            low = (i * gaps[0], j * gaps[1])
            high = [n + 2 * p - a - m for n, p, a, m in zip(sizes, pads, low, part.shape[2:])]
            around = constant_pad_nd(part, (low[1], high[1], low[0], high[0]))
            total = around if total is None else total + around
    assert total is not None
    return total.narrow(2, pads[0], sizes[0]).narrow(3, pads[1], sizes[1])


@labelled("pixel_shuffle")
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(.., C * r², H, W) as (.., C, H * r, W * r).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.pixel_shuffle(tgrad.arange(4).reshape(4, 1, 1), 2).tolist()
    [[[0, 1], [2, 3]]]
    """
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle of shape {input.shape} by {r}.",
            f"The channels are multiples of {r * r}.",
        )
    *lead, c, h, w = input.shape
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return apart(x.reshape(*lead, c // (r * r), h * r, w * r), input)


@labelled("pixel_unshuffle")
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(.., C, H * r, W * r) as (.., C * r², H, W): the inverse of `pixel_shuffle`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.pixel_unshuffle(tgrad.ones(1, 2, 2), 2).shape
    (4, 1, 1)
    """
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise ShapeError(
            f"pixel_unshuffle of shape {input.shape} by {r}.", f"The sizes are multiples of {r}."
        )
    *lead, c, h, w = input.shape
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return apart(x.reshape(*lead, c * r * r, h // r, w // r), input)


@labelled("channel_shuffle")
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (axis 1) of groups dealt out in turn.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.channel_shuffle(tgrad.arange(4).reshape(1, 4, 1), 2).tolist()
    [[[0], [2], [1], [3]]]
    """
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise ShapeError(f"channel_shuffle of shape {input.shape} in {groups} groups.")
    n, c, *rest = input.shape
    shuffled = input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(input.shape)
    return apart(shuffled, input)
