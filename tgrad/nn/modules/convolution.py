"""Convolutions as modules.

In: channels and geometry. Out: modules with weight (O, C / groups, *kernel) and bias (O,).
Invariant: PyTorch's parameter names and initial distributions: uniform within 1 / sqrt(fan in).
"""

from __future__ import annotations

import math

from tgrad.creation import DeviceLike, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn import functional as F
from tgrad.nn import init
from tgrad.nn.functional.convolution import IntOrSizes, as_axes
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor


class _Convolution(Module):
    """See `tgrad.nn.functional.conv2d` for the arguments."""

    rank = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrSizes,
        stride: IntOrSizes = 1,
        padding: IntOrSizes | str = 0,
        dilation: IntOrSizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        name, rank = type(self).__name__, self.rank
        if padding_mode != "zeros":
            raise UnsupportedError(f"{name}: padding_mode={padding_mode!r}.", 'Use "zeros".')
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{name}: {in_channels} and {out_channels} channels in {groups} groups.",
                "groups must divide both.",
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = as_axes(kernel_size, rank, f"{name}: kernel_size")
        self.stride = as_axes(stride, rank, f"{name}: stride")
        self.dilation = as_axes(dilation, rank, f"{name}: dilation")
        self.padding = (
            padding if isinstance(padding, str) else as_axes(padding, rank, f"{name}: padding", 0)
        )
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", None)
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        return convolve(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,) * self.rank:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.rank:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(_Convolution):
    """Convolution over one axis: (N, C, L) to (N, O, OL)."""

    rank = 1


class Conv2d(_Convolution):
    """Convolution over two axes: (N, C, H, W) to (N, O, OH, OW).

    >>> import tgrad
    >>> tgrad.nn.Conv2d(1, 4, 3)(tgrad.ones(2, 1, 8, 8)).shape
    (2, 4, 6, 6)
    """

    rank = 2


class Conv3d(_Convolution):
    """Convolution over three axes: (N, C, D, H, W) to (N, O, OD, OH, OW)."""

    rank = 3
