"""Derivatives of functions of one complex number, a line each.

In: the values of a function and where they were taken. Out: the same values with the derivative of
the table. Invariant: a formula's own parts (absolute values, larger and smaller ones, signs) are
never differentiated: they have kinks where the function has none, such as on the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from tgrad.complex_numbers.tensor import ComplexTensor as Complex
from tgrad.tensor import Tensor, define_vjp, with_vjp

Function = Callable[[Complex], Complex]

LN2, LN10 = math.log(2), math.log(10)

DERIVATIVES: dict[str, Callable[..., Complex]] = {
    "exp": lambda z: z.exp(),
    "exp2": lambda z: z.exp2() * LN2,
    "expm1": lambda z: z.exp(),
    "log": lambda z: z.reciprocal(),
    "log2": lambda z: (z * LN2).reciprocal(),
    "log10": lambda z: (z * LN10).reciprocal(),
    "log1p": lambda z: (1 + z).reciprocal(),
    "sqrt": lambda z: z.rsqrt() * 0.5,
    "rsqrt": lambda z: -0.5 * z.rsqrt() / z,
    "sigmoid": lambda z: z.sigmoid() * (-z).sigmoid(),
    "sin": lambda z: z.cos(),
    "cos": lambda z: -z.sin(),
    "tan": lambda z: 1 + z.tan().square(),
    "sinh": lambda z: z.cosh(),
    "cosh": lambda z: z.sinh(),
    "tanh": lambda z: 1 - z.tanh().square(),
    "asin": lambda z: (1 - z.square()).rsqrt(),
    "acos": lambda z: -(1 - z.square()).rsqrt(),
    "atan": lambda z: (1 + z.square()).reciprocal(),
    "asinh": lambda z: (1 + z.square()).rsqrt(),
    "acosh": lambda z: (z - 1).rsqrt() * (z + 1).rsqrt(),
    "atanh": lambda z: (1 - z.square()).reciprocal(),
}


def differentiated(name: str) -> Callable[[Function], Function]:
    """Decorator: the function has the derivative of that name."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def apply(z: Complex) -> Complex:
            made, at = function(z), (z.real, z.imag)
            return Complex(
                with_vjp("complex_real", made.real, *at, params=(name,)),
                with_vjp("complex_imag", made.imag, *at, params=(name,)),
            )

        return apply

    return decorate


@define_vjp("complex_real")
def _real_rule(g: Tensor, y: Tensor, real: Tensor, imag: Tensor, name: str) -> tuple[Tensor, ...]:
    """g conj f'(z)"""
    slope = DERIVATIVES[name](Complex(real, imag))
    return g * slope.real, -(g * slope.imag)


@define_vjp("complex_imag")
def _imag_rule(g: Tensor, y: Tensor, real: Tensor, imag: Tensor, name: str) -> tuple[Tensor, ...]:
    """i g conj f'(z)"""
    slope = DERIVATIVES[name](Complex(real, imag))
    return g * slope.imag, g * slope.real
