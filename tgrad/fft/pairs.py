"""Complex values as pairs: real tensors with a last axis of 2; and functions of pairs as functions
of complex tensors.

In: real or complex tensors. Out: the same, lazy. Invariant: a pair is (real part, imaginary part).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from tgrad import dtype as dt
from tgrad.complex_numbers.tensor import ComplexTensor
from tgrad.errors import DTypeError, ShapeError
from tgrad.joining import stack
from tgrad.tensor import Tensor, labelled


def pair(real: Tensor, imag: Tensor | None = None) -> Tensor:
    """Pairs of real and imaginary parts, zeros where there are none.

    Args:
        real: of any shape S.
        imag: of the same shape.

    Returns:
        (*S, 2).

    >>> import tgrad
    >>> pair(tgrad.tensor([1.0, 2.0])).tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """
    real = as_float(real, "pair")
    return stack([real, real._constant(0, real.dtype).expand(real.shape) if imag is None else imag],
                 -1)  # fmt: skip


@labelled("conjugate")
def conjugate(input: Tensor) -> Tensor:
    """The pairs with imaginary parts of the other sign.

    >>> import tgrad
    >>> conjugate(tgrad.tensor([[1.0, 2.0]])).tolist()
    [[1.0, -2.0]]
    """
    check_pairs(input, "conjugate")
    return stack([input[..., 0], -input[..., 1]], -1)


def times(z: Tensor, w: Tensor) -> Tensor:
    """The products of complex numbers, pairs."""
    a, b, c, d = z[..., 0], z[..., 1], w[..., 0], w[..., 1]
    return stack([a * c - b * d, a * d + b * c], -1)


def complex_both(function: Callable[..., Tensor]) -> Callable[..., ComplexTensor]:
    """Decorator: the function of pairs as one of complex or real tensors, complex as well."""

    @wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> ComplexTensor:
        return ComplexTensor.from_pairs(function(_pairs_of(input, function), *args, **kwargs))

    return call


def complex_in(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: the function of pairs as one of complex or real tensors, real itself."""

    @wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> Tensor:
        return function(_pairs_of(input, function), *args, **kwargs)

    return call


def complex_out(function: Callable[..., Tensor]) -> Callable[..., ComplexTensor]:
    """Decorator: the function of real tensors that gives pairs, as one that is complex.

    Raises:
        DTypeError: when called with a complex tensor.
    """

    @wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> ComplexTensor:
        if isinstance(input, ComplexTensor):
            raise DTypeError(f"{function.__name__} of {input.dtype.name}.", "Give a real tensor.")
        return ComplexTensor.from_pairs(function(input, *args, **kwargs))

    return call


def _pairs_of(input: Any, function: Callable[..., Any]) -> Tensor:
    if isinstance(input, ComplexTensor):
        return input.pairs()
    return pair(as_float(input, function.__name__))


def as_float(input: Tensor, name: str) -> Tensor:
    """Real numbers as float32 or float64.

    Raises:
        DTypeError: they are float16 or bfloat16.
    """
    if not input.dtype.is_float:
        return input.to(dt.get_default_dtype())
    if input.dtype not in (dt.float32, dt.float64):
        raise DTypeError(f"{name} of {input.dtype.name}.", "Use float32 or float64.")
    return input


def check_pairs(input: Tensor, name: str) -> None:
    """Refuse what cannot be pairs.

    Raises:
        ShapeError: the last axis is not 2.
        DTypeError: the dtype is neither float32 nor float64.
    """
    if not input.shape or input.shape[-1] != 2:
        raise ShapeError(
            f"{name} of shape {input.shape}: complex values are pairs, a last axis of 2.",
            "Give the last axis both parts.",
        )
    if input.dtype not in (dt.float32, dt.float64):
        raise DTypeError(f"{name} of {input.dtype.name}.", "Use float32 or float64.")


def extended(x: Tensor, axis: int, size: int) -> Tensor:
    """With zeros after it, up to a size."""
    high = [0] * x.ndim
    high[axis] = size - x.shape[axis]
    return x._pad_zero([0] * x.ndim, high)
