"""Activation functions made of pieces, and cheap relatives of smooth ones.

In: a tensor. Out: a lazy tensor of its shape and dtype. Invariant: gradients at the joints are
PyTorch's. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from tgrad.errors import ShapeError
from tgrad.from_template import from_template
from tgrad.methods.slopes import by_formula, define_slopes
from tgrad.nn.functional.activation import (
    elu,
    hardtanh,
    leaky_relu,
    log1p_exp,
    relu,
    relu6,
    silu,
)
from tgrad.random import Generator, rand
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = [
    "celu", "celu_", "elu_", "hardshrink", "hardsigmoid", "hardswish", "hardtanh_", "leaky_relu_",
    "mish", "prelu", "relu6_", "relu_", "rrelu", "rrelu_", "selu", "selu_", "silu_", "softshrink",
    "softsign", "tanhshrink", "threshold", "threshold_",
]  # fmt: skip


def _place(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    return input._assign(result) if inplace else result


@labelled("threshold")
@from_template()
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.threshold(tgrad.tensor([1.0, 3.0]), 2.0, 0.5).tolist()
    [0.5, 3.0]
    """
    result = by_formula(input.where(~(input <= threshold), value), input)
    return _place(input, result, inplace)


@labelled("hardsigmoid")
@from_template()
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1/2, limited to [0, 1]; the gradient is 0 at both ends.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.hardsigmoid(tgrad.tensor([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    y = (hardtanh(input, -3.0, 3.0) + 3.0) * (1 / 6)
    return _place(input, with_vjp("hardsigmoid", y, input), inplace)


@labelled("hardswish")
@from_template()
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.hardswish(tgrad.tensor([-4.0, 4.0])).tolist()
    [-0.0, 4.0]
    """
    wide = input.to(input.dtype.accumulator)
    inside = wide * (wide + 3.0) * (1 / 6)
    y = inside.where(wide > -3.0, wide * 0.0).where(wide < 3.0, wide).to(input.dtype)
    return _place(input, with_vjp("hardswish", y, input), inplace)


define_slopes({
    "hardsigmoid": lambda y, x: ((x > -3.0) & (x < 3.0)).to(x.dtype) * (1 / 6),
    "hardswish": lambda y, x: (x * (1 / 3) + 0.5).where(x < 3.0, 1.0).where(~(x <= -3.0), 0.0),
})  # fmt: skip


@labelled("hardshrink")
@from_template()
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 in [-lambd, lambd], else x.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.hardshrink(tgrad.tensor([0.2, 1.0])).tolist()
    [0.0, 1.0]
    """
    return by_formula(input.where(~((input >= -lambd) & (input <= lambd)), 0.0), input)


@labelled("softshrink")
@from_template()
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, which must not be negative; 0 in between.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.softshrink(tgrad.tensor([0.2, 1.0])).tolist()
    [0.0, 0.5]
    """
    if lambd < 0:
        raise ShapeError(f"softshrink: lambd={lambd}.", "Give 0 or more.")
    below = (input + lambd).where((input < -lambd) | input.isnan(), 0.0)
    return by_formula((input - lambd).where(input > lambd, below), input)


@labelled("tanhshrink")
@from_template()
def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.tanhshrink(tgrad.zeros(1)).item()
    0.0
    """
    return input - input.tanh()


@labelled("softsign")
@from_template()
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.softsign(tgrad.tensor([1.0])).item()
    0.5
    """
    return input / (input.abs() + 1.0)


@labelled("mish")
@from_template()
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(log(1 + exp(x))).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.mish(tgrad.zeros(1)).item()
    0.0
    """
    wide = input.to(input.dtype.accumulator)
    y = with_vjp("mish", (wide * log1p_exp(wide).tanh()).to(input.dtype), input)
    return _place(input, y, inplace)


@define_vjp("mish")
def _mish_backward(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    """g * (t + x * σ(x) * (1 - t²)), t = tanh(log(1 + exp(x)))"""
    wide = x.to(x.dtype.accumulator)
    t = log1p_exp(wide).tanh()
    slope = t + wide * wide.sigmoid() * (1.0 - t * t)
    return ((g.to(wide.dtype) * slope).to(x.dtype),)


@labelled("celu")
@from_template()
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.celu(tgrad.tensor([2.0])).tolist()
    [2.0]
    """
    low = elu(input * (1.0 / alpha)) * alpha
    return _place(input, input.where(input > 0, low), inplace)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@labelled("selu")
@from_template()
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """An `elu` whose outputs keep mean 0 and variance 1. Source: Klambauer et al. (2017).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.selu(tgrad.zeros(1)).item()
    0.0
    """
    return _place(input, elu(input, SELU_ALPHA) * SELU_SCALE, inplace)


@labelled("prelu")
@from_template()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x, one weight or one a channel (axis 1).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.prelu(tgrad.tensor([-2.0, 2.0]), tgrad.tensor(0.5)).tolist()
    [-1.0, 2.0]
    """
    if weight.numel() > 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.shape != (channels,):
            raise ShapeError(
                f"prelu of shape {input.shape} with weights of shape {weight.shape}.",
                "Give one weight, or one a channel.",
            )
        weight = weight.reshape([channels if a == 1 else 1 for a in range(max(input.ndim, 2))])
    else:
        weight = weight.reshape(())
    return by_formula(input.where(input > 0, input * weight), input)


@labelled("rrelu")
def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """x where x > 0, else a * x, with a random a in [lower, upper] (their mean when not training).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.rrelu(tgrad.tensor([-1.0]), 0.5, 0.5).item()
    -0.5
    """
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    draw = rand(input.shape, dtype=input.dtype, device=input.device, generator=generator)
    slope = draw * (upper - lower) + lower
    result = by_formula(input.where(input > 0, input * slope), input)
    return _place(input, result, inplace)


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with inplace=True, as PyTorch names it with an underscore."""

    @wraps(function)
    def call(input: Tensor, *args: float, **options: float) -> Tensor:
        return function(input, *args, **options, inplace=True)

    call.__doc__ = f"`{function.__name__}` in place."
    return call


celu_, elu_, hardtanh_ = _in_place(celu), _in_place(elu), _in_place(hardtanh)
leaky_relu_, relu_, relu6_ = _in_place(leaky_relu), _in_place(relu), _in_place(relu6)
rrelu_, selu_, silu_ = _in_place(rrelu), _in_place(selu), _in_place(silu)
threshold_ = _in_place(threshold)
