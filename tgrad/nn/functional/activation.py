"""Activation functions, softmax, one-hot.

In: a tensor. Out: a lazy tensor of its shape and dtype. Invariant: float16 and bfloat16 compute in
float32 and round once. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math

import numpy as np

from tgrad import dtype as dt
from tgrad.creation import places
from tgrad.dtype import DType
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.methods.derived import exp_less_one
from tgrad.methods.elementwise import rounded_once
from tgrad.methods.indexing import outside
from tgrad.methods.slopes import by_formula
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp
from tgrad.tracing import check_values


def _wide(x: Tensor) -> Tensor:
    """In the dtype that functions are computed in."""
    return x.to(x.dtype.accumulator)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.relu(tgrad.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _place(input, input.relu(), inplace)


def _place(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    return input._assign(result) if inplace else result


@labelled("relu6")
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.relu6(tgrad.tensor([-1.0, 2.0, 9.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    return hardtanh(input, 0.0, 6.0, inplace)


@labelled("hardtanh")
@from_template()
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x limited to [min_val, max_val]; the gradient is 0 at both ends.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.hardtanh(tgrad.tensor([-3.0, 0.5])).tolist()
    [-1.0, 0.5]
    """
    if not input.dtype.is_float:
        min_val, max_val = int(min_val), int(max_val)
    inside = (input > min_val) & (input < max_val)
    limited = input.detach().clamp(min_val, max_val)
    result = by_formula(input.where(inside | input.isnan(), limited), input)
    return _place(input, result, inplace)


@labelled("leaky_relu")
@from_template()
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.leaky_relu(tgrad.tensor([-2.0, 2.0]), 0.5).tolist()
    [-1.0, 2.0]
    """
    result = rounded_once(lambda x: x.where(x > 0, x * negative_slope), input)
    return _place(input, by_formula(result, input), inplace)


@labelled("elu")
@from_template()
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.elu(tgrad.tensor([2.0])).tolist()
    [2.0]
    """
    result = with_vjp("elu", _elu(_wide(input), alpha).to(input.dtype), input, params=(alpha,))
    return _place(input, result, inplace)


def _elu(x: Tensor, alpha: float) -> Tensor:
    return x.where(x > 0, exp_less_one(x.minimum(0.0)) * alpha)


@define_vjp("elu")
def _elu_backward(g: Tensor, y: Tensor, x: Tensor, alpha: float) -> tuple[Tensor]:
    """g where x > 0, else g * alpha * exp(x)"""
    wide = _wide(x)
    slope = (wide.minimum(0.0).exp() * alpha).where(wide <= 0, 1.0)
    return ((_wide(g) * slope).to(x.dtype),)


@labelled("gelu")
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Φ(x), with Φ the normal distribution function.

    Args:
        input: floating point.
        approximate: "none" for the error function, "tanh" for the usual approximation.

    Raises:
        UnsupportedError: another `approximate`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.gelu(tgrad.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if approximate not in ("none", "tanh"):
        raise UnsupportedError(f"gelu: approximate={approximate!r}.", 'Use "none" or "tanh".')
    function = _gelu_of_tanh if approximate == "tanh" else _gelu
    return function(input)


@from_template()
def _gelu(input: Tensor) -> Tensor:
    x = _wide(input)
    return (x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1.0)).to(input.dtype)


@from_template()
def _gelu_of_tanh(input: Tensor) -> Tensor:
    x = _wide(input)
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return (x * 0.5 * (inner.tanh() + 1.0)).to(input.dtype)


@labelled("silu")
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.silu(tgrad.zeros(2)).tolist()
    [0.0, 0.0]
    """
    x = _wide(input)
    return _place(input, (x * x.sigmoid()).to(input.dtype), inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.sigmoid(tgrad.zeros(2)).tolist()
    [0.5, 0.5]
    """
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.tanh(tgrad.zeros(2)).tolist()
    [0.0, 0.0]
    """
    return input.tanh()


@labelled("softplus")
@from_template()
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.softplus(tgrad.zeros(1)).item(), 4)
    0.6931
    """
    x = _wide(input)
    scaled = x * beta
    curved = log1p_exp(scaled.minimum(threshold)) * (1.0 / beta)
    result = x.where(scaled > threshold, curved)
    params = (beta, threshold)
    return with_vjp("softplus", result.to(input.dtype), input, params=params)


def log1p_exp(x: Tensor) -> Tensor:
    """log(1 + exp(x)), right where exp(x) is large or below the last digit of 1.

    With e = exp(-|x|): max(x, 0) + log1p(e), and log1p(e) = log(u) + (e - (u - 1)) / u, u = 1 + e.
    """
    e = (-x.abs()).exp()
    u = e + 1.0
    return x.maximum(0.0) + (u.log() + (e - (u - 1.0)) / u)


@define_vjp("softplus")
def _softplus_backward(
    g: Tensor, y: Tensor, x: Tensor, beta: float, threshold: float
) -> tuple[Tensor]:
    """g * sigmoid(beta * x), and g above the threshold"""
    scaled = _wide(x) * beta
    slope = scaled.sigmoid().where(~(scaled > threshold), 1.0)
    return ((_wide(g) * slope).to(x.dtype),)


@labelled("logsigmoid")
@from_template()
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.logsigmoid(tgrad.zeros(1)).item(), 4)
    -0.6931
    """
    return (-softplus(-_wide(input), threshold=math.inf)).to(input.dtype)


def softmax(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) over `dim`.

    Raises:
        UnsupportedError: dim is left out.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.softmax(tgrad.zeros(4), 0).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return input.softmax(_named(dim, "softmax"), dtype)


def log_softmax(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) over `dim`.

    Raises:
        UnsupportedError: dim is left out.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.log_softmax(tgrad.zeros(1, 4), 1)[0, 0].item(), 4)
    -1.3863
    """
    return input.log_softmax(_named(dim, "log_softmax"), dtype)


def softmin(input: Tensor, dim: int | None = None, dtype: DType | None = None) -> Tensor:
    """softmax(-x) over `dim`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.softmin(tgrad.zeros(4), 0).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return (-input).softmax(_named(dim, "softmin"), dtype)


def _named(dim: int | None, function: str) -> int:
    if dim is None:
        raise UnsupportedError(f"{function}: dim=None.", "Name the axis; PyTorch warns here too.")
    return dim


@labelled("one_hot")
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class of each element, as a new last axis; int64.

    Args:
        tensor: int64 classes.
        num_classes: how many; -1 for the largest class plus one, which reads the values.

    Raises:
        OutOfRangeError: a class that is known is beyond num_classes or negative.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.one_hot(tgrad.tensor([1, 0]), 3).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    if tensor.dtype is not dt.int64:
        raise DTypeError(f"one_hot of a tensor of {tensor.dtype.name}.", "Use .long().")
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    if num_classes < 1:
        raise OutOfRangeError(f"one_hot with {num_classes} classes.", "There is at least one.")
    check_classes(tensor, num_classes)
    return class_mask(tensor, num_classes).long()


def class_mask(target: Tensor, classes: int, axis: int = -1) -> Tensor:
    """Where a new axis of `classes` is at the class that `target` names; bool."""
    column = target.unsqueeze(axis)
    axis %= column.ndim
    shape = (*column.shape[:axis], classes, *column.shape[axis + 1 :])
    return places(shape, axis, device=target.device) == column


def check_classes(target: Tensor, classes: int, ignore_index: int | None = None) -> None:
    """Refuse classes that are known, since stored on the host, to be out of range.

    Raises:
        OutOfRangeError: names the first one.
    """
    check_values(target, _refuse_classes, classes, ignore_index)


def _refuse_classes(values: np.ndarray, classes: int, ignore_index: int | None) -> None:
    bad = outside(values, 0, classes)
    if bad.size and ignore_index is not None:
        bad = bad[bad != ignore_index]
    if bad.size:
        raise OutOfRangeError(
            f"class {int(bad[0])} with {classes} classes.",
            f"Classes are 0 to {classes - 1}.",
        )


@labelled("glu")
@from_template()
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of `dim`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.glu(tgrad.tensor([3.0, 0.0])).tolist()
    [1.5]
    """
    if input.shape[dim] % 2:
        raise ShapeError(f"glu of an axis of odd size {input.shape[dim]}.", "Its size is even.")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


__all__ = [
    "elu", "gelu", "glu", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "one_hot",
    "relu", "relu6", "sigmoid", "silu", "softmax", "softmin", "softplus", "tanh",
]  # fmt: skip
