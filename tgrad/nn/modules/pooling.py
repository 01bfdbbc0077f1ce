"""Pooling as modules.

In: windows. Out: modules without parameters. Invariant: each calls the function of its name.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tgrad.nn import functional as F
from tgrad.nn.functional.convolution import as_axes
from tgrad.nn.modules.stateless import POOLED, REQUIRED, Stateless, options
from tgrad.tensor import Tensor

_LARGEST = options(**POOLED, dilation=1, return_indices=False, ceil_mode=False)
_MEAN = options(**POOLED, ceil_mode=False, count_include_pad=True)
_NORM = options(norm_type=REQUIRED, kernel_size=REQUIRED, stride=None, ceil_mode=False)
_BLOCKS = options(output_size=REQUIRED)


class _Pool(Stateless):
    """A window whose stride is its size unless it is given."""

    rank: ClassVar[int | None] = None  # where PyTorch keeps one size for each axis
    stride: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.stride is None:
            self.stride = self.kernel_size
        if self.rank is not None:
            for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
                label = f"{type(self).__name__}: {name}"
                setattr(self, name, as_axes(getattr(self, name), self.rank, label, least))


class MaxPool1d(_Pool):
    """The largest element of each window of (N, C, L)."""

    function = staticmethod(F.max_pool1d)
    constants = _LARGEST
    hidden = ("return_indices",)


class MaxPool2d(_Pool):
    """The largest element of each window of (N, C, H, W)."""

    function = staticmethod(F.max_pool2d)
    constants = _LARGEST
    hidden = ("return_indices",)


class MaxPool3d(_Pool):
    """The largest element of each window of (N, C, D, H, W)."""

    function = staticmethod(F.max_pool3d)
    constants = _LARGEST
    hidden = ("return_indices",)


class _Unpool(_Pool):
    """Elements back at the places that `return_indices` gave, zeros elsewhere."""

    constants = POOLED

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        window = self._constants()
        return type(self).function(input, indices, **window, output_size=output_size)


class MaxUnpool1d(_Unpool):
    """Elements back at their places in (N, C, L), zeros elsewhere."""

    rank = 1
    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_Unpool):
    """Elements back at their places in (N, C, H, W), zeros elsewhere."""

    rank = 2
    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_Unpool):
    """Elements back at their places in (N, C, D, H, W), zeros elsewhere."""

    rank = 3
    function = staticmethod(F.max_unpool3d)


class AvgPool1d(_Pool):
    """The mean of each window of (N, C, L)."""

    rank = 1
    function = staticmethod(F.avg_pool1d)
    constants = _MEAN
    hidden = ("ceil_mode", "count_include_pad", "divisor_override")


class AvgPool2d(_Pool):
    """The mean of each window of (N, C, H, W)."""

    function = staticmethod(F.avg_pool2d)
    constants = options(**_MEAN, divisor_override=None)
    hidden = ("ceil_mode", "count_include_pad", "divisor_override")


class AvgPool3d(_Pool):
    """The mean of each window of (N, C, D, H, W)."""

    function = staticmethod(F.avg_pool3d)
    constants = options(**_MEAN, divisor_override=None)
    hidden = ("ceil_mode", "count_include_pad", "divisor_override")


class LPPool1d(Stateless):
    """The p-norm of each window of (N, C, L), without the absolute value."""

    function = staticmethod(F.lp_pool1d)
    constants = _NORM


class LPPool2d(Stateless):
    """The p-norm of each window of (N, C, H, W), without the absolute value."""

    function = staticmethod(F.lp_pool2d)
    constants = _NORM


class LPPool3d(Stateless):
    """The p-norm of each window of (N, C, D, H, W), without the absolute value."""

    function = staticmethod(F.lp_pool3d)
    constants = _NORM


class AdaptiveAvgPool1d(Stateless):
    """The mean of equal blocks of (N, C, L), as many as output_size says."""

    function = staticmethod(F.adaptive_avg_pool1d)
    constants = _BLOCKS


class AdaptiveAvgPool2d(Stateless):
    """The mean of equal blocks of (N, C, H, W), as many as output_size says."""

    function = staticmethod(F.adaptive_avg_pool2d)
    constants = _BLOCKS


class AdaptiveAvgPool3d(Stateless):
    """The mean of equal blocks of (N, C, D, H, W), as many as output_size says."""

    function = staticmethod(F.adaptive_avg_pool3d)
    constants = _BLOCKS


class AdaptiveMaxPool1d(Stateless):
    """The largest element of equal blocks of (N, C, L), as many as output_size says."""

    function = staticmethod(F.adaptive_max_pool1d)
    constants = options(**_BLOCKS, return_indices=False)
    hidden = ("return_indices",)


class AdaptiveMaxPool2d(Stateless):
    """The largest element of equal blocks of (N, C, H, W), as many as output_size says."""

    function = staticmethod(F.adaptive_max_pool2d)
    constants = options(**_BLOCKS, return_indices=False)
    hidden = ("return_indices",)


class AdaptiveMaxPool3d(Stateless):
    """The largest element of equal blocks of (N, C, D, H, W), as many as output_size says."""

    function = staticmethod(F.adaptive_max_pool3d)
    constants = options(**_BLOCKS, return_indices=False)
    hidden = ("return_indices",)


_FRACTION = options(
    kernel_size=REQUIRED, output_size=None, output_ratio=None, return_indices=False,
    _random_samples=None,
)  # fmt: skip


class FractionalMaxPool2d(Stateless):
    """The largest element of windows that start at random places of (N, C, H, W)."""

    function = staticmethod(F.fractional_max_pool2d)
    constants = _FRACTION
    tensors = ("_random_samples",)


class FractionalMaxPool3d(Stateless):
    """The largest element of windows that start at random places of (N, C, D, H, W)."""

    function = staticmethod(F.fractional_max_pool3d)
    constants = _FRACTION
    tensors = ("_random_samples",)
