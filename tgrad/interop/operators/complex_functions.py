"""PyTorch's operators that compute with complex numbers: arithmetic, functions, sums, transforms.

In: an operator's arguments, `Complex` values among them. Out: what it gives, as rules of the table
of complex_numbers.py. Invariant: each function is its formula in real ones, in a form that loses no
digits to cancellation near its zeros, and has PyTorch's branch cuts.
Source: W. Kahan, Branch cuts for complex elementary functions, 1987 (the inverse functions)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import tgrad
from tgrad import Tensor
from tgrad.interop.operators.complex_numbers import (
    Complex,
    ComplexKind,
    converted,
    nonzero,
    rule,
)

# -- arithmetic ----------------------------------------------------------------------------------


@rule("add")
def _add(x: Any, y: Any, *, alpha: Any = 1) -> Complex:
    return Complex.of(x) + (Complex.of(y) if alpha == 1 else _mul(alpha, y))


@rule("sub")
def _sub(x: Any, y: Any, *, alpha: Any = 1) -> Complex:
    return Complex.of(x) - (Complex.of(y) if alpha == 1 else _mul(alpha, y))


@rule("rsub")
def _rsub(x: Any, y: Any, alpha: Any = 1) -> Complex:
    return _sub(y, x, alpha=alpha)


@rule("mul")
def _mul(x: Any, y: Any) -> Complex:
    for z, other in ((x, y), (y, x)):
        if not isinstance(other, (Complex, complex)):
            return Complex.of(z).scaled(other)
    return Complex.of(x) * Complex.of(y)


@rule("div")
def _div(x: Any, y: Any) -> Complex:
    z = Complex.of(x)
    if not isinstance(y, (Complex, complex)):
        return Complex(z.real / y, z.imag / y)
    other = y if isinstance(y, Complex) else _constant(y, z)
    largest = other.real.abs().maximum(other.imag.abs())  # its square may be out of range
    other = Complex(other.real / largest, other.imag / largest)
    made, size = z * other.conjugate(), other.square() * largest
    return Complex(  # by 0 each part for itself, as in PyTorch
        (made.real / size).where(largest != 0, z.real / largest),
        (made.imag / size).where(largest != 0, z.imag / largest),
    )


@rule("reciprocal")
def _reciprocal(z: Complex) -> Complex:
    return _div(1, z)


@rule("abs")
def _abs(z: Complex) -> Tensor:
    return z.real.hypot(z.imag)


@rule("angle")
def _angle(z: Complex) -> Tensor:
    return tgrad.atan2(z.imag, z.real)


@rule("sgn")
def _sgn(z: Complex) -> Complex:
    """z over its absolute value; 0 of 0"""
    size = _abs(z)
    by = (1 / size).where(size != 0, 0)
    return z.scaled(by)


@rule("eq")
def _eq(x: Any, y: Any) -> Tensor:
    left, right = Complex.of(x), Complex.of(y)
    return (left.real == right.real) & (left.imag == right.imag)


@rule("ne")
def _ne(x: Any, y: Any) -> Tensor:
    return ~_eq(x, y)


# -- powers and logarithms -----------------------------------------------------------------------


@rule("polar")
def _polar(length: Tensor, angle: Tensor) -> Complex:
    return Complex(length * angle.cos(), length * angle.sin())


@rule("exp")
def _exp(z: Complex) -> Complex:
    """By halves of the real part: one part of the result may be out of range, and the other not."""
    half, y = (z.real / 2).exp(), z.imag
    return Complex(half * y.cos() * half, (half * y.sin() * half).where(y != 0, y))


@rule("exp2")
def _exp2(z: Complex) -> Complex:
    half, y = (z.real / 2).exp2(), z.imag * math.log(2)
    return Complex(half * y.cos() * half, (half * y.sin() * half).where(y != 0, y))


@rule("expm1")
def _expm1(z: Complex) -> Complex:
    half = (z.imag / 2).sin()
    return Complex(z.real.expm1() * z.imag.cos() - 2 * half * half, z.real.exp() * z.imag.sin())


@rule("log")
def _log(z: Complex) -> Complex:
    """Near |z| = 1 by |z|^2 - 1."""
    x, y = z.real.abs(), z.imag.abs()
    large, small = x.maximum(y), x.minimum(y)
    near = 0.5 * ((large - 1) * (large + 1) + small * small).log1p()
    size = _abs(z)
    return Complex(near.where((size > 0.5) & (size < 2), size.log()), _angle(z))


@rule("log2")
def _log2(z: Complex) -> Complex:
    return _log(z).scaled(1 / math.log(2))


@rule("log10")
def _log10(z: Complex) -> Complex:
    return _log(z).scaled(1 / math.log(10))


@rule("log1p")
def _log1p(z: Complex) -> Complex:
    x, y = z.real, z.imag
    near = 0.5 * (x * (2 + x) + y * y).log1p()
    far = _log(Complex(1 + x, y))
    return Complex(near.where(_abs(z) < 0.5, far.real), far.imag)


@rule("sqrt")
def _sqrt(z: Complex) -> Complex:
    """The larger part first: the other is half the imaginary part over it."""
    x, y = z.real, z.imag
    large = ((_abs(z) + x.abs()) / 2).sqrt()
    small = (y.abs() / (2 * large)).where(large != 0, 0.0)
    is_right = x >= 0
    return Complex(large.where(is_right, small), small.where(is_right, large).copysign(y))


@rule("rsqrt")
def _rsqrt(z: Complex) -> Complex:
    return _reciprocal(_sqrt(z))


@rule("pow")
def _pow(x: Any, y: Any) -> Complex:
    """exp(y log x); 1 where both are 0, and else 0 where x is."""
    if isinstance(y, (int, float)) and y in (0.5, -0.5):
        return _sqrt(x) if y > 0 else _rsqrt(x)
    if isinstance(y, (int, float)) and y == int(y) and abs(y) <= LARGEST_POWER:
        return _integer_power(x, int(y))
    if not isinstance(x, (Tensor, Complex)):
        x = _constant(x, y)
    z = Complex.of(x)
    powers = _exp(_mul(_log(z), y))
    at_zero = nonzero(y).logical_not() if isinstance(y, (Tensor, Complex)) else 0.0
    is_zero = nonzero(z).logical_not()
    return Complex(
        at_zero * is_zero + powers.real.where(~is_zero, 0.0), powers.imag.where(~is_zero, 0.0)
    )


LARGEST_POWER = 16
"""Of those that are products."""


def _integer_power(z: Complex, exponent: int) -> Complex:
    """By squares: the bits of the exponent from the lowest."""
    if exponent < 0:
        return _reciprocal(_integer_power(z, -exponent))
    made = Complex(tgrad.ones_like(z.real), tgrad.zeros_like(z.real))
    while exponent:
        made = made * z if exponent & 1 else made
        z, exponent = z * z, exponent >> 1
    return made


def _constant(value: Any, like: Any) -> Complex:
    """A number as tensors without axes."""
    part = Complex.of(like).real
    number = Complex.of(value)
    return Complex(*(part.new_full((), v) for v in (number.real, number.imag)))


@rule("ldexp")
def _ldexp(z: Any, exponent: Any) -> Complex:
    return _mul(z, _pow(2, exponent) if isinstance(exponent, Complex) else exponent.exp2())


@rule("sigmoid")
def _sigmoid(z: Complex) -> Complex:
    """1 / (1 + exp(-z)), or exp(z) over the same on the left, so that nothing overflows."""
    is_right = z.real >= 0
    small = _polar((-z.real.abs()).exp(), (-z.imag).where(is_right, z.imag))
    top = Complex(
        tgrad.ones_like(z.real).where(is_right, small.real), small.imag.where(~is_right, 0.0)
    )
    return _div(top, Complex(1 + small.real, small.imag))


# -- trigonometry --------------------------------------------------------------------------------


@rule("sinh")
def _sinh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    return Complex(x.sinh() * y.cos(), x.cosh() * y.sin())


@rule("cosh")
def _cosh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    return Complex(x.cosh() * y.cos(), x.sinh() * y.sin())


@rule("tanh")
def _tanh(z: Complex) -> Complex:
    """(sinh 2x + i sin 2y) / (cosh 2x + cos 2y), all times 2 exp(-2|x|)"""
    x, y = z.real, z.imag
    far = -2 * x.abs()
    decay, cos = far.exp(), y.cos()
    size = far.expm1().square() + 4 * decay * cos * cos
    return Complex((2 * far).expm1().copysign(x) / size, 4 * decay * y.sin() * cos / size)


@rule("acosh")
def _acosh(z: Complex) -> Complex:
    below, above = _sqrt(Complex(z.real - 1, z.imag)), _sqrt(Complex(z.real + 1, z.imag))
    return Complex(
        (below.conjugate() * above).real.asinh(), 2 * tgrad.atan2(below.imag, above.real)
    )


@rule("asin")
def _asin(z: Complex) -> Complex:
    before, after = _sqrt(Complex(1 - z.real, -z.imag)), _sqrt(Complex(1 + z.real, z.imag))
    return Complex(
        tgrad.atan2(z.real, (before * after).real), (before.conjugate() * after).imag.asinh()
    )


@rule("acos")
def _acos(z: Complex) -> Complex:
    before, after = _sqrt(Complex(1 - z.real, -z.imag)), _sqrt(Complex(1 + z.real, z.imag))
    return Complex(
        2 * tgrad.atan2(before.real, after.real), (after.conjugate() * before).imag.asinh()
    )


@rule("atanh")
def _atanh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    near = 1 - x.abs()
    return Complex(
        0.25 * (4 * x.abs() / (near * near + y * y)).log1p().copysign(x),
        0.5 * tgrad.atan2(2 * y, (1 - x) * (1 + x) - y * y),
    )


def _across(function: Callable[[Complex], Complex], z: Complex) -> Complex:
    """The circular function of a hyperbolic one, or the reverse: f(iz) / i."""
    made = function(z.turned())
    return Complex(made.imag, -made.real)


rule("sin")(partial(_across, _sinh))
rule("tan")(partial(_across, _tanh))
rule("atan")(partial(_across, _atanh))
rule("asinh")(partial(_across, _asin))


@rule("cos")
def _cos(z: Complex) -> Complex:
    return _cosh(z.turned())


# -- questions -----------------------------------------------------------------------------------


def _of_truth(function: Callable[..., Tensor], *values: Any, **kwargs: Any) -> Tensor:
    """A function of bools, of whether numbers are 0; dims are as they are."""
    own = (nonzero(v) if isinstance(v, (Tensor, Complex)) else v for v in values)
    return function(*own, **kwargs)


for _name in ("all", "any", "logical_and", "logical_not", "logical_or", "logical_xor"):
    rule(_name)(partial(_of_truth, getattr(tgrad, _name)))


@rule("nonzero_static")
def _nonzero_static(z: Complex, *, size: int, fill_value: int = -1) -> Tensor:
    return nonzero(z).nonzero_static(size=size, fill_value=fill_value)


@rule("isnan")
def _isnan(z: Complex) -> Tensor:
    return z.real.isnan() | z.imag.isnan()


@rule("isinf")
def _isinf(z: Complex) -> Tensor:
    return z.real.isinf() | z.imag.isinf()


# -- sums and products ---------------------------------------------------------------------------


@rule("var")
def _var(z: Complex, dim: Any = None, *, correction: Any = 1, keepdim: bool = False) -> Tensor:
    how = {"correction": 1 if correction is None else correction, "keepdim": keepdim}
    return z.real.var(dim, **how) + z.imag.var(dim, **how)


@rule("var_mean")
def _var_mean(z: Complex, dim: Any = None, *, correction: Any = 1, keepdim: bool = False) -> Any:
    mean = Complex(*(part.mean(dim, keepdim) for part in (z.real, z.imag)))
    return _var(z, dim, correction=correction, keepdim=keepdim), mean


@rule("prod")
def _prod(
    z: Complex, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Complex:
    """One half times the other, until one is left."""
    z = Complex.of(converted(z, dtype=dtype))
    if not z.real.ndim:
        return z
    if dim is None:
        z, dim = Complex(z.real.flatten(), z.imag.flatten()), 0
    if z.real.shape[dim] == 0:
        z = Complex(z.real.sum(dim, True) + 1, z.imag.sum(dim, True))
    while (count := z.real.shape[dim]) > 1:
        half = count // 2
        parts = [_narrowed(z, dim, i * half, half) for i in (0, 1)]
        made = parts[0] * parts[1]
        z = _joined(made, _narrowed(z, dim, count - 1, 1), dim) if count % 2 else made
    return z if keepdim else Complex(z.real.squeeze(dim), z.imag.squeeze(dim))


@rule("cumprod")
def _cumprod(z: Complex, dim: int, *, dtype: Any = None) -> Complex:
    """Each times what lies 1, 2, 4, ... before it."""
    z = Complex.of(converted(z, dtype=dtype))
    count, step = (z.real.shape[dim], 1) if z.real.ndim else (1, 1)
    while step < count:
        later, before = _narrowed(z, dim, step, count - step), _narrowed(z, dim, 0, count - step)
        z, step = _joined(_narrowed(z, dim, 0, step), later * before, dim), 2 * step
    return z


def _narrowed(z: Complex, dim: int, start: int, length: int) -> Complex:
    return Complex(z.real.narrow(dim, start, length), z.imag.narrow(dim, start, length))


def _joined(a: Complex, b: Complex, dim: int) -> Complex:
    return Complex(tgrad.cat((a.real, b.real), dim), tgrad.cat((a.imag, b.imag), dim))


@rule("mm", "bmm", "dot", "mv")
def _product(x: Any, y: Any) -> Complex:
    return Complex.of(x) @ Complex.of(y)


@rule("addmm", "addmv", "baddbmm")
def _add_product(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Complex:
    """beta x + alpha a @ b; nothing of x where beta is 0"""
    made = _mul(_product(a, b), alpha)
    return made if beta == 0 else _mul(x, beta) + made


@rule("addbmm")
def _add_products(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Complex:
    made = _mul(_product(a, b), alpha)
    made = Complex(made.real.sum(0), made.imag.sum(0))
    return made if beta == 0 else _mul(x, beta) + made


@rule("linalg_vector_norm")
def _norm(
    z: Complex, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    kind = dtype.part if isinstance(dtype, ComplexKind) else dtype
    return tgrad.linalg.vector_norm(_abs(z), ord, dim, keepdim, dtype=kind)


@rule("dist")
def _dist(x: Any, y: Any, p: float = 2) -> Tensor:
    return _norm(_sub(x, y), p)


def _as_real_matrix(function: Callable[[Tensor], Tensor], z: Complex) -> Complex:
    """A power series of a matrix, by the real matrix [[x, -y], [y, x]] of twice its size."""
    rows = (tgrad.cat(pair, -1) for pair in ((z.real, -z.imag), (z.imag, z.real)))
    made, size = function(tgrad.cat(tuple(rows), -2)), z.real.shape[-1]
    return Complex(made[..., :size, :size], made[..., size:, :size])


rule("linalg_matrix_exp")(partial(_as_real_matrix, tgrad.linalg.matrix_exp))


@rule("linalg_inv_ex")
def _inv(z: Complex, *, check_errors: bool = False) -> tuple[Complex, Tensor]:
    infos: list[Tensor] = []

    def inverse(matrix: Tensor) -> Tensor:
        made, info = tgrad.linalg.inv_ex(matrix)
        infos.append((info + 1) // 2)  # a column of z is two
        return made

    return _as_real_matrix(inverse, z), infos[0]


# -- Fourier transforms --------------------------------------------------------------------------

FORWARD, INVERSE = ("backward", "ortho", "forward"), ("forward", "ortho", "backward")
"""How the results are scaled: not, by the root of the number of elements, by that number."""


@rule("_fft_r2c")
def _fft_of_real(x: Tensor, dim: Any, normalization: int, onesided: bool) -> Complex:
    norm, axes = FORWARD[normalization], tuple(d % x.ndim for d in dim)
    if onesided:
        return Complex.from_pairs(tgrad.fft.rfftn(x, dim=axes, norm=norm))
    return Complex.from_pairs(tgrad.fft.fftn(tgrad.fft.pair(x), dim=axes, norm=norm))


@rule("_fft_c2c")
def _fft(z: Complex, dim: Any, normalization: int, forward: bool) -> Complex:
    norm = (FORWARD if forward else INVERSE)[normalization]
    transform = tgrad.fft.fftn if forward else tgrad.fft.ifftn
    axes = tuple(d % z.real.ndim for d in dim)
    return Complex.from_pairs(transform(z.pairs(), dim=axes, norm=norm))


@rule("_fft_c2r")
def _fft_to_real(z: Complex, dim: Any, normalization: int, last_dim_size: int) -> Tensor:
    axes = tuple(d % z.real.ndim for d in dim)
    sizes = (*(z.real.shape[d] for d in axes[:-1]), last_dim_size)
    return tgrad.fft.irfftn(z.pairs(), s=sizes, dim=axes, norm=INVERSE[normalization])
