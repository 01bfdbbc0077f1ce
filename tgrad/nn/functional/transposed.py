"""Transposed convolution: the gradient of a convolution as a function of its own.

In: (N, C, *sizes) and (C, O / groups, *kernel). Out: (N, O, *sizes). Invariant: forward and both
gradients are one dot each, those of nn/functional/convolution.py with the roles exchanged.
Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from tgrad.errors import DTypeError, ShapeError
from tgrad.from_template import from_template
from tgrad.nn.functional.convolution import (
    Geometry,
    IntOrSizes,
    Sizes,
    as_axes,
    convolve_forward,
    input_gradient,
    of_complex_factors,
    weight_gradient,
)
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


@of_complex_factors
@labelled("conv_transpose1d")
@from_template()
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes = 0,
    output_padding: IntOrSizes = 0,
    groups: int = 1,
    dilation: IntOrSizes = 1,
) -> Tensor:
    """Transposed convolution over one axis; see `conv_transpose2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv_transpose1d(tgrad.ones(1, 1, 2), tgrad.ones(1, 1, 2)).tolist()
    [[[1.0, 2.0, 1.0]]]
    """
    return _transpose(
        input, weight, bias, stride, padding, output_padding, groups, dilation, 1
    )  # fmt: skip


@of_complex_factors
@labelled("conv_transpose2d")
@from_template()
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes = 0,
    output_padding: IntOrSizes = 0,
    groups: int = 1,
    dilation: IntOrSizes = 1,
) -> Tensor:
    """Each element of the input times the kernel, added up `stride` apart.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, O / groups, KH, KW).
        bias: (O,).
        stride: distance of the kernels.
        padding: how much is cut at each end.
        output_padding: how much is added at the high ends; below stride or dilation.
        groups: channels are convolved in so many groups apart.
        dilation: distance of the elements of a kernel.

    Returns:
        (N, O, OH, OW) with
        OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.

    Raises:
        ShapeError: sizes do not fit.
        DTypeError: the dtypes differ.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv_transpose2d(tgrad.ones(1, 1, 2, 2), tgrad.ones(1, 1, 2, 2), stride=2).shape
    (1, 1, 4, 4)
    """
    return _transpose(
        input, weight, bias, stride, padding, output_padding, groups, dilation, 2
    )  # fmt: skip


@of_complex_factors
@labelled("conv_transpose3d")
@from_template()
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSizes = 1,
    padding: IntOrSizes = 0,
    output_padding: IntOrSizes = 0,
    groups: int = 1,
    dilation: IntOrSizes = 1,
) -> Tensor:
    """Transposed convolution over three axes; see `conv_transpose2d`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.conv_transpose3d(tgrad.ones(1, 1, 1, 1, 1), tgrad.ones(1, 1, 2, 2, 2)).shape
    (1, 1, 2, 2, 2)
    """
    return _transpose(
        input, weight, bias, stride, padding, output_padding, groups, dilation, 3
    )  # fmt: skip


def _transpose(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: IntOrSizes, padding: IntOrSizes,
    output_padding: IntOrSizes, groups: int, dilation: IntOrSizes, rank: int,
) -> Tensor:  # fmt: skip
    name = f"conv_transpose{rank}d"
    if input.ndim == rank + 1:
        batched = _transpose(
            input.unsqueeze(0),
            weight,
            bias,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            rank,
        )
        return batched.squeeze(0)
    _check(input, weight, bias, groups, rank, name)
    steps, gaps = as_axes(stride, rank, f"{name}: stride"), as_axes(dilation, rank, name)
    pads = as_axes(padding, rank, f"{name}: padding", 0)
    extra = as_axes(output_padding, rank, f"{name}: output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps)):
        raise ShapeError(
            f"{name}: output_padding={output_padding} with stride={stride}, dilation={dilation}.",
            "It must be smaller than one of both.",
        )
    sizes = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(input.shape[2:], weight.shape[2:], steps, pads, gaps, extra)
    )
    high = tuple(p - e for p, e in zip(pads, extra))
    geometry = Geometry(steps, pads, high, gaps, groups)
    y = input_gradient(input, sizes, weight, geometry)
    y = with_vjp("conv_transpose", y, input, weight, params=(geometry,))
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _check(
    input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, rank: int, name: str
) -> None:
    if input.ndim != rank + 2 or weight.ndim != rank + 2:
        raise ShapeError(
            f"{name} of shapes {input.shape} and {weight.shape}.",
            f"The input has {rank + 2} or {rank + 1} axes, the weight {rank + 2}.",
        )
    if groups < 1 or weight.shape[0] % groups or input.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"{name}: input {input.shape}, weight {weight.shape}, groups={groups}.",
            f"The input must have {weight.shape[0]} channels, and groups must divide them.",
        )
    outputs = weight.shape[1] * groups
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"{name}: bias of shape {bias.shape} for {outputs} output channels.")
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not input.dtype):
        raise DTypeError(
            f"{name} of {input.dtype.name} and {weight.dtype.name}.",
            "Input, weight and bias need one dtype.",
        )


@define_vjp("conv_transpose")
def _backward(
    g: Tensor, y: Tensor, x: Tensor, w: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """The convolution whose gradient this is, and its weight's with the roles exchanged"""
    dx = convolve_forward(g, w, geometry)
    lengths: Sizes = x.shape[2:]
    for axis, n in enumerate(lengths, 2):
        dx = dx.narrow(axis, 0, n)
    return dx, weight_gradient(x, g, w, geometry)
