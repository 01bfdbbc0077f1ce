"""Functions of complex numbers: arithmetic, elementary functions, questions, sums and products.

In: complex tensors, and real tensors and numbers beside them. Out: the same; rows of the table
`FUNCTIONS` by PyTorch's names. Invariant: each function is its formula in real ones, in a form that
loses no digits to cancellation near its zeros, and has PyTorch's branch cuts.
Source: W. Kahan, Branch cuts for complex elementary functions, 1987 (the inverse functions)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tgrad.complex_numbers.derivatives import differentiated
from tgrad.complex_numbers.parts import multiplied, nonzero
from tgrad.complex_numbers.tensor import ComplexTensor as Complex
from tgrad.creation import ones_like, zeros_like
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.functional import atan2
from tgrad.joining import cat
from tgrad.methods.elementwise import is_complex
from tgrad.tensor import Tensor, define_vjp, with_vjp

Function = Callable[..., Any]
FUNCTIONS: dict[str, Function] = {}


def rule(*names: str) -> Callable[[Function], Function]:
    """Decorator: the function of these names."""

    def register(function: Function) -> Function:
        FUNCTIONS.update(dict.fromkeys(names, function))
        return function

    return register


# -- arithmetic ----------------------------------------------------------------------------------


@rule("add")
def _add(x: Any, y: Any, *, alpha: Any = 1) -> Complex:
    return Complex.of(x).plus(Complex.of(y) if alpha == 1 else _mul(alpha, y))


@rule("sub", "subtract")
def _sub(x: Any, y: Any, *, alpha: Any = 1) -> Complex:
    return Complex.of(x).less(Complex.of(y) if alpha == 1 else _mul(alpha, y))


@rule("rsub")
def _rsub(x: Any, y: Any, alpha: Any = 1) -> Complex:
    return _sub(y, x, alpha=alpha)


@rule("mul", "multiply")
def _mul(x: Any, y: Any) -> Complex:
    for z, other in ((x, y), (y, x)):
        if not is_complex(other):
            return Complex.of(z).scaled(other)
    return Complex.of(x).times(Complex.of(y))


@rule("div", "divide", "true_divide")
def _div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Complex:
    if rounding_mode is not None:
        raise UnsupportedError(f"div of complex numbers: {rounding_mode=}.", "Leave it out.")
    z = Complex.of(x)
    if not is_complex(y):
        return Complex(z.real / y, z.imag / y)
    other = y if isinstance(y, Complex) else _constant(y, z)
    largest = other.real.abs().maximum(other.imag.abs())  # its square may be out of range
    other = Complex(other.real / largest, other.imag / largest)
    made, size = z.times(other.conjugate()), other.square_size() * largest
    is_usual = (largest != 0) & (largest != math.inf)
    return Complex(  # by 0 each part for itself, as in PyTorch
        (made.real / size).where(is_usual, z.real / largest),
        (made.imag / size).where(is_usual, z.imag / largest),
    )


@rule("rdiv")
def _rdiv(x: Any, y: Any) -> Complex:
    return _div(y, x)


@rule("rpow")
def _rpow(x: Any, y: Any) -> Complex:
    return _pow(y, x)


@rule("square")
def _square(z: Complex) -> Complex:
    return z.times(z)


@rule("conj", "conj_physical")
def _conj(z: Complex) -> Complex:
    """A copy; PyTorch's `conj` is a view, of which writes are seen in z."""
    return Complex(z.real.clone(), -z.imag)


@rule("resolve_conj", "resolve_neg")
def _same(z: Complex) -> Complex:
    return z


@rule("reciprocal")
def _reciprocal(z: Complex) -> Complex:
    return _div(1, z)


@rule("abs", "absolute")
def _abs(z: Complex) -> Tensor:
    return with_vjp("complex_abs", z.real.hypot(z.imag), z.real, z.imag)


@define_vjp("complex_abs")
def _abs_rule(g: Tensor, y: Tensor, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """g z / |z|, and 0 where z is"""
    share = (g / y.where(y != 0, 1.0)).where(y != 0, 0.0)
    return share * real, share * imag


@rule("angle")
def _angle(z: Complex) -> Tensor:
    return with_vjp("complex_angle", atan2(z.imag, z.real), z.real, z.imag)


@define_vjp("complex_angle")
def _angle_rule(g: Tensor, y: Tensor, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """g i z / |z|^2, and 0 where z is"""
    size = real.hypot(imag)
    safe = size.where(size != 0, 1.0)
    share = (g / safe).where(size != 0, 0.0)
    return share * (-imag / safe), share * (real / safe)


@rule("sgn")
def _sgn(z: Complex) -> Complex:
    """z over its absolute value; 0 of 0"""
    size = _abs(z)
    by = (1 / size.where(size != 0, 1.0)).where(size != 0, 0.0)
    return z.scaled(by)


@rule("eq")
def _eq(x: Any, y: Any) -> Tensor:
    left, right = Complex.of(x), Complex.of(y)
    return (left.real == right.real) & (left.imag == right.imag)


@rule("ne", "not_equal")
def _ne(x: Any, y: Any) -> Tensor:
    return ~_eq(x, y)


# -- powers and logarithms -----------------------------------------------------------------------


@rule("polar")
def _polar(length: Tensor, angle: Tensor) -> Complex:
    return Complex(length * angle.cos(), length * angle.sin())


@rule("exp")
@differentiated("exp")
def _exp(z: Complex) -> Complex:
    """By halves of the real part: one part of the result may be out of range, and the other not."""
    half, y = (z.real / 2).exp(), z.imag
    return Complex(half * y.cos() * half, (half * y.sin() * half).where(y != 0, y))


@rule("exp2")
@differentiated("exp2")
def _exp2(z: Complex) -> Complex:
    half, y = (z.real / 2).exp2(), z.imag * math.log(2)
    return Complex(half * y.cos() * half, (half * y.sin() * half).where(y != 0, y))


@rule("expm1")
@differentiated("expm1")
def _expm1(z: Complex) -> Complex:
    half = (z.imag / 2).sin()
    return Complex(z.real.expm1() * z.imag.cos() - 2 * half * half, z.real.exp() * z.imag.sin())


@rule("log")
@differentiated("log")
def _log(z: Complex) -> Complex:
    """Near |z| = 1 by |z|^2 - 1."""
    x, y = z.real.abs(), z.imag.abs()
    large, small = x.maximum(y), x.minimum(y)
    near = 0.5 * ((large - 1) * (large + 1) + small * small).log1p()
    size = _abs(z)
    return Complex(near.where((size > 0.5) & (size < 2), size.log()), _angle(z))


@rule("log2")
@differentiated("log2")
def _log2(z: Complex) -> Complex:
    return _log(z).scaled(1 / math.log(2))


@rule("log10")
@differentiated("log10")
def _log10(z: Complex) -> Complex:
    return _log(z).scaled(1 / math.log(10))


@rule("log1p")
@differentiated("log1p")
def _log1p(z: Complex) -> Complex:
    x, y = z.real, z.imag
    near = 0.5 * (x * (2 + x) + y * y).log1p()
    far = _log(Complex(1 + x, y))
    return Complex(near.where(_abs(z) < 0.5, far.real), far.imag)


@rule("sqrt")
@differentiated("sqrt")
def _sqrt(z: Complex) -> Complex:
    """The larger part first: the other is half the imaginary part over it."""
    x, y = z.real, z.imag
    large = ((_abs(z) + x.abs()) / 2).sqrt()
    size = y.abs()
    small = (size / (2 * large)).where((large != 0) & (size != math.inf), size)
    is_right = x >= 0
    return Complex(large.where(is_right, small), small.where(is_right, large).copysign(y))


@rule("rsqrt")
@differentiated("rsqrt")
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
    is_zero = nonzero(z).logical_not()
    powers = _exp(_mul(_log(_where(1.0, is_zero, z)), y))
    at_zero = nonzero(y).logical_not() if isinstance(y, (Tensor, Complex)) else 0.0
    return Complex(
        at_zero * is_zero + powers.real.where(~is_zero, 0.0), powers.imag.where(~is_zero, 0.0)
    )


LARGEST_POWER = 16
"""Of those that are products."""


def _integer_power(z: Complex, exponent: int) -> Complex:
    """By squares: the bits of the exponent from the lowest."""
    if exponent < 0:
        return _reciprocal(_integer_power(z, -exponent))
    made = Complex(ones_like(z.real), zeros_like(z.real))
    while exponent:
        made = made.times(z) if exponent & 1 else made
        z, exponent = z.times(z), exponent >> 1
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
@differentiated("sigmoid")
def _sigmoid(z: Complex) -> Complex:
    """1 / (1 + exp(-z)), or exp(z) over the same on the left, so that nothing overflows."""
    is_right = z.real >= 0
    small = _polar((-z.real.abs()).exp(), (-z.imag).where(is_right, z.imag))
    top = Complex(ones_like(z.real).where(is_right, small.real), small.imag.where(~is_right, 0.0))
    return _div(top, Complex(1 + small.real, small.imag))


@rule("logaddexp")
def _logaddexp(x: Any, y: Any) -> Complex:
    """The exponential of the smaller one over that of the larger, of which 1 is added."""
    left, right = Complex.of(x), Complex.of(y)
    is_left = left.real >= right.real
    large, small = _where(left, is_left, right), _where(right, is_left, left)
    is_same = _eq(left, right) & _isinf(right)  # their difference is NaN
    return large.plus(
        _log1p(_where(0.0, is_same, _exp(small.less(large))).plus(Complex(is_same, 0)))
    )


@rule("corrcoef.clip")
def _clipped(z: Complex) -> Complex:
    return Complex(z.real.clamp(-1.0, 1.0), z.imag.clamp(-1.0, 1.0))


@rule("logsumexp")
def _logsumexp(z: Complex, dim: Any, keepdim: bool = False) -> Complex:
    if 0 in z.shape:
        return _log(_exp(z).sum(dim, keepdim))
    top = z.real.detach().amax(dim, keepdim=True)
    top = top.where(top.isfinite(), 0.0)
    made = _log(_exp(Complex(z.real - top, z.imag)).sum(dim, keepdim))
    return Complex(made.real + (top if keepdim else top.reshape(made.shape)), made.imag)


@rule("float_power")
def _float_power(x: Any, y: Any) -> Complex:
    """In complex128."""
    wide = [v.cdouble() if isinstance(v, (Tensor, Complex)) else v for v in (x, y)]
    return _pow(*wide)


@rule("softmax")
def _softmax(z: Complex, dim: int, dtype: Any = None) -> Tensor:
    return _as_real("softmax", z, dtype).softmax(dim)


@rule("log_softmax")
def _log_softmax(z: Complex, dim: int, dtype: Any = None) -> Tensor:
    return _as_real("log_softmax", z, dtype).log_softmax(dim)


def _as_real(name: str, z: Complex, dtype: Any) -> Tensor:
    """What PyTorch computes of the real part, where the user asks for a real dtype."""
    if not isinstance(dtype, DType):
        raise UnsupportedError(f"{name} of complex numbers.", "Take .real or .abs() of them.")
    return z.to(dtype)


# -- trigonometry --------------------------------------------------------------------------------


@rule("sinh")
@differentiated("sinh")
def _sinh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    return Complex(x.sinh() * y.cos(), x.cosh() * y.sin())


@rule("cosh")
@differentiated("cosh")
def _cosh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    return Complex(x.cosh() * y.cos(), x.sinh() * y.sin())


@rule("tanh")
@differentiated("tanh")
def _tanh(z: Complex) -> Complex:
    """(sinh 2x + i sin 2y) / (cosh 2x + cos 2y), all times 2 exp(-2|x|)"""
    x, y = z.real, z.imag
    far = -2 * x.abs()
    decay, cos = far.exp(), y.cos()
    size = far.expm1().square() + 4 * decay * cos * cos
    return Complex((2 * far).expm1().copysign(x) / size, 4 * decay * y.sin() * cos / size)


@rule("acosh", "arccosh")
@differentiated("acosh")
def _acosh(z: Complex) -> Complex:
    below, above = _sqrt(Complex(z.real - 1, z.imag)), _sqrt(Complex(z.real + 1, z.imag))
    return Complex(below.conjugate().times(above).real.asinh(), 2 * atan2(below.imag, above.real))


@rule("asin", "arcsin")
@differentiated("asin")
def _asin(z: Complex) -> Complex:
    before, after = _sqrt(Complex(1 - z.real, -z.imag)), _sqrt(Complex(1 + z.real, z.imag))
    return Complex(
        atan2(z.real, before.times(after).real), before.conjugate().times(after).imag.asinh()
    )


@rule("acos", "arccos")
@differentiated("acos")
def _acos(z: Complex) -> Complex:
    before, after = _sqrt(Complex(1 - z.real, -z.imag)), _sqrt(Complex(1 + z.real, z.imag))
    return Complex(2 * atan2(before.real, after.real), (after.conjugate() * before).imag.asinh())


@rule("atanh", "arctanh")
@differentiated("atanh")
def _atanh(z: Complex) -> Complex:
    x, y = z.real, z.imag
    near = 1 - x.abs()
    return Complex(
        0.25 * (4 * x.abs() / (near * near + y * y)).log1p().copysign(x),
        0.5 * atan2(2 * y, (1 - x) * (1 + x) - y * y),
    )


def _across(function: Callable[[Complex], Complex]) -> Callable[[Complex], Complex]:
    """The circular function of a hyperbolic one, or the reverse: f(iz) / i."""

    def turned(z: Complex) -> Complex:
        made = function(z.turned())
        return Complex(made.imag, -made.real)

    return turned


_sin = rule("sin")(differentiated("sin")(_across(_sinh)))
rule("tan")(differentiated("tan")(_across(_tanh)))
rule("atan", "arctan")(differentiated("atan")(_across(_atanh)))
rule("asinh", "arcsinh")(differentiated("asinh")(_across(_asin)))


@rule("cos")
@differentiated("cos")
def _cos(z: Complex) -> Complex:
    return _cosh(z.turned())


@rule("sinc")
def _sinc(z: Complex) -> Complex:
    """sin(pi z) / (pi z), and 1 at 0"""
    angle, is_zero = z.scaled(math.pi), ~nonzero(z)
    return _where(1.0, is_zero, _div(_sin(angle), _where(1.0, is_zero, angle)))


# -- questions -----------------------------------------------------------------------------------


def _of_truth(name: str) -> Callable[..., Any]:
    """A method of bools, of whether numbers are 0; dims are as they are."""

    def asked(*values: Any, **kwargs: Any) -> Any:
        own = (nonzero(v) if isinstance(v, (Tensor, Complex)) else v for v in values)
        return getattr(Tensor, name)(*own, **kwargs)

    return asked


for _name in (
    "all", "any", "argwhere", "count_nonzero", "logical_and", "logical_not", "logical_or",
    "logical_xor", "nonzero", "nonzero_static",
):  # fmt: skip
    rule(_name)(_of_truth(_name))


@rule("isreal")
def _isreal(z: Complex) -> Tensor:
    return z.imag == 0


@rule("isnan")
def _isnan(z: Complex) -> Tensor:
    return z.real.isnan() | z.imag.isnan()


@rule("isfinite")
def _isfinite(z: Complex) -> Tensor:
    return z.real.isfinite() & z.imag.isfinite()


@rule("isinf")
def _isinf(z: Complex) -> Tensor:
    return z.real.isinf() | z.imag.isinf()


# -- sums and products ---------------------------------------------------------------------------


@rule("var_mean")
def _var_mean(z: Complex, *args: Any, **options: Any) -> tuple[Tensor, Complex]:
    """As of Tensor.var_mean; the variance is of |z - mean|, which is that of both parts."""
    pairs = [part.var_mean(*args, **options) for part in (z.real, z.imag)]
    (of_real, real), (of_imag, imag) = pairs
    return of_real + of_imag, Complex(real, imag)


@rule("std_mean")
def _std_mean(z: Complex, *args: Any, **options: Any) -> tuple[Tensor, Complex]:
    variance, mean = _var_mean(z, *args, **options)
    return variance.sqrt(), mean


@rule("var")
def _var(z: Complex, *args: Any, **options: Any) -> Tensor:
    return _var_mean(z, *args, **options)[0]


@rule("std")
def _std(z: Complex, *args: Any, **options: Any) -> Tensor:
    return _var(z, *args, **options).sqrt()


@rule("prod")
def _prod(z: Complex, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Complex:
    """One half times the other, until one is left."""
    z = z.to(dtype or z.dtype)
    if not z.real.ndim:
        return z
    if dim is None:
        z, dim = Complex(z.real.flatten(), z.imag.flatten()), 0
    if isinstance(dim, (list, tuple)):
        for axis in sorted((d % z.ndim for d in dim), reverse=True):
            z = _prod(z, axis, keepdim)
        return z
    if z.real.shape[dim] == 0:
        z = Complex(z.real.sum(dim, True) + 1, z.imag.sum(dim, True))
    while (count := z.real.shape[dim]) > 1:
        half = count // 2
        parts = [_narrowed(z, dim, i * half, half) for i in (0, 1)]
        made = parts[0].times(parts[1])
        z = _joined(made, _narrowed(z, dim, count - 1, 1), dim) if count % 2 else made
    return z if keepdim else Complex(z.real.squeeze(dim), z.imag.squeeze(dim))


@rule("cumprod")
def _cumprod(z: Complex, dim: int, *, dtype: Any = None) -> Complex:
    """Each times what lies 1, 2, 4, ... before it."""
    z = z.to(dtype or z.dtype)
    count, step = (z.real.shape[dim], 1) if z.real.ndim else (1, 1)
    while step < count:
        later, before = _narrowed(z, dim, step, count - step), _narrowed(z, dim, 0, count - step)
        z, step = _joined(_narrowed(z, dim, 0, step), later.times(before), dim), 2 * step
    return z


def _narrowed(z: Complex, dim: int, start: int, length: int) -> Complex:
    return Complex(z.real.narrow(dim, start, length), z.imag.narrow(dim, start, length))


def _joined(a: Complex, b: Complex, dim: int) -> Complex:
    return Complex(cat((a.real, b.real), dim), cat((a.imag, b.imag), dim))


@rule("mm", "bmm", "dot", "mv", "matmul")
def _product(x: Any, y: Any) -> Complex:
    return Complex.of(x).contracted(Complex.of(y))


@rule("addmm", "addmv", "baddbmm")
def _add_product(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Complex:
    """beta x + alpha a @ b; nothing of x where beta is 0"""
    made = _mul(_product(a, b), alpha)
    return made if beta == 0 else _mul(x, beta).plus(made)


@rule("addbmm")
def _add_products(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Complex:
    made = _mul(_product(a, b), alpha)
    made = Complex(made.real.sum(0), made.imag.sum(0))
    return made if beta == 0 else _mul(x, beta).plus(made)


@rule("dist")
def _dist(x: Any, y: Any, p: float = 2) -> Tensor:
    return _abs(_sub(x, y)).norm(p)


@rule("renorm")
def _renorm(z: Complex, p: float, dim: int, maxnorm: float) -> Complex:
    axes = [a for a in range(z.ndim) if a != dim % z.ndim]
    size = _abs(z).norm(p, axes, keepdim=True)
    return z.scaled((maxnorm / (size + 1e-7)).where(size > maxnorm, 1.0))


@rule("vdot")
def _vdot(x: Any, y: Any) -> Complex:
    """conj(x) . y"""
    return Complex.of(x).conjugate().contracted(Complex.of(y))


@rule("inner")
def _inner(x: Any, y: Any) -> Complex:
    left, right = Complex.of(x), Complex.of(y)
    return _tensordot(left, right, ((left.ndim - 1,), (right.ndim - 1,)))


@rule("_dot")
def _tensordot(x: Any, y: Any, contract: Any, batch: Any = ((), ()), dtype: Any = None) -> Complex:
    """Of Tensor._dot."""
    if not x.ndim or not y.ndim:
        return _mul(x, y)
    return multiplied(lambda a, b: a._dot(b, contract, batch), (x, y))


@rule("addr")
def _addr(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Complex:
    made = _mul(_outer(a, b), alpha)
    return made if beta == 0 else _mul(x, beta).plus(made)


@rule("outer", "ger")
def _outer(x: Any, y: Any) -> Complex:
    left, right = Complex.of(x), Complex.of(y)
    return _mul(left.unsqueeze(1), right.unsqueeze(0))


@rule("addcmul")
def _addcmul(x: Any, a: Any, b: Any, *, value: Any = 1) -> Complex:
    return _add(x, _mul(_mul(a, b), value))


@rule("addcdiv")
def _addcdiv(x: Any, a: Any, b: Any, *, value: Any = 1) -> Complex:
    return _add(x, _mul(_div(a, b), value))


@rule("lerp")
def _lerp(start: Any, end: Any, weight: Any) -> Complex:
    return _add(start, _mul(_sub(end, start), weight))


@rule("where")
def _where(x: Any, condition: Tensor, other: Any) -> Complex:
    left, right = Complex.of(x), Complex.of(other)
    if not isinstance(left.real, Tensor):
        left = _constant(x, right)
    return Complex(left.real.where(condition, right.real), left.imag.where(condition, right.imag))


@rule("isclose")
def _isclose(
    x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    apart = _abs(_sub(x, y))
    found = _eq(x, y) | ((apart <= atol + rtol * _abs(Complex.of(y))) & apart.isfinite())
    return found | (_isnan(x) & _isnan(y)) if equal_nan else found


@rule("allclose")
def _allclose(x: Any, y: Any, *args: Any, **kwargs: Any) -> bool:
    return bool(_isclose(x, y, *args, **kwargs).all())


@rule("equal")
def _equal(x: Complex, y: Any) -> bool:
    other = Complex.of(y)
    return x.shape == other.shape and bool(_eq(x, other).all())
