"""Trigonometric and hyperbolic methods of Tensor, and their inverses.

In: a tensor; integers count as float32. Out: lazy tensors. Invariant: written with the functions
of the graph; each has its derivative in `SLOPES` or `PARTIALS`. Sources of the polynomials: S.
Moshier, Methods and Programs for Mathematical Functions (1989).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.methods.slopes import binary_function, define_partials, define_slopes, unary_function

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

_ATAN_P = (
    -8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1,
    -1.228866684490136173410e2, -6.485021904942025371773e1,
)  # fmt: skip
_ATAN_Q = (
    1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2,
    4.853903996359136964868e2, 1.945506571482613964425e2,
)  # fmt: skip


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, the highest power first."""
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = x * total + c
    return total


class TrigonometricMethods:
    """Angles, and hyperbolic functions."""

    __slots__ = ()

    def tan(self: Any) -> Tensor:
        """sin(x) / cos(x)."""
        return unary_function("tan", self, lambda x: x.sin() / x.cos())

    def asin(self: Any) -> Tensor:
        """The angle in [-π/2, π/2] whose sine is x."""
        return unary_function("asin", self, lambda x: _atan2(x, ((1.0 - x) * (1.0 + x)).sqrt()))

    def acos(self: Any) -> Tensor:
        """The angle in [0, π] whose cosine is x."""
        return unary_function("acos", self, lambda x: _atan2(((1.0 - x) * (1.0 + x)).sqrt(), x))

    def atan(self: Any) -> Tensor:
        """The angle in [-π/2, π/2] whose tangent is x."""
        return unary_function("atan", self, _atan)

    def atan2(self: Any, other: Any) -> Tensor:
        """The angle in [-π, π] of the point (other, self)."""
        return binary_function("atan2", self, other, _atan2)

    def sinh(self: Any) -> Tensor:
        """(exp(x) - exp(-x)) / 2."""
        return unary_function("sinh", self, _sinh)

    def cosh(self: Any) -> Tensor:
        """(exp(x) + exp(-x)) / 2."""
        return unary_function("cosh", self, _cosh)

    def asinh(self: Any) -> Tensor:
        """The inverse of sinh."""
        return unary_function("asinh", self, _asinh)

    def acosh(self: Any) -> Tensor:
        """The inverse of cosh, for x >= 1."""
        return unary_function("acosh", self, _acosh)

    def atanh(self: Any) -> Tensor:
        """The inverse of tanh, for -1 <= x <= 1."""
        return unary_function("atanh", self, _atanh)

    def sinc(self: Any) -> Tensor:
        """sin(πx) / (πx), and 1 at 0."""
        return unary_function("sinc", self, _sinc)

    def hypot(self: Any, other: Any) -> Tensor:
        """sqrt(self² + other²), without overflow."""
        return binary_function("hypot", self, other, _hypot)

    def deg2rad(self: Any) -> Tensor:
        """Degrees as radians."""
        return self * (math.pi / 180)

    def rad2deg(self: Any) -> Tensor:
        """Radians as degrees."""
        return self * (180 / math.pi)

    arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
    arcsinh, arccosh, arctanh = asinh, acosh, atanh


def _atan(x: Any) -> Any:
    """|x| above tan(3π/8) by π/2 - atan(1/x), above 0.66 by π/4 + atan((x-1)/(x+1)), else itself"""
    size = x.abs()
    large, middle = size > 2.414213562373095, size > 0.66
    inverse = -1.0 / size.where(large, 1.0)
    part = inverse.where(large, ((size - 1.0) / (size + 1.0)).where(middle, size))
    offset = size._constant(math.pi / 2, size.dtype).where(
        large, size._constant(math.pi / 4, size.dtype).where(middle, 0.0)
    )
    z = part * part
    angle = offset + (part * (z * polynomial(z, _ATAN_P) / polynomial(z, _ATAN_Q)) + part)
    return angle.copysign(x)


def _atan2(y: Any, x: Any) -> Any:
    a, b = y.abs(), x.abs()
    high, low = a.maximum(b), a.minimum(b)
    ratio = (low / high.where(high != 0, 1.0)).where(low != high, 1.0).where(high != 0, 0.0)
    acute = _atan(ratio.where(~(a + b).isnan(), math.nan))
    steep = (math.pi / 2 - acute).where(a > b, acute)
    return (math.pi - steep).where(x.signbit(), steep).copysign(y)


def _square(a: Any, b: Any) -> Any:
    """Of the distance from the origin; there it is infinite, so that slopes are 0, as PyTorch's."""
    square = a * a + b * b
    return square.where(square != 0, math.inf)


def _sinh(x: Any) -> Any:
    size = x.abs()
    grown = size.minimum(1.0).expm1()
    half = (size * 0.5).exp()
    far = half * (half * 0.5) - 0.5 / (half * half)
    return ((grown + grown / (grown + 1.0)) * 0.5).where(size <= 1.0, far).copysign(x)


def _cosh(x: Any) -> Any:
    half = (x.abs() * 0.5).exp()
    return half * (half * 0.5) + 0.5 / (half * half)


def _asinh(x: Any) -> Any:
    size = x.abs()
    near = size.minimum(1e8)
    square = near * near
    small = (near + square / (1.0 + (square + 1.0).sqrt())).log1p()
    return small.where(size < 1e8, size.log() + math.log(2)).copysign(x)


def _acosh(x: Any) -> Any:
    t = x - 1.0
    near = t.minimum(1e8)
    return (near + near.sqrt() * (near + 2.0).sqrt()).log1p().where(t < 1e8, x.log() + math.log(2))


def _atanh(x: Any) -> Any:
    size = x.abs()
    return ((2.0 * size / (1.0 - size)).log1p() * 0.5).copysign(x)


def _sinc(x: Any) -> Any:
    angle = x * math.pi
    return (angle.sin() / angle.where(x != 0, 1.0)).where(x != 0, 1.0)


def _sinc_slope(y: Any, x: Any) -> Any:
    return (((x * math.pi).cos() - y) / x.where(x != 0, 1.0)).where(x != 0, 0.0)


def _hypot(a: Any, b: Any) -> Any:
    a, b = a.abs(), b.abs()
    high, low = a.maximum(b), a.minimum(b)
    ratio = low / high.where(high != 0, 1.0)
    length = (high * (ratio * ratio + 1.0).sqrt()).where(high != 0, 0.0)
    return length.where((a != math.inf) & (b != math.inf), math.inf)


SLOPES = {
    "tan": lambda y, x: 1.0 + y * y,
    "asin": lambda y, x: ((1.0 - x) * (1.0 + x)).rsqrt(),
    "acos": lambda y, x: -((1.0 - x) * (1.0 + x)).rsqrt(),
    "atan": lambda y, x: 1.0 / (1.0 + x * x),
    "sinh": lambda y, x: x.cosh(),
    "cosh": lambda y, x: x.sinh(),
    "asinh": lambda y, x: (x * x + 1.0).rsqrt(),
    "acosh": lambda y, x: ((x - 1.0) * (x + 1.0)).rsqrt(),
    "atanh": lambda y, x: 1.0 / ((1.0 - x) * (1.0 + x)),
    "sinc": _sinc_slope,
}
"""dy/dx of each function."""

PARTIALS = {
    "atan2": (lambda y, a, b: b / _square(a, b), lambda y, a, b: -a / _square(a, b)),
    "hypot": (lambda y, a, b: a / y, lambda y, a, b: b / y),
}
"""dy/da and dy/db of each function."""

define_slopes(SLOPES)
define_partials(PARTIALS)
