"""Normalisations as modules.

In: sizes. Out: modules with weight and bias, ones and zeros at first. Invariant: PyTorch's names of
parameters and buffers; running statistics are stored from the start, so the first step's plan is
that of all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tgrad import dtype as dt
from tgrad.creation import DeviceLike, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.nn import functional as F
from tgrad.nn import init
from tgrad.nn.module import Module
from tgrad.nn.modules.stateless import REQUIRED, Stateless, options
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor, tensor

_shape_t = int | Sequence[int]


def _register_scales(
    module: Module, shape: tuple[int, ...], weight: bool, bias: bool, device: DeviceLike,
    dtype: DType | None,
) -> None:  # fmt: skip
    for name, wanted, fill in (("weight", weight, init.ones_), ("bias", bias, init.zeros_)):
        module.register_parameter(name, None)
        if wanted:
            setattr(module, name, Parameter(fill(empty(shape, device=device, dtype=dtype))))


def _reset_scales(module: Module) -> None:
    for name, fill in (("weight", init.ones_), ("bias", init.zeros_)):
        if module._parameters.get(name) is not None:
            fill(module._parameters[name])


class _NormBase(Module):
    """What batch and instance norms share, see `BatchNorm2d`."""

    ranks: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        _register_scales(self, (num_features,), affine, affine and bias, device, dtype)
        kind = dt.float_dtype(dtype)
        if track_running_stats:
            first = {"running_mean": 0.0, "running_var": 1.0}
            for name, value in first.items():
                array = np.full(num_features, value, kind.numpy)
                self.register_buffer(name, tensor(array, dtype=kind, device=device))
            count = tensor(0, dtype=dt.int64, device=device)
            self.register_buffer("num_batches_tracked", count)
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.track_running_stats:
            with no_grad():
                self.running_mean.zero_()
                self.running_var.fill_(1)
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget the running statistics; weight and bias are ones and zeros again."""
        self.reset_running_stats()
        _reset_scales(self)

    def _check(self, input: Tensor) -> None:
        name = type(self).__name__
        if input.ndim not in self.ranks or input.shape[1] != self.num_features:
            axes = " or ".join(map(str, self.ranks))
            raise ShapeError(
                f"{name} of {self.num_features} channels on shape {input.shape}.",
                f"The input has {axes} axes, with {self.num_features} channels at axis 1.",
            )

    def _next_momentum(self) -> float | Tensor:
        """Count a batch of training; how far the running statistics move for it."""
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.add_(1)
                if self.momentum is None:
                    wide = self.running_mean.dtype.accumulator
                    return 1.0 / self.num_batches_tracked.to(wide)
        return 0.0 if self.momentum is None else self.momentum

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        by_batch = self.training or self.running_mean is None
        momentum = self._next_momentum()
        moved = self.training and self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if moved or not by_batch else None,
            self.running_var if moved or not by_batch else None,
            self.weight,
            self.bias,
            by_batch,
            momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_NormBase):
    """What programs ask for, to find the batch norms of a model."""


class BatchNorm1d(_BatchNorm):
    """Each channel of (N, C) or (N, C, L) normalised; see `BatchNorm2d`."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Each channel of (N, C, H, W) normalised: by the batch in training, and in evaluation by the
    running mean and variance that training kept.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far the running statistics move; None for the plain average of all batches.
        affine, bias: whether there are weight and bias, each (C,).
        track_running_stats: whether running statistics are kept.

    >>> import tgrad
    >>> list(tgrad.nn.BatchNorm2d(3).state_dict())[2:]
    ['running_mean', 'running_var', 'num_batches_tracked']
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Each channel of (N, C, D, H, W) normalised; see `BatchNorm2d`."""

    ranks = (5,)


class LayerNorm(Module):
    """The last axes normalised to mean 0 and variance 1, then scaled.

    Args:
        normalized_shape: sizes of those axes, or the size of the last one.
        eps: added to the variance.
        elementwise_affine, bias: whether there are weight and bias of that shape.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        with_bias = elementwise_affine and bias
        _register_scales(self, self.normalized_shape, elementwise_affine, with_bias, device, dtype)

    def reset_parameters(self) -> None:
        """Ones and zeros again."""
        _reset_scales(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


def _as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class RMSNorm(Module):
    """The last axes divided by their root mean square, then scaled.

    Args:
        normalized_shape: sizes of those axes, or the size of the last one.
        eps: added to the mean square; by default the machine epsilon.
        elementwise_affine: whether there is a weight of that shape.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", None)
        if elementwise_affine:
            ones = init.ones_(empty(self.normalized_shape, device=device, dtype=dtype))
            self.weight = Parameter(ones)

    def reset_parameters(self) -> None:
        """Ones and zeros again."""
        _reset_scales(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """Each group of channels of each sample normalised, then scaled by channel.

    Args:
        num_groups: must divide num_channels.
        num_channels: size of axis 1.
        eps: added to the variance.
        affine, bias: whether there are weight and bias, each (C,).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(f"GroupNorm of {num_channels} channels in {num_groups} groups.")
        self.num_groups, self.num_channels, self.eps, self.affine = (
            num_groups, num_channels, eps, affine,
        )  # fmt: skip
        _register_scales(self, (num_channels,), affine, affine and bias, device, dtype)

    def reset_parameters(self) -> None:
        """Ones and zeros again."""
        _reset_scales(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _InstanceNorm(_NormBase):
    """See `InstanceNorm2d`."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        axis = input.ndim - (self.ranks[1] - 1)
        if input.ndim not in self.ranks or (self.affine and input.shape[axis] != self.num_features):
            axes = " or ".join(map(str, self.ranks))
            raise ShapeError(
                f"{type(self).__name__} of {self.num_features} channels on shape {input.shape}.",
                f"The input has {axes} axes, channels before the last {self.ranks[0] - 1}.",
            )
        x = input.unsqueeze(0) if axis == 0 else input
        y = F.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y.squeeze(0) if axis == 0 else y


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of (N, C, L) or (C, L) normalised; see `InstanceNorm2d`."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Each channel of each sample of (N, C, H, W) or (C, H, W) normalised by itself.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far the running statistics move.
        affine: whether there are weight and bias, each (C,).
        track_running_stats: whether running statistics are kept, and used in evaluation.
    """

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Each channel of each sample of (N, C, D, H, W) or (C, D, H, W) normalised; see
    `InstanceNorm2d`."""

    ranks = (4, 5)


class LocalResponseNorm(Stateless):
    """Each element divided by a power of the mean square of its neighbours among the channels."""

    function = staticmethod(F.local_response_norm)
    constants = options(size=REQUIRED, alpha=1e-4, beta=0.75, k=1.0)
