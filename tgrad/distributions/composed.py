"""Distributions made of others.

In: distributions. Out: distributions. Invariant: draws have gradients where those of the parts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.creation import as_tensor
from tgrad.distributions import constraints
from tgrad.distributions.continuous import HALF_LOG_TAU, Normal
from tgrad.distributions.discrete import Categorical
from tgrad.distributions.distribution import (
    Distribution,
    Parameter,
    Shape,
    named,
    sum_last,
)
from tgrad.distributions.transforms import (
    ComposeTransform,
    ExpTransform,
    StickBreakingTransform,
    Transform,
)
from tgrad.distributions.validation import validated
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.linalg import cholesky, cholesky_inverse, solve_triangular
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.random import randn
from tgrad.tensor import Tensor


class Independent(Distribution):
    """A distribution whose last `reinterpreted_batch_ndims` axes of parameters are one draw.

    Raises:
        ShapeError: it has not that many.

    >>> import tgrad
    >>> base = tgrad.distributions.Normal(tgrad.zeros(3, 2), 1.0)
    >>> tgrad.distributions.Independent(base, 1).log_prob(tgrad.zeros(3, 2)).shape
    (3,)
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ):
        rank, count = len(base_distribution.batch_shape), reinterpreted_batch_ndims
        if not 0 <= count <= rank:
            raise ShapeError(f"Independent of {count} axes of {rank}.", "Give as many or fewer.")
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, count
        self.has_rsample = base_distribution.has_rsample
        batch, event = base_distribution.batch_shape, base_distribution.event_shape
        super().__init__(batch[: rank - count], (*batch[rank - count :], *event), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        return sum_last(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_last(self.base_dist.entropy(), self.reinterpreted_batch_ndims)


class TransformedDistribution(Distribution):
    """The distribution of what transforms make of draws of another.

    Raises:
        ShapeError: a transform's points have more axes than draws of the base have.

    >>> import tgrad
    >>> from tgrad.distributions import ExpTransform, Normal, TransformedDistribution
    >>> round(TransformedDistribution(Normal(0.0, 1.0), ExpTransform()).log_prob(1.0).item(), 4)
    -0.9189
    """

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ):
        given = [transforms] if isinstance(transforms, Transform) else list(transforms)
        self.base_dist, self.transforms = base_distribution, given
        self.has_rsample = base_distribution.has_rsample
        whole, base = ComposeTransform(given), base_distribution
        sizes, axes = (*base.batch_shape, *base.event_shape), whole.domain.event_dim
        if len(sizes) < axes:
            raise ShapeError(
                f"transforms of points with {axes} axes, for draws of shape {sizes}.",
                "Give the base as many axes.",
            )
        shape = whole.forward_shape(sizes)
        wide = whole.inverse_shape(shape)
        if wide != sizes:
            self.base_dist = base.expand(wide[: len(wide) - len(base.event_shape)])
        split = len(shape) - whole.codomain.event_dim - max(len(base.event_shape) - axes, 0)
        super().__init__(shape[:split], shape[split:], validate_args)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            return ComposeTransform(self.transforms)(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return ComposeTransform(self.transforms)(self.base_dist.rsample(sample_shape))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        y, axes = as_tensor(value), len(self.event_shape)
        total: Any = 0.0
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            axes += transform.domain.event_dim - transform.codomain.event_dim
            grown = transform.log_abs_det_jacobian(x, y)
            total, y = sum_last(grown, axes - transform.domain.event_dim) + total, x
        base = self.base_dist.log_prob(y)
        return sum_last(base, axes - len(self.base_dist.event_shape)) - total

    @validated
    def cdf(self, value: Any) -> Tensor:
        """The probability of at most `value`, of numbers."""
        if self.event_shape:
            raise self._has_no("cdf")
        whole = ComposeTransform(self.transforms)
        return self._turned(self.base_dist.cdf(whole.inv(as_tensor(value))), whole.sign)

    def icdf(self, value: Any) -> Tensor:
        """Where the probability of at most that is `value`, of numbers."""
        if self.event_shape:
            raise self._has_no("icdf")
        whole = ComposeTransform(self.transforms)
        return whole(self.base_dist.icdf(self._turned(as_tensor(value), whole.sign)))

    def _turned(self, chance: Tensor, sign: Any) -> Tensor:
        """The chance, or that of the opposite where the transforms turn the order around."""
        return chance if isinstance(sign, int) and sign == 1 else sign * (chance - 0.5) + 0.5


class LogNormal(TransformedDistribution):
    """exp of a normal distribution.

    >>> import tgrad
    >>> round(tgrad.distributions.LogNormal(0.0, 1.0).mean.item(), 4)
    1.6487
    """

    arg_constraints = named(loc=constraints.real, scale=constraints.positive)
    base_dist: Normal

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        super().__init__(Normal(loc, scale, validate_args), ExpTransform(), validate_args)
        self.loc, self.scale = self.base_dist.loc, self.base_dist.scale

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale.square() * 0.5).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale.square()
        return square.expm1() * (self.loc * 2.0 + square).exp()

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """Probabilities that sum to one, made of independent normal numbers by breaking a stick.

    Args:
        loc, scale: (*, k) of the numbers; there are k + 1 probabilities.

    >>> import tgrad
    >>> tgrad.distributions.LogisticNormal(tgrad.zeros(2), tgrad.ones(2)).event_shape
    (3,)
    """

    arg_constraints = named(loc=constraints.real, scale=constraints.positive)
    base_dist: Normal

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        base = Normal(loc, scale, validate_args)
        base = base if base.batch_shape else base.expand((1,))
        super().__init__(base, StickBreakingTransform(), validate_args)

    def expand(self, batch_shape: Shape) -> Any:
        wide = super().expand(batch_shape)
        wide.base_dist = self.base_dist.expand((*batch_shape, self.base_dist.batch_shape[-1]))
        return wide

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale


class MultivariateNormal(Distribution):
    """The normal distribution of vectors.

    Args:
        loc: the mean (*, k).
        covariance_matrix, precision_matrix, scale_tril: one of these, (*, k, k): the covariance,
            its inverse, or its lower Cholesky factor.

    Raises:
        UnsupportedError: none is given, or several.

    >>> import tgrad
    >>> p = tgrad.distributions.MultivariateNormal(tgrad.zeros(2), tgrad.eye(2))
    >>> round(p.log_prob(tgrad.zeros(2)).item(), 4)
    -1.8379
    """

    arg_constraints = named(
        loc=constraints.real_vector,
        covariance_matrix=constraints.positive_definite,
        precision_matrix=constraints.positive_definite,
        scale_tril=constraints.lower_cholesky,
    )
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        matrices = covariance_matrix, precision_matrix, scale_tril
        factor = only_factor("MultivariateNormal", *matrices)
        batch = broadcast_shapes(factor.shape[:-2], loc.shape[:-1])
        self.loc = loc.expand(*batch, loc.shape[-1])
        self.scale_tril = factor.expand(*batch, *factor.shape[-2:])
        given = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix}
        super().__init__(batch, loc.shape[-1:], validate_args, **given)

    @property
    def covariance_matrix(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Tensor:
        return cholesky_inverse(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale_tril.square().sum(-1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = randn(*self._shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        apart = (as_tensor(value) - self.loc).unsqueeze(-1)
        z = solve_triangular(self.scale_tril, apart, upper=False).squeeze(-1)
        return (z * z * -0.5 - HALF_LOG_TAU).sum(-1) - self.half_log_det()

    def half_log_det(self) -> Tensor:
        """Half the logarithm of the covariance's determinant."""
        return self.scale_tril.diagonal(0, -2, -1).log().sum(-1)

    def entropy(self) -> Tensor:
        return self.half_log_det() + self.loc.shape[-1] * (0.5 + HALF_LOG_TAU)


def only_factor(
    name: str, covariance: Tensor | None, precision: Tensor | None, factor: Tensor | None
) -> Tensor:
    """The lower Cholesky factor of a covariance, which is given in one of three ways.

    Raises:
        UnsupportedError: it is given in none, or in several.
    """
    given = [m for m in (covariance, precision, factor) if m is not None]
    if len(given) != 1:
        raise UnsupportedError(
            f"{name} of {len(given)} matrices.",
            "Give one of covariance_matrix, precision_matrix and scale_tril.",
        )
    if covariance is not None:
        return cholesky(covariance)
    return given[0] if precision is None else factor_of_inverse(precision)


def factor_of_inverse(matrix: Tensor) -> Tensor:
    """L with L Lᵀ the inverse: that of the factor of the matrix with its axes reversed"""
    upper = cholesky(matrix.flip(-2, -1)).flip(-2, -1).mT
    n = matrix.shape[-1]
    rows = matrix._constant(1, matrix.dtype).expand(n, n)
    eye = (rows._places(0) == rows._places(1)).to(matrix.dtype)
    return solve_triangular(upper, eye, upper=False)


class MixtureSameFamily(Distribution):
    """A draw of one of K distributions, which a Categorical chooses.

    Args:
        mixture_distribution: a Categorical of K classes.
        component_distribution: its last batch axis has K members.

    Raises:
        ShapeError: it has not.

    >>> import tgrad
    >>> from tgrad.distributions import Categorical, MixtureSameFamily, Normal
    >>> parts = Normal(tgrad.tensor([-1.0, 3.0]), 1.0)
    >>> MixtureSameFamily(Categorical(tgrad.ones(2)), parts).mean.item()
    1.0
    """

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ):
        batch, classes = component_distribution.batch_shape, mixture_distribution.probs.shape[-1]
        if batch[-1:] != (classes,):
            raise ShapeError(
                f"MixtureSameFamily of {classes} classes and parts of batch shape {batch}.",
                "The parts lie along the last batch axis.",
            )
        self.mixture_distribution = mixture_distribution
        self.component_distribution = component_distribution
        super().__init__(batch[:-1], component_distribution.event_shape, validate_args)

    def _weighted(self, values: Tensor) -> Tensor:
        axes = len(self.event_shape)
        probs = self.mixture_distribution.probs
        return (values * probs.reshape(*probs.shape, *(1,) * axes)).sum(-1 - axes)

    @property
    def mean(self) -> Tensor:
        return self._weighted(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        parts, axes = self.component_distribution, len(self.event_shape)
        apart = parts.mean - self.mean.unsqueeze(-1 - axes)
        return self._weighted(parts.variance) + self._weighted(apart.square())

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            drawn, axes = self.component_distribution.sample(sample_shape), len(self.event_shape)
            chosen = self.mixture_distribution.sample(sample_shape)
            chosen = chosen.expand(*sample_shape, *self.batch_shape)
            places = chosen.reshape(*chosen.shape, *(1,) * (axes + 1))
            places = places.expand(*chosen.shape, 1, *self.event_shape)
            return drawn.gather(-1 - axes, places).squeeze(-1 - axes)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        values = as_tensor(value).unsqueeze(-1 - len(self.event_shape))
        logits = self.mixture_distribution.logits
        return (self.component_distribution.log_prob(values) + logits).logsumexp(-1)

    def cdf(self, value: Any) -> Tensor:
        values = as_tensor(value).unsqueeze(-1)
        return (self.component_distribution.cdf(values) * self.mixture_distribution.probs).sum(-1)
