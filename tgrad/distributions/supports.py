"""The values that each distribution may draw.

In: a distribution. Out: a constraint. Invariant: PyTorch's constraints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tgrad.distributions import constraints as c
from tgrad.distributions.constraints import Constraint


def _of_independent(d: Any) -> Constraint:
    count, base = d.reinterpreted_batch_ndims, d.base_dist.support
    return c.independent(base, count) if count else base


def _of_transformed(d: Any) -> Constraint:
    """That of the last transform's images, with as many axes as a draw."""
    if not d.transforms:
        return d.base_dist.support
    found = d.transforms[-1].codomain
    more = len(d.event_shape) - found.event_dim
    return c.independent(found, more) if more else found


def _of_generalized_pareto(d: Any) -> Constraint:
    """From loc on; up to a bound where the concentration is negative."""
    bound = d.loc - d.scale / d.concentration
    return c.interval(d.loc, bound.where(d.concentration < 0, math.inf))


SUPPORTS: dict[str, Callable[[Any], Constraint]] = {
    **dict.fromkeys(
        ("Normal", "Cauchy", "Gumbel", "Laplace", "StudentT", "VonMises",
         "LogitRelaxedBernoulli"), lambda d: c.real),
    **dict.fromkeys(
        ("MultivariateNormal", "LowRankMultivariateNormal", "ExpRelaxedCategorical"),
        lambda d: c.real_vector),
    **dict.fromkeys(("Exponential", "Gamma", "Half"), lambda d: c.nonnegative),
    **dict.fromkeys(
        ("FisherSnedecor", "InverseGamma", "LogNormal", "Weibull"), lambda d: c.positive),
    **dict.fromkeys(
        ("Beta", "ContinuousBernoulli", "Kumaraswamy", "RelaxedBernoulli"),
        lambda d: c.unit_interval),
    **dict.fromkeys(
        ("Dirichlet", "LogisticNormal", "RelaxedOneHotCategorical"), lambda d: c.simplex),
    **dict.fromkeys(("Geometric", "NegativeBinomial", "Poisson"), lambda d: c.nonnegative_integer),
    "Bernoulli": lambda d: c.boolean,
    "Binomial": lambda d: c.integer_interval(0, d.total_count),
    "Categorical": lambda d: c.integer_interval(0, d.probs.shape[-1] - 1),
    "GeneralizedPareto": _of_generalized_pareto,
    "Independent": _of_independent,
    "LKJCholesky": lambda d: c.corr_cholesky,
    "MixtureSameFamily": lambda d: c.MixtureSameFamilyConstraint(d.component_distribution.support),
    "Multinomial": lambda d: c.multinomial(d.total_count),
    "OneHotCategorical": lambda d: c.one_hot,
    "Pareto": lambda d: c.greater_than_eq(d.scale),
    "TransformedDistribution": _of_transformed,
    "Uniform": lambda d: c.interval(d.low, d.high),
    "Wishart": lambda d: c.positive_definite,
}  # fmt: skip
"""By the name of a class; those made from it have the same."""
