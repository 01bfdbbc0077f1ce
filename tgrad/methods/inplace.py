"""Methods of Tensor that give it new values.

In: a tensor and values. Out: the same tensor, rebound to new graph, and with it all that share its
memory (aliases.py). Invariant: no Node changes, so whatever was computed from the old values keeps
them, as PyTorch's results do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import and_
from typing import TYPE_CHECKING, Any

from tgrad.aliases import DETACH, Path, is_shared, leave, replacing
from tgrad.errors import DTypeError, GradientError, ShapeError
from tgrad.graph.node import source_scope
from tgrad.graph.sized import are_same
from tgrad.methods.drawing import DrawingMethods
from tgrad.methods.elementwise import is_complex

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Number = bool | int | float

SAME_SIGNATURE = (
    "abs", "absolute", "acos", "acosh", "addbmm", "addcdiv", "addcmul", "addmm", "addmv", "addr",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh",
    "atan", "atan2", "atanh", "baddbmm", "bitwise_and", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clamp_max", "clamp_min", "clip",
    "copysign", "cos", "cosh", "cumprod", "cumsum", "deg2rad", "digamma", "divide", "eq", "erf",
    "erfc", "erfinv", "exp", "exp2", "expm1", "fix", "float_power", "floor", "floor_divide", "fmod",
    "frac", "gcd", "ge", "greater", "greater_equal", "gt", "heaviside", "hypot", "i0", "igamma",
    "igammac", "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "lcm", "ldexp",
    "le", "lerp", "less", "less_equal", "lgamma", "log", "log10", "log1p", "log2", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logit", "lt", "masked_fill", "masked_scatter",
    "multiply", "mvlgamma", "nan_to_num", "ne", "neg", "negative", "nextafter", "not_equal",
    "polygamma", "put", "rad2deg", "reciprocal", "relu", "remainder", "renorm", "round", "rsqrt",
    "scatter", "scatter_add", "scatter_reduce", "sgn", "sigmoid", "sign", "sin", "sinc", "sinh",
    "sqrt", "square", "subtract", "tan", "tanh", "tril", "triu", "true_divide", "trunc", "xlogy",
)  # fmt: skip
"""Methods that PyTorch has with an underscore too, of the same arguments."""

OPERATORS = {
    "__iand__": "bitwise_and", "__ifloordiv__": "floor_divide", "__ilshift__": "bitwise_left_shift",
    "__imod__": "remainder", "__ior__": "bitwise_or", "__irshift__": "bitwise_right_shift",
    "__ixor__": "bitwise_xor",
}  # fmt: skip
"""Python's operators that change their left side, beside those that are defined below."""

MOVEMENTS = ("squeeze", "swapaxes", "swapdims", "t", "transpose", "unsqueeze")
"""Movement that PyTorch also does to the tensor itself."""


class InPlaceMethods(DrawingMethods):
    """Methods whose names end in an underscore, and assignment to an index."""

    __slots__ = ()

    def _update(self: Any, value: Tensor, name: str) -> Tensor:
        """`_assign` of a result that must fit: PyTorch casts down within a category only.

        Raises:
            DTypeError: a float result for integers, or a number for bools.
            ShapeError: the result is larger.
        """
        order = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
        if order[value.dtype.kind] > order[self.dtype.kind]:
            raise DTypeError(
                f"{name} gives {value.dtype.name}, which does not fit {self.dtype.name}.",
                "Convert the tensor first, or use the function without the underscore.",
            )
        if not are_same(value.shape, self.shape):
            raise ShapeError(
                f"{name} gives shape {value.shape}, which does not fit shape {self.shape}.",
                "In place, only the other operand is broadcast.",
            )
        return self._assign(value)

    def copy_(self: Any, src: Tensor, non_blocking: bool = False) -> Tensor:
        """Take the values of `src`, broadcast and cast.

        Raises:
            DTypeError: they are complex.
        """
        if is_complex(src):
            raise DTypeError("copy_ of complex numbers to a real tensor.", "Take .real of them.")
        src = src.clone() if src.requires_grad and src.is_leaf else src  # a leaf stays one
        value = src.to(self.device).to(self.dtype).expand(self.shape)
        return self._assign(replacing(self, value))

    def zero_(self: Any) -> Tensor:
        """Set all elements to zero."""
        return self.fill_(0)

    def fill_(self: Any, value: Number | Tensor) -> Tensor:
        """Set all elements to a number."""
        from tgrad.tensor import Tensor

        if isinstance(value, Tensor):
            return self.copy_(value)
        return self._assign(self._constant(value, self.dtype).expand(self.shape))

    def add_(self: Any, other: Any, *, alpha: Number = 1) -> Tensor:
        """self += alpha * other."""
        return self._update(self.add(other, alpha=alpha), "add_")

    def sub_(self: Any, other: Any, *, alpha: Number = 1) -> Tensor:
        """self -= alpha * other."""
        return self._update(self.sub(other, alpha=alpha), "sub_")

    def mul_(self: Any, other: Any) -> Tensor:
        """self *= other."""
        return self._update(self * other, "mul_")

    def div_(self: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self /= other."""
        return self._update(self.div(other, rounding_mode=rounding_mode), "div_")

    def pow_(self: Any, exponent: Any) -> Tensor:
        """self **= exponent."""
        return self._update(self**exponent, "pow_")

    def clamp_(self: Any, min: Any = None, max: Any = None) -> Tensor:
        return self._update(self.clamp(min, max), "clamp_")

    def fill_diagonal_(self: Any, fill_value: Number, wrap: bool = False) -> Tensor:
        """Set the diagonal to a number; with `wrap`, also those that follow in a tall matrix.

        Raises:
            ShapeError: one axis, or more than two of several sizes.
        """
        shape = self.shape
        if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
            raise ShapeError(f"fill_diagonal_ of shape {shape}.", "Give a matrix, or equal sizes.")
        first, *others = (self._places(a) for a in range(len(shape)))
        if wrap and len(shape) == 2:
            first = first % (shape[1] + 1)
        hit = functools.reduce(and_, (first == place for place in others))
        return self._assign(self.masked_fill(hit, fill_value))

    def detach_(self: Any) -> Tensor:
        """Without its history from here on, in the same memory.

        Raises:
            GradientError: it is a view.
        """
        if any(step != DETACH for step in self._path):
            raise GradientError("detach_ of a view.", "Use .detach().")
        if self.is_leaf:
            return self.requires_grad_(False)
        was = self._without_history()
        if is_shared(self):
            self._path: Path = (DETACH,)
        self._requires_grad = False
        self._rebind(was._node, was._storage)
        return self

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __ipow__ = pow_
    __itruediv__ = div_

    # -- assignment to an index -----------------------------------------------------------------

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        """self[index] = value, for every index that can be read."""
        from tgrad.tensor import Tensor, tensor

        if is_complex(value):
            raise DTypeError("complex numbers written to a real tensor.", "Take .real of them.")
        with source_scope(label="setitem"):
            if isinstance(value, Tensor) and self._is_at(index, value):
                return
            if not isinstance(value, Tensor):
                value = tensor(value, dtype=self.dtype, device=self.device)
            value = value.to(self.device).to(self.dtype)
            if isinstance(index, Tensor) and index.dtype.is_bool and value.numel() == 1:
                self._assign(self._with_masked(index, value))
            else:
                self._assign(self._with_index(self._index(index), value, "set"))

    def _is_at(self: Any, index: Any, value: Any) -> bool:
        """Whether `value` is self[index] already, as after `self[index] += 1`."""
        if value is not self and (value._memory is None or value._memory is not self._memory):
            return False
        found = self._index(index)
        if found.tensors:
            return False
        place = self._moved(found)
        return place is value or (place._path == value._path and value._token is None)

    def _with_masked(self: Any, mask: Tensor, value: Tensor) -> Tensor:
        """One value where a mask holds; nothing is read."""
        if not are_same(mask.shape, self.shape[: mask.ndim]):
            raise ShapeError(f"a mask of shape {mask.shape} for a tensor of shape {self.shape}.")
        wide = mask.reshape((*mask.shape, *(1,) * (self.ndim - mask.ndim)))
        return value.reshape(()).where(wide, self)


def _in_place(name: str) -> Callable[..., Tensor]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self._update(getattr(self, name)(*args, **kwargs), f"{name}_")

    return method


def _moving(name: str) -> Callable[..., Tensor]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self._become(getattr(self, name)(*args, **kwargs))

    return method


def _add_methods() -> None:
    """The methods of the two tables."""
    for names, make in ((SAME_SIGNATURE, _in_place), (MOVEMENTS, _moving)):
        for name in names:
            method = make(name)
            method.__name__, method.__doc__ = f"{name}_", f"`{name}`, in place."
            method.__qualname__ = f"InPlaceMethods.{name}_"
            setattr(InPlaceMethods, f"{name}_", method)
    for symbol, name in OPERATORS.items():
        setattr(InPlaceMethods, symbol, getattr(InPlaceMethods, f"{name}_"))


_add_methods()


def written(result: Any, out: Any, name: str) -> Any:
    """`out`, a tensor or several, with the values of a result.

    Raises:
        GradientError: the result requires a gradient.
        ShapeError: a tensor of `out` has another shape, and elements.
        DTypeError: the result does not fit its dtype.
    """
    if isinstance(result, (tuple, list)):
        pairs = zip(result, out, strict=True)
        return type(out)(written(r, o, name) for r, o in pairs)
    if result.requires_grad or out.requires_grad:
        raise GradientError(
            f"{name} with out= of operands that require gradients.", "Use the result instead."
        )
    if not out.numel() and not are_same(out.shape, result.shape):
        leave(out)
        out._rebind(result.to(out.dtype)._node, None)
    if not are_same(out.shape, result.shape):
        raise ShapeError(
            f"{name} with out= of shape {out.shape} for a result of shape {result.shape}.",
            "Give a tensor of that shape, or an empty one.",
        )
    return out._update(result, f"{name} with out=")
