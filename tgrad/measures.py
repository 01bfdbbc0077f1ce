"""Functions of sampled curves and of data: differences, integrals, covariances.

In: tensors. Out: lazy tensors. Invariant: written with other functions; axes and defaults are
PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

from tgrad.arguments import with_numpy_names
from tgrad.complex_forms import complex_form
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.joining import cat
from tgrad.methods.activation import as_float
from tgrad.methods.reduction import normal_axis
from tgrad.tensor import Tensor, labelled, tensor

__all__ = ["corrcoef", "cov", "diff", "gradient", "isin", "trapezoid", "trapz"]


@with_numpy_names
@labelled("diff")
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """Differences of neighbours along an axis, n times.

    Args:
        prepend, append: elements before and after those of the axis.

    >>> import tgrad
    >>> tgrad.diff(tgrad.tensor([1, 3, 6])).tolist()
    [2, 3]
    """
    if not input.ndim:
        raise ShapeError("diff of a tensor with no axes.", "It needs one.")
    if not n:
        return input.clone()
    x = cat([t for t in (prepend, input, append) if t is not None], dim)
    axis = normal_axis(dim, x.ndim)
    for _ in range(n):
        count = max(x.shape[axis] - 1, 0)
        if not count:
            return x.narrow(axis, 0, 0)
        after, before = x.narrow(axis, 1, count), x.narrow(axis, 0, count)
        x = after ^ before if x.dtype.is_bool else after - before
    return x


@with_numpy_names
@labelled("gradient")
def gradient(
    input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """Slopes along axes: central differences inside, one-sided ones at both ends.

    Args:
        spacing: one number; or for each axis a number, or the coordinates (a vector).
        dim: axes, by default all.
        edge_order: order of the one-sided differences, 1 or 2.

    >>> import tgrad
    >>> tgrad.gradient(tgrad.tensor([1.0, 2.0, 4.0]))[0].tolist()
    [1.0, 1.5, 2.0]
    """
    given = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    axes = [normal_axis(d, input.ndim) for d in (range(input.ndim) if given is None else given)]
    if spacing is None or isinstance(spacing, (int, float)):
        spacing = [1 if spacing is None else spacing] * len(axes)
    elif not isinstance(spacing, (list, tuple)):
        spacing = [spacing]
    if edge_order not in (1, 2):
        raise UnsupportedError(f"gradient: edge_order={edge_order}.", "Use 1 or 2.")
    return tuple(_slopes(input, axis, step, edge_order) for axis, step in zip(axes, spacing))


def _slopes(x: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise ShapeError(f"gradient along axis {axis} of shape {x.shape}.", "It is too short.")
    steps = _steps(x, axis, spacing)
    rises = diff(x, dim=axis) / steps

    def at(t: Tensor, start: int, count: int) -> Tensor:
        return t.narrow(axis, start, count)

    before, after = at(steps, 0, n - 2), at(steps, 1, n - 2)
    inside = (at(rises, 0, n - 2) * after + at(rises, 1, n - 2) * before) / (before + after)
    first, last = at(rises, 0, 1), at(rises, n - 2, 1)
    if edge_order == 2:
        near, far = at(steps, 0, 1), at(steps, 1, 1)
        first = first + (first - at(rises, 1, 1)) * near / (near + far)
        near, far = at(steps, n - 2, 1), at(steps, n - 3, 1)
        last = last + (last - at(rises, n - 3, 1)) * near / (near + far)
    return cat([first, inside, last], axis)


def _steps(x: Tensor, axis: int, spacing: Any) -> Tensor:
    """The distances of neighbours along an axis, in the rank of x."""
    count = x.shape[axis] - 1
    shape = [count if a == axis else 1 for a in range(x.ndim)]
    is_tensor = not isinstance(spacing, (int, float))
    if is_tensor and spacing.ndim:
        return diff(spacing).reshape(shape)
    if is_tensor:
        return spacing.expand(count).reshape(shape)
    kind = x.real.dtype if x.real.dtype.is_float else (x / 1).dtype
    return x._constant(float(spacing), kind).expand(shape)


@with_numpy_names
@labelled("trapezoid")
def trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integral along an axis by trapezoids.

    Args:
        x: the coordinates, a vector or in the shape of y; by default `dx` (1) apart.

    >>> import tgrad
    >>> tgrad.trapezoid(tgrad.tensor([1.0, 2.0, 3.0])).item()
    4.0
    """
    axis = normal_axis(dim, y.ndim)
    n = y.shape[axis]
    if not n:
        return y.sum(axis)
    pairs = y.narrow(axis, 1, n - 1) + y.narrow(axis, 0, n - 1)
    if x is None:
        return pairs.sum(axis) * (0.5 if dx is None else dx / 2)
    if x.ndim == 1:
        x = x.reshape([x.shape[0] if a == axis else 1 for a in range(y.ndim)])
        return (pairs * diff(x, dim=axis)).sum(axis) * 0.5
    return (pairs * diff(x, dim=dim)).sum(axis) * 0.5


@with_numpy_names
def trapz(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """`trapezoid`."""
    return trapezoid(y, x, dx=dx, dim=dim)


@labelled("cov")
def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariances of variables, a row each (one where it is a vector).

    Args:
        correction: degrees of freedom taken off.
        fweights: how often each observation was made (integers).
        aweights: the weight of each observation.

    >>> import tgrad
    >>> tgrad.cov(tgrad.tensor([1.0, 3.0])).item()
    2.0
    """
    x = input.reshape(1, -1) if input.ndim < 2 else input
    x = as_float(x)
    if x.ndim > 2:
        raise ShapeError(f"cov of shape {input.shape}.", "Give at most two axes.")
    given = [w for w in (fweights, aweights) if w is not None]
    if not given:
        centred = x - x.mean(1, keepdim=True)
        total: Any = x.shape[1]
        scale = 1.0 / (total - correction) if total > correction else math.inf
        found = centred.matmul(centred.t().conj()) * scale
    else:
        weight: Any = given[0] if len(given) == 1 else given[0] * given[1]
        total = weight.sum()
        centred = x - (x * weight).sum(1, keepdim=True) / total
        taken: Any = correction
        if aweights is not None and correction:
            taken = (weight * aweights).sum() / total * correction
        norm = (total - taken).clamp(min=0)
        found = (centred * weight).matmul(centred.t().conj()) / norm
    return found.squeeze()


def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables, a row each.

    >>> import tgrad
    >>> tgrad.corrcoef(tgrad.tensor([[1.0, 2.0], [2.0, 4.0]])).shape
    (2, 2)
    """
    found = cov(input)
    if not found.ndim:
        return found / found
    deviation = found.diagonal().real.sqrt()
    return _clipped(found / deviation.unsqueeze(1) / deviation)


@complex_form("corrcoef.clip")
def _clipped(found: Tensor) -> Tensor:
    """Between -1 and 1, where rounding would lead out."""
    return found.clamp(-1.0, 1.0)


@labelled("isin")
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is among `test_elements`; one of both may be a number.

    Args:
        assume_unique: accepted; every element is compared.
        invert: whether it is not.

    >>> import tgrad
    >>> tgrad.isin(tgrad.tensor([1, 2]), tgrad.tensor([2, 3])).tolist()
    [False, True]
    """
    like = elements if isinstance(elements, Tensor) else test_elements
    if not isinstance(like, Tensor):
        raise DTypeError("isin of numbers.", "Give a tensor.")
    a, tests = (
        t if isinstance(t, Tensor) else tensor(t, device=like.device)
        for t in (elements, test_elements)
    )
    found = (a.unsqueeze(-1) == tests.reshape(-1)).any(-1) if tests.numel() else a != a
    return ~found if invert else found
