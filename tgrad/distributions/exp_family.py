"""Exponential families: densities exp(<parameters, statistics> - log_normalizer).

In: natural parameters. Out: entropies and divergences. Invariant: both are derivatives of the
log-normalizer, which gradients give.
Source: Banerjee et al. 2005, Clustering with Bregman divergences.
"""

from __future__ import annotations

from typing import Any

from tgrad.autograd import grad
from tgrad.distributions.distribution import Distribution, sum_last
from tgrad.distributions.divergence import register_kl
from tgrad.errors import UnsupportedError
from tgrad.grad_mode import enable_grad
from tgrad.tensor import Tensor


class ExponentialFamily(Distribution):
    """Base of distributions that give `_natural_params`, `_log_normalizer` and
    `_mean_carrier_measure`; entropy and divergence follow.

    >>> import tgrad
    >>> from tgrad.distributions import ExponentialFamily
    >>> class Waiting(ExponentialFamily):
    ...     _mean_carrier_measure = 0
    ...     def __init__(self, rate):
    ...         self.rate = rate
    ...         super().__init__(rate.shape)
    ...     _natural_params = property(lambda self: (-self.rate,))
    ...     def _log_normalizer(self, x):
    ...         return -(-x).log()
    >>> Waiting(tgrad.ones(1)).entropy().tolist()
    [1.0]
    """

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        raise NotImplementedError

    def _normalizer_and_means(self) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """Natural parameters, the log-normalizer, and the means of the statistics."""
        with enable_grad():
            points = tuple(p.detach().requires_grad_() for p in self._natural_params)
            normalizer = self._log_normalizer(*points)
            means = grad(normalizer.sum(), points, create_graph=True)
        return points, normalizer, tuple(m for m in means if m is not None)

    def entropy(self) -> Tensor:
        points, normalizer, means = self._normalizer_and_means()
        found = normalizer - self._mean_carrier_measure
        for p, m in zip(points, means):
            found = found - sum_last(p * m, p.ndim - len(self.batch_shape))
        return found


@register_kl(ExponentialFamily, ExponentialFamily)
def _of_one_family(p: ExponentialFamily, q: ExponentialFamily) -> Tensor:
    """Bregman's divergence of the log-normalizer."""
    if type(p) is not type(q):
        raise UnsupportedError(
            f"kl_divergence of {type(p).__name__} and {type(q).__name__}.",
            "Give a formula with tgrad.distributions.register_kl.",
        )
    points, normalizer, means = p._normalizer_and_means()
    found = q._log_normalizer(*q._natural_params) - normalizer
    for p_, q_, m in zip(points, q._natural_params, means):
        found = found - sum_last((q_ - p_) * m, p_.ndim - len(q.batch_shape))
    return found
