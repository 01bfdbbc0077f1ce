"""Random counts: Poisson and binomial variables.

In: tensors of parameters. Out: lazy tensors of counts, in their dtype. Invariant: float64 inside;
every element draws as many numbers as any other, so there is no loop whose length depends on them.

Small means: the distribution's inverse, by the sums of the first probabilities. Large ones:
transformed rejection (Hormann 1993: PTRS, BTRS), the first accepted one of 24 candidates; each is
accepted with a probability of at least 0.7, so that all are refused once in 10 ** 12 draws, and
the last one is taken then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import arange
from tgrad.errors import DTypeError
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.random import Generator, rand
from tgrad.tensor import Tensor, labelled

SMALL = 10.0
"""Means below it take the inverse."""
TERMS = 64
"""The probability of more counts than that, with a mean of 10, is below 10 ** -25."""
CANDIDATES = 24


@labelled("poisson")
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """A Poisson variable with the rate of each element, in its shape and dtype.

    Args:
        input: rates of 0 or more, floating point.

    >>> import tgrad
    >>> tgrad.poisson(tgrad.zeros(2)).tolist()
    [0.0, 0.0]
    """
    _check_float("poisson", input)
    rate = input.detach().to(dt.float64)
    small = rate.minimum(SMALL)
    few = _by_inverse(lambda k: _log_poisson(k, _last(small)), small, generator)
    large = rate.maximum(SMALL)
    many = _poisson_by_rejection(large, generator)
    return few.where(rate < SMALL, many).to(input.dtype)


@labelled("binomial")
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed, each with probability `prob`.

    Args:
        count: trials, whole numbers of 0 or more, floating point.
        prob: of count's dtype; both broadcast.

    >>> import tgrad
    >>> tgrad.binomial(tgrad.tensor([5.0, 5.0]), tgrad.tensor([0.0, 1.0])).tolist()
    [0.0, 5.0]
    """
    _check_float("binomial", count)
    if count.dtype is not prob.dtype:
        raise DTypeError(
            f"binomial of {count.dtype.name} and {prob.dtype.name}.", "Both need one dtype."
        )
    shape = broadcast_shapes(count.shape, prob.shape)
    n, p = (x.detach().to(dt.float64).expand(shape) for x in (count, prob))
    is_likely = p > 0.5
    p = (1.0 - p).where(is_likely, p)
    is_small = n * p < SMALL
    few = _by_inverse(lambda k: _log_binomial(k, _last(n), _last(p)), n, generator)
    safe_n, safe_p = (x.where(~is_small, other) for x, other in ((n, 40.0), (p, 0.5)))
    made = few.minimum(n).where(is_small, _binomial_by_rejection(safe_n, safe_p, generator))
    return (n - made).where(is_likely, made).to(count.dtype)


def _check_float(name: str, x: Tensor) -> None:
    if not x.dtype.is_float:
        raise DTypeError(f"{name} of {x.dtype.name}.", "Use a floating-point dtype.")


def _last(x: Tensor) -> Tensor:
    return x.unsqueeze(-1)


def _log_poisson(k: Tensor, rate: Tensor) -> Tensor:
    """log of rate ** k exp(-rate) / k!"""
    return k.xlogy(rate) - rate - (k + 1).lgamma()


def _log_binomial(k: Tensor, n: Tensor, p: Tensor) -> Tensor:
    """log of n! / (k! (n - k)!) p ** k (1 - p) ** (n - k); -inf for k > n."""
    rest = (n - k).maximum(0.0)
    ways = (n + 1).lgamma() - (k + 1).lgamma() - (rest + 1).lgamma()
    return (ways + k.xlogy(p) + rest * (-p).log1p()).where(k <= n, -float("inf"))


def _by_inverse(log_chance: Callable[[Tensor], Tensor], like: Tensor, generator: Any) -> Tensor:
    """The number of k whose sum of probabilities up to k is at most a uniform number."""
    k = arange(TERMS, device=like.device).to(dt.float64)
    below = log_chance(k).exp().cumsum(-1)
    draw = rand(like.shape, dtype=dt.float64, device=like.device, generator=generator)
    return (below <= _last(draw)).sum(-1).to(dt.float64)


def _first_accepted(k: Tensor, accepted: Tensor) -> Tensor:
    """The first candidate of the last axis that is accepted; the last one if none is."""
    place = arange(CANDIDATES, device=k.device).expand(k.shape)
    first = place.where(accepted, CANDIDATES - 1).amin(-1, keepdim=True)
    return k.where(place == first, 0.0).sum(-1)


def _candidates(like: Tensor, generator: Any) -> tuple[Tensor, Tensor, Tensor]:
    """u in [-1/2, 1/2), its distance to the nearer end, and v in (0, 1]."""
    options: dict[str, Any] = {
        "dtype": dt.float64, "device": like.device, "generator": generator,
    }  # fmt: skip
    u = rand((*like.shape, CANDIDATES), **options) - 0.5
    return u, 0.5 - u.abs(), 1.0 - rand((*like.shape, CANDIDATES), **options)


def _poisson_by_rejection(rate: Tensor, generator: Any) -> Tensor:
    """PTRS."""
    u, near, v = _candidates(rate, generator)
    rate = _last(rate)
    b = rate.sqrt() * 2.53 + 0.931
    a = b * 0.02483 - 0.059
    k = ((a * 2.0 / near + b) * u + rate + 0.43).floor()
    inverse_alpha = 1.1328 / (b - 3.4) + 1.1239
    height = (v * inverse_alpha / (a / (near * near) + b)).log()
    is_inside = (near >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))
    is_below = (k >= 0) & (height <= _log_poisson(k.maximum(0.0), rate))
    return _first_accepted(k.maximum(0.0), is_inside | is_below)


def _binomial_by_rejection(n: Tensor, p: Tensor, generator: Any) -> Tensor:
    """BTRS, for p of at most 1/2."""
    u, near, v = _candidates(n, generator)
    n, p = _last(n), _last(p)
    deviation = (n * p * (1.0 - p)).sqrt()
    b = deviation * 2.53 + 1.15
    a = b * 0.0248 + p * 0.01 - 0.0873
    k = ((a * 2.0 / near + b) * u + n * p + 0.5).floor()
    alpha = (5.1 / b + 2.83) * deviation
    mode = ((n + 1.0) * p).floor()
    height = (v * alpha / (a / (near * near) + b)).log()
    is_possible = (k >= 0) & (k <= n)
    k = k.maximum(0.0).minimum(n)
    is_below = height <= _log_binomial(k, n, p) - _log_binomial(mode, n, p)
    is_inside = (near >= 0.07) & (v <= 0.92 - 4.2 / b)
    return _first_accepted(k, is_inside | (is_possible & is_below))
