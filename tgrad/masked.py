"""Reductions and normalisations of the elements where a mask holds, as torch.masked.

In: a tensor and a mask that broadcasts to it (None for all). Out: lazy tensors. Invariant: what is
masked out is replaced by what leaves the reduction as it is; a result of no element at all is that.
Source: https://docs.pytorch.org/docs/stable/masked.html
"""

from __future__ import annotations

import math
from typing import Any

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.linalg import vector_norm
from tgrad.methods.reduction import Dim
from tgrad.tensor import Tensor

Mask = Tensor | None


def _filled(input: Tensor, mask: Mask, value: Any) -> Tensor:
    return input if mask is None else input.where(mask.bool().expand(input.shape), value)


def _converted(input: Tensor, dtype: DType | None, accumulate: bool = False) -> Tensor:
    """In the dtype of the result: integers are summed in int64."""
    if dtype is not None:
        return input.to(dtype)
    return input.long() if accumulate and input.dtype.kind in "iub" else input


def sum(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The sum of the elements where the mask holds.

    >>> import tgrad
    >>> tgrad.masked.sum(tgrad.tensor([1, 2]), mask=tgrad.tensor([True, False])).item()
    1
    """
    return _filled(_converted(input, dtype, True), mask, 0).sum(dim, keepdim)


def prod(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The product of the elements where the mask holds."""
    return _filled(_converted(input, dtype, True), mask, 1).prod(dim, keepdim)


def cumsum(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Mask = None
) -> Tensor:  # fmt: skip
    """The sum, up to each element, of those where the mask holds."""
    return _filled(_converted(input, dtype, True), mask, 0).cumsum(dim)


def cumprod(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Mask = None
) -> Tensor:  # fmt: skip
    """The product, up to each element, of those where the mask holds."""
    return _filled(_converted(input, dtype, True), mask, 1).cumprod(dim)


def median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The lower median of the elements where the mask holds; NaN where it holds nowhere."""
    return _filled(_converted(input, dtype), mask, math.nan).nanmedian(dim, keepdim).values


def amax(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The largest of the elements where the mask holds."""
    x = _converted(input, dtype)
    return _filled(x, mask, x.dtype.min).amax(dim, keepdim)


def amin(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The smallest of the elements where the mask holds."""
    x = _converted(input, dtype)
    return _filled(x, mask, x.dtype.max).amin(dim, keepdim)


def argmax(
    input: Tensor, dim: int | None = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The place of the first largest element where the mask holds, in the dtype of input."""
    x = _converted(input, dtype)
    return _filled(x, mask, x.dtype.min).argmax(dim, keepdim).to(x.dtype)


def argmin(
    input: Tensor, dim: int | None = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The place of the first smallest element where the mask holds, in the dtype of input."""
    x = _converted(input, dtype)
    return _filled(x, mask, x.dtype.max).argmin(dim, keepdim).to(x.dtype)


def _count(input: Tensor, dim: Dim, keepdim: bool, mask: Mask) -> Tensor:
    ones = input._constant(1, dt.int64).expand(input.shape)
    return _filled(ones, mask, 0).sum(dim, keepdim)


def mean(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The mean of the elements where the mask holds.

    >>> import tgrad
    >>> tgrad.masked.mean(tgrad.tensor([1.0, 5.0]), mask=tgrad.tensor([True, False])).item()
    1.0
    """
    x = _converted(input, dtype)
    if mask is None:
        return x.mean(dim, keepdim)
    return _filled(x, mask, 0).sum(dim, keepdim) / _count(x, dim, keepdim, mask)


def var(
    input: Tensor, dim: Dim = None, unbiased: bool | None = None, *, correction: int | None = None,
    keepdim: bool = False, dtype: DType | None = None, mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The variance of the elements where the mask holds; see `Tensor.var_mean`."""
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    x = _converted(input, dtype)
    x = x if x.dtype.is_float or x.dtype.is_complex else x.to(dt.get_default_dtype())
    count = _count(x, dim, True, mask).to(x.real.dtype)
    centred = _filled(x - _filled(x, mask, 0).sum(dim, keepdim=True) / count, mask, 0)
    freedom = (_count(x, dim, keepdim, mask) - correction).clamp(min=0)
    return (centred * centred.conj()).sum(dim, keepdim) / freedom


def std(
    input: Tensor, dim: Dim = None, unbiased: bool | None = None, **options: Any
) -> Tensor:  # fmt: skip
    """The square root of `var`."""
    return var(input, dim, unbiased, **options).sqrt()


def norm(
    input: Tensor, ord: float = 2.0, dim: Dim = None, *, keepdim: bool = False,
    dtype: DType | None = None, mask: Mask = None,
) -> Tensor:  # fmt: skip
    """The p-norm of the elements where the mask holds."""
    x = _converted(input, dtype)
    return vector_norm(_filled(x, mask, math.inf if ord == -math.inf else 0), ord, dim, keepdim)


def logsumexp(
    input: Tensor, dim: Dim = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """log(sum(exp(x))) of the elements where the mask holds."""
    return _filled(_converted(input, dtype), mask, -math.inf).logsumexp(dim, keepdim)


def logaddexp(
    input: Tensor, other: Tensor, *, dtype: DType | None = None, input_mask: Mask = None,
    other_mask: Mask = None,
) -> Tensor:  # fmt: skip
    """log(exp(input) + exp(other)), of those where their masks hold."""
    a = _filled(_converted(input, dtype), input_mask, -math.inf)
    return a.logaddexp(_filled(_converted(other, dtype), other_mask, -math.inf))


def softmax(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Mask = None) -> Tensor:
    """`softmax` over the elements where the mask holds.

    >>> import tgrad
    >>> tgrad.masked.softmax(tgrad.ones(2), 0, mask=tgrad.tensor([True, False])).tolist()
    [1.0, 0.0]
    """
    return _filled(_converted(input, dtype), mask, -math.inf).softmax(dim)


def log_softmax(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Mask = None
) -> Tensor:
    """`log_softmax` over the elements where the mask holds."""
    return _filled(_converted(input, dtype), mask, -math.inf).log_softmax(dim)


def softmin(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Mask = None) -> Tensor:
    """`softmin` over the elements where the mask holds."""
    return (-_filled(_converted(input, dtype), mask, math.inf)).softmax(dim)


def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: DType | None = None,
    mask: Mask = None,
) -> Tensor:  # fmt: skip
    """x divided by the p-norm of the elements where the mask holds; 0 elsewhere."""
    x = _converted(input, dtype)
    size = norm(x, ord, dim, keepdim=True, mask=mask)
    return _filled(x, mask, 0) / size.clamp(min=eps)
