"""Probability distributions, under the names of torch.distributions.

In: parameters, as tensors or numbers. Out: distributions. Invariant: nothing is defined here.
"""

from tgrad.distributions import transforms as transforms
from tgrad.distributions.composed import (
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    TransformedDistribution,
)
from tgrad.distributions.continuous import (
    Cauchy,
    Exponential,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Laplace,
    Normal,
    Pareto,
    Uniform,
    Weibull,
)
from tgrad.distributions.discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    Poisson,
)
from tgrad.distributions.distribution import Distribution
from tgrad.distributions.divergence import kl_divergence, register_kl
from tgrad.distributions.gammas import Beta, Chi2, Dirichlet, Gamma, InverseGamma, StudentT
from tgrad.distributions.transforms import *  # noqa: F403
from tgrad.distributions.transforms import __all__ as _transforms

__all__ = [
    "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "Dirichlet", "Distribution",
    "Exponential", "Gamma", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent",
    "InverseGamma", "Laplace", "LogNormal", "MixtureSameFamily", "Multinomial",
    "MultivariateNormal", "NegativeBinomial", "Normal", "OneHotCategorical", "Pareto", "Poisson",
    "StudentT", "TransformedDistribution", "Uniform", "Weibull", "kl_divergence", "register_kl",
    *_transforms,
]  # fmt: skip
