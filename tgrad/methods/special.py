"""Gamma, error and Bessel functions of Tensor.

In: a tensor; integers count as float32. Out: lazy tensors. Invariant: computed in float64 from
series of a fixed length and rounded once, so float32 is right to its last digits; none is a
bottleneck of a model. Source of the expansions: NIST Digital Library of Mathematical Functions,
https://dlmf.nist.gov, by the numbers at the functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.dtype import float64
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
        x = as_float(self)
        return double_function("erfinv", x, lambda wide: _erfinv(wide, x.dtype is float64))

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


_SIN_PI = (
    7.697826768223183e-07, -2.190349707462591e-05, 0.00046629981618983934, -0.007370430505916944,
    0.0821458865731029, -0.5992645293189447, 2.5501640398773007, -5.167712780049969, math.pi,
)  # fmt: skip
"""sin(πr) / r for |r| <= 1/2 as a polynomial of r², the highest power first: interpolated at
Chebyshev's points, 40 digits, right to 4e-17."""


def _sin_pi(r: Any) -> Any:
    """sin(πr) for |r| <= 1/2."""
    return r * polynomial(r * r, _SIN_PI)


def _cot_pi(x: Any) -> Any:
    """cot(πx)."""
    r = x - x.round()
    return _sin_pi(0.5 - r.abs()) / _sin_pi(r)


def _shifted(z: Any) -> tuple[Any, Any, Any]:
    """Whether z is below SHIFTED, the first factor of the recurrence there, and where the series
    is taken."""
    low = z < SHIFTED
    return low, z.where(low, 1.0), (z + SHIFTED).where(low, z)


def _lgamma(x: Any) -> Any:
    """5.11.1, after Γ(x) = Γ(x + n) / (x (x + 1) ...); 5.5.3 below 0.5"""
    x = x.maximum(-1e300)  # an even number as is -inf
    mirrored = x < 0.5
    low, factor, far = _shifted((1.0 - x).where(mirrored, x))
    product = factor
    for k in range(1, SHIFTED):
        product = product * (factor + k)
    inverse = 1.0 / far
    series = polynomial(
        inverse * inverse, tuple(b / (2 * k * (2 * k - 1)) for k, b in _numbered(6))
    )
    stirling = (far - 0.5) * (far.log() - 1.0) + (0.5 * math.log(2 * math.pi) - 0.5)
    stirling = (stirling + series * inverse).where(far != math.inf, math.inf)
    sine = (_sin_pi(x - x.round()).abs() * (1 / math.pi)).where(mirrored, 1.0)
    size = (sine / product.where(low, 1.0)).log()
    total = (stirling + size).where(size != -math.inf, -math.inf)
    return total * x._constant(-1.0, x.dtype).where(mirrored, 1.0)


def _numbered(count: int) -> list[tuple[int, float]]:
    """(k, B2k), the highest k first."""
    return list(enumerate(BERNOULLI[:count], 1))[::-1]


def _digamma(x: Any) -> Any:
    """5.11.2, after ψ(x) = ψ(x + 1) - 1/x; 5.5.4 below 0"""
    mirrored = x < 0
    z = (1.0 - x).where(mirrored, x)
    low, _, far = _shifted(z)
    below = _sum_of_powers(z, 1).where(low, 0.0)
    inverse = 1.0 / far
    square = inverse * inverse
    series = polynomial(square, tuple(b / (2 * k) for k, b in _numbered(8)))
    y = far.log() - 0.5 * inverse - series * square - below
    y = (y - math.pi * _cot_pi(x)).where(mirrored, y)
    pole = mirrored & (x == x.floor())
    return y.where(~pole, math.nan).where(x != 0, (-1.0 / x).where(x == 0, 0.0))


def _sum_of_powers(z: Any, m: int) -> Any:
    """Σ 1 / (z + k)^m over 0 <= k < SHIFTED, for 0 <= z < SHIFTED: one quotient."""
    factor = z.where(z < SHIFTED, 1.0)
    total: Any = 1.0
    product = _whole_power(factor, m)
    for k in range(1, SHIFTED):
        power = _whole_power(factor + k, m)
        total, product = total * power + product, product * power
    return total / product


def _whole_power(x: Any, m: int) -> Any:
    """x^m by squares, for m >= 1."""
    half = x if m < 2 else _whole_power(x, m // 2)
    square = half if m < 2 else half * half
    return square * x if m > 1 and m % 2 else square


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
    for k, c in enumerate(_tail_of_zeta(s), 1):
        tail = tail + c * q ** (1.0 - s - 2 * k)
    return (total + tail).where(~pole, math.inf)


def _tail_of_zeta(s: Any) -> list[Any]:
    """B2k / (2k)! s (s + 1) ... (s + 2k - 2), for k from 1 on."""
    found, factor = [], s
    for k, b in enumerate(BERNOULLI, 1):
        found.append((b / math.factorial(2 * k)) * factor)
        factor = factor * (s + (2 * k - 1)) * (s + 2 * k)
    return found


MOST_FACTORS = 20
"""Powers up to which SHIFTED factors of `_sum_of_powers` are numbers of float64."""


def _whole_zeta(m: int, q: Any) -> Any:
    """`hurwitz_zeta` of a whole number and of q >= 0, with no power but products."""
    if m > MOST_FACTORS:
        return hurwitz_zeta(float(m), q)
    low, _, far = _shifted(q)
    inverse = 1.0 / far
    square = inverse * inverse
    tail = 1 / (m - 1) + inverse * (
        0.5 + inverse * polynomial(square, tuple(_tail_of_zeta(m)[::-1]))
    )
    return _sum_of_powers(q, m).where(low, 0.0) + tail * _whole_power(inverse, m - 1)


def _polygamma(n: int, x: Any) -> Any:
    """5.15.1; 5.15.6 below 0: the n-th derivative of cot is a polynomial of cot"""
    mirrored = x < 0
    y = _whole_zeta(n + 1, (1.0 - x).where(mirrored, x)) * math.factorial(n)
    slope = polynomial(_cot_pi(x), _slope_of_cot(n)) * math.pi ** (n + 1)
    pole = (x <= 0) & (x == x.floor())
    value = (-slope - y).where(mirrored, y if n % 2 else -y)
    return value.where(~pole, math.inf if n % 2 else -math.inf)


def _slope_of_cot(n: int) -> tuple[float, ...]:
    """The n-th derivative of t = cot θ as a polynomial of t, whose slope is -(1 + t²): the highest
    power first."""
    powers = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(powers)][1:]
        powers = [-a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope])]
    return tuple(powers[::-1])


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


_ERFINV_SHORT = (
    -8.931925970244222e-09, 2.3335967195708108e-08, 4.6813134805534123e-07,
    -3.4639852676333717e-06, -4.9724196894547514e-06, 0.00021834938623976644,
    -0.001252726391773229, -0.004177392875203149, 0.24664027905463662, 1.501409360450329,
)  # fmt: skip
"""erfinv(x) / x as a polynomial of w - 2.5, w = -log(1 - x²) < 5, right to 7e-9: enough
for float32. This and the next are interpolated at Chebyshev's points, 40 digits."""
_ERFINV_SHORT_FAR = (
    -7.603337366253238e-06, -3.0181977471243985e-05, 0.00014143875196124728,
    -0.00011562272909434307, -0.0003292020154261315, 0.0012715708832778238,
    -0.0025202552293301103, 0.0037923567852757097, -0.005300917244982562, 0.007048027501725866,
    1.003718687226177, 2.9583201486297073,
)  # fmt: skip
"""The same as one of sqrt(w) - 3.125, for the other numbers of float32."""
_ERFINV_NEAR = (
    -2.362369698566107e-22, -1.6787330615256773e-19, 1.1027771591500033e-18,
    1.1125794759379464e-17, -1.290702354613073e-16, 2.166994626283574e-17,
    6.581955305929239e-15, -4.0554139746886e-14, -8.106594456438496e-14, 2.6335724924608484e-12,
    -1.2977505202014966e-11, -5.4154417754696635e-11, 1.0512202440121784e-09,
    -4.112633104297614e-09, -2.907038666019143e-08, 4.2347877672780653e-07,
    -1.3654691796592068e-06, -1.3882523361276876e-05, 0.0001867342080212427,
    -0.0007407025341669402, -0.006033670871427011, 0.2401581824255897, 1.6536545626831027,
)  # fmt: skip
"""The same of w - 3.125 for w < 6.25, right to 4e-16."""
_ERFINV_MIDDLE = (
    -3.831039946072411e-10, 9.071950571029922e-08, -2.6860975725571463e-07,
    1.832399988132858e-08, 1.4958263152984917e-06, -4.013946398190292e-06,
    2.9273722115986924e-06, 1.2475343474376931e-05, -4.731952918337189e-05,
    6.828484052292924e-05, 2.4031363245440546e-05, -0.00035503751863069763,
    0.0009532893521118177, -0.0016882755561681802, 0.0024914420976198813,
    -0.0037512085075638536, 0.0053709145535581985, 1.0052589676941592, 3.0838856104922208,
)  # fmt: skip
"""The same of sqrt(w) - 3.25 for sqrt(w) < 4."""
_ERFINV_FAR = (
    5.180570547264701e-12, -2.5176228666523e-10, 1.187619549458401e-09, -2.890867401094419e-09,
    5.6634737260983445e-09, -1.0942531106983762e-08, 2.1904751298638965e-08,
    -5.508576982359183e-08, 2.0159168167983672e-07, -9.070354216083462e-07,
    4.193858544647827e-06, -1.837454495898178e-05, 7.124031504618646e-05,
    -0.00020031200599107476, -0.00016985809148478998, 1.0102850175977565, 4.90042105144364,
)  # fmt: skip
"""The same of sqrt(w) - 5.05 for all others."""


def _erfinv(x: Any, is_double: bool) -> Any:
    """x times a polynomial of w = -log(1 - x²), and of its root far out, as M. Giles has it (GPU
    Computing Gems, 2011)"""
    inside = x.abs() < 1.0
    safe = x.where(inside, 0.0)
    w = -((1.0 - safe) * (1.0 + safe)).log()
    root = w.maximum(5.0).sqrt()
    if is_double:
        middle = polynomial(root - 3.25, _ERFINV_MIDDLE)
        far = middle.where(root < 4.0, polynomial(root - 5.05, _ERFINV_FAR))
        ratio = polynomial(w - 3.125, _ERFINV_NEAR).where(w < 6.25, far)
    else:
        far = polynomial(root - 3.125, _ERFINV_SHORT_FAR)
        ratio = polynomial(w - 2.5, _ERFINV_SHORT).where(w < 5.0, far)
    ends = (x * math.inf).where(x.abs() == 1.0, math.nan)
    return (safe * ratio).where(inside, ends)


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
    "i1e": lambda y, x: (x.i0e() - y * x.sign() - y / x.where(x != 0, 1.0)).where(x != 0, 0.5),
}
"""dy/dx of each function."""

define_slopes(SLOPES)


@define_vjp("igamma")
def _igamma_rule(g: Any, y: Any, a: Any, x: Any) -> tuple[None, Any]:
    return None, (g.double() * density(a.double(), x.double())).to(x.dtype)


@define_vjp("igammac")
def _igammac_rule(g: Any, y: Any, a: Any, x: Any) -> tuple[None, Any]:
    return None, (-g.double() * density(a.double(), x.double())).to(x.dtype)
