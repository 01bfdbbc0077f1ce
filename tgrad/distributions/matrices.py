"""Distributions of matrices, and of vectors whose covariance is given by few numbers.

In: factors of matrices. Out: distributions. Invariant: matrices are held by their Cholesky factors;
that of a covariance of low rank is never larger than the rank.
Sources: Bartlett 1933 (Wishart); Lewandowski, Kurowicka and Joe 2009 (correlations); Woodbury 1950.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tgrad.creation import arange, as_tensor, eye
from tgrad.distributions import constraints
from tgrad.distributions.composed import MultivariateNormal, only_factor
from tgrad.distributions.continuous import HALF_LOG_TAU
from tgrad.distributions.distribution import Distribution, Parameter, Shape, named, together
from tgrad.distributions.gammas import Beta, Chi2
from tgrad.distributions.validation import validated
from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.joining import cat
from tgrad.linalg import cholesky, cholesky_inverse, solve_triangular
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.queries import finfo
from tgrad.random import randn
from tgrad.special import multigammaln
from tgrad.tensor import Tensor


def log_diagonal(factor: Tensor) -> Tensor:
    """Half the logarithm of the determinant of a matrix, by its Cholesky factor."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class LowRankMultivariateNormal(Distribution):
    """The normal distribution of vectors of covariance W Wᵀ + D.

    Args:
        loc: the mean (*, k).
        cov_factor: W (*, k, rank).
        cov_diag: the diagonal of D (*, k).

    Raises:
        ShapeError: sizes do not fit.

    >>> import tgrad
    >>> w = tgrad.ones(2, 1)
    >>> p = tgrad.distributions.LowRankMultivariateNormal(tgrad.zeros(2), w, tgrad.ones(2))
    >>> p.covariance_matrix.tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """

    arg_constraints = named(
        loc=constraints.real_vector,
        cov_factor=constraints.independent(constraints.real, 2),
        cov_diag=constraints.independent(constraints.positive, 1),
    )
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        cov_factor: Tensor,
        cov_diag: Tensor,
        validate_args: bool | None = None,
    ):
        size = loc.shape[-1:]
        if not size or cov_factor.shape[-2:-1] != size or cov_diag.shape[-1:] != size:
            raise ShapeError(
                f"LowRankMultivariateNormal of shapes {loc.shape}, {cov_factor.shape} and "
                f"{cov_diag.shape}.",
                "They are (*, k), (*, k, rank) and (*, k).",
            )
        batch = broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc, self.cov_diag = (t.expand(*batch, *size) for t in (loc, cov_diag))
        self.cov_factor = cov_factor.expand(*batch, *cov_factor.shape[-2:])
        super().__init__(batch, size, validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.cov_factor.square().sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Tensor:
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @property
    def precision_matrix(self) -> Tensor:
        inner = self.whitened(self.cov_factor)
        return self.cov_diag.reciprocal().diag_embed() - inner.mT @ inner

    @property
    def scale_tril(self) -> Tensor:
        root = self.cov_diag.sqrt().unsqueeze(-1)
        inner = self.cov_factor / root
        return root * cholesky(inner @ inner.mT + self._one(inner.shape[-2]))

    def _one(self, size: int) -> Tensor:
        return eye(size, dtype=self.loc.dtype, device=self.loc.device)

    def capacitance(self) -> Tensor:
        """The Cholesky factor of I + Wᵀ D⁻¹ W."""
        w = self.cov_factor
        return cholesky(w.mT @ (w / self.cov_diag.unsqueeze(-1)) + self._one(w.shape[-1]))

    def whitened(self, columns: Tensor) -> Tensor:
        """C⁻¹ columnsᵀ D⁻¹ of the factor C above for columns W: what Woodbury's identity takes from
        D⁻¹, of which it is the square."""
        return solve_triangular(
            self.capacitance(), (columns / self.cov_diag.unsqueeze(-1)).mT, upper=False
        )

    def half_log_det(self) -> Tensor:
        """Half the logarithm of the covariance's determinant."""
        return log_diagonal(self.capacitance()) + 0.5 * self.cov_diag.log().sum(-1)

    def mahalanobis(self, apart: Tensor) -> Tensor:
        """apartᵀ covariance⁻¹ apart, of (*, k, columns): summed over columns."""
        inner = self.whitened(self.cov_factor) @ apart
        whole = (apart.square() / self.cov_diag.unsqueeze(-1)).sum((-2, -1))
        return whole - inner.square().sum((-2, -1))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        options: dict[str, Any] = {"dtype": self.loc.dtype, "device": self.loc.device}
        shape = self._shape(sample_shape)
        few = randn(*shape[:-1], self.cov_factor.shape[-1], 1, **options)
        own = randn(*shape, **options)
        return self.loc + (self.cov_factor @ few).squeeze(-1) + self.cov_diag.sqrt() * own

    @validated
    def log_prob(self, value: Any) -> Tensor:
        apart = (as_tensor(value) - self.loc).unsqueeze(-1)
        count = self.loc.shape[-1]
        return -0.5 * self.mahalanobis(apart) - self.half_log_det() - count * HALF_LOG_TAU

    def entropy(self) -> Tensor:
        return self.half_log_det() + self.loc.shape[-1] * (0.5 + HALF_LOG_TAU)


class Wishart(Distribution):
    """The distribution of sums of `df` products x xᵀ of normal vectors x.

    Args:
        df: above k - 1, and not whole.
        covariance_matrix, precision_matrix, scale_tril: one of these, (*, k, k): the covariance of
            the vectors, its inverse, or its lower Cholesky factor.

    Raises:
        UnsupportedError: none is given, or several.

    >>> import tgrad
    >>> tgrad.distributions.Wishart(3.0, tgrad.eye(2)).mean.tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """

    has_rsample = True

    def __init__(
        self,
        df: Parameter,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        matrices = covariance_matrix, precision_matrix, scale_tril
        factor = only_factor("Wishart", *matrices)
        df = as_tensor(df, dtype=factor.dtype, device=factor.device)
        batch = broadcast_shapes(factor.shape[:-2], df.shape)
        self.df = df.expand(*batch)
        self.scale_tril = factor.expand(*batch, *factor.shape[-2:])
        given = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix}
        super().__init__(batch, factor.shape[-2:], validate_args, **given)

    @property
    def arg_constraints(self) -> Mapping[str, Any]:  # type: ignore[override]
        """That of df depends on k."""
        matrices = {k: v for k, v in MultivariateNormal.arg_constraints.items() if k != "loc"}
        return {**matrices, "df": constraints.greater_than(self.size - 1)}

    @property
    def size(self) -> int:
        """k."""
        return self.event_shape[-1]

    @property
    def covariance_matrix(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Tensor:
        return cholesky_inverse(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.df.unsqueeze(-1).unsqueeze(-1) * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        both = v.square() + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self.df.unsqueeze(-1).unsqueeze(-1) * both

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """By Bartlett's decomposition: roots of chi-squared numbers on the diagonal of a triangle,
        normal ones below."""
        k, (dtype, device) = self.size, (self.df.dtype, self.df.device)
        shape = self._shape(sample_shape)
        counts = self.df.unsqueeze(-1) - arange(k, dtype=dtype, device=device)
        roots = Chi2(counts).rsample(sample_shape).sqrt()
        noise = randn(*shape, dtype=dtype, device=device).tril(-1) + roots.diag_embed()
        factor = self.scale_tril @ noise
        return factor @ factor.mT

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, k, df = as_tensor(value), self.size, self.df
        factor = cholesky(value)
        inner = solve_triangular(self.scale_tril, factor.expand(self._wide(factor)), upper=False)
        return (
            -df * (k * math.log(2.0) * 0.5 + log_diagonal(self.scale_tril))
            - multigammaln(df * 0.5, k)
            + (df - k - 1.0) * log_diagonal(factor)
            - 0.5 * inner.square().sum((-2, -1))
        )

    def _wide(self, factor: Tensor) -> tuple[int, ...]:
        return (*broadcast_shapes(factor.shape[:-2], self.batch_shape), *self.event_shape)

    def digammas(self) -> Tensor:
        """The derivative of the logarithm of the gamma function of matrices at df / 2."""
        k = self.size
        steps = arange(k, dtype=self.df.dtype, device=self.df.device) * 0.5
        return (self.df.unsqueeze(-1) * 0.5 - steps).digamma().sum(-1)

    def entropy(self) -> Tensor:
        k, df = self.size, self.df
        return (
            (k + 1) * (k * math.log(2.0) * 0.5 + log_diagonal(self.scale_tril))
            + multigammaln(df * 0.5, k)
            - (df - k - 1.0) * 0.5 * self.digammas()
            + df * k * 0.5
        )


class LKJCholesky(Distribution):
    """The distribution of Cholesky factors of correlations, of density proportional to their
    determinants to the power of concentration - 1.

    Args:
        dim: rows of the matrices, at least 2.
        concentration: 1 for all alike, above it for nearly none correlated.

    Raises:
        ShapeError: dim is less than 2.

    >>> import tgrad
    >>> tgrad.distributions.LKJCholesky(3, 1.0).sample().shape
    (3, 3)
    """

    arg_constraints = named(concentration=constraints.positive)

    def __init__(self, dim: int, concentration: Parameter = 1.0, validate_args: bool | None = None):
        if dim < 2:
            raise ShapeError(f"LKJCholesky: dim={dim}.", "Give at least 2.")
        self.dim = dim
        (self.concentration,) = together(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Row by row: a direction, drawn evenly, and the length that goes in it."""
        a, n = self.concentration, self.dim
        options: dict[str, Any] = {"dtype": a.dtype, "device": a.device}
        with no_grad():
            steps = arange(n - 1, **options)
            steps = cat([steps[:1], steps])
            rest = (a + 0.5 * (n - 2)).unsqueeze(-1) - 0.5 * steps
            share = Beta((steps + 0.5).expand(rest.shape), rest).sample(sample_shape).unsqueeze(-1)
            noise = randn(*self._shape(sample_shape), **options).tril(-1)
            length = noise.square().sum(-1, keepdim=True).sqrt()
            direction = noise / length.where(length > 0, 1.0)
            rows = share.sqrt() * direction
            left = (1.0 - rows.square().sum(-1)).clamp(min=finfo(a.dtype).tiny).sqrt()
            return rows + left.diag_embed()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        a, n = self.concentration, self.dim
        diagonal = as_tensor(value).diagonal(dim1=-2, dim2=-1)[..., 1:]
        order = arange(2, n + 1, dtype=a.dtype, device=a.device)
        powers = 2.0 * (a - 1.0).unsqueeze(-1) + n - order
        whole = a + 0.5 * (n - 1)
        norm = 0.5 * (n - 1) * math.log(math.pi) + multigammaln(whole - 0.5, n - 1)
        return (powers * diagonal.log()).sum(-1) - norm + whole.lgamma() * (n - 1)
