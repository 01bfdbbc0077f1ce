"""The most likely value of each distribution.

In: a distribution. Out: a lazy tensor. Invariant: PyTorch's values, NaN where it has NaN; but for
Kumaraswamy, whose formula in PyTorch 2.13 gives NaN everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tgrad.nn import functional as F
from tgrad.tensor import Tensor


def _one_hot(probs: Tensor) -> Tensor:
    return F.one_hot(probs.argmax(-1), probs.shape[-1]).to(probs.dtype)


def _of_chances(d: Any) -> Tensor:
    """Bernoulli's: two values are as likely where the chances are even."""
    return (d.probs >= 0.5).to(d.probs.dtype).where(d.probs != 0.5, math.nan)


def _of_parts(concentration: Tensor) -> Tensor:
    """Dirichlet's: where all concentrations are less than 1, one of the corners."""
    above = (concentration - 1.0).clamp(min=0.0)
    inner = above / above.sum(-1, keepdim=True)
    corners = (concentration < 1.0).all(-1, keepdim=True)
    return _one_hot(inner).where(corners, inner)


def _of_beta(d: Any) -> Tensor:
    first, second = d.concentration1, d.concentration0
    parts = first.unsqueeze(-1) * Tensor([1.0, 0.0], device=first.device)
    return _of_parts(parts + second.unsqueeze(-1) * Tensor([0.0, 1.0], device=first.device))[..., 0]


def _of_ratio(d: Any) -> Tensor:
    found = (d.df1 - 2.0) / d.df1 * d.df2 / (d.df2 + 2.0)
    return found.where(d.df1 > 2.0, math.nan)


def _of_kumaraswamy(d: Any) -> Tensor:
    a, b = d.concentration1, d.concentration0
    found = ((a - 1.0) / (a * b - 1.0)) ** a.reciprocal()
    return found.where((a >= 1.0) & (b >= 1.0), math.nan)


def _of_wishart(d: Any) -> Tensor:
    factor = (d.df - d.size - 1.0).where(d.df > d.size + 1.0, math.nan)
    return factor.unsqueeze(-1).unsqueeze(-1) * d.covariance_matrix


MODES: dict[str, Callable[[Any], Tensor]] = {
    **dict.fromkeys(
        (
            "Normal",
            "Laplace",
            "Cauchy",
            "Gumbel",
            "StudentT",
            "MultivariateNormal",
            "VonMises",
            "LowRankMultivariateNormal",
            "GeneralizedPareto",
        ),
        lambda d: d.loc,
    ),
    "Bernoulli": _of_chances,
    "Beta": _of_beta,
    "Binomial": lambda d: ((d.total_count + 1) * d.probs).floor().minimum(d.total_count),
    "Categorical": lambda d: d.probs.argmax(-1),
    "Dirichlet": lambda d: _of_parts(d.concentration),
    "Exponential": lambda d: d.rate * 0.0,
    "FisherSnedecor": _of_ratio,
    "Gamma": lambda d: ((d.concentration - 1.0) / d.rate).clamp(min=0.0),
    "Geometric": lambda d: d.probs * 0.0,
    "Half": lambda d: d.scale * 0.0,
    "Independent": lambda d: d.base_dist.mode,
    "InverseGamma": lambda d: d.rate / (d.concentration + 1.0),
    "Kumaraswamy": _of_kumaraswamy,
    "LogNormal": lambda d: (d.loc - d.scale.square()).exp(),
    "NegativeBinomial": lambda d: ((d.total_count - 1) * d.logits.exp()).floor().clamp(min=0.0),
    "OneHotCategorical": lambda d: _one_hot(d.probs),
    "Pareto": lambda d: d.scale,
    "Poisson": lambda d: d.rate.floor(),
    "Uniform": lambda d: d.high * math.nan,
    "Wishart": _of_wishart,
    "Weibull": lambda d: d.scale * (1.0 - 1.0 / d.concentration) ** (1.0 / d.concentration),
}
"""By the name of a class; those made from it have the same."""
