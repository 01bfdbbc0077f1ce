"""Distributions of counts and classes.

In: probabilities or their logits. Out: lazy tensors. Invariant: draws have no gradients; whatever
of probs and logits is given, both are attributes.
"""

from __future__ import annotations

import math
from typing import Any

import tgrad.nn.functional as F
from tgrad.creation import arange, as_tensor
from tgrad.discrete import binomial, poisson
from tgrad.distributions import constraints
from tgrad.distributions.distribution import (
    REQUIRED,
    TINY,
    Distribution,
    Elementwise,
    Parameter,
    Shape,
    check_one,
    inside,
    named,
    together,
    uniform,
)
from tgrad.distributions.gammas import Gamma
from tgrad.distributions.validation import WEIGHTS, check_parameter, validated
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.tensor import Tensor


class _Chances(Distribution):
    """A distribution with a chance of success, by `probs` or by `logits`, and maybe a count."""

    arg_constraints = named(probs=constraints.unit_interval, logits=constraints.real)
    probs: Tensor
    logits: Tensor

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        self._set(probs, logits, validate_args)

    def _set(
        self, probs: Any, logits: Any, validate_args: bool | None, *counts: Parameter
    ) -> list[Tensor]:
        """Set both, from the one that is given; the counts in their shape."""
        check_one(type(self).__name__, probs, logits)
        if logits is None:
            self.probs, *made = together(probs, *counts)
            self.logits = inside(self.probs).logit()
        else:
            self.logits, *made = together(logits, *counts)
            self.probs = self.logits.sigmoid()
        counted = dict(zip(("total_count",), made))
        super().__init__(self.probs.shape, (), validate_args, **counted)
        return made


class Bernoulli(_Chances):
    """1 with probability `probs`, else 0; `logits` are log(probs / (1 - probs)).

    Raises:
        UnsupportedError: both are given, or neither is.

    >>> import tgrad
    >>> tgrad.distributions.Bernoulli(probs=0.25).mean.item()
    0.25
    """

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            drawn = uniform(self.probs, self._shape(sample_shape)) < self.probs
            return drawn.to(self.probs.dtype)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        (value, logits) = together(value, self.logits)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Geometric(_Chances):
    """The number of failures before the first success, each trial of probability `probs`.

    >>> import tgrad
    >>> tgrad.distributions.Geometric(0.25).mean.item()
    3.0
    """

    @property
    def mean(self) -> Tensor:
        return self.probs.reciprocal() - 1.0

    @property
    def variance(self) -> Tensor:
        return (self.probs.reciprocal() - 1.0) / self.probs

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            u = uniform(self.probs, self._shape(sample_shape)).maximum(TINY)
            return (u.log() / (-self.probs).log1p()).floor()

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, probs = together(value, self.probs)
        is_sure = (probs == 1.0) & (value == 0.0)
        return value * (-probs.where(~is_sure, 0.0)).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        found = F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
        return found / self.probs


class Binomial(_Chances):
    """How many of `total_count` trials succeed.

    >>> import tgrad
    >>> tgrad.distributions.Binomial(4, probs=0.25).mean.item()
    1.0
    """

    arg_constraints = named(
        total_count=constraints.nonnegative_integer,
        probs=constraints.unit_interval,
        logits=constraints.real,
    )

    def __init__(
        self,
        total_count: Parameter = 1,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        self._trials = total_count if isinstance(total_count, int) else None
        (self.total_count,) = self._set(probs, logits, validate_args, total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            shape = self._shape(sample_shape)
            return binomial(self.total_count.expand(*shape), self.probs.expand(*shape))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, n = together(value, self.total_count)
        ways = (n + 1.0).lgamma() - (value + 1.0).lgamma() - (n - value + 1.0).lgamma()
        return ways + value * self.logits - n * F.softplus(self.logits)

    def entropy(self) -> Tensor:
        """In nats.

        Raises:
            UnsupportedError: total_count is no int: the sum runs over all counts.
        """
        if self._trials is None:
            raise UnsupportedError("Binomial.entropy of a tensor of counts.", "Give an int.")
        counts = arange(self._trials + 1, device=self.probs.device, dtype=self.probs.dtype)
        logs = self.log_prob(counts.reshape(-1, *(1 for _ in self.batch_shape)))
        return -(logs.exp() * logs).sum(0)


class NegativeBinomial(_Chances):
    """The number of successes, each of probability `probs`, before `total_count` failures.

    >>> import tgrad
    >>> tgrad.distributions.NegativeBinomial(3.0, probs=0.5).mean.item()
    3.0
    """

    arg_constraints = named(
        total_count=constraints.nonnegative,
        probs=constraints.half_open_interval(0.0, 1.0),
        logits=constraints.real,
    )

    def __init__(
        self,
        total_count: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        (self.total_count,) = self._set(probs, logits, validate_args, total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            return poisson(Gamma(self.total_count, (-self.logits).exp()).sample(sample_shape))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, n = together(value, self.total_count)
        ways = (n + value).lgamma() - (value + 1.0).lgamma() - n.lgamma()
        ways = ways.where(n + value != 0.0, 0.0)
        return n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits) + ways


class Poisson(Elementwise):
    """The number of events in a unit of time, of which `rate` come on average.

    >>> import tgrad
    >>> tgrad.distributions.Poisson(2.0).variance.item()
    2.0
    """

    arg_constraints = named(rate=constraints.nonnegative)
    parameters = named(rate=REQUIRED)
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            return poisson(self.rate.expand(*self._shape(sample_shape)))

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, rate = together(value, self.rate)
        return value.xlogy(rate) - rate - (value + 1.0).lgamma()


class Categorical(Distribution):
    """One of K classes, drawn with probabilities along the last axis, which need not sum to one.

    Args:
        probs: (*, K), not negative.
        logits: (*, K), their logarithms, in place of them.

    Raises:
        UnsupportedError: both are given, or neither is.
        ShapeError: a parameter has no axis.

    >>> import tgrad
    >>> tgrad.distributions.Categorical(tgrad.tensor([0.0, 1.0])).sample((3,)).tolist()
    [1, 1, 1]
    """

    arg_constraints = named(probs=constraints.simplex, logits=constraints.real_vector)

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        check_one("Categorical", probs, logits)
        given = as_tensor(probs if logits is None else logits)
        if not given.shape:
            raise ShapeError("Categorical of a 0-d tensor.", "Classes lie along the last axis.")
        if logits is None:
            self.probs = given / given.sum(-1, keepdim=True)
            self.logits = inside(self.probs).log()
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
            self.probs = self.logits.softmax(-1)
        super().__init__(given.shape[:-1], (), validate_args)
        if self._validate_args:
            name, fits = ("probs", WEIGHTS) if logits is None else ("logits", constraints.real)
            check_parameter("Categorical", name, given, fits)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Class numbers (int64): of events that come at these rates, the first."""
        with no_grad():
            probs = self.probs.to(self.probs.dtype.accumulator)
            time = -(-uniform(probs, (*sample_shape, *probs.shape))).log1p()
            return (time.maximum(TINY) / probs).argmin(-1)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value = as_tensor(value, device=self.logits.device).long()
        shape = broadcast_shapes(value.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return logits.gather(-1, value.expand(*shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.logits.clamp(min=-self.logits.dtype.largest)).sum(-1)


class OneHotCategorical(Distribution):
    """One of K classes, as a vector with a one at its place; arguments as of `Categorical`.

    >>> import tgrad
    >>> tgrad.distributions.OneHotCategorical(tgrad.tensor([0.0, 1.0])).sample().tolist()
    [0.0, 1.0]
    """

    arg_constraints = named(probs=constraints.simplex, logits=constraints.real_vector)

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self.base_dist = Categorical(probs, logits, validate_args)
        self.probs, self.logits = self.base_dist.probs, self.base_dist.logits
        super().__init__(self.base_dist.batch_shape, self.probs.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        classes = self.base_dist.sample(sample_shape)
        return F.one_hot(classes, self.probs.shape[-1]).to(self.probs.dtype)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        return self.base_dist.log_prob(as_tensor(value).argmax(-1))

    def entropy(self) -> Tensor:
        return self.base_dist.entropy()


class Multinomial(Distribution):
    """How many of `total_count` draws fall into each of K classes; arguments as of `Categorical`.

    >>> import tgrad
    >>> tgrad.distributions.Multinomial(8, tgrad.tensor([1.0, 3.0])).mean.tolist()
    [2.0, 6.0]
    """

    arg_constraints = named(probs=constraints.simplex, logits=constraints.real_vector)

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self.total_count = total_count
        self.base_dist = Categorical(probs, logits, validate_args)
        self.probs, self.logits = self.base_dist.probs, self.base_dist.logits
        super().__init__(self.base_dist.batch_shape, self.probs.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs) * self.total_count

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        classes = self.base_dist.sample((self.total_count, *sample_shape))
        return F.one_hot(classes, self.probs.shape[-1]).sum(0).to(self.probs.dtype)

    @validated
    def log_prob(self, value: Any) -> Tensor:
        value, logits = together(value, self.logits)
        never = (logits == -math.inf) & (value == 0.0)
        ways = (value.sum(-1) + 1.0).lgamma() - (value + 1.0).lgamma().sum(-1)
        return ways + (logits.where(~never, 0.0) * value).sum(-1)

    def entropy(self) -> Tensor:
        counts = arange(self.total_count + 1, device=self.probs.device, dtype=self.probs.dtype)
        counts = counts.reshape(-1, *(1 for _ in self.probs.shape))
        chances = Binomial(self.total_count, self.probs).log_prob(counts).exp()
        ways = (chances * (counts + 1.0).lgamma()).sum((0, -1))
        return (
            self.base_dist.entropy() * self.total_count - math.lgamma(self.total_count + 1) + ways
        )
