"""Activations as modules.

In: their constants. Out: modules; only PReLU has a parameter. Invariant: each calls the function of
its name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tgrad.creation import DeviceLike, full
from tgrad.dtype import DType
from tgrad.nn import functional as F
from tgrad.nn.init import constant_
from tgrad.nn.module import Module
from tgrad.nn.modules.stateless import REQUIRED, Stateless, options
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor


class ReLU(Stateless):
    """max(x, 0)."""

    function = staticmethod(F.relu)
    constants = options(inplace=False)


class ReLU6(Stateless):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)
    constants = options(inplace=False)


class LeakyReLU(Stateless):
    """x where x > 0, else negative_slope * x."""

    function = staticmethod(F.leaky_relu)
    constants = options(negative_slope=0.01, inplace=False)


class PReLU(Module):
    """x where x > 0, else weight * x: one slope for all, or one for each channel.

    Args:
        num_parameters: 1, or the size of axis 1.
        init: first value of the slopes.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(full((num_parameters,), init, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """The first slopes again."""
        constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Stateless):
    """x where x > 0, else a slope times x: in training uniform in [lower, upper), else its mean."""

    function = staticmethod(F.rrelu)
    constants = options(lower=1 / 8, upper=1 / 3, inplace=False)
    by_training = True


class ELU(Stateless):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    function = staticmethod(F.elu)
    constants = options(alpha=1.0, inplace=False)


class CELU(Stateless):
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""

    function = staticmethod(F.celu)
    constants = options(alpha=1.0, inplace=False)


class SELU(Stateless):
    """A scaled ELU that keeps mean 0 and variance 1."""

    function = staticmethod(F.selu)
    constants = options(inplace=False)


class GELU(Stateless):
    """x * Φ(x)."""

    function = staticmethod(F.gelu)
    constants = options(approximate="none")


class SiLU(Stateless):
    """x * sigmoid(x)."""

    function = staticmethod(F.silu)
    constants = options(inplace=False)


class Mish(Stateless):
    """x * tanh(log(1 + exp(x)))."""

    function = staticmethod(F.mish)
    constants = options(inplace=False)


class GLU(Stateless):
    """The first half of an axis times the sigmoid of the second."""

    function = staticmethod(F.glu)
    constants = options(dim=-1)


class Sigmoid(Stateless):
    """1 / (1 + exp(-x))."""

    function = staticmethod(Tensor.sigmoid)


class LogSigmoid(Stateless):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class Tanh(Stateless):
    """The hyperbolic tangent."""

    function = staticmethod(Tensor.tanh)


class Softplus(Stateless):
    """log(1 + exp(beta * x)) / beta."""

    function = staticmethod(F.softplus)
    constants = options(beta=1.0, threshold=20.0)


class Softsign(Stateless):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Hardsigmoid(Stateless):
    """relu6(x + 3) / 6."""

    function = staticmethod(F.hardsigmoid)
    constants = options(inplace=False)


class Hardswish(Stateless):
    """x * hardsigmoid(x)."""

    function = staticmethod(F.hardswish)
    constants = options(inplace=False)


class Hardtanh(Stateless):
    """x held within [min_val, max_val]."""

    function = staticmethod(F.hardtanh)
    constants = options(min_val=-1.0, max_val=1.0, inplace=False)


class Hardshrink(Stateless):
    """x where |x| > lambd, else 0."""

    function = staticmethod(F.hardshrink)
    constants = options(lambd=0.5)


class Softshrink(Stateless):
    """x moved towards 0 by lambd, and 0 where it would cross it."""

    function = staticmethod(F.softshrink)
    constants = options(lambd=0.5)


class Tanhshrink(Stateless):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Threshold(Stateless):
    """x where x > threshold, else value."""

    function = staticmethod(F.threshold)
    constants = options(threshold=REQUIRED, value=REQUIRED, inplace=False)


class Softmax(Stateless):
    """exp(x) / sum(exp(x)) over `dim`."""

    function = staticmethod(F.softmax)
    constants = options(dim=None)


class Softmin(Stateless):
    """softmax(-x) over `dim`."""

    function = staticmethod(F.softmin)
    constants = options(dim=None)


class LogSoftmax(Stateless):
    """log(softmax(x)) over `dim`."""

    function = staticmethod(F.log_softmax)
    constants = options(dim=None)


class Softmax2d(Module):
    """softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, -3)


def __getattr__(name: str) -> Any:
    """PyTorch has attention here too."""
    if name == "MultiheadAttention":
        return import_module("tgrad.nn.modules.attention").MultiheadAttention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
