"""Distributions made of gamma variables.

In: concentrations and rates. Out: lazy tensors. Invariant: a gamma variable is computed in float64
from as many random numbers whatever its concentration, and its derivative is that of its quantile:
-(dP/da) / (dP/dx).
Sources: Marsaglia and Tsang, A simple method for generating gamma variables (2000); Figurnov and
others, Implicit reparameterization gradients (2018).
"""

from __future__ import annotations

import math
from typing import Any

from tgrad.creation import arange, as_tensor
from tgrad.distributions import constraints
from tgrad.distributions.distribution import (
    REQUIRED,
    TINY,
    Distribution,
    Elementwise,
    Shape,
    named,
    together,
)
from tgrad.distributions.validation import validated
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.joining import stack
from tgrad.random import rand, randn
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

CANDIDATES = 10
"""Each is accepted with a probability of at least 0.95; all are refused once in 10 ** 13 draws, and
the last one is taken then."""
STEP = 1e-5
"""Of the difference quotient for dP/da, relative to a + 1: both its errors are near 1e-9."""


@labelled("standard_gamma")
def standard_gamma(concentration: Tensor) -> Tensor:
    """Gamma variables of rate 1, with gradients with respect to the concentrations."""
    a = concentration.detach().double()
    safe = (a + 1.0).where(a < 1.0, a)
    shape, d = (*a.shape, CANDIDATES), (safe - 1 / 3).unsqueeze(-1)
    z = randn(*shape, dtype=a.dtype, device=a.device)
    u = 1.0 - rand(*shape, dtype=a.dtype, device=a.device)
    cube = (z / (d.sqrt() * 3.0) + 1.0) ** 3
    bound = z * z * 0.5 + d - d * cube + d * cube.where(cube > 0, 1.0).log()
    is_accepted = (cube > 0) & (u.log() < bound)
    place = arange(CANDIDATES, device=a.device).expand(shape)
    first = place.where(is_accepted, CANDIDATES - 1).amin(-1, keepdim=True)
    drawn = (d * cube).where(place == first, 0.0).sum(-1)
    power = 1.0 - rand(*a.shape, dtype=a.dtype, device=a.device)
    drawn = drawn * (power.log() / a).exp().where(a < 1.0, 1.0)
    drawn = drawn.to(concentration.dtype).maximum(TINY)
    return with_vjp("standard_gamma", drawn, concentration)


@define_vjp("standard_gamma")
def _standard_gamma_rule(g: Tensor, y: Tensor, concentration: Tensor) -> tuple[Tensor]:
    a, x = concentration.detach().double(), y.detach().double()
    step = (a + 1.0) * STEP
    low, high = (a - step).maximum(a * 0.5), a + step
    is_left = x < a
    below = (high.igamma(x) - low.igamma(x)).where(is_left, low.igammac(x) - high.igammac(x)) / (
        high - low
    )
    density = ((a - 1.0) * x.log() - x - a.lgamma()).exp()
    slope = (-below / density).to(y.dtype)
    return (g * with_vjp("standard_gamma_slope", slope, concentration),)


@define_vjp("standard_gamma_slope")
def _no_second_derivative(g: Tensor, y: Tensor, concentration: Tensor) -> tuple[Tensor]:
    raise UnsupportedError(
        "a second derivative of draws of a gamma distribution.", "PyTorch has none either."
    )


class Gamma(Elementwise):
    """The distribution of the time to the `concentration`-th of events that come at a rate.

    >>> import tgrad
    >>> tgrad.distributions.Gamma(3.0, 2.0).mean.item()
    1.5
    """

    arg_constraints = named(concentration=constraints.positive, rate=constraints.positive)
    parameters, has_rsample = named(concentration=REQUIRED, rate=REQUIRED), True
    concentration: Tensor
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate.square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        wide = self.concentration.expand(*self._shape(sample_shape))
        return (standard_gamma(wide) / self.rate).maximum(TINY)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, a = as_tensor(value), self.concentration
        powers = a.xlogy(self.rate) + (a - 1.0).xlogy(value)
        return powers - self.rate * value - a.lgamma()

    @validated
    def cdf(self, value: Any) -> Tensor:
        return self.concentration.igamma(self.rate * value)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1.0 - a) * a.digamma()


class Chi2(Gamma):
    """The distribution of a sum of `df` squares of normal numbers.

    >>> import tgrad
    >>> tgrad.distributions.Chi2(3.0).mean.item()
    3.0
    """

    arg_constraints = named(df=constraints.positive)
    parameters = named(df=REQUIRED)
    df: Tensor

    def __init__(self, df: Any, validate_args: bool | None = None):
        super().__init__(df, validate_args=validate_args)
        self.concentration, self.rate = self.df * 0.5, self.df * 0.0 + 0.5


class InverseGamma(Elementwise):
    """The distribution of 1 / x for a gamma variable x.

    >>> import tgrad
    >>> tgrad.distributions.InverseGamma(3.0, 2.0).mean.item()
    1.0
    """

    arg_constraints = named(concentration=constraints.positive, rate=constraints.positive)
    parameters, has_rsample = named(concentration=REQUIRED, rate=REQUIRED), True
    concentration: Tensor
    rate: Tensor

    @property
    def base_dist(self) -> Gamma:
        return Gamma(self.concentration, self.rate)

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return (self.rate / (a - 1.0)).where(a > 1.0, math.inf)

    @property
    def variance(self) -> Tensor:
        a = self.concentration
        found = self.rate.square() / ((a - 1.0).square() * (a - 2.0))
        return found.where(a > 2.0, math.inf)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape).reciprocal()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value = as_tensor(value)
        return self.base_dist.log_prob(value.reciprocal()) - value.log() * 2.0

    def cdf(self, value: Any) -> Tensor:
        return self.concentration.igammac(self.rate / value)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (a + 1.0) * a.digamma()


class Dirichlet(Distribution):
    """The distribution of K probabilities that sum to one, by K concentrations along the last axis.

    Raises:
        ShapeError: the concentrations have no axis.

    >>> import tgrad
    >>> tgrad.distributions.Dirichlet(tgrad.tensor([1.0, 3.0])).mean.tolist()
    [0.25, 0.75]
    """

    arg_constraints = named(concentration=constraints.independent(constraints.positive, 1))
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        (self.concentration,) = together(concentration)
        if not self.concentration.shape:
            raise ShapeError("Dirichlet of a 0-d tensor.", "Parts lie along the last axis.")
        *batch, parts = self.concentration.shape
        super().__init__(batch, (parts,), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        total, mean = self.concentration.sum(-1, keepdim=True), self.mean
        return mean * (1.0 - mean) / (total + 1.0)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        drawn = standard_gamma(self.concentration.expand(*self._shape(sample_shape)))
        return drawn / drawn.sum(-1, keepdim=True)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        a = self.concentration
        powers = (a - 1.0).xlogy(as_tensor(value)).sum(-1)
        return powers + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        spread = (a - 1.0) * a.digamma()
        among = (total - float(a.shape[-1])) * total.digamma()
        return a.lgamma().sum(-1) - total.lgamma() + among - spread.sum(-1)


class Beta(Elementwise):
    """The distribution of a probability, by concentrations for it and against it.

    >>> import tgrad
    >>> tgrad.distributions.Beta(1.0, 3.0).mean.item()
    0.25
    """

    arg_constraints = named(
        concentration1=constraints.positive, concentration0=constraints.positive
    )
    parameters, has_rsample = named(concentration1=REQUIRED, concentration0=REQUIRED), True
    concentration1: Tensor
    concentration0: Tensor

    @property
    def base_dist(self) -> Dirichlet:
        return Dirichlet(stack([self.concentration1, self.concentration0], -1))

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean[..., 0]

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance[..., 0]

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)[..., 0]

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value = as_tensor(value)
        return self.base_dist.log_prob(stack([value, 1.0 - value], -1))

    def entropy(self) -> Tensor:
        return self.base_dist.entropy()


class StudentT(Elementwise):
    """The distribution of a normal number over the root of a mean of `df` squares of others, moved
    and stretched.

    >>> import tgrad
    >>> tgrad.distributions.StudentT(4.0).variance.item()
    2.0
    """

    arg_constraints = named(
        df=constraints.positive, loc=constraints.real, scale=constraints.positive
    )
    parameters, has_rsample = named(df=REQUIRED, loc=0.0, scale=1.0), True
    df: Tensor
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc.where(self.df > 1.0, math.nan)

    @property
    def variance(self) -> Tensor:
        known = self.scale.square() * self.df / (self.df - 2.0)
        return known.where(self.df > 2.0, math.inf).where(self.df > 1.0, math.nan)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._shape(sample_shape)
        z = randn(*shape, dtype=self.df.dtype, device=self.df.device)
        return self.loc + self.scale * z * (Chi2(self.df).rsample(sample_shape) / self.df).rsqrt()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        z, half = (value - self.loc) / self.scale, (self.df + 1.0) * 0.5
        return -half * (z * z / self.df).log1p() - self._normalizer() - self.scale.log()

    def _normalizer(self) -> Tensor:
        half = self.df * 0.5
        gammas = half.lgamma() - (half + 0.5).lgamma()
        return gammas + 0.5 * self.df.log() + 0.5 * math.log(math.pi)

    def entropy(self) -> Tensor:
        half = (self.df + 1.0) * 0.5
        digammas = half.digamma() - (self.df * 0.5).digamma()
        return self.scale.log() + half * digammas + self._normalizer()


class FisherSnedecor(Elementwise):
    """The distribution of a ratio of means of `df1` and of `df2` squares of normal numbers.

    >>> import tgrad
    >>> tgrad.distributions.FisherSnedecor(2.0, 4.0).mean.item()
    2.0
    """

    arg_constraints = named(df1=constraints.positive, df2=constraints.positive)
    parameters, has_rsample = named(df1=REQUIRED, df2=REQUIRED), True
    df1: Tensor
    df2: Tensor

    @property
    def mean(self) -> Tensor:
        return (self.df2 / (self.df2 - 2.0)).where(self.df2 > 2.0, math.nan)

    @property
    def variance(self) -> Tensor:
        a, b = self.df1, self.df2
        below = a * (b - 2.0).square() * (b - 4.0)
        return (2.0 * b.square() * (a + b - 2.0) / below).where(b > 4.0, math.nan)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        above, below = (Gamma(df * 0.5, df * 0.5).rsample(sample_shape)
                        for df in (self.df1, self.df2))  # fmt: skip
        return (above / below).maximum(TINY)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, a, b, ratio = as_tensor(value), self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        gammas = (a + b).lgamma() - a.lgamma() - b.lgamma()
        powers = a * ratio.log() + (a - 1.0) * value.log()
        return gammas + powers - (a + b) * (ratio * value).log1p()
