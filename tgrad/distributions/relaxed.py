"""Draws of classes that have gradients: relaxed to numbers between, or straight through.

In: probabilities or logits, and temperatures. Out: lazy tensors. Invariant: a draw is a
differentiable function of the logits and of uniform numbers.
Sources: Maddison et al. 2017, The concrete distribution; Jang et al. 2017, Categorical
reparameterization with Gumbel-softmax; Bengio et al. 2013 (straight through).
"""

from __future__ import annotations

import math
from typing import Any

import tgrad.nn.functional as F
from tgrad.creation import as_tensor
from tgrad.distributions import constraints
from tgrad.distributions.composed import TransformedDistribution
from tgrad.distributions.discrete import Categorical, OneHotCategorical, _Chances
from tgrad.distributions.distribution import Distribution, Parameter, Shape, inside, named, uniform
from tgrad.distributions.transforms import ExpTransform, SigmoidTransform
from tgrad.distributions.validation import validated
from tgrad.tensor import Tensor


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """`OneHotCategorical`, whose draws have the gradients of its probabilities.

    >>> import tgrad
    >>> probs = tgrad.tensor([0.0, 1.0], requires_grad=True)
    >>> tgrad.distributions.OneHotCategoricalStraightThrough(probs).rsample().tolist()
    [0.0, 1.0]
    """

    has_rsample = True

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class _Tempered(Distribution):
    """A distribution with a temperature that batches leave as it is."""

    temperature: Tensor

    def expand(self, batch_shape: Shape) -> Any:
        wide = super().expand(batch_shape)
        wide.temperature = self.temperature
        return wide


class LogitRelaxedBernoulli(_Tempered, _Chances):
    """The logit of a `RelaxedBernoulli` number; the same arguments."""

    has_rsample = True

    def __init__(
        self,
        temperature: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        self._set(probs, logits, validate_args)
        self.temperature = as_tensor(temperature, dtype=self.probs.dtype, device=self.probs.device)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = inside(uniform(self.probs, self._shape(sample_shape)))
        p = inside(self.probs)
        return (u.log() - (-u).log1p() + p.log() - (-p).log1p()) / self.temperature

    @validated
    def log_prob(self, value: Any) -> Tensor:
        apart = self.logits - as_tensor(value) * self.temperature
        return self.temperature.log() + apart - 2.0 * F.softplus(apart)


class _OfTempered(TransformedDistribution):
    """A tempered distribution of logits or logarithms, mapped to numbers; its parameters."""

    base_dist: Any

    @property
    def temperature(self) -> Tensor:
        return self.base_dist.temperature

    @property
    def probs(self) -> Tensor:
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        return self.base_dist.logits


class RelaxedBernoulli(_OfTempered):
    """A number in (0, 1) instead of 0 or 1, the nearer to them the lower the temperature.

    Args:
        temperature: above 0.
        probs, logits: one of the two, of 1.

    >>> import tgrad
    >>> p = tgrad.distributions.RelaxedBernoulli(0.5, probs=0.5)
    >>> round(p.log_prob(tgrad.tensor(0.5)).exp().item(), 4)
    0.5
    """

    arg_constraints = named(probs=constraints.unit_interval, logits=constraints.real)

    base_dist: LogitRelaxedBernoulli

    def __init__(
        self,
        temperature: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args)


class ExpRelaxedCategorical(_Tempered):
    """The logarithm of a `RelaxedOneHotCategorical` vector; the same arguments."""

    arg_constraints = named(probs=constraints.simplex, logits=constraints.real_vector)

    has_rsample = True

    def __init__(
        self,
        temperature: Parameter,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        classes = Categorical(probs, logits, validate_args)
        self.probs, self.logits = classes.probs, classes.logits
        self.temperature = as_tensor(temperature, dtype=self.probs.dtype, device=self.probs.device)
        super().__init__(classes.batch_shape, self.probs.shape[-1:], validate_args)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = inside(uniform(self.logits, self._shape(sample_shape)))
        return ((self.logits - (-u.log()).log()) / self.temperature).log_softmax(-1)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        count = self.logits.shape[-1]
        score = (self.logits - as_tensor(value) * self.temperature).log_softmax(-1)
        scale = math.lgamma(count) + self.temperature.log() * (count - 1)
        return score.sum(-1) + scale


class RelaxedOneHotCategorical(_OfTempered):
    """A vector of numbers that sum to one instead of a single one, the nearer to it the lower the
    temperature.

    Args:
        temperature: above 0.
        probs, logits: one of the two, as of `Categorical`.

    >>> import tgrad
    >>> p = tgrad.distributions.RelaxedOneHotCategorical(0.5, tgrad.ones(3))
    >>> round(p.rsample().sum().item(), 4)
    1.0
    """

    arg_constraints = named(probs=constraints.simplex, logits=constraints.real_vector)

    base_dist: ExpRelaxedCategorical

    def __init__(
        self,
        temperature: Parameter,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args)
