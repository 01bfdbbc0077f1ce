"""Modules that take the sizes of their parameters from the first input.

In: all arguments of a module but the size of its input. Out: a module whose first call makes the
parameters, and which is of the ordinary class from then on. Invariant: parameters are the same
objects before and after, so an optimizer may have them.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.modules.lazy.LazyModuleMixin.html
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from tgrad.creation import DeviceLike
from tgrad.dtype import DType, int64
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn.functional.convolution import IntOrSizes
from tgrad.nn.module import Module
from tgrad.nn.modules.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    _Convolution,
    _TransposedConvolution,
    _Windowed,
)
from tgrad.nn.modules.linear import Linear
from tgrad.nn.modules.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    _NormBase,
)
from tgrad.nn.parameter import (
    UninitializedBuffer,
    UninitializedParameter,
    is_lazy,
    realize_parameters,
)
from tgrad.tensor import Tensor, tensor
from tgrad.tracing import tracer, versions


class LazyModuleMixin(Module):
    """Base of modules that have uninitialized parameters until they are called.

    A subclass defines `initialize_parameters`, which materializes them; it names in `cls_to_become`
    the class that its instances have after the first call, or leaves None to keep its own.

    >>> import tgrad
    >>> from tgrad.nn.modules.lazy import LazyModuleMixin
    >>> class Scale(LazyModuleMixin, tgrad.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = tgrad.nn.UninitializedParameter()
    ...     def initialize_parameters(self, x):
    ...         if self.has_uninitialized_params():
    ...             self.weight.materialize(x.shape[-1:])
    ...             tgrad.nn.init.ones_(self.weight)
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> Scale()(tgrad.tensor([2.0, 3.0])).tolist()
    [2.0, 3.0]
    """

    cls_to_become: type[Module] | None = None
    _is_initialized = False

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of this module alone has no shape yet."""
        return any(map(is_lazy, chain(self._parameters.values(), self._buffers.values())))

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Defined by a subclass: materialize what is uninitialized, for a call with these
        arguments."""
        raise UnsupportedError(
            f"{type(self).__name__} has no initialize_parameters.",
            "Define it with the arguments of forward.",
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_initialized:
            self._initialize(args, kwargs)
        return Module.__call__(self, *args, **kwargs)

    def _initialize(self, args: Any, kwargs: Any) -> None:
        trace = tracer()
        if trace is not None:
            trace.refuse(
                f"the first call of a {type(self).__name__}",
                "Call it once before, outside of tgrad.compile.",
            )
        self.initialize_parameters(*args, **kwargs)
        if self.has_uninitialized_params():
            raise ShapeError(
                f"{type(self).__name__}.initialize_parameters left parameters uninitialized.",
                "Materialize all of them there.",
            )
        realize_parameters()
        versions.guards += 1
        if self.cls_to_become is None:
            self._is_initialized = True
        else:
            object.__setattr__(self, "__class__", self.cls_to_become)


def _lazy_parameters(
    module: Module, weight: bool, bias: bool, device: DeviceLike, dtype: DType | None
) -> None:
    for name, wanted in (("weight", weight), ("bias", bias)):
        if wanted:
            setattr(module, name, UninitializedParameter(device=device, dtype=dtype))


class LazyLinear(LazyModuleMixin, Linear):
    """A `Linear` whose in_features is the last size of the first input.

    Args:
        out_features: last size of the output.
        bias: whether there is a b.

    >>> import tgrad
    >>> layer = tgrad.nn.LazyLinear(2)
    >>> layer(tgrad.ones(4, 3)).shape, layer
    ((4, 2), Linear(in_features=3, out_features=2, bias=True))
    """

    cls_to_become = Linear

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__(0, 0, False, device, dtype)
        self.out_features = out_features
        _lazy_parameters(self, True, bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw new initial values, if there are parameters by now."""
        if self.in_features and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Make the parameters, for this input."""
        if not self.has_uninitialized_params():
            self.in_features = self.weight.shape[-1]
            return
        self.in_features = input.shape[-1]
        self.weight.materialize((self.out_features, self.in_features))
        if self.bias is not None:
            self.bias.materialize((self.out_features,))
        self.reset_parameters()


class _LazyWindowed(LazyModuleMixin, _Windowed):
    """What lazy convolutions and their transposes share; subclasses have `is_transposed`."""

    is_transposed = False

    def _leave_open(
        self, out_channels: int, bias: bool, device: DeviceLike, dtype: DType | None
    ) -> None:
        if out_channels % self.groups:
            raise ShapeError(
                f"{type(self).__name__}: {out_channels} channels in {self.groups} groups.",
                "groups must divide them.",
            )
        self.out_channels = out_channels
        _lazy_parameters(self, True, bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw new initial values, if there are parameters by now."""
        if self.in_channels and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make the parameters, for this input."""
        if not self.has_uninitialized_params():
            size = self.weight.shape[0 if self.is_transposed else 1]
            self.in_channels = size if self.is_transposed else size * self.groups
            return
        if input.ndim not in (self.rank + 1, self.rank + 2):
            raise ShapeError(
                f"{type(self).__name__} of shape {input.shape}.",
                f"The input has {self.rank + 2} axes, or {self.rank + 1} without a batch.",
            )
        channels = input.shape[-self.rank - 1]
        if channels % self.groups:
            raise ShapeError(
                f"{type(self).__name__}: {channels} channels in {self.groups} groups.",
                "groups must divide them.",
            )
        self.in_channels = channels
        first, second = self.out_channels, channels
        if self.is_transposed:
            first, second = second, first
        self.weight.materialize((first, second // self.groups, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class _LazyConvolution(_LazyWindowed, _Convolution):
    """See `LazyConv2d`."""

    def __init__(
        self,
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
        super().__init__(
            0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype
        )
        self._leave_open(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConvolution, Conv1d):
    """A `Conv1d` whose in_channels is that of the first input; see `LazyConv2d`."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConvolution, Conv2d):
    """A `Conv2d` whose in_channels is that of the first input; its other arguments are the same.

    >>> import tgrad
    >>> layer = tgrad.nn.LazyConv2d(4, 3)
    >>> layer(tgrad.ones(2, 1, 8, 8)).shape, layer
    ((2, 4, 6, 6), Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1)))
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConvolution, Conv3d):
    """A `Conv3d` whose in_channels is that of the first input; see `LazyConv2d`."""

    cls_to_become = Conv3d


class _LazyTransposed(_LazyWindowed, _TransposedConvolution):
    """See `LazyConvTranspose2d`."""

    is_transposed = True

    def __init__(
        self,
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
        super().__init__(
            0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation,
            padding_mode, device, dtype,
        )  # fmt: skip
        self._leave_open(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """A `ConvTranspose1d` whose in_channels is that of the first input; its other arguments are the
    same."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """A `ConvTranspose2d` whose in_channels is that of the first input; its other arguments are the
    same.

    >>> import tgrad
    >>> tgrad.nn.LazyConvTranspose2d(1, 2, stride=2)(tgrad.ones(2, 4, 6, 6)).shape
    (2, 1, 12, 12)
    """

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """A `ConvTranspose3d` whose in_channels is that of the first input; its other arguments are the
    same."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(LazyModuleMixin, _NormBase):
    """See `LazyBatchNorm2d`."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__(0, eps, momentum, False, False, device, dtype)
        self.affine, self.track_running_stats = affine, track_running_stats
        _lazy_parameters(self, affine, affine and bias, device, dtype)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var = UninitializedBuffer(device=device, dtype=dtype)
            self.num_batches_tracked = tensor(0, dtype=int64, device=device)

    def reset_running_stats(self) -> None:
        """Forget the running statistics, if there are any by now."""
        if not self.has_uninitialized_params():
            super().reset_running_stats()

    def reset_parameters(self) -> None:
        """Forget the running statistics; weight and bias are ones and zeros again."""
        if not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Make the parameters and buffers, for this input."""
        mine = chain(self._parameters.values(), self._buffers.values())
        known = [t for t in mine if t is not None and not is_lazy(t) and t.ndim == 1]
        if input.ndim not in self.ranks and not known:
            axes = " or ".join(map(str, self.ranks))
            raise ShapeError(
                f"{type(self).__name__} of shape {input.shape}.", f"The input has {axes} axes."
            )
        is_batched = issubclass(type(self), _BATCH_NORMS) or input.ndim == self.ranks[-1]
        self.num_features = known[0].shape[0] if known else input.shape[1 if is_batched else 0]
        if self.has_uninitialized_params():
            for t in (*self._parameters.values(), *self._buffers.values()):
                if is_lazy(t):
                    t.materialize((self.num_features,))
            self.reset_parameters()


_BATCH_NORMS = BatchNorm1d, BatchNorm2d, BatchNorm3d


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """A `BatchNorm1d` whose num_features is that of the first input; see `LazyBatchNorm2d`."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """A `BatchNorm2d` whose num_features is that of the first input; its other arguments are the
    same.

    >>> import tgrad
    >>> layer = tgrad.nn.LazyBatchNorm2d()
    >>> layer(tgrad.ones(2, 3, 4, 4)).shape, layer.running_mean.shape
    ((2, 3, 4, 4), (3,))
    """

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """A `BatchNorm3d` whose num_features is that of the first input; see `LazyBatchNorm2d`."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """An `InstanceNorm1d` whose num_features is that of the first input; see
    `LazyInstanceNorm2d`."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """An `InstanceNorm2d` whose num_features is that of the first input; its other arguments are
    the same, but weight, bias and running statistics are there unless they are turned off.

    >>> import tgrad
    >>> tgrad.nn.LazyInstanceNorm2d()(tgrad.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """An `InstanceNorm3d` whose num_features is that of the first input; see
    `LazyInstanceNorm2d`."""

    cls_to_become = InstanceNorm3d
