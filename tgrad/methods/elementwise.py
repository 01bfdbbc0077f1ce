"""Elementwise methods of Tensor, with PyTorch's promotion and broadcasting.

In: tensors and Python numbers. Out: lazy tensors. Invariant: operands reach the graph with one
dtype and one shape; Python numbers only raise the category of the dtype, 0-d tensors only if theirs
is higher.
Source: https://docs.pytorch.org/docs/stable/tensor_attributes.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.aliases import (
    When,
    give_gradient_of_its_own,
    is_contiguous_base,
    keep_order,
    laid_out,
    leave,
)
from tgrad.arguments import CHANNELS_LAST, check_memory_format
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.size import Size, running_scope
from tgrad.graph.sized import are_same
from tgrad.methods.limits import divided, limited, with_slopes
from tgrad.methods.sizes import exact_number, is_one
from tgrad.methods.slopes import paired

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Number = bool | int | float


def broadcast_shapes(*given: int | Sequence[int]) -> tuple[int, ...]:
    """The common shape of operands; a number is the shape of a vector.

    Raises:
        ShapeError: two sizes of an axis differ and neither is 1.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    shapes = tuple((s,) if isinstance(s, int) else tuple(s) for s in given)
    return _known_broadcast(shapes) if running_scope() is None else _broadcast(shapes)


def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result = []
    for axis, sizes in enumerate(zip(*padded)):
        wide = {n for n in sizes if not is_one(n)}
        if len(wide) > 1:
            raise ShapeError(
                f"shapes {' and '.join(map(str, shapes))} cannot be broadcast together: sizes "
                f"{' and '.join(map(str, sorted(wide)))} at axis {axis - rank}.",
                "Sizes must be equal or 1, counted from the last axis.",
            )
        result.append(wide.pop() if wide else 1)
    return tuple(result)


_known_broadcast = lru_cache(maxsize=4096)(_broadcast)
"""For sizes that are numbers: a training step asks the same again and again."""


def result_type(*operands: Tensor | Number) -> DType:
    """PyTorch's torch.result_type of tensors and Python numbers."""
    if len(operands) == 2:
        first, second = getattr(operands[0], "dtype", None), getattr(operands[1], "dtype", None)
        if isinstance(first, DType) and (first is second or _fits(operands[1], first)):
            return first
    if any(map(is_complex, operands)):
        return _complex_result_type(*operands)  # type: ignore[return-value]
    ranks: dict[int, DType] = {}
    for x in operands:
        if isinstance(x, (bool, int, float, np.number, np.bool_)):
            continue
        priority = 1 if x.shape else 0
        ranks[priority] = x.dtype if priority not in ranks else dt.promote(ranks[priority], x.dtype)
    found = ranks.get(1, ranks.get(0, dt.bool_))
    if 1 in ranks and 0 in ranks and _category(ranks[0]) > _category(found):
        found = dt.promote(found, ranks[0])
    for x in operands:
        if isinstance(x, (bool, np.bool_)):
            continue
        if isinstance(x, (int, np.integer)):
            found = dt.promote_scalar(found, int(x))
        elif isinstance(x, (float, np.floating)):
            found = dt.promote_scalar(found, float(x))
    return found


def _complex_result_type(*operands: Any) -> dt.ComplexDType:
    """That whose parts have the result type of the parts."""
    found = result_type(
        *(x if not is_complex(x) else x.real if hasattr(x, "shape") else 1.0 for x in operands)
    )
    return dt.complex_of(found if found.is_float else dt.get_default_dtype())


def _fits(number: Any, dtype: DType) -> bool:
    """Whether a Python number leaves a tensor's dtype as it is, seen from its type alone."""
    return dtype.is_float if type(number) is float else type(number) is int and not dtype.is_bool


def rounded_once(function: Callable[..., Tensor], *operands: Any) -> Tensor:
    """A function of float16 or bfloat16 operands, computed in float32 and rounded at its end, as
    PyTorch's are; of other dtypes the function as it is.

    >>> import tgrad
    >>> x = tgrad.tensor([3.0], dtype=tgrad.bfloat16)
    >>> rounded_once(lambda x: x / 3 * 3, x).tolist()
    [3.0]
    """
    from tgrad.tensor import Tensor

    dtype = result_type(*operands)
    if dtype.accumulator is dtype:
        return function(*operands)
    wide = (x.to(dtype.accumulator) if isinstance(x, Tensor) else x for x in operands)
    return function(*wide).to(dtype)


def is_operand(x: Any) -> bool:
    """Whether a tensor can be combined with it."""
    others = (bool, int, float, complex, Size, np.number, np.bool_, np.ndarray)
    return is_tensor(x) or isinstance(x, others)


COMPLEX_OPERATIONS = {
    Op.ADD: "add", Op.SUB: "sub", Op.MUL: "mul", Op.DIV: "div", Op.POW: "pow", Op.EQ: "eq",
    Op.NE: "ne",
}  # fmt: skip
"""Operations of two elements that complex numbers have, and their names there."""


def is_complex(x: Any) -> bool:
    """Whether it is a complex tensor or number."""
    kind = type(x)
    return kind not in _REAL and (
        getattr(x, "is_complex_tensor", False)
        or isinstance(x, (complex, np.complexfloating))
        or (kind is np.ndarray and x.dtype.kind == "c")
    )


_REAL = frozenset({bool, int, float})
_NUMBERS = frozenset({int, float})
_SCALING = frozenset({Op.MUL, Op.DIV})
_LEAST_HALF = 2.0**-14
"""Smaller numbers of float16 have fewer digits."""
"""What a tensor of floats takes as it is."""


def is_tensor(x: Any) -> bool:
    """Whether it is a Tensor, which is made of these methods; asked with each operation."""
    return isinstance(x, ElementwiseMethods)


def _are_alike(a: Any, b: Any) -> bool:
    """Whether two tensors are operands as they are: floats of one dtype, shape and device."""
    x, y = a._node, b._node
    return (
        x.shape == y.shape
        and x.dtype is y.dtype
        and x.dtype.is_float
        and a._device is b._device
        and running_scope() is None
    )


def owner_of(first: Any, *others: Any) -> Any:
    """The operand whose device is that of the result: a 0-d tensor on the CPU counts as a number
    on any device."""
    if first._node.shape or first._device.type != "cpu":
        return first
    elsewhere = (t for t in others if is_tensor(t) and t._device is not first._device)
    return next(elsewhere, first)


def _category(dtype: DType) -> int:
    return 0 if dtype.is_bool else 1 if dtype.is_int else 2


class ElementwiseMethods:
    """Arithmetic, comparison, logic and functions of one element."""

    __slots__ = ()
    is_complex_tensor = False
    holds_pairs = False

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def _view(self, op: Op, when: When, **attrs: Any) -> Tensor: ...
        def _constant(self, value: Number, dtype: DType, shape: tuple[int, ...] = ()) -> Tensor: ...
        def to(self, *args: Any, **kwargs: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def _shape(self) -> tuple[int, ...]: ...

    # -- fitting operands -----------------------------------------------------------------------

    def _operand(self, x: Any, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """`x` as a tensor of that dtype and shape on this device.

        As in PyTorch, a 0-d tensor on the CPU counts as a number on any device.
        """
        device = self._device  # type: ignore[attr-defined]
        if is_tensor(x):
            if x.dtype is dtype and x._device is device and are_same(x._shape, shape):
                return x
            is_apart = x._device is not device and x._device != device
            if is_apart and not x.shape and x._device.type == "cpu":
                x = x.to(device)
        elif isinstance(x, np.ndarray):
            from tgrad.tensor import tensor

            x = tensor(x, device=device)
        else:
            return self._constant(x.item() if isinstance(x, np.generic) else x, dtype, shape)
        if x.dtype is not dtype:
            x = x.to(dtype)
        return x if are_same(x._shape, shape) else x._apply(Op.EXPAND, shape=shape)

    def _binary(
        self: Any, op: Op, other: Any, *, swap: bool = False, floats: bool = False
    ) -> Tensor:
        is_other = not is_tensor(other)
        if is_other and is_complex(other):
            return self._complex_binary(op, other, swap)
        if not is_other and _are_alike(self, other):
            return other._apply(op, self) if swap else self._apply(op, other)
        if op in _SCALING and self.dtype is dt.float16 and self._is_scale(other):
            with source_scope(label=op._value_):
                return self.float()._binary(op, other, swap=swap).half()
        if type(other) in _NUMBERS and self.dtype.is_float and exact_number(self) is None:
            number = self._constant(other, self.dtype, self._shape)
            return number._apply(op, self) if swap else self._apply(op, number)
        with source_scope(label=op._value_):
            return self._fitted_binary(op, other, swap, floats)

    def _is_scale(self: Any, other: Any) -> bool:
        """Whether a factor of a tensor of float16 stays what it is, as in PyTorch: a number that
        float16 has not, or a tensor of one number of a wider dtype."""
        if is_tensor(other):
            is_wide = other.dtype in (dt.float32, dt.float64)
            return is_wide and not other.shape and bool(self.shape)
        size = abs(other) if type(other) in _NUMBERS else 0
        return not (size == 0 or _LEAST_HALF <= size <= dt.float16.largest) and size < math.inf

    def _fitted_binary(self, op: Op, other: Any, swap: bool, floats: bool) -> Tensor:
        """The operation of what has to get one dtype and one shape first."""
        operand = other if is_tensor(other) else self._other(op, other)
        if running_scope() is not None:
            exact = exact_number(self), exact_number(operand)
            if exact != (None, None):
                return self._binary_of_numbers(op, operand, exact, swap, floats)
        return self._promoted_binary(op, operand, result_type(self, operand), swap, floats)  # type: ignore[arg-type]

    def _binary_of_numbers(
        self: Any, op: Op, other: Any, exact: tuple[Any, Any], swap: bool, floats: bool
    ) -> Tensor:
        """The operation where a number is computed of symbolic sizes: as with a Python number, the
        dtype is that of the tensors; one of numbers alone is a number again.

        Args:
            exact: for the two operands, the number in float64, or None.
        """
        found = [x if n is None else 1.0 for x, n in zip((self, other), exact)]
        wide = [x if n is None else n for x, n in zip((self, other), exact)]
        dtype = result_type(*found)
        a, b = wide if dtype is dt.float64 else (self, other)
        result: Tensor = a._promoted_binary(op, b, dtype, swap, floats)
        scope = running_scope()
        if scope is not None and result.dtype.is_float and not any(map(is_tensor, found)):
            scope.numbers[result._node] = wide[0]._binary(op, wide[1], swap=swap, floats=floats)
        return result

    def _promoted_binary(
        self, op: Op, operand: Any, dtype: DType, swap: bool, floats: bool
    ) -> Tensor:
        if floats and not dtype.is_float:
            dtype = dt.get_default_dtype()
        if dtype.is_bool and op in (Op.ADD, Op.MUL):
            op = {Op.ADD: Op.OR, Op.MUL: Op.AND}[op]
        shape = self._shape
        if is_tensor(operand) and operand.ndim and not are_same(shape, operand._shape):
            shape = broadcast_shapes(shape, operand._shape)
        place = owner_of(self, operand)
        a, b = place._operand(self, dtype, shape), place._operand(operand, dtype, shape)
        return b._apply(op, a) if swap else a._apply(op, b)

    def _complex_binary(self, op: Op, other: Any, swap: bool) -> Any:
        """The operation of complex numbers, of which this one is real.

        Raises:
            DTypeError: it has no meaning for them.
        """
        from tgrad.complex_numbers import as_complex

        name = COMPLEX_OPERATIONS.get(op)
        if name is None:
            raise DTypeError(f"{op} of complex numbers.", "Take .real, .imag or .abs() of them.")
        if isinstance(other, np.ndarray):
            from tgrad.tensor import tensor

            other = tensor(other, device=self._device)  # type: ignore[attr-defined]
        left, right = as_complex(self), other
        return getattr(as_complex(right), name)(left) if swap else getattr(left, name)(right)

    def _other(self, op: Op, other: Any) -> Any:
        """A number as it is, what is more than a number as a tensor."""
        if not is_operand(other):
            raise DTypeError(
                f"{op} of a tensor and a {type(other).__name__}.",
                "Use a Tensor, a Python number or a NumPy array.",
            )
        if isinstance(other, Size):
            return other.tensor(self._device)  # type: ignore[attr-defined]
        if isinstance(other, np.ndarray):
            return self._operand(other, dt.from_numpy(other.dtype), other.shape)
        return other

    def _unary(self, op: Op) -> Tensor:
        """A function of floats; integers become the default dtype first, as in PyTorch."""
        if self.dtype.is_float:
            return self._apply(op)
        with source_scope(label=op._value_):
            return self.to(dt.get_default_dtype())._apply(op)

    # -- arithmetic -----------------------------------------------------------------------------

    def add(self, other: Any, *, alpha: Number = 1) -> Tensor:
        """self + alpha * other."""
        return self._binary(Op.ADD, other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: Number = 1) -> Tensor:
        """self - alpha * other.

        Raises:
            DTypeError: both are bool.
        """
        if self.dtype.is_bool and (
            isinstance(other, bool) or getattr(other, "dtype", 0) is dt.bool_
        ):
            raise DTypeError("bool tensors cannot be subtracted.", "Use ^ or logical_xor.")
        return self._binary(Op.SUB, other if alpha == 1 else other * alpha)

    def mul(self, other: Any) -> Tensor:
        """self * other."""
        return self._binary(Op.MUL, other)

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self / other; rounding_mode None (true division), "trunc" or "floor"."""
        if rounding_mode == "floor":
            return self.floor_divide(other)
        quotient = self._binary(Op.DIV, other, floats=True)
        if rounding_mode is None:
            return quotient
        if rounding_mode != "trunc":
            raise UnsupportedError(
                f"rounding_mode={rounding_mode!r}.", 'Use None, "trunc" or "floor".'
            )
        if not result_type(self, other).is_float:  # type: ignore[arg-type]
            floor = divided(self, Op.FLOORDIV, other)
            exact = floor * other == self
            return floor.where(exact | (floor >= 0), floor + 1)
        from tgrad.tensor import with_vjp

        return with_vjp("flat", quotient.trunc(), *paired(self, other))

    def floor_divide(self, other: Any) -> Tensor:
        """Division rounded down."""
        return divided(self, Op.FLOORDIV, other)

    def remainder(self, other: Any) -> Tensor:
        """Python's modulus: the sign of the divisor."""
        return divided(self, Op.MOD, other)

    def pow(self, exponent: Any) -> Tensor:
        """self ** exponent; the numbers 0.5 and -0.5 are roots, of -inf too, as in PyTorch."""
        if isinstance(exponent, float) and abs(exponent) == 0.5 and self.dtype.is_float:
            return self.sqrt() if exponent > 0 else self.rsqrt()
        return self._binary(Op.POW, exponent)

    def neg(self) -> Tensor:
        return self._apply(Op.NEG)

    def abs(self) -> Tensor:
        return self if self.dtype.kind in "bu" else self._apply(Op.ABS)  # type: ignore

    def square(self) -> Tensor:
        x = self.to(dt.int64) if self.dtype.is_bool else self
        return x * x

    def reciprocal(self) -> Tensor:
        return 1.0 / self

    multiply, divide, subtract, negative, absolute = mul, div, sub, neg, abs

    __add__ = add
    __sub__ = sub
    __mul__ = mul
    __truediv__ = div
    __floordiv__ = floor_divide
    __mod__ = remainder
    __pow__ = pow
    __neg__ = neg
    __abs__ = abs

    def __radd__(self, other: Any) -> Tensor:
        return self._binary(Op.ADD, other, swap=True)

    def __rsub__(self, other: Any) -> Tensor:
        return self._binary(Op.SUB, other, swap=True)

    def __rmul__(self, other: Any) -> Tensor:
        return self._binary(Op.MUL, other, swap=True)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._binary(Op.DIV, other, swap=True, floats=True)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return divided(self, Op.FLOORDIV, other, swap=True)

    __rdiv__ = __rtruediv__

    def __rmod__(self, other: Any) -> Tensor:
        return divided(self, Op.MOD, other, swap=True)

    def __rpow__(self, other: Any) -> Tensor:
        return self._binary(Op.POW, other, swap=True)

    # -- comparison and logic -------------------------------------------------------------------

    def __lt__(self, other: Any) -> Tensor:
        return self._binary(Op.LT, other)

    def __le__(self, other: Any) -> Tensor:
        return self._binary(Op.LE, other)

    def __gt__(self, other: Any) -> Tensor:
        return self._binary(Op.LT, other, swap=True)

    def __ge__(self, other: Any) -> Tensor:
        return self._binary(Op.LE, other, swap=True)

    def eq(self, other: Any) -> Tensor:
        return self._binary(Op.EQ, other)

    def ne(self, other: Any) -> Tensor:
        return self._binary(Op.NE, other)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self._binary(Op.EQ, other) if is_operand(other) else NotImplemented

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self._binary(Op.NE, other) if is_operand(other) else NotImplemented

    lt, le, gt, ge = __lt__, __le__, __gt__, __ge__
    less, less_equal, greater, greater_equal, not_equal = lt, le, gt, ge, ne

    def __and__(self, other: Any) -> Tensor:
        return self._binary(Op.AND, other)

    def __or__(self, other: Any) -> Tensor:
        return self._binary(Op.OR, other)

    def __xor__(self, other: Any) -> Tensor:
        return self._binary(Op.XOR, other)

    def __invert__(self) -> Tensor:
        return self._apply(Op.NOT)

    def __lshift__(self, other: Any) -> Tensor:
        return self._binary(Op.SHL, other)

    def __rshift__(self, other: Any) -> Tensor:
        return self._binary(Op.SHR, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __rlshift__(self, other: Any) -> Tensor:
        return self._binary(Op.SHL, other, swap=True)

    def __rrshift__(self, other: Any) -> Tensor:
        return self._binary(Op.SHR, other, swap=True)

    bitwise_and, bitwise_or, bitwise_xor, bitwise_not = __and__, __or__, __xor__, __invert__
    bitwise_left_shift, bitwise_right_shift = __lshift__, __rshift__

    def logical_not(self) -> Tensor:
        return self.to(dt.bool_)._apply(Op.NOT)

    def logical_and(self, other: Tensor) -> Tensor:
        return self.to(dt.bool_) & (other != 0)

    def logical_or(self, other: Tensor) -> Tensor:
        return self.to(dt.bool_) | (other != 0)

    def isnan(self) -> Tensor:
        return self != self

    def isinf(self) -> Tensor:
        if not self.dtype.is_float:
            return self != self
        return self.abs() == math.inf

    def isfinite(self) -> Tensor:
        if not self.dtype.is_float:
            return self == self
        return self.abs() < math.inf

    # -- functions ------------------------------------------------------------------------------

    def exp(self) -> Tensor:
        return self._unary(Op.EXP)

    def log(self) -> Tensor:
        return self._unary(Op.LOG)

    def sin(self) -> Tensor:
        return self._unary(Op.SIN)

    def cos(self) -> Tensor:
        return self._unary(Op.COS)

    def tanh(self) -> Tensor:
        return self._unary(Op.TANH)

    def erf(self) -> Tensor:
        return self._unary(Op.ERF)

    def sqrt(self) -> Tensor:
        return self._unary(Op.SQRT)

    def rsqrt(self) -> Tensor:
        return self._unary(Op.RSQRT)

    def floor(self) -> Tensor:
        return self._unary(Op.FLOOR) if self.dtype.is_float else self.clone()

    def ceil(self) -> Tensor:
        return self.neg().floor().neg() if self.dtype.is_float else self.clone()

    def round(self, *, decimals: int = 0) -> Tensor:
        """To the nearest integer, or multiple of 10 ** -decimals; ties to even."""
        if not self.dtype.is_float:
            return self.clone()
        if not decimals:
            return self._unary(Op.ROUND)
        scale = 10.0 ** abs(decimals)
        if decimals < 0:
            return rounded_once(lambda x: x.div(scale).round().mul(scale), self)
        return rounded_once(lambda x: x.mul(scale).round().div(scale), self)

    def trunc(self) -> Tensor:
        return self._unary(Op.TRUNC) if self.dtype.is_float else self.clone()

    fix = trunc

    def maximum(self, other: Any) -> Tensor:
        """Elementwise maximum; NaN if either is NaN."""
        return self._binary(Op.MAXIMUM, other)

    def minimum(self, other: Any) -> Tensor:
        """Elementwise minimum; NaN if either is NaN."""
        return self._binary(Op.MINIMUM, other)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Limited to [min, max]; NaN stays. The gradient passes at both ends."""
        if min is None and max is None:
            raise ShapeError("clamp with neither min nor max.", "Give one of them.")
        with source_scope(label="clamp"):
            x = self if min is None else limited(self, min, lambda x, least: x < least)
            y: Any = x if max is None else limited(x, max, lambda x, most: x > most)
            return with_slopes(self, y, min, max) if y.dtype.is_float else y

    clip = clamp

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """Elements of self where the condition holds, else of other."""
        from tgrad.tensor import Tensor

        with source_scope(label="where"):
            if isinstance(other, Size):
                other = other.tensor(self._device)  # type: ignore[attr-defined]
            dtype = result_type(self, other)  # type: ignore[arg-type]
            if dtype.is_complex:
                from tgrad.complex_numbers import as_complex

                return as_complex(self).where(condition, other)
            shapes = [self.shape, condition.shape]
            if isinstance(other, Tensor):
                shapes.append(other.shape)
            shape = broadcast_shapes(*shapes)
            place = owner_of(self, condition, other)
            a, b = place._operand(self, dtype, shape), place._operand(other, dtype, shape)
            chosen = condition.to(dt.bool_)
            return place._operand(chosen, dt.bool_, shape)._apply(Op.WHERE, a, b)

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """`value` where the mask holds, else self."""
        with source_scope(label="masked_fill"):
            if is_complex(value):
                raise DTypeError(
                    "masked_fill of a real tensor with a complex number.", "Take .real."
                )
            if isinstance(value, (bool, int, float)):
                value = self._constant(value, self.dtype)
            fill = value.to(self.dtype) if hasattr(value, "dtype") else value
            filled = self.where(~mask, fill)
            leave(filled)
            return filled

    def lerp(self, end: Tensor, weight: Any) -> Tensor:
        """self + weight * (end - self), from the nearer end, so that a weight of 1 gives `end`.

        Args:
            end: of the same shape, or one that broadcasts.
            weight: a number, or a tensor that broadcasts.
        """
        if is_complex(end) or is_complex(weight):
            from tgrad.complex_numbers import as_complex

            return as_complex(self).lerp(end, weight)
        return keep_order(rounded_once(_lerp, self, end, weight), self, end)  # type: ignore

    def clone(self, *, memory_format: Any = None) -> Tensor:
        """The same values as a tensor of its own."""
        name = check_memory_format("clone", memory_format)
        copy = self._apply(Op.RESHAPE, shape=self.shape)
        if copy._requires_grad:
            give_gradient_of_its_own(copy)
        if name in CHANNELS_LAST:
            return laid_out(copy, name)
        return copy if name == "contiguous_format" else keep_order(copy, self)  # type: ignore

    def contiguous(self: Any, memory_format: Any = None) -> Tensor:
        """The same values; itself if it is no view, since what is stored is contiguous."""
        name = check_memory_format("contiguous", memory_format)
        if name in CHANNELS_LAST:
            return laid_out(self, name)
        if is_contiguous_base(self):
            return self
        return self._again(When.CONTIGUOUS)


def _lerp(start: Any, end: Any, weight: Any) -> Tensor:
    from tgrad.tensor import Tensor

    span = end - start
    if not isinstance(weight, Tensor):
        return start + span * weight if abs(weight) < 0.5 else end - span * (1 - weight)
    near, far = start + span * weight, end - span * (1 - weight)
    return near.where(weight.abs() < 0.5, far)
