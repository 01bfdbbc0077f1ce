"""Distributions of numbers between bounds, of angles, and of what lies beyond a threshold.

In: parameters. Out: lazy tensors. Invariant: but for angles, a draw is a quantile of a uniform
number, so it has gradients.
Sources: Kumaraswamy 1980; Loaiza-Ganem and Cunningham 2019, The continuous Bernoulli; Best and
Fisher 1979, Efficient simulation of the von Mises distribution; Pickands 1975.
"""

from __future__ import annotations

import math
from typing import Any

import tgrad.nn.functional as F
from tgrad.creation import arange, as_tensor
from tgrad.distributions import constraints
from tgrad.distributions.continuous import EULER
from tgrad.distributions.discrete import _Chances
from tgrad.distributions.distribution import (
    REQUIRED,
    ByQuantile,
    Elementwise,
    Parameter,
    Shape,
    inside,
    named,
    together,
    uniform,
)
from tgrad.distributions.validation import validated
from tgrad.grad_mode import no_grad
from tgrad.queries import finfo
from tgrad.random import rand
from tgrad.special import i0e, i1e
from tgrad.tensor import Tensor


class Kumaraswamy(ByQuantile):
    """The distribution of a probability, of cdf 1 - (1 - x ** concentration1) ** concentration0.

    >>> import tgrad
    >>> tgrad.distributions.Kumaraswamy(1.0, 1.0).mean.item()
    0.5
    """

    arg_constraints = named(
        concentration1=constraints.positive, concentration0=constraints.positive
    )
    parameters = named(concentration1=REQUIRED, concentration0=REQUIRED)
    concentration1: Tensor
    concentration0: Tensor

    def _moment(self, order: float) -> Tensor:
        b, power = self.concentration0, order / self.concentration1 + 1.0
        return b * (power.lgamma() + b.lgamma() - (power + b).lgamma()).exp()

    @property
    def mean(self) -> Tensor:
        return self._moment(1.0)

    @property
    def variance(self) -> Tensor:
        return self._moment(2.0) - self._moment(1.0).square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = uniform(self.concentration1, self._shape(sample_shape))
        return self.icdf(u.clamp(finfo(u.dtype).tiny, 1.0 - finfo(u.dtype).eps))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        a, b, value = self.concentration1, self.concentration0, as_tensor(value)
        rest = (b - 1.0) * (-(value**a)).log1p()
        return a.log() + b.log() + (a - 1.0) * value.log() + rest

    def cdf(self, value: Any) -> Tensor:
        rest = self.concentration0 * (-(as_tensor(value) ** self.concentration1)).log1p()
        return -rest.expm1()

    def icdf(self, value: Any) -> Tensor:
        rest = ((-as_tensor(value)).log1p() / self.concentration0).expm1()
        return (-rest) ** self.concentration1.reciprocal()

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1.0).digamma() + EULER
        return 1.0 - b.reciprocal() + (1.0 - a.reciprocal()) * harmonic - a.log() - b.log()


class ContinuousBernoulli(_Chances):
    """The distribution over [0, 1] of density proportional to probs ** x (1 - probs) ** (1 - x).

    Args:
        probs, logits: one of the two.
        lims: probs between these are taken for 1/2, near which series replace formulas that cancel.

    >>> import tgrad
    >>> tgrad.distributions.ContinuousBernoulli(probs=0.5).mean.item()
    0.5
    """

    has_rsample = True

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ):
        self._set(probs, logits, validate_args)
        if logits is None:
            self.probs = inside(self.probs)
        self._lims = lims

    def _is_far(self) -> Tensor:
        """Whether the formulas hold."""
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _away(self) -> Tensor:
        """The probability, kept away from 1/2."""
        return self.probs.where(self._is_far(), self._lims[0])

    def log_norm(self) -> Tensor:
        """The logarithm of what makes the density integrate to one."""
        p, square = self._away(), (self.probs - 0.5).square()
        below, above = p.where(p <= 0.5, 0.0), p.where(p >= 0.5, 1.0)
        ratio = ((-p).log1p() - p.log()).abs().log()
        exact = ratio - (-2.0 * below).log1p().where(p <= 0.5, (2.0 * above - 1.0).log())
        series = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * square) * square
        return exact.where(self._is_far(), series)

    @property
    def mean(self) -> Tensor:
        p, apart = self._away(), self.probs - 0.5
        exact = p / (2.0 * p - 1.0) + 1.0 / ((-p).log1p() - p.log())
        series = 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * apart.square()) * apart
        return exact.where(self._is_far(), series)

    @property
    def variance(self) -> Tensor:
        p, square = self._away(), (self.probs - 0.5).square()
        spread = 1.0 / ((-p).log1p() - p.log()).square()
        exact = p * (p - 1.0) / (1.0 - 2.0 * p).square() + spread
        series = 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * square) * square
        return exact.where(self._is_far(), series)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.icdf(uniform(self.probs, self._shape(sample_shape)))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, logits = together(value, self.logits)
        losses = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return self.log_norm() - losses

    @validated
    def cdf(self, value: Any) -> Tensor:
        value, p = as_tensor(value), self._away()
        exact = (p**value * (1.0 - p) ** (1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        found = exact.where(self._is_far(), value)
        return found.where(value < 1.0, 1.0).where(value > 0.0, 0.0)

    def icdf(self, value: Any) -> Tensor:
        value, p = as_tensor(value), self._away()
        none = (-p).log1p()
        exact = ((-p + value * (2.0 * p - 1.0)).log1p() - none) / (p.log() - none)
        return exact.where(self._is_far(), value)

    def entropy(self) -> Tensor:
        none, all_ = (-self.probs).log1p(), self.probs.log()
        return self.mean * (none - all_) - self.log_norm() - none


CANDIDATES = 40
"""Each is accepted with a probability of at least 0.65; all are refused once in 10 ** 18 draws, and
the last one is taken then."""


class VonMises(Elementwise):
    """The distribution of angles around `loc`, of density proportional to
    exp(concentration cos(x - loc)).

    >>> import tgrad
    >>> tgrad.distributions.VonMises(1.0, 4.0).mean.item()
    1.0
    """

    arg_constraints = named(loc=constraints.real, concentration=constraints.positive)
    parameters = named(loc=REQUIRED, concentration=REQUIRED)
    loc: Tensor
    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """In the sense of angles."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """In the sense of angles: 1 less the mean cosine of what is apart."""
        return 1.0 - i1e(self.concentration) / i0e(self.concentration)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Angles in [-pi, pi): of candidates drawn from a wrapped Cauchy distribution, the first
        that is accepted."""
        with no_grad():
            shape = (*self._shape(sample_shape), CANDIDATES)
            k = self.concentration.double().unsqueeze(-1)
            root = (1.0 + 4.0 * k.square()).sqrt() + 1.0
            rho = (root - (2.0 * root).sqrt()) / (2.0 * k)
            bound = (1.0 + rho.square()) / (2.0 * rho)
            bound = bound.where(k >= 1e-5, 1.0 / k + k)  # where the formula cancels
            options: dict[str, Any] = {"dtype": k.dtype, "device": k.device}
            cosine = (rand(*shape, **options) * math.pi).cos()
            found = (1.0 + bound * cosine) / (bound + cosine)
            change = k * (bound - found)
            chance = 1.0 - rand(*shape, **options)
            is_accepted = (change * (2.0 - change) > chance) | (
                (change / chance).log() + 1.0 >= change
            )
            place = arange(CANDIDATES, device=k.device).expand(shape)
            first = place.where(is_accepted, CANDIDATES - 1).amin(-1, keepdim=True)
            angle = found.clamp(-1.0, 1.0).acos().where(place == first, 0.0).sum(-1)
            side = (rand(*shape[:-1], **options) - 0.5).sign()
            turned = side * angle + self.loc.double() + math.pi
            return (turned % (2.0 * math.pi) - math.pi).to(self.loc.dtype)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        k = self.concentration
        normalizer = math.log(2.0 * math.pi) + i0e(k).log() + k
        return k * (as_tensor(value) - self.loc).cos() - normalizer


class GeneralizedPareto(ByQuantile):
    """The distribution of what lies above a high threshold.

    Args:
        loc: the threshold.
        scale: of what is above.
        concentration: above 0 for heavy tails, 0 for that of `Exponential`, below for a bound.

    >>> import tgrad
    >>> tgrad.distributions.GeneralizedPareto(1.0, 1.0, 0.5).mean.item()
    3.0
    """

    arg_constraints = named(
        loc=constraints.real, scale=constraints.positive, concentration=constraints.real
    )
    parameters = named(loc=REQUIRED, scale=REQUIRED, concentration=REQUIRED)
    loc: Tensor
    scale: Tensor
    concentration: Tensor

    def _is_zero(self) -> Tensor:
        return self.concentration.abs() <= 1e-8

    def _rate(self) -> Tensor:
        """The concentration, 1 in place of 0."""
        return self.concentration.where(~self._is_zero(), 1.0)

    @property
    def mean(self) -> Tensor:
        c = self.concentration
        return (self.loc + self.scale / (1.0 - c)).where(c < 1.0, math.inf)

    @property
    def variance(self) -> Tensor:
        c = self.concentration
        found = self.scale.square() / ((1.0 - c).square() * (1.0 - 2.0 * c))
        return found.where(c < 0.5, math.inf)

    def _log_survival(self, value: Any) -> Tensor:
        """log of the probability of more than `value`."""
        z, c = (as_tensor(value) - self.loc) / self.scale, self._rate()
        return (-z).where(self._is_zero(), -(c * z).log1p() / c)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        above = self._log_survival(value)
        return above * (1.0 + self.concentration.where(~self._is_zero(), 0.0)) - self.scale.log()

    def cdf(self, value: Any) -> Tensor:
        return -self._log_survival(value).expm1()

    def icdf(self, value: Any) -> Tensor:
        above, c = (-as_tensor(value)).log1p(), self._rate()
        z = (-above).where(self._is_zero(), (-c * above).expm1() / c)
        return self.loc + self.scale * z

    def entropy(self) -> Tensor:
        return self.scale.log() + self.concentration + 1.0
