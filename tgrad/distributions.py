"""Probability distributions, under the names of torch.distributions.

In: parameters, as tensors or numbers. Out: lazy tensors: samples, densities, entropies. Invariant:
nothing is read on the host, so sampling and log_prob are part of a compiled step; for the same
reason values are not checked (`validate_args=True` is refused). Source:
https://docs.pytorch.org/docs/stable/distributions.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tgrad.nn.functional as F
from tgrad.arguments import refuse
from tgrad.creation import as_tensor
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.methods.elementwise import broadcast_shapes, result_type
from tgrad.queries import finfo
from tgrad.random import rand, randn
from tgrad.tensor import Tensor

Parameter = Tensor | float
Shape = Sequence[int]

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
TINY = 2.0**-126
"""The least normal number of float32."""


class Distribution:
    """Base of all distributions.

    Attributes:
        batch_shape: shape of the parameters, each of which is a distribution.
        event_shape: shape of one draw.
        has_rsample: whether draws have gradients with respect to the parameters.
    """

    has_rsample = False

    def __init__(self, batch_shape: Shape, event_shape: Shape, validate_args: bool | None):
        refuse(
            type(self).__name__, "Values stay on the device unread.", validate_args=validate_args
        )
        self.batch_shape, self.event_shape = tuple(batch_shape), tuple(event_shape)

    @property
    def mean(self) -> Tensor:
        raise UnsupportedError(f"{type(self).__name__} has no mean here.")

    @property
    def variance(self) -> Tensor:
        raise UnsupportedError(f"{type(self).__name__} has no variance here.")

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws of shape sample_shape + batch_shape + event_shape, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws with gradients with respect to the parameters.

        Raises:
            UnsupportedError: they have none.
        """
        raise UnsupportedError(
            f"draws of {type(self).__name__} have no gradient.",
            "Use .sample() and log_prob, or tgrad.nn.functional.gumbel_softmax.",
        )

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability, at `value`."""
        raise UnsupportedError(f"{type(self).__name__} has no log_prob here.")

    def entropy(self) -> Tensor:
        """In nats, of shape batch_shape."""
        raise UnsupportedError(f"{type(self).__name__} has no entropy here.")

    def _shape(self, sample_shape: Shape) -> tuple[int, ...]:
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch {self.batch_shape}, event {self.event_shape})"


def _together(*parameters: Parameter) -> list[Tensor]:
    """Parameters as floats of one shape, dtype and device."""
    tensors = [p for p in parameters if isinstance(p, Tensor)]
    device = tensors[0].device if tensors else None
    dtype = result_type(*tensors, 1.0)
    made = [as_tensor(p, dtype=dtype, device=device) for p in parameters]
    shape = broadcast_shapes(*(p.shape for p in made))
    return [p.expand(*shape) for p in made]


def _uniform(like: Tensor, shape: Shape) -> Tensor:
    """In [0, 1)."""
    return rand(*shape, dtype=like.dtype, device=like.device)


class _Scaled(Distribution):
    """A distribution that is moved by `loc` and stretched by `scale`."""

    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        self.loc, self.scale = _together(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc


class Normal(_Scaled):
    """The normal distribution of mean `loc` and standard deviation `scale`.

    >>> import tgrad
    >>> round(tgrad.distributions.Normal(0.0, 1.0).log_prob(tgrad.zeros(1)).item(), 4)
    -0.9189
    """

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    @property
    def stddev(self) -> Tensor:
        return self.scale

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = randn(*self._shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Any) -> Tensor:
        z = (value - self.loc) / self.scale
        return z * z * -0.5 - self.scale.log() - HALF_LOG_TAU

    def cdf(self, value: Any) -> Tensor:
        """The probability of at most `value`."""
        return (((value - self.loc) / self.scale * math.sqrt(0.5)).erf() + 1.0) * 0.5

    def icdf(self, value: Any) -> Tensor:
        """Where the probability of at most that is `value`."""
        return self.loc + self.scale * (value * 2.0 - 1.0).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        return self.scale.log() + (0.5 + HALF_LOG_TAU)


class LogNormal(Distribution):
    """exp of a normal distribution.

    >>> import tgrad
    >>> round(tgrad.distributions.LogNormal(0.0, 1.0).mean.item(), 4)
    1.6487
    """

    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None):
        self.base = Normal(loc, scale)
        self.loc, self.scale = self.base.loc, self.base.scale
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale.square() * 0.5).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale.square()
        return square.expm1() * (self.loc * 2.0 + square).exp()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base.rsample(sample_shape).exp()

    def log_prob(self, value: Any) -> Tensor:
        log = as_tensor(value).log()
        return self.base.log_prob(log) - log

    def entropy(self) -> Tensor:
        return self.base.entropy() + self.loc


class Uniform(Distribution):
    """The uniform distribution over [low, high).

    >>> import tgrad
    >>> tgrad.distributions.Uniform(0.0, 4.0).log_prob(tgrad.tensor([1.0, 4.0])).exp().tolist()
    [0.25, 0.0]
    """

    has_rsample = True

    def __init__(self, low: Parameter, high: Parameter, validate_args: bool | None = None):
        self.low, self.high = _together(low, high)
        super().__init__(self.low.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return (self.low + self.high) * 0.5

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low).square() / 12.0

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.low + _uniform(self.low, self._shape(sample_shape)) * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        is_inside = (self.low <= value) & (self.high > value)
        return (-(self.high - self.low).log()).where(is_inside, -math.inf)

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()


class Exponential(Distribution):
    """The distribution of the time between events, `rate` of which come in a unit of time.

    >>> import tgrad
    >>> tgrad.distributions.Exponential(2.0).mean.item()
    0.5
    """

    has_rsample = True

    def __init__(self, rate: Parameter, validate_args: bool | None = None):
        (self.rate,) = _together(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Tensor:
        return self.rate.square().reciprocal()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return -(-_uniform(self.rate, self._shape(sample_shape))).log1p() / self.rate

    def log_prob(self, value: Any) -> Tensor:
        return self.rate.log() - self.rate * value

    def entropy(self) -> Tensor:
        return 1.0 - self.rate.log()


class Laplace(_Scaled):
    """The distribution of density exp(-|x - loc| / scale) / (2 * scale).

    >>> import tgrad
    >>> tgrad.distributions.Laplace(0.0, 1.0).variance.item()
    2.0
    """

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * 2.0

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        side = _uniform(self.loc, self._shape(sample_shape)) * 2.0 - 1.0
        below_one = 1.0 - finfo(self.loc.dtype).eps
        return self.loc - self.scale * side.sign() * (-side.abs().minimum(below_one)).log1p()

    def log_prob(self, value: Any) -> Tensor:
        return -(self.scale * 2.0).log() - (value - self.loc).abs() / self.scale

    def entropy(self) -> Tensor:
        return (self.scale * 2.0).log() + 1.0


class Bernoulli(Distribution):
    """1 with probability `probs`, else 0; `logits` are log(probs / (1 - probs)).

    Raises:
        UnsupportedError: both are given, or neither is.

    >>> import tgrad
    >>> tgrad.distributions.Bernoulli(probs=0.25).mean.item()
    0.25
    """

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ):
        _check_one("Bernoulli", probs, logits)
        if logits is None:
            (self.probs,) = _together(probs)  # type: ignore[arg-type]
            self.logits = _inside(self.probs).logit()
        else:
            (self.logits,) = _together(logits)
            self.probs = self.logits.sigmoid()
        super().__init__(self.probs.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            drawn = _uniform(self.probs, self._shape(sample_shape)) < self.probs
            return drawn.to(self.probs.dtype)

    def log_prob(self, value: Any) -> Tensor:
        (value, logits) = _together(value, self.logits)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


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

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        _check_one("Categorical", probs, logits)
        given = as_tensor(probs if logits is None else logits)
        if not given.shape:
            raise ShapeError("Categorical of a 0-d tensor.", "Classes lie along the last axis.")
        if logits is None:
            self.probs = given / given.sum(-1, keepdim=True)
            self.logits = _inside(self.probs).log()
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
            self.probs = self.logits.softmax(-1)
        super().__init__(given.shape[:-1], (), validate_args)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Class numbers (int64): of events that come at these rates, the first."""
        with no_grad():
            probs = self.probs.to(self.probs.dtype.accumulator)
            time = -(-_uniform(probs, (*sample_shape, *probs.shape))).log1p()
            return (time.maximum(TINY) / probs).argmin(-1)

    def log_prob(self, value: Any) -> Tensor:
        value = as_tensor(value, device=self.logits.device).long()
        shape = broadcast_shapes(value.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return logits.gather(-1, value.expand(*shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.logits.clamp(min=-self.logits.dtype.largest)).sum(-1)


class Independent(Distribution):
    """A distribution whose last `reinterpreted_batch_ndims` axes of parameters are one draw.

    Raises:
        ShapeError: it has not that many.

    >>> import tgrad
    >>> base = tgrad.distributions.Normal(tgrad.zeros(3, 2), 1.0)
    >>> tgrad.distributions.Independent(base, 1).log_prob(tgrad.zeros(3, 2)).shape
    (3,)
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ):
        rank, count = len(base_distribution.batch_shape), reinterpreted_batch_ndims
        if not 0 <= count <= rank:
            raise ShapeError(f"Independent of {count} axes of {rank}.", "Give as many or fewer.")
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, count
        self.has_rsample = base_distribution.has_rsample
        batch, event = base_distribution.batch_shape, base_distribution.event_shape
        super().__init__(batch[: rank - count], (*batch[rank - count :], *event), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        return _sum_last(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return _sum_last(self.base_dist.entropy(), self.reinterpreted_batch_ndims)


def _check_one(name: str, probs: object, logits: object) -> None:
    if (probs is None) == (logits is None):
        raise UnsupportedError(f"{name} of probs and logits.", "Give one of the two.")


def _inside(probs: Tensor) -> Tensor:
    """Probabilities whose logarithms are finite, as PyTorch takes them."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1.0 - eps)


def _sum_last(x: Tensor, count: int) -> Tensor:
    return x.sum(tuple(range(-count, 0))) if count else x


# -- divergence ------------------------------------------------------------------------------------

Divergence = Callable[[Any, Any], Tensor]
_DIVERGENCES: dict[tuple[type, type], Divergence] = {}


def register_kl(
    type_p: type[Distribution], type_q: type[Distribution]
) -> Callable[[Divergence], Divergence]:
    """Decorator: what `kl_divergence` computes for distributions of these types."""

    def register(function: Divergence) -> Divergence:
        _DIVERGENCES[type_p, type_q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Kullback and Leibler's divergence of q from p: the mean of log(p / q) over draws of p.

    Raises:
        UnsupportedError: there is no formula for these types.

    >>> import tgrad
    >>> from tgrad.distributions import Normal
    >>> tgrad.distributions.kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item()
    0.5
    """
    for kind_p in type(p).__mro__:
        for kind_q in type(q).__mro__:
            if (kind_p, kind_q) in _DIVERGENCES:
                return _DIVERGENCES[kind_p, kind_q](p, q)
    raise UnsupportedError(
        f"kl_divergence of {type(p).__name__} and {type(q).__name__}.",
        "Give a formula with tgrad.distributions.register_kl.",
    )


@register_kl(Normal, Normal)
def _normals(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    return (ratio + ((p.loc - q.loc) / q.scale).square() - 1.0 - ratio.log()) * 0.5


@register_kl(LogNormal, LogNormal)
def _log_normals(p: LogNormal, q: LogNormal) -> Tensor:
    return _normals(p.base, q.base)


@register_kl(Laplace, Laplace)
def _laplaces(p: Laplace, q: Laplace) -> Tensor:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1.0


@register_kl(Exponential, Exponential)
def _exponentials(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1.0


@register_kl(Uniform, Uniform)
def _uniforms(p: Uniform, q: Uniform) -> Tensor:
    inside = (q.low <= p.low) & (q.high >= p.high)
    return ((q.high - q.low) / (p.high - p.low)).log().where(inside, math.inf)


@register_kl(Bernoulli, Bernoulli)
def _bernoullis(p: Bernoulli, q: Bernoulli) -> Tensor:
    one = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    other = (1.0 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    return one + other


@register_kl(Categorical, Categorical)
def _categoricals(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = terms.where(q.probs != 0.0, math.inf).where(p.probs != 0.0, 0.0)
    return terms.sum(-1)


@register_kl(Independent, Independent)
def _independents(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise ShapeError(f"kl_divergence of {p} and {q}.", "Join the same axes in both.")
    return _sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
