"""Arithmetic of two operands and tests of one, beyond the graph's own ops.

In: tensors and Python numbers. Out: lazy tensors. Invariant: written with other methods; each name,
promotion and derivative at a kink is PyTorch's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tgrad import dtype as dt
from tgrad.errors import DTypeError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.methods.elementwise import result_type, rounded_once
from tgrad.methods.euclid import gcd, lcm
from tgrad.methods.limits import check_divisor
from tgrad.methods.slopes import (
    binary_function,
    define_partials,
    define_slopes,
    define_vjp,
    paired,
    unary_function,
)

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Number = bool | int | float


class MantissaExponent(NamedTuple):
    """Result of frexp."""

    mantissa: Tensor
    exponent: Tensor


class ArithmeticMethods:
    """More of what can be done with two elements, or asked of one."""

    __slots__ = ()

    # -- quotients ------------------------------------------------------------------------------

    def fmod(self: Any, other: Any) -> Tensor:
        """C's modulus: the sign of the dividend."""
        from tgrad.tensor import with_vjp

        with source_scope(label="fmod"):
            check_divisor(other, self)
            a, b = paired(self, other, floats=False)
            rest = a.abs() % b.abs()
            rest = (-rest).where(a < 0, rest)
            return with_vjp("fmod", rest, a, b) if rest.dtype.is_float else rest

    def gcd(self: Any, other: Any) -> Tensor:
        """The greatest common divisor of integers; of 0 and n it is n.

        Raises:
            DTypeError: the dtype is no integer's.

        >>> import tgrad
        >>> tgrad.tensor([4, -6, 0]).gcd(tgrad.tensor([6, 9, -5])).tolist()
        [2, 3, 5]
        """
        with source_scope(label="gcd"):
            return gcd(*paired(self, other, floats=False))

    def lcm(self: Any, other: Any) -> Tensor:
        """The least common multiple of integers; 0 where one is 0.

        Raises:
            DTypeError: the dtype is no integer's.

        >>> import tgrad
        >>> tgrad.tensor([4, -6, 0]).lcm(tgrad.tensor([6, 9, -5])).tolist()
        [12, 18, 0]
        """
        with source_scope(label="lcm"):
            return lcm(*paired(self, other, floats=False))

    def true_divide(self: Any, other: Any) -> Tensor:
        """self / other."""
        return self.div(other)

    def rsub(self: Any, other: Any, *, alpha: Number = 1) -> Tensor:
        """other - alpha * self."""
        return (self if alpha == 1 else self * alpha).__rsub__(other)

    def ldexp(self: Any, other: Any) -> Tensor:
        """self * 2 ** other."""
        return self * _exp2_like(self, other)

    def frexp(self: Any) -> MantissaExponent:
        """Mantissas in [0.5, 1) and exponents (int32): self = mantissa * 2 ** exponent.

        Raises:
            DTypeError: the dtype is not floating point.
        """
        if not self.dtype.is_float:
            raise DTypeError(f"frexp of a tensor of {self.dtype.name}.", "Use .float().")
        with source_scope(label="frexp"):
            wide = self.detach().double()
            normal = (wide != 0) & (wide.abs() < math.inf)
            bits = wide.where(normal, 1.0)._apply(Op.BITCAST, dtype=dt.int64)
            found = ((bits >> 52) & 2047) - 1022
            exponent = found.where(normal, 0).int()
            return MantissaExponent(self * _exp2_like(self, -exponent), exponent)

    # -- extremes -------------------------------------------------------------------------------

    def fmax(self: Any, other: Any) -> Tensor:
        """The larger; a NaN loses against a number."""
        with source_scope(label="fmax"):
            a, b = paired(self, other, floats=False)
            return a.where((a >= b) | b.isnan(), b)

    def fmin(self: Any, other: Any) -> Tensor:
        """The smaller; a NaN loses against a number."""
        with source_scope(label="fmin"):
            a, b = paired(self, other, floats=False)
            return a.where((a <= b) | b.isnan(), b)

    def clamp_min(self: Any, min: Any) -> Tensor:
        """At least `min`."""
        return self.clamp(min=min)

    def clamp_max(self: Any, max: Any) -> Tensor:
        """At most `max`."""
        return self.clamp(max=max)

    # -- logarithms of sums and products --------------------------------------------------------

    def logaddexp(self: Any, other: Any) -> Tensor:
        """log(exp(self) + exp(other)), without overflow."""
        return binary_function("logaddexp", self, other, _logaddexp)

    def logaddexp2(self: Any, other: Any) -> Tensor:
        """log2(2 ** self + 2 ** other), without overflow."""
        return binary_function("logaddexp2", self, other, _logaddexp2)

    def xlogy(self: Any, other: Any) -> Tensor:
        """self * log(other), and 0 where self is 0 (but for NaN)."""
        return binary_function("xlogy", self, other, lambda a, b: _times_log(a, b, b.log()))

    def xlog1py(self: Any, other: Any) -> Tensor:
        """self * log(1 + other), and 0 where self is 0 (but for NaN)."""
        return binary_function("xlog1py", self, other, lambda a, b: _times_log(a, b, b.log1p()))

    def float_power(self: Any, exponent: Any) -> Tensor:
        """self ** exponent in float64."""
        from tgrad.tensor import Tensor

        power = exponent.double() if isinstance(exponent, Tensor) else float(exponent)
        return self.double() ** power

    # -- signs ----------------------------------------------------------------------------------

    def signbit(self: Any) -> Tensor:
        """Whether it is negative, -0.0 included."""
        if not self.dtype.is_float:
            return self < 0
        with source_scope(label="signbit"):
            size = self.dtype.itemsize
            kind = {2: dt.int16, 4: dt.int32, 8: dt.int64}[size]
            return self.detach()._apply(Op.BITCAST, dtype=kind) < 0

    def copysign(self: Any, other: Any) -> Tensor:
        """The size of self with the sign of other; the gradient at 0 is 0, as that of other is."""
        from tgrad.tensor import with_vjp

        with source_scope(label="copysign"):
            a, b = paired(self, other)
            size = a.abs()
            y = (-size).where(b.signbit(), size)
            return with_vjp("zero_slope", y, y, b)

    def sgn(self: Any) -> Tensor:
        """`sign`, for real tensors."""
        return self.sign()

    def heaviside(self: Any, values: Tensor) -> Tensor:
        """0 below 0, `values` at 0, 1 above."""
        with source_scope(label="heaviside"):
            a, b = paired(self, values, floats=False)
            return b.where(a == 0, (a > 0).to(a.dtype))

    def nextafter(self: Any, other: Any) -> Tensor:
        """The next representable number towards other."""
        with source_scope(label="nextafter"):
            a, b = paired(self.detach(), other)
            kind = {2: dt.int16, 4: dt.int32, 8: dt.int64}[a.dtype.itemsize]
            bits = a._apply(Op.BITCAST, dtype=kind)
            step = (bits - 1).where((a < b) == (a < 0), bits + 1)
            lowest = bits._constant(1, kind).where(b > 0, kind.min + 1)
            moved = lowest.where(a == 0, step)._apply(Op.BITCAST, dtype=a.dtype)
            return b.where(a == b, moved).where(~(a.isnan() | b.isnan()), math.nan)

    # -- logic and tests ------------------------------------------------------------------------

    def logical_xor(self: Any, other: Tensor) -> Tensor:
        """Whether one of both is not zero."""
        return self.bool() ^ other.bool()

    def isposinf(self: Any) -> Tensor:
        """Whether it is inf."""
        return self == math.inf if self.dtype.is_float else self != self

    def isneginf(self: Any) -> Tensor:
        """Whether it is -inf."""
        return self == -math.inf if self.dtype.is_float else self != self

    def isreal(self: Any) -> Tensor:
        """True: complex tensors are ComplexTensor."""
        return self._constant(1, dt.bool_).expand(self.shape)

    def isclose(
        self: Any, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> Tensor:
        """Whether |self - other| <= atol + rtol * |other|; equal infinities are close."""
        with source_scope(label="isclose"):
            equal = self == other
            if equal_nan:
                equal = equal | (self.isnan() & other.isnan())
            a, b = (x if x.dtype.is_float else x.to(dt.get_default_dtype()) for x in (self, other))
            limit = atol + (b * rtol).abs()
            return equal | ((a - b).abs() <= limit) & (a - b).isfinite()

    def allclose(
        self: Any, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether all elements are close; see `isclose`."""
        return bool(self.isclose(other, rtol, atol, equal_nan).all())

    def equal(self: Any, other: Tensor) -> bool:
        """Whether shapes and all elements are equal."""
        return self.shape == other.shape and bool((self == other).all())

    def nan_to_num(
        self: Any,
        nan: float | None = None,
        posinf: float | None = None,
        neginf: float | None = None,
    ) -> Tensor:
        """NaN as 0 and infinities as the dtype's extremes, or as the numbers given."""
        if not self.dtype.is_float:
            return self.clone()
        with source_scope(label="nan_to_num"):
            top = self.dtype.largest
            x = self.where(~self.isnan(), 0.0 if nan is None else nan)
            x = x.where(x != math.inf, top if posinf is None else posinf)
            return x.where(x != -math.inf, -top if neginf is None else neginf)

    # -- parts of a complex number, of which there are none -------------------------------------

    def positive(self: Any) -> Tensor:
        """Itself."""
        return self

    real = property(positive, doc="Itself: complex tensors are ComplexTensor.")

    __pos__ = positive

    def conj(self: Any) -> Tensor:
        """Itself."""
        return self

    conj_physical = conj

    def resolve_conj(self: Any) -> Tensor:
        """Itself."""
        return self

    resolve_neg = resolve_conj

    def angle(self: Any) -> Tensor:
        """π below 0, else 0; NaN stays."""
        return unary_function("angle", self, _angle)

    # -- sums of products of elements -----------------------------------------------------------

    def addcmul(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        """self + value * tensor1 * tensor2."""
        return rounded_once(
            lambda x, a, b: x + (a * b if value == 1 else a * b * value), self, tensor1, tensor2
        )

    def addcdiv(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        """self + value * tensor1 / tensor2."""
        return rounded_once(lambda x, a, b: x + a * value / b, self, tensor1, tensor2)


def _exp2_like(x: Any, exponent: Any) -> Any:
    """2 ** exponent in the dtype of the product with x."""
    from tgrad.tensor import Tensor

    if not isinstance(exponent, Tensor):
        return 2.0**exponent
    kind = result_type(x, exponent)
    return 2.0 ** exponent.to(kind if kind.is_float else dt.get_default_dtype())


def _log_of_sum(e: Any) -> Any:
    """log(1 + e) for 0 <= e <= 1: no condition, which gcc would branch on in vectors' stead."""
    u = e + 1.0
    return u.log() + (e - (u - 1.0)) / u


def _logaddexp(a: Any, b: Any) -> Any:
    apart = _log_of_sum((-(a - b).abs()).exp())
    return a.maximum(b) + apart.where(a != b, math.log(2))


def _logaddexp2(a: Any, b: Any) -> Any:
    apart = _log_of_sum((-(a - b).abs()).exp2()) * (1 / math.log(2))
    return a.maximum(b) + apart.where(a != b, 1.0)


def _times_log(a: Any, b: Any, log: Any) -> Any:
    return (a * log).where((a != 0) | b.isnan(), 0.0)


def _angle(x: Any) -> Any:
    return x._constant(math.pi, x.dtype).where(x < 0, 0.0).where(~x.isnan(), x)


def _flat_log(limit: float, log: Any) -> Any:
    """The slope of a * log: the log, but 0 where it is infinite at a = 0."""
    return lambda y, a, b: log(b).where((a != 0) | ~(b <= limit), 0.0)


@define_vjp("fmod")
def _fmod_backward(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a - b * trunc(a / b)"""
    return g, -g * (a / b).trunc()


define_slopes({"angle": lambda y, x: x._constant(0.0, x.dtype).expand(x.shape)})
define_partials({
    "logaddexp": (lambda y, a, b: (a - b).sigmoid(), lambda y, a, b: (b - a).sigmoid()),
    "logaddexp2": (
        lambda y, a, b: ((a - b) * math.log(2)).sigmoid(),
        lambda y, a, b: ((b - a) * math.log(2)).sigmoid(),
    ),
    "xlogy": (_flat_log(0.0, lambda b: b.log()), lambda y, a, b: a / b),
    "xlog1py": (_flat_log(-1.0, lambda b: b.log1p()), lambda y, a, b: a / (b + 1.0)),
})  # fmt: skip
