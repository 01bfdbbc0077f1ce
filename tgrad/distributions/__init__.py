"""Probability distributions, under the names of torch.distributions.

In: parameters, as tensors or numbers. Out: distributions. Invariant: nothing is defined here.
"""

from typing import Any as _Any

from tgrad.distributions import constraint_registry as constraint_registry
from tgrad.distributions import constraints as constraints
from tgrad.distributions import cross as cross
from tgrad.distributions import exp_family as exp_family
from tgrad.distributions import kl as kl
from tgrad.distributions import transforms as transforms
from tgrad.distributions.bounded import (
    ContinuousBernoulli,
    GeneralizedPareto,
    Kumaraswamy,
    VonMises,
)
from tgrad.distributions.composed import (
    Independent,
    LogisticNormal,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    TransformedDistribution,
)
from tgrad.distributions.constraint_registry import biject_to, transform_to
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
from tgrad.distributions.exp_family import ExponentialFamily
from tgrad.distributions.gammas import (
    Beta,
    Chi2,
    Dirichlet,
    FisherSnedecor,
    Gamma,
    InverseGamma,
    StudentT,
)
from tgrad.distributions.matrices import LKJCholesky, LowRankMultivariateNormal, Wishart
from tgrad.distributions.relaxed import (
    OneHotCategoricalStraightThrough,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from tgrad.distributions.transforms import *  # noqa: F403
from tgrad.distributions.transforms import __all__ as _transforms
from tgrad.module_paths import module_below as _module_below

__all__ = [
    "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "ContinuousBernoulli",
    "Dirichlet", "Distribution", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma",
    "GeneralizedPareto", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent",
    "InverseGamma", "Kumaraswamy", "LKJCholesky", "Laplace", "LogNormal", "LogisticNormal",
    "LowRankMultivariateNormal", "MixtureSameFamily", "Multinomial", "MultivariateNormal",
    "NegativeBinomial", "Normal", "OneHotCategorical", "OneHotCategoricalStraightThrough",
    "Pareto", "Poisson", "RelaxedBernoulli", "RelaxedOneHotCategorical", "StudentT",
    "TransformedDistribution", "Uniform", "VonMises", "Weibull", "Wishart", "biject_to",
    "constraints", "kl_divergence", "register_kl", "transform_to", *_transforms,
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    """PyTorch's modules that have no file here, such as `tgrad.distributions.normal`."""
    return _module_below(__name__, name)
