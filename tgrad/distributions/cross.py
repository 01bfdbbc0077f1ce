"""Divergences of distributions of different kinds, by what they expect of each other.

In: pairs of types. Out: rows in the table of divergence.py. Invariant: KL(p, q) is less the entropy
of p and the mean of q's log-density over draws of p, which takes few moments of p; infinite where p
draws what q never does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tgrad.distributions.bounded import ContinuousBernoulli
from tgrad.distributions.continuous import (
    EULER,
    HALF_LOG_TAU,
    Exponential,
    Gumbel,
    Laplace,
    Normal,
    Pareto,
    Uniform,
)
from tgrad.distributions.discrete import Bernoulli, Binomial, Poisson
from tgrad.distributions.distribution import Distribution, together
from tgrad.distributions.divergence import register_kl
from tgrad.distributions.gammas import Beta, Gamma
from tgrad.tensor import Tensor

Moment = Callable[[Any], Tensor]


# -- moments of p --------------------------------------------------------------------------------


def _log_of_uniform(p: Uniform) -> Tensor:
    """((h log h - h) - (l log l - l)) / (h - l)"""
    high, low = (x.xlogy(x) - x for x in (p.high, p.low))
    return (high - low) / (p.high - p.low)


LOGARITHMS: dict[type[Distribution], Moment] = {
    Beta: lambda p: p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma(),
    Exponential: lambda p: -p.rate.log() - EULER,
    Pareto: lambda p: p.alpha.reciprocal() + p.scale.log(),
    Uniform: _log_of_uniform,
}
"""The mean of log x."""


def _exp_of_uniform(p: Uniform, t: Tensor) -> Tensor:
    return ((-t * p.low).exp() - (-t * p.high).exp()) / (t * (p.high - p.low))


EXPONENTIALS: dict[type[Distribution], Callable[[Any, Tensor], Tensor]] = {
    Exponential: lambda p, t: p.rate / (p.rate + t),
    Gamma: lambda p, t: (1.0 + t / p.rate) ** -p.concentration,
    Normal: lambda p, t: (-t * p.loc + (t * p.scale).square() * 0.5).exp(),
    Uniform: _exp_of_uniform,
}
"""The mean of exp(-t x)."""


# -- less the mean log-densities of q ------------------------------------------------------------


def _normal(p: Any, q: Normal) -> Tensor:
    square = p.variance + (p.mean - q.loc).square()
    return q.scale.log() + HALF_LOG_TAU + square / (2.0 * q.scale.square())


def _exponential(p: Any, q: Exponential) -> Tensor:
    return q.rate * p.mean - q.rate.log()


def _gamma(p: Any, q: Gamma) -> Tensor:
    a, b = q.concentration, q.rate
    return a.lgamma() - a * b.log() - (a - 1.0) * LOGARITHMS[type(p)](p) + b * p.mean


def _uniform(p: Any, q: Uniform) -> Tensor:
    return (q.high - q.low).log()


def _beta_of_uniform(p: Uniform, q: Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    other = _log_of_uniform(Uniform(1.0 - p.high, 1.0 - p.low))
    gammas = a.lgamma() + b.lgamma() - (a + b).lgamma()
    return gammas - (a - 1.0) * _log_of_uniform(p) - (b - 1.0) * other


def _continuous_bernoulli(p: Any, q: ContinuousBernoulli) -> Tensor:
    return -p.mean * q.logits - (-q.probs).log1p() - q.log_norm()


def _gumbel(p: Any, q: Gumbel) -> Tensor:
    rate = q.scale.reciprocal()
    spread = EXPONENTIALS[type(p)](p, rate) * (q.loc * rate).exp()
    return q.scale.log() + (p.mean - q.loc) * rate + spread


def _laplace_of_normal(p: Normal, q: Laplace) -> Tensor:
    apart = (p.loc - q.loc) / (p.scale * math.sqrt(2.0))
    mean = math.sqrt(2.0 / math.pi) * (-apart.square()).exp() + math.sqrt(2.0) * apart * apart.erf()
    return (2.0 * q.scale).log() + p.scale * mean / q.scale


def _pareto(p: Any, q: Pareto) -> Tensor:
    return (q.alpha + 1.0) * LOGARITHMS[type(p)](p) - q.alpha.log() - q.alpha * q.scale.log()


def _poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return q.rate - p.probs * q.rate.log()


# -- where p draws what q does not ---------------------------------------------------------------


def _below(p: Uniform, q: Any) -> Tensor:
    return p.low < 0.0


def _outside_unit(p: Uniform, q: Any) -> Tensor:
    return (p.low < 0.0) | (p.high > 1.0)


def _at_the_ends(p: Uniform, q: Any) -> Tensor:
    """As PyTorch has it, which leaves the ends out."""
    return (p.low <= 0.0) | (p.high >= 1.0)


def _unit_outside(p: Any, q: Uniform) -> Tensor:
    return (q.low > 0.0) | (q.high < 1.0)


def _below_scale(p: Uniform, q: Pareto) -> Tensor:
    return p.low < q.scale


def _no_mean(p: Pareto, q: Any) -> Tensor:
    return p.alpha <= 1.0


def _no_variance(p: Pareto, q: Any) -> Tensor:
    return p.alpha <= 2.0


Row = tuple[type[Distribution], Callable[[Any, Any], Tensor], type[Distribution], Any]

FINITE: tuple[Row, ...] = (
    *((p, _normal, Normal, None) for p in (Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel)),
    (Laplace, _normal, Normal, None),
    (Uniform, _normal, Normal, None),
    (Pareto, _normal, Normal, _no_variance),
    *((p, _exponential, Exponential, None) for p in (Beta, ContinuousBernoulli, Gamma)),
    (Pareto, _exponential, Exponential, _no_mean),
    (Uniform, _exponential, Exponential, _below),
    (Beta, _gamma, Gamma, None),
    (Exponential, _gamma, Gamma, None),
    (Pareto, _gamma, Gamma, _no_mean),
    (Uniform, _gamma, Gamma, _below),
    (Beta, _uniform, Uniform, _unit_outside),
    (ContinuousBernoulli, _uniform, Uniform, _unit_outside),
    (Uniform, _beta_of_uniform, Beta, _outside_unit),
    (Beta, _continuous_bernoulli, ContinuousBernoulli, None),
    (ContinuousBernoulli, _continuous_bernoulli, ContinuousBernoulli, None),
    (Uniform, _continuous_bernoulli, ContinuousBernoulli, _at_the_ends),
    *((p, _gumbel, Gumbel, None) for p in (Exponential, Gamma, Normal, Uniform)),
    (Normal, _laplace_of_normal, Laplace, None),
    (Uniform, _pareto, Pareto, _below_scale),
    (Bernoulli, _poisson, Poisson, None),
)
"""p, less the mean log-density of q, q, and where the divergence is infinite."""

_BOUNDED = (Uniform, ContinuousBernoulli, Beta)
INFINITE: tuple[tuple[type[Distribution], tuple[type[Distribution], ...]], ...] = (
    (Beta, (Pareto,)),
    (ContinuousBernoulli, (Pareto,)),
    (Exponential, (Uniform, Pareto, ContinuousBernoulli, Beta)),
    (Gamma, (*_BOUNDED, Pareto)),
    (Gumbel, (*_BOUNDED, Pareto, Gamma, Exponential)),
    (Laplace, (*_BOUNDED, Pareto, Gamma, Exponential)),
    (Normal, (*_BOUNDED, Pareto, Gamma, Exponential)),
    (Pareto, _BOUNDED),
    (Poisson, (Binomial, Bernoulli)),
)
"""p, and what never draws all that p draws."""


def _finite(row: Row) -> Callable[[Any, Any], Tensor]:
    _, mean, _, is_infinite = row

    def divergence(p: Any, q: Any) -> Tensor:
        found = mean(p, q) - p.entropy()
        return found if is_infinite is None else found.where(~is_infinite(p, q), math.inf)

    return divergence


def _infinite(p: Any, q: Any) -> Tensor:
    like = (next(t for t in vars(d).values() if isinstance(t, Tensor)) for d in (p, q))
    return together(*like)[0] * 0.0 + math.inf


for _row in FINITE:
    register_kl(_row[0], _row[2])(_finite(_row))
for _kind, _others in INFINITE:
    for _other in _others:
        register_kl(_kind, _other)(_infinite)
