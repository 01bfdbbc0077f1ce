"""Gamma, error and Bessel functions of Tensor.

In: a tensor; integers count as float32. Out: lazy tensors. Invariant: computed in float64 from
series of a fixed length and rounded once, so float32 is right to its last digits; none is a
bottleneck of a model. Source of the expansions: NIST Digital Library of Mathematical Functions,
https://dlmf.nist.gov, by the numbers at the functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.errors import ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.methods.activation import as_float
from tgrad.methods.gammas import density, lower_gamma, upper_gamma
from tgrad.methods.slopes import (
    Function,
    binary_function,
    define_slopes,
    define_vjp,
    double_function,
)
from tgrad.methods.trigonometry import polynomial

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

BERNOULLI = (
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798,
    -174611 / 330,
)  # fmt: skip
"""B2, B4, ..."""

SHIFTED = 10
"""Asymptotic series of gamma functions are used from here on, and recurrences below."""


class SpecialMethods:
    """Functions of mathematical physics and of statistics."""

    __slots__ = ()

    def lgamma(self: Any) -> Tensor:
        """log |Γ(x)|."""
        return double_function("lgamma", self, _lgamma)

    def digamma(self: Any) -> Tensor:
        """The derivative of lgamma."""
        return double_function("digamma", self, _digamma)

    def polygamma(self: Any, n: int) -> Tensor:
        """The n-th derivative of digamma; also called as polygamma(n, x).

        Raises:
            ShapeError: n is negative.
        """
        order, x = (n, self) if isinstance(n, int) else (self, n)
        if order < 0:
            raise ShapeError(f"polygamma of order {order}.", "The order is 0 or more.")
        if order == 0:
            return x.digamma()
        return double_function("polygamma", x, lambda wide, n: _polygamma(n, wide), order)

    def mvlgamma(self: Any, p: int) -> Tensor:
        """The logarithm of the gamma function of dimension p, for x > (p - 1) / 2."""
        with source_scope(label="mvlgamma"):
            x = as_float(self)
            total = sum(((x - j / 2).lgamma() for j in range(1, p)), x.lgamma())
            return total + p * (p - 1) / 4 * math.log(math.pi)

    def igamma(self: Any, other: Any) -> Tensor:
        """The regularised lower incomplete gamma function P(self, other); it has a derivative by
        `other`.

        Raises:
            UnsupportedError: self requires a gradient, as in PyTorch.
        """
        return _incomplete("igamma", self, other, lower_gamma)

    def igammac(self: Any, other: Any) -> Tensor:
        """The regularised upper incomplete gamma function, 1 - igamma."""
        return _incomplete("igammac", self, other, upper_gamma)

    def erfc(self: Any) -> Tensor:
        """1 - erf(x), with no loss of digits far out."""
        return double_function("erfc", self, _erfc)

    def erfcx(self: Any) -> Tensor:
        """exp(x²) * erfc(x)."""
        return double_function("erfcx", self, _erfcx)

    def erfinv(self: Any) -> Tensor:
        """The inverse of erf."""
        return double_function("erfinv", self, _erfinv)

    def logit(self: Any, eps: float | None = None) -> Tensor:
        """log(x / (1 - x)), of x limited to [eps, 1 - eps]."""
        with source_scope(label="logit"):
            x = as_float(self)
            if eps is not None:
                inside = (x >= eps) & (x <= 1.0 - eps)
                x = x.where(inside, x.detach().clamp(eps, 1.0 - eps))
            return double_function("logit", x, lambda p: (p / (1.0 - p)).log())

    def i0(self: Any) -> Tensor:
        """The modified Bessel function of the first kind, of order 0."""
        return double_function("i0", self, lambda x: _bessel_i(0, x))

    def i1(self: Any) -> Tensor:
        """The modified Bessel function of the first kind, of order 1."""
        return double_function("i1", self, lambda x: _bessel_i(1, x))

    def i0e(self: Any) -> Tensor:
        """exp(-|x|) * i0(x)."""
        return double_function("i0e", self, lambda x: _bessel_i(0, x, scaled=True))

    def i1e(self: Any) -> Tensor:
        """exp(-|x|) * i1(x)."""
        return double_function("i1e", self, lambda x: _bessel_i(1, x, scaled=True))


def _incomplete(name: str, a: Any, x: Any, compute: Any) -> Tensor:
    if a.requires_grad:
        raise UnsupportedError(f"{name}: a gradient of the first argument.", "Detach it.")
    return binary_function(name, a, x, lambda a, x: compute(a.double(), x.double()))


def _lgamma(x: Any) -> Any:
    """5.11.1, after Γ(x) = Γ(x + n) / (x (x + 1) ...); 5.5.3 below 0.5"""
    mirrored = x < 0.5
    z = (1.0 - x).where(mirrored, x)
    product: Any = 1.0
    for _ in range(SHIFTED):
        low = z < SHIFTED
        product, z = product * z.where(low, 1.0), (z + 1.0).where(low, z)
    inverse = 1.0 / z
    series = polynomial(
        inverse * inverse, tuple(b / (2 * k * (2 * k - 1)) for k, b in _numbered(6))
    )
    stirling = (z - 0.5) * (z.log() - 1.0) + (0.5 * math.log(2 * math.pi) - 0.5) + series * inverse
    y = (stirling - product.log()).where(z < math.inf, math.inf)
    sine = ((x - (x * 0.5).floor() * 2.0) * math.pi).sin().where(x != x.floor(), 0.0)
    other = math.log(math.pi) - sine.abs().log() - y
    return other.where(mirrored, y).where(x > -math.inf, math.inf).where(~x.isnan(), x)


def _numbered(count: int) -> list[tuple[int, float]]:
    """(k, B2k), the highest k first."""
    return list(enumerate(BERNOULLI[:count], 1))[::-1]


def _digamma(x: Any) -> Any:
    """5.11.2, after ψ(x) = ψ(x + 1) - 1/x; 5.5.4 below 0"""
    mirrored = x < 0
    z = (1.0 - x).where(mirrored, x)
    below: Any = 0.0
    for _ in range(SHIFTED):
        low = z < SHIFTED
        below, z = below + (1.0 / z).where(low, 0.0), (z + 1.0).where(low, z)
    inverse = 1.0 / z
    square = inverse * inverse
    series = polynomial(square, tuple(b / (2 * k) for k, b in _numbered(8)))
    y = z.log() - 0.5 * inverse - series * square - below
    angle = (x - x.trunc()) * math.pi
    y = (y - math.pi * angle.cos() / angle.sin()).where(mirrored, y)
    pole = mirrored & (x == x.floor())
    return y.where(~pole, math.nan).where(x != 0, (-1.0 / x).where(x == 0, 0.0))


def hurwitz_zeta(s: Any, q: Any) -> Any:
    """Σ 1 / (q + k)^s over k >= 0, by Euler and Maclaurin's formula (25.11.43), for float64.

    Args:
        s: a number or tensor above 1.
        q: a tensor; below 0 only where s is an even or odd integer.
    """
    total: Any = 0.0
    pole = (q <= 0) & (q == q.floor())
    for _ in range(2 * SHIFTED):
        low = q < SHIFTED
        total = total + (q**-s).where(low, 0.0)
        q = (q + 1.0).where(low, q)
    tail = q ** (1.0 - s) / (s - 1.0) + 0.5 * q**-s
    factor = s
    for k, b in enumerate(BERNOULLI, 1):
        tail = tail + (b / math.factorial(2 * k)) * factor * q ** (1.0 - s - 2 * k)
        factor = factor * (s + (2 * k - 1)) * (s + 2 * k)
    return (total + tail).where(~pole, math.inf)


def _polygamma(n: int, x: Any) -> Any:
    """5.15.1; ψ' below 0 by reflection"""
    if n == 1:
        mirrored = x < 0.5
        y = hurwitz_zeta(2.0, (1.0 - x).where(mirrored, x))
        sine = (x * math.pi).sin().where(x != x.floor(), 0.0)
        return (math.pi**2 / (sine * sine) - y).where(mirrored, y)
    sign = 1.0 if n % 2 else -1.0
    return sign * math.factorial(n) * hurwitz_zeta(n + 1.0, x)


_SCALED_TAIL = (
    1.913127589364093e-11, 4.773990441599398e-11, -2.811054905191593e-10, -2.695819353786054e-10,
    2.1780221908403683e-09, -6.202193191224618e-10, -1.184768453484682e-08, 1.863819791659391e-08,
    4.85503068722754e-08, -1.790024952550247e-07, -1.2700175802699564e-07, 1.4029674284623588e-06,
    -2.1024299281088058e-07, -1.1183205547521598e-05, 6.343708128616977e-06,
    0.00010491717868801485, -3.678926158192733e-05, -0.001257018175532786, -0.0014137333867927434,
    0.01663314123075094, 0.10291788782354688, 0.34380947367040393, 0.8219967457503683,
)  # fmt: skip
"""(x + 2) erfcx(x) for x >= 1 as a polynomial of 6 / (x + 2) - 1, the highest power first:
interpolated at Chebyshev's points, 50 digits, right to 6e-18."""


def _erfcx(x: Any) -> Any:
    near = x.minimum(1.0)
    return _scaled_tail(x.maximum(1.0)).where(x > 1.0, (near * near).exp() * (1.0 - near.erf()))


def _scaled_tail(x: Any) -> Any:
    """erfcx(x) for x >= 1."""
    inverse = 1.0 / (x + 2.0)
    return polynomial(inverse * 6.0 - 1.0, _SCALED_TAIL) * inverse


def _erfc(x: Any) -> Any:
    """exp(-x²) is exp(-c²) exp(c² - x²), c of few bits, so that no rounding of x² is felt"""
    far = x.maximum(1.0).minimum(28.0)
    coarse = (far * 16.0).floor() * 0.0625
    rest = ((coarse - far) * (coarse + far)).exp()
    tail = _scaled_tail(far) * rest * (-coarse * coarse).exp()
    return tail.where(x > 1.0, 1.0 - x.erf())


_ERFINV_NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def _erfinv(x: Any) -> Any:
    """M. Giles' approximation (GPU Computing Gems, 2011), then two steps of Newton."""
    inside = x.abs() < 1.0
    safe = x.where(inside, 0.0)
    w = -((1.0 - safe) * (1.0 + safe)).log()
    far = polynomial(w.maximum(5.0).sqrt() - 3.0, _ERFINV_FAR)
    y = safe * polynomial(w - 2.5, _ERFINV_NEAR).where(w < 5.0, far)
    for _ in range(2):
        y = y - (y.erf() - safe) * (y * y).exp() * (math.sqrt(math.pi) / 2)
    ends = (x * math.inf).where(x.abs() == 1.0, math.nan)
    return y.where(inside, ends)


def _bessel_i(order: int, x: Any, scaled: bool = False) -> Any:
    """10.25.2 up to 15, 10.40.1 above"""
    size = x.abs()
    near, far = size.minimum(15.0), size.maximum(15.0)
    terms = tuple(1 / (math.factorial(k) * math.factorial(k + order)) for k in reversed(range(40)))
    half = near * 0.5
    small = polynomial(half * half, terms) * (half if order else 1.0)
    large = polynomial(1.0 / far, tuple(reversed(hankel_terms(order, 20, -1.0))))
    large = large / (far * (2 * math.pi)).sqrt()
    if scaled:
        small = small * (-near).exp()
    else:
        large = large * (far * 0.5).exp() * (far * 0.5).exp()
    y = small.where(size <= 15.0, large)
    return y.copysign(x) if order else y


def hankel_terms(order: int, count: int, sign: float) -> tuple[float, ...]:
    """sign^k a_k(order) of 10.17.1, the lowest k first."""
    terms, a = [1.0], 1.0
    for k in range(1, count):
        a *= sign * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k)
        terms.append(a)
    return tuple(terms)


SLOPES: dict[str, Function] = {
    "lgamma": lambda y, x: x.digamma(),
    "digamma": lambda y, x: x.polygamma(1),
    "polygamma": lambda y, x, n: x.polygamma(n + 1),
    "erfc": lambda y, x: (x * x).neg().exp() * (-2 / math.sqrt(math.pi)),
    "erfcx": lambda y, x: 2.0 * x * y - 2 / math.sqrt(math.pi),
    "erfinv": lambda y, x: (y * y).exp() * (math.sqrt(math.pi) / 2),
    "logit": lambda y, x: (1.0 / (x * (1.0 - x))).where(~((x < 0) | (x > 1)), math.nan),
    "i0": lambda y, x: x.i1(),
    "i1": lambda y, x: x.i0() - (y / x.where(x != 0, 1.0)).where(x != 0, 0.5),
    "i0e": lambda y, x: x.i1e() - x.sign() * y,
    "i1e": lambda y, x: (
        x.i0e() - y * (x.sign() + 1.0 / x.where(x != 0, 1.0)).where(x != 0, 0.0)
    ).where(x != 0, 0.5),
}
"""dy/dx of each function."""

define_slopes(SLOPES)


@define_vjp("igamma")
def _igamma_rule(g: Any, y: Any, a: Any, x: Any) -> tuple[None, Any]:
    return None, (g.double() * density(a.double(), x.double())).to(x.dtype)


@define_vjp("igammac")
def _igammac_rule(g: Any, y: Any, a: Any, x: Any) -> tuple[None, Any]:
    return None, (-g.double() * density(a.double(), x.double())).to(x.dtype)
