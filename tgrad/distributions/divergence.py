"""Kullback and Leibler's divergences, by pairs of types.

In: two distributions. Out: a lazy tensor of their batch shape. Invariant: the formula of the
nearest pair of base classes is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tgrad.nn.functional as F
from tgrad.distributions.composed import Independent, MultivariateNormal, TransformedDistribution
from tgrad.distributions.continuous import (
    EULER,
    Cauchy,
    Exponential,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Laplace,
    Normal,
    Pareto,
    Uniform,
)
from tgrad.distributions.discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    OneHotCategorical,
    Poisson,
)
from tgrad.distributions.distribution import Distribution, sum_last
from tgrad.distributions.gammas import Beta, Dirichlet, Gamma, InverseGamma
from tgrad.distributions.matrices import LowRankMultivariateNormal, Wishart, log_diagonal
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.linalg import solve_triangular
from tgrad.special import multigammaln
from tgrad.tensor import Tensor

Divergence = Callable[[Any, Any], Tensor]
_DIVERGENCES: dict[tuple[type, type], Divergence] = {}


def register_kl(
    type_p: type[Distribution], type_q: type[Distribution]
) -> Callable[[Divergence], Divergence]:
    """Decorator: what `kl_divergence` computes for distributions of these types."""

    def register(function: Divergence) -> Divergence:
        _DIVERGENCES[type_p, type_q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Kullback and Leibler's divergence of q from p: the mean of log(p / q) over draws of p.

    Raises:
        UnsupportedError: there is no formula for these types.

    >>> import tgrad
    >>> from tgrad.distributions import Normal
    >>> tgrad.distributions.kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item()
    0.5
    """
    for kind_p in type(p).__mro__:
        for kind_q in type(q).__mro__:
            if (kind_p, kind_q) in _DIVERGENCES:
                return _DIVERGENCES[kind_p, kind_q](p, q)
    raise UnsupportedError(
        f"kl_divergence of {type(p).__name__} and {type(q).__name__}.",
        "Give a formula with tgrad.distributions.register_kl.",
    )


@register_kl(Normal, Normal)
def _normals(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    return (ratio + ((p.loc - q.loc) / q.scale).square() - 1.0 - ratio.log()) * 0.5


@register_kl(HalfNormal, HalfNormal)
@register_kl(HalfCauchy, HalfCauchy)
@register_kl(InverseGamma, InverseGamma)
@register_kl(OneHotCategorical, OneHotCategorical)
@register_kl(Beta, Beta)
def _of_the_bases(p: Any, q: Any) -> Tensor:
    """One map makes both of their bases, and loses nothing that tells them apart."""
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise UnsupportedError(f"kl_divergence of {p} and {q}.", "Transform both alike.")
    joined = len(p.event_shape) - len(p.base_dist.event_shape)
    return sum_last(kl_divergence(p.base_dist, q.base_dist), joined)


@register_kl(MultivariateNormal, MultivariateNormal)
def _vectors(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    spread = solve_triangular(q.scale_tril, p.scale_tril, upper=False).square().sum((-2, -1))
    apart = (q.loc - p.loc).unsqueeze(-1)
    moved = solve_triangular(q.scale_tril, apart, upper=False).square().sum((-2, -1))
    determinants = q.half_log_det() - p.half_log_det()
    return determinants + 0.5 * (spread + moved - p.loc.shape[-1])


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _vectors_of_low_rank(p: Any, q: Any) -> Tensor:
    def distance(columns: Tensor) -> Tensor:
        """columnsᵀ covariance⁻¹ columns, by q's, summed over columns"""
        if isinstance(q, LowRankMultivariateNormal):
            return q.mahalanobis(columns)
        return solve_triangular(q.scale_tril, columns, upper=False).square().sum((-2, -1))

    if isinstance(p, LowRankMultivariateNormal):
        spread = distance(p.cov_factor) + distance(p.cov_diag.sqrt().diag_embed())
    else:
        spread = distance(p.scale_tril)
    moved = distance((q.loc - p.loc).unsqueeze(-1))
    determinants = q.half_log_det() - p.half_log_det()
    return determinants + 0.5 * (spread + moved - p.loc.shape[-1])


@register_kl(Wishart, Wishart)
def _wisharts(p: Wishart, q: Wishart) -> Tensor:
    k = p.size
    inner = solve_triangular(q.scale_tril, p.scale_tril, upper=False).square().sum((-2, -1))
    return (
        q.df * (log_diagonal(q.scale_tril) - log_diagonal(p.scale_tril))
        + 0.5 * p.df * (inner - k)
        + multigammaln(q.df * 0.5, k)
        - multigammaln(p.df * 0.5, k)
        + 0.5 * (p.df - q.df) * p.digammas()
    )


@register_kl(Cauchy, Cauchy)
def _cauchys(p: Cauchy, q: Cauchy) -> Tensor:
    both = (p.scale + q.scale).square() + (p.loc - q.loc).square()
    return both.log() - (4.0 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _gumbels(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, apart = p.scale / q.scale, (q.loc - p.loc) / q.scale
    return -ratio.log() - apart + ratio * EULER + (apart + (ratio + 1.0).lgamma()).exp() - 1 - EULER


@register_kl(Pareto, Pareto)
def _paretos(p: Pareto, q: Pareto) -> Tensor:
    ratio = q.alpha / p.alpha
    found = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1.0
    return found.where(p.scale >= q.scale, math.inf)


@register_kl(Gamma, Gamma)
def _gammas(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    rates = b * (p.rate / q.rate).log() + a * (q.rate / p.rate - 1.0)
    return rates + b.lgamma() - a.lgamma() + (a - b) * a.digamma()


@register_kl(Dirichlet, Dirichlet)
def _dirichlets(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    apart = (a - b) * (a.digamma() - total.digamma().unsqueeze(-1))
    parts = (b.lgamma() - a.lgamma() + apart).sum(-1)
    return total.lgamma() - b.sum(-1).lgamma() + parts


@register_kl(Poisson, Poisson)
def _poissons(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Geometric, Geometric)
def _geometrics(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Binomial, Binomial)
def _binomials(p: Binomial, q: Binomial) -> Tensor:
    """Infinite for more trials than q has; NaN for fewer, of which there is no formula."""
    apart = p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    same = (p.total_count * apart).where(p.total_count == q.total_count, math.nan)
    return same.where(p.total_count <= q.total_count, math.inf)


@register_kl(Laplace, Laplace)
def _laplaces(p: Laplace, q: Laplace) -> Tensor:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1.0


@register_kl(Exponential, Exponential)
def _exponentials(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1.0


@register_kl(Uniform, Uniform)
def _uniforms(p: Uniform, q: Uniform) -> Tensor:
    inside = (q.low <= p.low) & (q.high >= p.high)
    return ((q.high - q.low) / (p.high - p.low)).log().where(inside, math.inf)


@register_kl(Bernoulli, Bernoulli)
def _bernoullis(p: Bernoulli, q: Bernoulli) -> Tensor:
    one = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    other = (1.0 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    return one + other


@register_kl(Categorical, Categorical)
def _categoricals(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = terms.where(q.probs != 0.0, math.inf).where(p.probs != 0.0, 0.0)
    return terms.sum(-1)


@register_kl(Independent, Independent)
def _independents(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise ShapeError(f"kl_divergence of {p} and {q}.", "Join the same axes in both.")
    return sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
