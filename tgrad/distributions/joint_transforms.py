"""Transforms of matrices, of shapes, and of parts of a tensor each by its own transform.

In: lazy tensors. Out: their images, inverses, and the logarithms of how much volume grows.
Invariant: see transform.py. Source:
https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.transforms
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

import tgrad.nn.functional as F
from tgrad.creation import eye
from tgrad.distributions import constraints
from tgrad.distributions.constraints import Constraint
from tgrad.distributions.distribution import Distribution, Shape, sum_last
from tgrad.distributions.transform import Transform
from tgrad.errors import ShapeError
from tgrad.joining import cat, stack
from tgrad.linalg import cholesky
from tgrad.queries import finfo
from tgrad.tensor import Tensor, tensor


class LowerCholeskyTransform(Transform):
    """Any square matrix to a lower triangular one: exp of its diagonal, and what is below."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Transform):
    """Any square matrix to a positive definite one: the product of what `LowerCholeskyTransform`
    makes of it with its transpose."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        low = LowerCholeskyTransform()(x)
        return low @ low.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().inv(cholesky(y))


class CorrCholeskyTransform(Transform):
    """D (D - 1) / 2 numbers to the Cholesky factor of a matrix of D x D correlations: a row has
    length one, each element takes its share, tanh(x), of the length that is left.

    >>> import tgrad
    >>> tgrad.distributions.CorrCholeskyTransform()(tgrad.zeros(1)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    domain, codomain, bijective = constraints.real_vector, constraints.corr_cholesky, True

    def _call(self, x: Tensor) -> Tensor:
        eps = finfo(x.dtype).eps
        share = _as_triangle(x.tanh().clamp(-1 + eps, 1 - eps))
        left = (1.0 - share.square()).sqrt().cumprod(-1)
        n = share.shape[-1]
        one = eye(n, dtype=x.dtype, device=x.device)
        return (share + one) * F.pad(left[..., :-1], (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        left = F.pad((1.0 - y.square().cumsum(-1))[..., :-1], (1, 0), value=1.0)
        return (_from_triangle(y, -1) / _from_triangle(left, -1).sqrt()).atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        left = _from_triangle(1.0 - y.square().cumsum(-1), -2)
        shares = -2.0 * (x + F.softplus(-2.0 * x) - math.log(2.0))
        return left.log().sum(-1) * 0.5 + shares.sum(-1)

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        n = _side(shape[-1] if shape else 0)
        return (*shape[:-1], n, n)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ShapeError(f"CorrCholeskyTransform.inv of shape {tuple(shape)}.", "Give squares.")
        return (*shape[:-2], shape[-1] * (shape[-1] - 1) // 2)


def _side(count: int) -> int:
    """D for D (D - 1) / 2 numbers below a diagonal."""
    n = round((1 + math.sqrt(1 + 8 * count)) / 2)
    if not count or n * (n - 1) // 2 != count:
        raise ShapeError(
            f"CorrCholeskyTransform of {count} numbers.", "Give 1, 3, 6, ...: D (D - 1) / 2."
        )
    return n


def _as_triangle(x: Tensor) -> Tensor:
    """(*, D (D - 1) / 2) row by row below the diagonal of (*, D, D), zeros elsewhere."""
    count = x.shape[-1]
    n = _side(count)
    places = np.full((n, n), count)
    places[np.tril_indices(n, -1)] = np.arange(count)
    wide = F.pad(x, (0, 1))
    found = wide.index_select(-1, tensor(places.reshape(-1), device=x.device))
    return found.reshape(*x.shape[:-1], n, n)


def _from_triangle(x: Tensor, diagonal: int) -> Tensor:
    """The elements of (*, D, D) up to a diagonal, row by row."""
    rows, columns = np.tril_indices(x.shape[-1], diagonal)
    places = tensor(rows * x.shape[-1] + columns, device=x.device)
    return x.flatten(-2).index_select(-1, places)


class ReshapeTransform(Transform):
    """The last axes of a tensor in another shape.

    Args:
        in_shape, out_shape: of as many elements.

    Raises:
        ShapeError: of others.

    >>> import tgrad
    >>> tgrad.distributions.ReshapeTransform((4,), (2, 2))(tgrad.ones(3, 4)).shape
    (3, 2, 2)
    """

    bijective = True

    def __init__(self, in_shape: Shape, out_shape: Shape, cache_size: int = 0):
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ShapeError(
                f"ReshapeTransform of {self.in_shape} to {self.out_shape}.",
                "Both have as many elements.",
            )

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return constraints.independent(constraints.real, len(self.in_shape))

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Tensor) -> Tensor:
        return x.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(x.shape[: x.ndim - len(self.in_shape)])

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        return self._changed(shape, self.in_shape, self.out_shape)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        return self._changed(shape, self.out_shape, self.in_shape)

    def _changed(self, shape: Shape, old: tuple[int, ...], new: Shape) -> tuple[int, ...]:
        cut = len(shape) - len(old)
        if cut < 0 or tuple(shape[cut:]) != old:
            raise ShapeError(
                f"ReshapeTransform of shape {tuple(shape)}.", f"The last axes are {old}."
            )
        return (*shape[:cut], *new)


class CumulativeDistributionTransform(Transform):
    """Values of a distribution to the probability of at most these."""

    bijective, codomain = True, constraints.unit_interval

    def __init__(self, distribution: Distribution, cache_size: int = 0):
        self.distribution = distribution

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return self.distribution.support

    def _call(self, x: Tensor) -> Tensor:
        return self.distribution.cdf(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distribution.log_prob(x)


class _ByParts(Transform):
    """What `CatTransform` and `StackTransform` share: transforms of parts along an axis."""

    transforms: list[Transform]
    dim: int

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        return all(t.bijective for t in self.transforms)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError

    def _joined(self, parts: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def _call(self, x: Tensor) -> Tensor:
        return self._joined([t(v) for t, v in zip(self.transforms, self._parts(x))])

    def _inverse(self, y: Tensor) -> Tensor:
        return self._joined([t._inverse(v) for t, v in zip(self.transforms, self._parts(y))])

    def _grown(self, x: Tensor, y: Tensor) -> list[Tensor]:
        triples = zip(self.transforms, self._parts(x), self._parts(y))
        return [t.log_abs_det_jacobian(a, b) for t, a, b in triples]


class CatTransform(_ByParts):
    """Pieces of an axis, each by its own transform.

    Args:
        tseq: transforms.
        dim: the axis.
        lengths: of the pieces; 1 each by default.

    >>> import tgrad
    >>> from tgrad.distributions import AffineTransform, CatTransform
    >>> both = CatTransform([AffineTransform(0.0, 2.0), AffineTransform(1.0, 1.0)], 0, [1, 2])
    >>> both(tgrad.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ):
        self.transforms, self.dim = list(tseq), dim
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            raise ShapeError(
                f"CatTransform of {len(self.transforms)} transforms and {len(self.lengths)} "
                "lengths.",
                "Give one for each.",
            )

    @property
    def length(self) -> int:
        """Of the axis."""
        return sum(self.lengths)

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        if x.shape[self.dim] != self.length:
            raise ShapeError(
                f"CatTransform of shape {x.shape}.", f"Axis {self.dim} has size {self.length}."
            )
        starts = accumulate([0, *self.lengths[:-1]])
        return [x.narrow(self.dim, a, n) for a, n in zip(starts, self.lengths)]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return cat(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        axes = self.event_dim
        grown = [
            sum_last(g, axes - t.event_dim) for t, g in zip(self.transforms, self._grown(x, y))
        ]
        dim = (self.dim - x.ndim if self.dim >= 0 else self.dim) + axes
        return cat(grown, dim) if dim < 0 else _total(grown)


def _total(parts: list[Tensor]) -> Tensor:
    found: Any = 0.0
    for part in parts:
        found = part + found
    return found


class StackTransform(_ByParts):
    """Slices along an axis, each by its own transform.

    Args:
        tseq: transforms, as many as slices.
        dim: the axis.
    """

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0):
        self.transforms, self.dim = list(tseq), dim

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return constraints.stack([t.domain for t in self.transforms], self.dim)

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return constraints.stack([t.codomain for t in self.transforms], self.dim)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        if x.shape[self.dim] != len(self.transforms):
            raise ShapeError(
                f"StackTransform of shape {x.shape}.",
                f"Axis {self.dim} has size {len(self.transforms)}.",
            )
        return x.unbind(self.dim)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return stack(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return stack(self._grown(x, y), self.dim)
