"""Special functions, under the names of torch.special.

In: tensors. Out: lazy tensors. Invariant: what is a method of Tensor is that method; the others are
computed in float64 and rounded once. Source of the expansions: https://dlmf.nist.gov, by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tgrad.errors import UnsupportedError
from tgrad.functional import from_method
from tgrad.methods.activation import as_float
from tgrad.methods.slopes import (
    binary_function,
    define_slopes,
    define_vjp,
    double_function,
    paired,
)
from tgrad.methods.special import hankel_terms, hurwitz_zeta
from tgrad.methods.trigonometry import polynomial
from tgrad.tensor import Tensor, labelled, tensor

digamma = psi = from_method(Tensor.digamma)
gammaln = from_method(Tensor.lgamma)
polygamma = Tensor.polygamma
multigammaln = from_method(Tensor.mvlgamma)
gammainc = from_method(Tensor.igamma)
gammaincc = from_method(Tensor.igammac)
erf = from_method(Tensor.erf)
erfc = from_method(Tensor.erfc)
erfcx = from_method(Tensor.erfcx)
erfinv = from_method(Tensor.erfinv)
exp2 = from_method(Tensor.exp2)
expm1 = from_method(Tensor.expm1)
log1p = from_method(Tensor.log1p)
expit = from_method(Tensor.sigmoid)
logit = from_method(Tensor.logit)
i0 = from_method(Tensor.i0)
i0e = from_method(Tensor.i0e)
i1 = from_method(Tensor.i1)
i1e = from_method(Tensor.i1e)
sinc = from_method(Tensor.sinc)
round = from_method(Tensor.round)
softmax = from_method(Tensor.softmax)
log_softmax = from_method(Tensor.log_softmax)
logsumexp = from_method(Tensor.logsumexp)


def xlogy(input: Tensor | float, other: Tensor | float) -> Tensor:
    """input * log(other), and 0 where input is 0 (but for NaN).

    >>> import tgrad
    >>> tgrad.special.xlogy(tgrad.zeros(1), tgrad.zeros(1)).item()
    0.0
    """
    return Tensor.xlogy(*paired(input, other))


def xlog1py(input: Tensor | float, other: Tensor | float) -> Tensor:
    """input * log(1 + other), and 0 where input is 0 (but for NaN)."""
    return Tensor.xlog1py(*paired(input, other))


def ndtr(input: Tensor) -> Tensor:
    """The area under the normal curve up to each element.

    >>> import tgrad
    >>> tgrad.special.ndtr(tgrad.zeros(1)).item()
    0.5
    """
    return double_function("ndtr", input, lambda x: (x * -math.sqrt(0.5)).erfc() * 0.5)


def log_ndtr(input: Tensor) -> Tensor:
    """log(ndtr(x)), far out too."""
    return double_function("log_ndtr", input, _log_ndtr)


def _log_ndtr(x: Any) -> Any:
    tail = _log_of_tail(x.minimum(-1.0))
    return tail.where(x < -1.0, (-(x.maximum(-1.0) * math.sqrt(0.5)).erfc() * 0.5).log1p())


def _log_of_tail(x: Any) -> Any:
    """log Φ(x), x below -1."""
    far = x * -math.sqrt(0.5)
    return (far.erfcx() * 0.5).log() - far * far


def ndtri(input: Tensor) -> Tensor:
    """The inverse of `ndtr`."""
    return double_function("ndtri", input, _ndtri)


def _ndtri(p: Any) -> Any:
    """√2 erfinv(2 p - 1) in the middle; far out the x where log Φ(x) is log p, by Newton's steps
    from √(-2 log p), less what the density's factor 1 / (√(2π) x) takes off."""
    tail = p.minimum(1.0 - p)
    is_far = (tail > 0) & (tail < 0.02)
    wanted = tail.where(is_far, 0.01).log()
    first = (-2.0 * wanted).sqrt()
    x = (first.log() + 0.5 * math.log(2 * math.pi)) / first - first
    for _ in range(3):
        reached = _log_of_tail(x)
        slope = (-0.5 * x * x - reached).exp() / math.sqrt(2 * math.pi)
        x = x - (reached - wanted) / slope
    middle = (2.0 * p - 1.0).erfinv().where(~(p < 0), math.nan) * math.sqrt(2.0)
    return x.where(p < 0.5, -x).where(is_far, middle)


def entr(input: Tensor) -> Tensor:
    """-x * log(x), 0 at 0, and -inf below."""
    return double_function("entr", input, _entr)


def _entr(x: Any) -> Any:
    inside = -x * x.where(x > 0, 1.0).log()
    return inside.where(x >= 0, -math.inf).where(~x.isnan(), x)


def zeta(input: Tensor | float, other: Tensor | float) -> Tensor:
    """Hurwitz' zeta function of input (above 1) and other.

    Raises:
        UnsupportedError: input requires a gradient, as in PyTorch.
    """
    if isinstance(input, Tensor) and input.requires_grad:
        raise UnsupportedError("zeta: a gradient of input.", "Detach it.")
    return binary_function("zeta", input, other, _zeta)


def _zeta(s: Any, q: Any) -> Any:
    s, q = s.double(), q.double()
    y = hurwitz_zeta(s.where(s > 1.0, 2.0), q)
    whole = (q > 0) | (s == s.floor())
    return y.where(whole, math.nan).where(s > 1.0, math.nan).where(s != 1.0, math.inf)


# -- Bessel functions ----------------------------------------------------------------------------


def bessel_j0(input: Tensor) -> Tensor:
    """The Bessel function of the first kind, of order 0."""
    return double_function("bessel_j0", input, lambda x: _bessel(0, x)[0])


def bessel_j1(input: Tensor) -> Tensor:
    """The Bessel function of the first kind, of order 1."""
    return double_function("bessel_j1", input, lambda x: _bessel(1, x)[0])


def bessel_y0(input: Tensor) -> Tensor:
    """The Bessel function of the second kind, of order 0, for x > 0."""
    return double_function("bessel_y0", input, lambda x: _second_kind(0, x))


def bessel_y1(input: Tensor) -> Tensor:
    """The Bessel function of the second kind, of order 1, for x > 0."""
    return double_function("bessel_y1", input, lambda x: _second_kind(1, x))


def _bessel(order: int, x: Any) -> tuple[Any, Any]:
    """J and Y of |x|, J with the sign of x: 10.2.2 and 10.8.1 up to 12, 10.17.3-4 above"""
    size = x.abs()
    near, far = size.minimum(12.0), size.maximum(12.0)
    half = near * 0.5
    first = _power_series(order, -half * half) * (half if order else 1.0)
    log_half = half.where(half > 0, 1.0).log()
    second = (2 / math.pi) * log_half * first - _digamma_series(order, -half * half) * (
        (half if order else 1.0) * (1 / math.pi)
    )
    if order:
        second = second - (1 / math.pi) / half.where(half > 0, 1.0)
    terms = hankel_terms(order, 24, 1.0)
    square = -1.0 / (far * far)
    even = polynomial(square, terms[0::2][::-1])
    odd = polynomial(square, terms[1::2][::-1]) / far
    angle = far - (order / 2 + 0.25) * math.pi
    scale = (2 / math.pi / far).sqrt()
    far_first = scale * (even * angle.cos() - odd * angle.sin())
    far_second = scale * (even * angle.sin() + odd * angle.cos())
    j, y = first.where(size <= 12.0, far_first), second.where(size <= 12.0, far_second)
    return (-j).where((x < 0) & bool(order), j), y


def _power_series(order: int, t: Any) -> Any:
    """Σ t^k / (k! (k + order)!)"""
    terms = [1 / (math.factorial(k) * math.factorial(k + order)) for k in range(40)]
    return polynomial(t, tuple(reversed(terms)))


def _digamma_series(order: int, t: Any) -> Any:
    """Σ (ψ(k + 1) + ψ(k + order + 1)) t^k / (k! (k + order)!)"""
    psi = [-0.57721566490153286]
    for k in range(1, 42):
        psi.append(psi[-1] + 1 / k)
    terms = [
        (psi[k] + psi[k + order]) / (math.factorial(k) * math.factorial(k + order))
        for k in range(40)
    ]
    return polynomial(t, tuple(reversed(terms)))


def _second_kind(order: int, x: Any) -> Any:
    return _bessel(order, x)[1].where(x >= 0, math.nan).where(x != 0, -math.inf)


def modified_bessel_i0(input: Tensor) -> Tensor:
    """`i0`."""
    return input.i0()


def modified_bessel_i1(input: Tensor) -> Tensor:
    """`i1`."""
    return input.i1()


def modified_bessel_k0(input: Tensor) -> Tensor:
    """The modified Bessel function of the second kind, of order 0, for x > 0."""
    return double_function("bessel_k0", input, lambda x: _modified(0, x, False))


def modified_bessel_k1(input: Tensor) -> Tensor:
    """The modified Bessel function of the second kind, of order 1, for x > 0."""
    return double_function("bessel_k1", input, lambda x: _modified(1, x, False))


def scaled_modified_bessel_k0(input: Tensor) -> Tensor:
    """exp(x) * modified_bessel_k0(x)."""
    return double_function("bessel_k0e", input, lambda x: _modified(0, x, True))


def scaled_modified_bessel_k1(input: Tensor) -> Tensor:
    """exp(x) * modified_bessel_k1(x)."""
    return double_function("bessel_k1e", input, lambda x: _modified(1, x, True))


def _modified(order: int, x: Any, scaled: bool) -> Any:
    """10.31.1-2 up to 8, 10.40.2 above"""
    near, far = x.minimum(8.0).where(x > 0, 1.0), x.maximum(8.0)
    half = near * 0.5
    first = near.i1() if order else near.i0()
    digammas = _digamma_series(order, half * half) * (0.5 * (half if order else 1.0))
    small = 1.0 / near + half.log() * first - digammas if order else digammas - half.log() * first
    large = polynomial(1.0 / far, tuple(reversed(hankel_terms(order, 16, 1.0))))
    large = large * (math.pi / 2 / far).sqrt()
    if scaled:
        small = small * near.exp()
    else:
        large = large * (-far).exp()
    return small.where(x <= 8.0, large).where(x > 0, math.nan).where(x != 0, math.inf)


def spherical_bessel_j0(input: Tensor) -> Tensor:
    """sin(x) / x, 1 at 0, and 0 at infinity."""
    return (input * (1 / math.pi)).sinc().where(~input.isinf(), 0.0)


@labelled("airy_ai")
def airy_ai(input: Tensor) -> Tensor:
    """The Airy function Ai.

    >>> import tgrad
    >>> f"{tgrad.special.airy_ai(tgrad.zeros(1)).item():.6f}"
    '0.355028'
    """
    given = as_float(input)
    x = given.double()
    near = _airy_series(x.clamp(-2.0, 2.0))
    return near.where(x.abs() <= 2.0, _airy_far(x)).to(given.dtype)


def _airy_series(x: Any) -> Any:
    """9.4.1: Ai(0) f(x) + Ai'(0) g(x), each a series of x³"""
    series, steps = [], range(1, 18)
    for offset in (1, 0):
        terms = [1.0]
        for k in steps:
            terms.append(terms[-1] / ((3 * k) * (3 * k + (-1 if offset else 1))))
        series.append(polynomial(x * x * x, tuple(reversed(terms))))
    value, slope = 3 ** (-2 / 3) / math.gamma(2 / 3), 3 ** (-1 / 3) / math.gamma(1 / 3)
    return series[0] * value - series[1] * x * slope


def _airy_far(x: Any) -> Any:
    """With ζ = 2/3 |x|^(3/2), and the mean over the weight t^(-1/6) exp(-t): for x > 0, 9.5.8,
    exp(-ζ) mean((1 + t / 2ζ)^(-1/6)) / (2 √π x^(1/4)). For x < 0 the real part of twice as much
    with ζ turned to iζ + π/4, from 9.6.6 and 10.9.21's integral for Hankel functions."""
    size = x.abs().maximum(2.0)
    zeta = size * size.sqrt() * (2 / 3)
    places, weights = (tensor(a, device=x.device) for a in _laguerre(32, -1 / 6))
    t = places / (2.0 * zeta.unsqueeze(-1))
    falling = (weights * (1.0 + t) ** (-1 / 6)).sum(-1) * (-zeta).exp() * 0.5
    length, turn = (1.0 + t * t) ** (-1 / 12), t.atan() * (1 / 6)
    phase = zeta - math.pi / 4
    waves = (weights * length * (phase.unsqueeze(-1) - turn).cos()).sum(-1)
    return falling.where(x > 0, waves) / (math.sqrt(math.pi) * size.sqrt().sqrt())


@cache
def _laguerre(count: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Places t and weights of a mean over t^power exp(-t), by Golub and Welsch (1969)."""
    k = np.arange(count)
    beside = np.sqrt(k[1:] * (k[1:] + power))
    matrix = np.diag(2 * k + 1 + power) + np.diag(beside, 1) + np.diag(beside, -1)
    places, vectors = np.linalg.eigh(matrix)
    return places, vectors[0] ** 2


# -- orthogonal polynomials ----------------------------------------------------------------------

Step = Callable[[int, Any, Any, Any], Any]
"""(n, x, p of n, p of n - 1) -> p of n + 1"""


def _recurrence(name: str, first: Callable[[Any], Any], step: Step) -> Callable[..., Tensor]:
    """A family of polynomials of degree n at x, by its three-term recurrence."""

    @labelled(name)
    def function(input: Tensor | float, n: Tensor | float) -> Tensor:
        x, degrees = paired(input, n)
        highest = int(degrees.max().item()) if isinstance(n, Tensor) and n.numel() else 0
        highest = highest if isinstance(n, Tensor) else int(n)
        degree, x = degrees.trunc(), x.double()
        before, now = x * 0.0 + 1.0, first(x)
        result = before.where(degree == 0, now.where(degree == 1, 0.0))
        for k in range(1, highest):
            before, now = now, step(k, x, now, before)
            result = now.where(degree == k + 1, result)
        return result.to(degrees.dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The polynomial {name} of degree n at x, and 0 where n < 0.\n\n"
        "    A tensor n is read: the recurrence runs to its largest element."
    )
    return function


def _chebyshev(n: int, x: Any, now: Any, before: Any) -> Any:
    return 2.0 * x * now - before


def _shifted(n: int, x: Any, now: Any, before: Any) -> Any:
    return 2.0 * (2.0 * x - 1.0) * now - before


chebyshev_polynomial_t = _recurrence("chebyshev_polynomial_t", lambda x: x, _chebyshev)
chebyshev_polynomial_u = _recurrence("chebyshev_polynomial_u", lambda x: 2.0 * x, _chebyshev)
chebyshev_polynomial_v = _recurrence("chebyshev_polynomial_v", lambda x: 2.0 * x - 1.0, _chebyshev)
chebyshev_polynomial_w = _recurrence("chebyshev_polynomial_w", lambda x: 2.0 * x + 1.0, _chebyshev)
shifted_chebyshev_polynomial_t = _recurrence(
    "shifted_chebyshev_polynomial_t", lambda x: 2.0 * x - 1.0, _shifted
)
shifted_chebyshev_polynomial_u = _recurrence(
    "shifted_chebyshev_polynomial_u", lambda x: 4.0 * x - 2.0, _shifted
)
shifted_chebyshev_polynomial_v = _recurrence(
    "shifted_chebyshev_polynomial_v", lambda x: 4.0 * x - 3.0, _shifted
)
shifted_chebyshev_polynomial_w = _recurrence(
    "shifted_chebyshev_polynomial_w", lambda x: 4.0 * x - 1.0, _shifted
)
hermite_polynomial_h = _recurrence(
    "hermite_polynomial_h", lambda x: 2.0 * x, lambda n, x, p, q: 2.0 * x * p - 2.0 * n * q
)
hermite_polynomial_he = _recurrence(
    "hermite_polynomial_he", lambda x: x, lambda n, x, p, q: x * p - float(n) * q
)
laguerre_polynomial_l = _recurrence(
    "laguerre_polynomial_l",
    lambda x: 1.0 - x,
    lambda n, x, p, q: ((2 * n + 1.0 - x) * p - float(n) * q) / (n + 1.0),
)
legendre_polynomial_p = _recurrence(
    "legendre_polynomial_p",
    lambda x: x,
    lambda n, x, p, q: ((2 * n + 1.0) * x * p - float(n) * q) / (n + 1.0),
)


define_slopes({
    "ndtr": lambda y, x: (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi)),
    "log_ndtr": lambda y, x: math.sqrt(2 / math.pi) / (x * -math.sqrt(0.5)).erfcx(),
    "ndtri": lambda y, p: (y * y * 0.5).exp() * math.sqrt(2 * math.pi),
    "entr": lambda y, x: (-x.log() - 1.0).where(~(x < 0), -math.inf),
    "bessel_j0": lambda y, x: -bessel_j1(x),
    "bessel_j1": lambda y, x: bessel_j0(x) - (y / x.where(x != 0, 1.0)).where(x != 0, 0.5),
    "bessel_y0": lambda y, x: -bessel_y1(x),
    "bessel_y1": lambda y, x: bessel_y0(x) - y / x,
    "bessel_k0": lambda y, x: -modified_bessel_k1(x),
    "bessel_k1": lambda y, x: -modified_bessel_k0(x) - y / x,
    "bessel_k0e": lambda y, x: y - scaled_modified_bessel_k1(x),
    "bessel_k1e": lambda y, x: y - scaled_modified_bessel_k0(x) - y / x,
})  # fmt: skip


@define_vjp("zeta")
def _zeta_backward(g: Tensor, y: Tensor, s: Tensor, q: Tensor) -> tuple[None, Tensor]:
    """-s * zeta(s + 1, q)"""
    return None, -g * s * zeta(s.detach() + 1.0, q)
