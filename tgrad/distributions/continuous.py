"""Distributions of real numbers whose quantiles have a formula.

In: parameters. Out: lazy tensors. Invariant: a draw is a differentiable function of its parameters
and of a uniform or normal number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tgrad.creation import as_tensor
from tgrad.distributions import constraints
from tgrad.distributions.distribution import (
    REQUIRED,
    ByQuantile,
    Elementwise,
    Shape,
    named,
    uniform,
)
from tgrad.distributions.validation import validated
from tgrad.queries import finfo
from tgrad.random import randn
from tgrad.tensor import Tensor

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
EULER = 0.57721566490153286

_MOVED = named(loc=REQUIRED, scale=REQUIRED)
_LOC_AND_SCALE = named(loc=constraints.real, scale=constraints.positive)


class Normal(Elementwise):
    """The normal distribution of mean `loc` and standard deviation `scale`.

    >>> import tgrad
    >>> round(tgrad.distributions.Normal(0.0, 1.0).log_prob(tgrad.zeros(1)).item(), 4)
    -0.9189
    """

    arg_constraints = _LOC_AND_SCALE
    parameters, has_rsample = _MOVED, True
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    @property
    def stddev(self) -> Tensor:
        return self.scale

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = randn(*self._shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    @validated
    def log_prob(self, value: Any) -> Tensor:
        z = (value - self.loc) / self.scale
        return z * z * -0.5 - self.scale.log() - HALF_LOG_TAU

    @validated
    def cdf(self, value: Any) -> Tensor:
        return (((value - self.loc) / self.scale * math.sqrt(0.5)).erf() + 1.0) * 0.5

    def icdf(self, value: Any) -> Tensor:
        return self.loc + self.scale * (value * 2.0 - 1.0).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        return self.scale.log() + (0.5 + HALF_LOG_TAU)


class Uniform(ByQuantile):
    """The uniform distribution over [low, high).

    >>> import tgrad
    >>> tgrad.distributions.Uniform(0.0, 4.0).log_prob(tgrad.tensor([1.0, 4.0])).exp().tolist()
    [0.25, 0.0]
    """

    parameters = named(low=REQUIRED, high=REQUIRED)
    low: Tensor
    high: Tensor

    @property
    def arg_constraints(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Each is a bound of the other."""
        return named(low=constraints.less_than(self.high), high=constraints.greater_than(self.low))

    @property
    def mean(self) -> Tensor:
        return (self.low + self.high) * 0.5

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low).square() / 12.0

    @validated
    def log_prob(self, value: Any) -> Tensor:
        is_inside = (self.low <= value) & (self.high > value)
        return (-(self.high - self.low).log()).where(is_inside, -math.inf)

    @validated
    def cdf(self, value: Any) -> Tensor:
        return ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)

    def icdf(self, value: Any) -> Tensor:
        return self.low + value * (self.high - self.low)

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()


class Exponential(ByQuantile):
    """The distribution of the time between events, `rate` of which come in a unit of time.

    >>> import tgrad
    >>> tgrad.distributions.Exponential(2.0).mean.item()
    0.5
    """

    arg_constraints = named(rate=constraints.positive)
    parameters = named(rate=REQUIRED)
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Tensor:
        return self.rate.square().reciprocal()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        return self.rate.log() - self.rate * value

    @validated
    def cdf(self, value: Any) -> Tensor:
        return -(-self.rate * value).expm1()

    def icdf(self, value: Any) -> Tensor:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Tensor:
        return 1.0 - self.rate.log()


class Laplace(Elementwise):
    """The distribution of density exp(-|x - loc| / scale) / (2 * scale).

    >>> import tgrad
    >>> tgrad.distributions.Laplace(0.0, 1.0).variance.item()
    2.0
    """

    arg_constraints = _LOC_AND_SCALE
    parameters, has_rsample = _MOVED, True
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * 2.0

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        side = uniform(self.loc, self._shape(sample_shape)) * 2.0 - 1.0
        return self._at(side, side.abs().minimum(1.0 - finfo(self.loc.dtype).eps))

    def _at(self, side: Tensor, size: Tensor) -> Tensor:
        return self.loc - self.scale * side.sign() * (-size).log1p()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        return -(self.scale * 2.0).log() - (value - self.loc).abs() / self.scale

    @validated
    def cdf(self, value: Any) -> Tensor:
        z = (value - self.loc) / self.scale
        return 0.5 - 0.5 * z.sign() * (-z.abs()).expm1()

    def icdf(self, value: Any) -> Tensor:
        side = as_tensor(value) * 2.0 - 1.0
        return self._at(side, side.abs())

    def entropy(self) -> Tensor:
        return (self.scale * 2.0).log() + 1.0


class Cauchy(ByQuantile):
    """The distribution of a ratio of two normal numbers, moved and stretched: no mean, no variance.

    >>> import tgrad
    >>> tgrad.distributions.Cauchy(0.0, 1.0).cdf(tgrad.ones(1)).item()
    0.75
    """

    arg_constraints = _LOC_AND_SCALE
    parameters = _MOVED
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc.new_full(self.loc.shape, math.nan)

    @property
    def variance(self) -> Tensor:
        return self.loc.new_full(self.loc.shape, math.inf)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        z = (value - self.loc) / self.scale
        return -math.log(math.pi) - self.scale.log() - (z * z).log1p()

    @validated
    def cdf(self, value: Any) -> Tensor:
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Any) -> Tensor:
        return ((value - 0.5) * math.pi).tan() * self.scale + self.loc

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()


class Gumbel(ByQuantile):
    """The distribution of the largest of many numbers, moved and stretched.

    >>> import tgrad
    >>> round(tgrad.distributions.Gumbel(0.0, 1.0).mean.item(), 4)
    0.5772
    """

    arg_constraints = _LOC_AND_SCALE
    parameters = _MOVED
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * EULER

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 6)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        z = (self.loc - value) / self.scale
        return z - z.exp() - self.scale.log()

    def cdf(self, value: Any) -> Tensor:
        return (-((self.loc - value) / self.scale).exp()).exp()

    def icdf(self, value: Any) -> Tensor:
        return self.loc - self.scale * (-as_tensor(value).log()).log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + EULER)


class Weibull(ByQuantile):
    """The distribution of lifetimes whose rate of failure is a power of time.

    >>> import tgrad
    >>> tgrad.distributions.Weibull(2.0, 1.0).mean.item()
    2.0
    """

    arg_constraints = named(scale=constraints.positive, concentration=constraints.positive)
    parameters = named(scale=REQUIRED, concentration=REQUIRED)
    scale: Tensor
    concentration: Tensor

    def _moment(self, order: float) -> Tensor:
        return (order / self.concentration + 1.0).lgamma().exp()

    @property
    def mean(self) -> Tensor:
        return self.scale * self._moment(1.0)

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (self._moment(2.0) - self._moment(1.0).square())

    @validated
    def log_prob(self, value: Any) -> Tensor:
        ratio = value / self.scale
        power = self.concentration
        return (power / self.scale).log() + (power - 1.0).xlogy(ratio) - ratio**power

    def cdf(self, value: Any) -> Tensor:
        return -(-((value / self.scale) ** self.concentration)).expm1()

    def icdf(self, value: Any) -> Tensor:
        return self.scale * (-(-as_tensor(value)).log1p()) ** self.concentration.reciprocal()

    def entropy(self) -> Tensor:
        power = self.concentration
        return (1.0 - power.reciprocal()) * EULER + (self.scale / power).log() + 1.0


class Pareto(ByQuantile):
    """The distribution of sizes above `scale`, of density proportional to size ** -(alpha + 1).

    >>> import tgrad
    >>> tgrad.distributions.Pareto(1.0, 2.0).mean.item()
    2.0
    """

    arg_constraints = named(scale=constraints.positive, alpha=constraints.positive)
    parameters = named(scale=REQUIRED, alpha=REQUIRED)
    scale: Tensor
    alpha: Tensor

    @property
    def mean(self) -> Tensor:
        a = self.alpha.clamp(min=1.0)
        return a * self.scale / (a - 1.0)

    @property
    def variance(self) -> Tensor:
        a = self.alpha.clamp(min=2.0)
        return self.scale.square() * a / ((a - 1.0).square() * (a - 2.0))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, a = as_tensor(value), self.alpha
        found = a.log() + a * self.scale.log() - (a + 1.0) * value.log()
        return found.where(value >= self.scale, -math.inf)

    def cdf(self, value: Any) -> Tensor:
        return 1.0 - (self.scale / value).clamp(max=1.0) ** self.alpha

    def icdf(self, value: Any) -> Tensor:
        return self.scale * (-(-as_tensor(value)).log1p() / self.alpha).exp()

    def entropy(self) -> Tensor:
        inverse = self.alpha.reciprocal()
        return (self.scale * inverse).log() + 1.0 + inverse


class Half(Elementwise):
    """The absolute value of a distribution that is symmetric about 0."""

    arg_constraints = named(scale=constraints.positive)
    parameters, has_rsample = named(scale=REQUIRED), True
    scale: Tensor
    whole: type[Normal] | type[Cauchy]

    @property
    def base_dist(self) -> Normal | Cauchy:
        return self.whole(self.scale * 0.0, self.scale, validate_args=False)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape).abs()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value = as_tensor(value)
        return (self.base_dist.log_prob(value) + math.log(2)).where(value >= 0, -math.inf)

    @validated
    def cdf(self, value: Any) -> Tensor:
        return self.base_dist.cdf(value) * 2.0 - 1.0

    def icdf(self, value: Any) -> Tensor:
        return self.base_dist.icdf((as_tensor(value) + 1.0) * 0.5)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)


class HalfNormal(Half):
    """The absolute value of a normal number of mean 0.

    >>> import tgrad
    >>> round(tgrad.distributions.HalfNormal(1.0).mean.item(), 4)
    0.7979
    """

    whole = Normal

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (1 - 2 / math.pi)


class HalfCauchy(Half):
    """The absolute value of a Cauchy number about 0.

    >>> import tgrad
    >>> tgrad.distributions.HalfCauchy(1.0).cdf(tgrad.ones(1)).item()
    0.5
    """

    whole = Cauchy

    @property
    def mean(self) -> Tensor:
        return self.scale.new_full(self.scale.shape, math.inf)

    @property
    def variance(self) -> Tensor:
        return self.mean
