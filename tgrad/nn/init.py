"""Initial values, from PyTorch's distributions.

In: a tensor. Out: the same tensor with new values. Invariant: lazy, in place, without gradients;
random numbers come from the generator that `tgrad.manual_seed` seeds, unless another is given.
Source: Glorot and Bengio 2010; He et al. 2015; https://docs.pytorch.org/docs/stable/nn.init.html
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tgrad.creation import eye
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.linalg import qr
from tgrad.methods.elementwise import is_complex
from tgrad.random import Generator, rand, randn
from tgrad.tensor import Tensor
from tgrad.tensor import tensor as tensor_of

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity.

    >>> calculate_gain("relu") ** 2
    2.0000000000000004
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise UnsupportedError(
            f"nonlinearity={nonlinearity!r}.", f"Use leaky_relu, {', '.join(_GAINS)}."
        )
    return _GAINS[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight (out, in, *kernel)."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"fans of a tensor of shape {tensor.shape}.", "A weight has at least two axes."
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fill(tensor: Tensor, value: Tensor) -> Tensor:
    with no_grad():
        return tensor.copy_(value) if is_complex(tensor) else tensor._assign(value)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b); of complex numbers both parts."""
    draw = rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
    low: Any = complex(a, a) if is_complex(tensor) else a
    return _fill(tensor, draw * (b - a) + low)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with that mean, of both parts of complex numbers, and standard deviation."""
    draw = randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
    middle: Any = complex(mean, mean) if is_complex(tensor) else mean
    return _fill(tensor, draw * std + middle)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, limited to [a, b] by the inverse of its distribution function.

    The inverse error function is Winitzki's approximation (2008) and two steps of Newton's method.
    """
    low, high = (math.erf((x - mean) / std / math.sqrt(2)) for x in (a, b))
    draw = rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
    p = draw * (high - low) + low
    log = (1.0 - p * p).maximum(1e-30).log()
    half = log * 0.5 + 2 / (math.pi * 0.147)
    size = ((half * half - log / 0.147).sqrt() - half).sqrt()
    x = size.where(p >= 0, -size)
    for _ in range(2):
        x = x - (x.erf() - p) * (x * x).exp() * (math.sqrt(math.pi) / 2)
    return _fill(tensor, (x * (std * math.sqrt(2)) + mean).clamp(a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number."""
    return _fill(tensor, tensor._constant(val, tensor.dtype).expand(tensor.shape))


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_ of shape {tensor.shape}.", "It has two axes.")
    return _fill(tensor, eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight (out, in, *kernel), 3 to 5 axes, that keeps its channels.

    Raises:
        ShapeError: the axes are another number, or groups do not divide the outputs.
    """
    if not 3 <= tensor.ndim <= 5 or groups < 1 or tensor.shape[0] % groups:
        raise ShapeError(
            f"dirac_ of shape {tensor.shape}, groups={groups}.",
            "Give 3 to 5 axes, and groups that divide the first.",
        )
    out, inputs = tensor.shape[:2]
    weight = np.zeros(tensor.shape, np.float32)
    middle = tuple(n // 2 for n in tensor.shape[2:])
    for i in range(min(out // groups, inputs)):
        for group in range(groups):
            place = (group * (out // groups) + i, i, *middle)
            weight[place] = 1.0
    return _fill(tensor, tensor_of(weight, dtype=tensor.dtype, device=tensor.device))


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A matrix (rows, everything else) with orthonormal rows or columns, times gain.

    Source: Saxe et al. 2013.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ of shape {tensor.shape}.", "It has two axes or more.")
    if 0 in tensor.shape:
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    shape = (max(rows, columns), min(rows, columns))
    draw = randn(shape, generator=generator, dtype=tensor.dtype.accumulator, device=tensor.device)
    with no_grad():
        q, r = qr(draw)
        q = q * r.diagonal().sign()
    q = q.t() if rows < columns else q
    return _fill(tensor, q.reshape(tensor.shape).to(tensor.dtype) * gain)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """A matrix of normal values, with a share of zeros in each column.

    Source: Martens 2010.
    """
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_ of shape {tensor.shape}.", "It has two axes.")
    options: dict[str, Any] = {"generator": generator, "device": tensor.device}
    zeros = math.ceil(sparsity * tensor.shape[0])
    order = rand(tensor.shape, **options).argsort(0).argsort(0)
    draw = randn(tensor.shape, dtype=tensor.dtype, **options)
    return _fill(tensor, (draw * std).where(order >= zeros, 0.0))


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform with variance gain² * 2 / (inputs + outputs)."""
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain² * 2 / (inputs + outputs)."""
    std = gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise UnsupportedError(f"mode={mode!r}.", 'Use "fan_in" or "fan_out".')
    fan = _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance gain² / fan."""
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance gain² / fan."""
    if 0 in tensor.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity), generator)


# -- older names ---------------------------------------------------------------------------------


def _older(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function by the name that it had before names of what writes in place ended in `_`."""
    name = function.__name__

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"nn.init.{name[:-1]} is now nn.init.{name}.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    return call


constant, dirac, normal = _older(constant_), _older(dirac_), _older(normal_)
kaiming_normal, kaiming_uniform = _older(kaiming_normal_), _older(kaiming_uniform_)
orthogonal, sparse, uniform = _older(orthogonal_), _older(sparse_), _older(uniform_)
xavier_normal, xavier_uniform = _older(xavier_normal_), _older(xavier_uniform_)
