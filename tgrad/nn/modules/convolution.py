"""Convolutions as modules.

In: channels and geometry. Out: modules with weight (O, C / groups, *kernel) and bias (O,).
Invariant: PyTorch's parameter names and initial distributions: uniform within 1 / sqrt(fan in).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tgrad.creation import DeviceLike, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn import functional as F
from tgrad.nn import init
from tgrad.nn.functional.convolution import IntOrSizes, as_axes
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate",
                 "circular": "circular"}  # fmt: skip
"""What `padding_mode` is called by `pad`."""


class _Windowed(Module):
    """What convolutions and their transposes share: channels, geometry, weight and bias."""

    rank = 0

    def _make(
        self,
        channels: tuple[int, int],
        geometry: Mapping[str, IntOrSizes],
        groups: int,
        bias: bool,
        is_transposed: bool,
        device: DeviceLike,
        dtype: DType | None,
    ) -> None:
        """Keep the sizes, one for each axis, and make the parameters.

        Args:
            channels: in and out.
            geometry: sizes by name; paddings are at least 0 and others at least 1.
            is_transposed: whether the weight is (in, out / groups, *kernel).
        """
        name = type(self).__name__
        if groups < 1 or any(n % groups for n in channels):
            raise ShapeError(
                f"{name}: {channels[0]} and {channels[1]} channels in {groups} groups.",
                "groups must divide both.",
            )
        (self.in_channels, self.out_channels), self.groups = channels, groups
        for key, value in geometry.items():
            least = 0 if "padding" in key else 1
            setattr(self, key, as_axes(value, self.rank, f"{name}: {key}", least))
        first, second = channels if is_transposed else channels[::-1]
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", None)
        if bias:
            self.bias = Parameter(empty(channels[1], device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        for name, plain in (("padding", 0), ("output_padding", 0), ("dilation", 1)):
            value = getattr(self, name, (plain,) * self.rank)
            if value != (plain,) * self.rank:
                parts.append(f"{name}={value}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Convolution(_Windowed):
    """See `tgrad.nn.functional.conv2d` for the arguments."""

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
        if padding_mode not in PADDING_MODES:
            raise UnsupportedError(
                f"{type(self).__name__}: padding_mode={padding_mode!r}.",
                f"Use one of {', '.join(PADDING_MODES)}.",
            )
        self.padding_mode = padding_mode
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        if isinstance(padding, str):
            self.padding: Any = padding
        else:
            sizes["padding"] = padding
        channels = in_channels, out_channels
        self._make(channels, sizes, groups, bias, False, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        padding: IntOrSizes | str = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._ends(), PADDING_MODES[self.padding_mode])
            padding = 0
        return convolve(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _ends(self) -> list[int]:
        """How many elements `padding` adds before and after each axis, the last axis first."""
        if self.padding == "valid":
            return [0] * (2 * self.rank)
        if isinstance(self.padding, str):
            wide = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            return [n for w in reversed(wide) for n in (w // 2, w - w // 2)]
        return [n for p in reversed(self.padding) for n in (p, p)]


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


class _TransposedConvolution(_Windowed):
    """See `tgrad.nn.functional.conv_transpose2d` for the arguments; weight (C, O / groups,
    *kernel)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrSizes,
        stride: IntOrSizes = 1,
        padding: IntOrSizes = 0,
        output_padding: IntOrSizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrSizes = 1,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        if padding_mode != "zeros":
            name = type(self).__name__
            raise UnsupportedError(f"{name}: padding_mode={padding_mode!r}.", 'Use "zeros".')
        self.padding_mode = padding_mode
        sizes = {
            "kernel_size": kernel_size, "stride": stride, "padding": padding,
            "output_padding": output_padding, "dilation": dilation,
        }  # fmt: skip
        channels = in_channels, out_channels
        self._make(channels, sizes, groups, bias, True, device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Args:
        output_size: of the last axes, or of all; one of those that the stride leaves open.
        """
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        extra = self.output_padding
        if output_size is not None:
            extra = self._extra(input.shape[-self.rank :], tuple(output_size)[-self.rank :])
        return convolve(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation,
        )  # fmt: skip

    def _extra(self, sizes: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives the sizes wanted."""
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                sizes, self.stride, self.padding, self.dilation, self.kernel_size
            )
        ]
        if any(not a <= b < a + s for a, b, s in zip(least, wanted, self.stride)):
            most = [a + s - 1 for a, s in zip(least, self.stride)]
            raise ShapeError(
                f"{type(self).__name__}: output_size={tuple(wanted)}.",
                f"Sizes are from {least} to {most}.",
            )
        return tuple(b - a for a, b in zip(least, wanted))


class ConvTranspose1d(_TransposedConvolution):
    """The transpose of a convolution over one axis: (N, C, L) to (N, O, OL)."""

    rank = 1


class ConvTranspose2d(_TransposedConvolution):
    """The transpose of a convolution over two axes: (N, C, H, W) to (N, O, OH, OW).

    >>> import tgrad
    >>> tgrad.nn.ConvTranspose2d(4, 1, 2, stride=2)(tgrad.ones(2, 4, 6, 6)).shape
    (2, 1, 12, 12)
    """

    rank = 2


class ConvTranspose3d(_TransposedConvolution):
    """The transpose of a convolution over three axes: (N, C, D, H, W) to (N, O, OD, OH, OW)."""

    rank = 3
