"""Incomplete gamma functions.

In: tensors a and x in float64. Out: P(a, x) and Q(a, x) = 1 - P(a, x). Invariant: the smaller of
the two is computed, so that neither loses its digits; every loop has a fixed length.
Source of the expansions: https://dlmf.nist.gov, by number.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tgrad.methods.trigonometry import polynomial

TERMS = 72
"""Of the series and of the fraction: both need about 8 sqrt(a) near x = a."""
LARGE = 50.0
"""From here on a takes the integral."""
WIDTH = 12.0
"""The integrand is nearly exp(-r² / 2), r in deviations from a: nothing is left that far out."""
DECAY = 40.0
"""Far from a it is nearly exp(-|t - x| * slope): nothing is left after so many times 1 / slope."""


def lower_gamma(a: Any, x: Any) -> Any:
    """P(a, x)"""
    return _both(a, x)[0]


def upper_gamma(a: Any, x: Any) -> Any:
    """Q(a, x)"""
    return _both(a, x)[1]


def density(a: Any, x: Any) -> Any:
    """dP / dx = x^(a - 1) exp(-x) / Γ(a)"""
    return ((a - 1.0).xlogy(x) - x - a.lgamma()).exp()


def _both(a: Any, x: Any) -> tuple[Any, Any]:
    is_known = (a > 0) & (x > 0) & (a < math.inf) & (x < math.inf)
    safe_a, safe_x = a.where(is_known, 1.0), x.where(is_known, 1.0)
    few, is_left = safe_a.minimum(LARGE), safe_x <= safe_a + 1.0
    scale = (few * safe_x.log() - safe_x - (few + 1.0).lgamma()).exp()
    left = _series(few, safe_x.minimum(LARGE + 1.0)) * scale
    right = few * scale / _fraction(few, safe_x.where(~is_left, safe_a + 2.0))
    lower = left.where(is_left, 1.0 - right)
    upper = (1.0 - left).where(is_left, right)
    many_lower, many_upper = _integral(safe_a.maximum(LARGE), safe_x)
    lower, upper = lower.where(a < LARGE, many_lower), upper.where(a < LARGE, many_upper)
    is_all = (x == math.inf) | (a == 0)
    ends = x.new_ones(()).where(is_all, 0.0)
    has_none = (x < 0) | (a < 0) | ((a == 0) & (x == 0)) | ((a == math.inf) & (x == math.inf))
    ends = ends.where(~(has_none | a.isnan() | x.isnan()), math.nan)
    return lower.where(is_known, ends), upper.where(is_known, 1.0 - ends)


def _series(a: Any, x: Any) -> Any:
    """Σ x^k / ((a + 1) .. (a + k)), 8.7.1 nested"""
    total = x * 0.0 + 1.0
    for k in range(TERMS, 0, -1):
        total = total * (x / (a + float(k))) + 1.0
    return total


def _fraction(a: Any, x: Any) -> Any:
    """x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / (x + 5 - a - ..)), 8.9.2 from its end"""
    apart = x - a
    found = apart + (2.0 * TERMS + 1.0)
    for k in range(TERMS, 0, -1):
        found = apart + (2.0 * k - 1.0) + (a - float(k)) * float(k) / found
    return found


def _integral(a: Any, x: Any) -> tuple[Any, Any]:
    """Of t^(a - 1) exp(-t) / Γ(a) from x to where nothing is left, by Gauss's rule; with Stirling's
    series 5.11.3 for Γ(a), whose large part the integrand's exponent takes away"""
    top = a - 1.0
    slope = (1.0 - top / x).abs().maximum(1e-300)
    width = (top.sqrt() * WIDTH).minimum(DECAY / slope)
    is_left = x <= top
    span = (-width.minimum(x)).where(is_left, width)
    places, weights = (x.new_tensor(each) for each in _gauss())
    ratio = ((x - top) / top).unsqueeze(-1) + (span / top).unsqueeze(-1) * places
    total = ((_log_less(ratio) * top.unsqueeze(-1)).exp() * weights).sum(-1)
    inverse = 1.0 / top
    square = inverse * inverse
    rest = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260)))
    part = total * span.abs() * (-rest).exp() / (top * (2 * math.pi)).sqrt()
    return part.where(is_left, 1.0 - part), (1.0 - part).where(is_left, part)


@cache
def _gauss() -> tuple[np.ndarray, np.ndarray]:
    """Places and weights of Gauss's rule over [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(48)
    return places * 0.5 + 0.5, weights * 0.5


def _log_less(r: Any) -> Any:
    """log(1 + r) - r, by its series near 0"""
    small = r.clamp(-0.02, 0.02)
    terms = tuple((-1.0) ** (k + 1) / k for k in range(11, 1, -1))
    return (r.log1p() - r).where(r.abs() > 0.02, polynomial(small, terms) * small * small)
