"""Complex numbers of PyTorch's operators: two real tensors each.

In: an operator, such as aten.cat, one of whose arguments or results is complex. Out: a function of
`Complex` values and tensors of tgrad. Invariant: no dtype of tgrad is complex; where a complex
tensor of torch comes in or goes out, its memory is read as real numbers, a part after the other
along a last axis of two. Here is what moves and makes numbers; complex_functions.py computes.
Source: https://docs.pytorch.org/docs/stable/complex_numbers.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import tgrad
from tgrad import Tensor
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Function, rules_of

RULES: dict[str, Function] = {}
PARTS = {torch.complex64: tgrad.float32, torch.complex128: tgrad.float64}
"""Complex dtypes, and those of their parts."""

MOVES = (
    "alias", "as_strided", "as_strided_copy", "cat", "clone", "contiguous", "cumsum", "detach",
    "diagonal", "expand", "flip", "gather", "index", "index_select", "lift_fresh",
    "lift_fresh_copy", "masked_scatter_backward", "mean", "narrow", "narrow_copy", "neg", "permute",
    "permute_copy", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "repeat",
    "replication_pad1d", "replication_pad1d_backward", "replication_pad2d",
    "replication_pad2d_backward", "replication_pad3d", "replication_pad3d_backward", "reshape",
    "roll", "select", "slice", "split", "split_with_sizes", "squeeze", "stack", "sum", "t", "take",
    "transpose", "tril", "triu", "unbind", "unbind_copy", "unfold", "_unsafe_view", "unsqueeze",
    "view", "view_copy",
)  # fmt: skip
"""Operators that do the same to both parts of all complex arguments."""
JOINS = {
    "add": (0, 1), "as_strided_scatter": (0, 1), "constant_pad_nd": (0, 2), "copy": (0, 1),
    "diagonal_scatter": (0, 1), "index_add": (0, 3), "index_copy": (0, 3), "index_fill": (0, 3),
    "index_put": (0, 2), "masked_fill": (0, 2), "masked_scatter": (0, 2), "put": (0, 2),
    "scatter": (0, 3), "scatter_add": (0, 3), "select_scatter": (0, 1), "slice_scatter": (0, 1),
    "sub": (0, 1), "where": (1, 2),
}  # fmt: skip
"""The same; a real tensor or number at these places is a complex one without imaginary part."""

SIZES = ("sym_size", "sym_storage_offset", "sym_stride")
"""What is asked of a tensor's memory, in elements."""


@dataclass(frozen=True, eq=False)
class Complex:
    """A complex tensor, or a number. `real` and `imag` have its shape."""

    real: Any
    imag: Any

    @staticmethod
    def of(value: Any) -> Complex:
        """A complex value as it is; a real one with an imaginary part of 0."""
        if isinstance(value, Complex):
            return value
        if isinstance(value, Tensor):
            return Complex(value, tgrad.zeros_like(value))
        return Complex(complex(value).real, complex(value).imag)

    @staticmethod
    def from_pairs(pairs: Tensor) -> Complex:
        """Of a tensor whose last axis has both parts."""
        return Complex(pairs.select(-1, 0), pairs.select(-1, 1))

    def pairs(self) -> Tensor:
        """Both parts along a last axis."""
        return tgrad.stack((self.real, self.imag), -1)

    def __add__(self, other: Complex) -> Complex:
        return Complex(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: Complex) -> Complex:
        return Complex(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: Complex) -> Complex:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return Complex(a * c - b * d, a * d + b * c)

    def __matmul__(self, other: Complex) -> Complex:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return Complex(a @ c - b @ d, a @ d + b @ c)

    def scaled(self, by: Any) -> Complex:
        """Times a real number, or a tensor of them."""
        return Complex(self.real * by, self.imag * by)

    def turned(self) -> Complex:
        """Times i."""
        return Complex(-self.imag, self.real)

    def conjugate(self) -> Complex:
        return Complex(self.real, -self.imag)

    def square(self) -> Any:
        """Of the absolute value."""
        return self.real * self.real + self.imag * self.imag


@dataclass(frozen=True)
class ComplexKind:
    """A complex dtype, by the dtype of its parts."""

    part: DType


def is_complex(value: Any) -> bool:
    """Whether a tensor of torch, or its stand-in while tracing, is complex."""
    return isinstance(value, torch.Tensor) and value.dtype in PARTS


rule = rules_of(RULES)


def complex_operator(name: str, real: Callable[[], Function]) -> Function | None:
    """The function of an operator; None if there is none.

    Args:
        name: of the operator, without its overload.
        real: what the operator is for real tensors; called if it is that for each part.
    """
    if name in RULES:
        return RULES[name]
    if name in MOVES or name in JOINS:
        return _by_parts(real(), JOINS.get(name, ()))
    if name in SIZES:
        function = real()
        return lambda z, *args, **kwargs: function(z.real, *args, **kwargs)
    return None


def _by_parts(function: Function, values: Sequence[int]) -> Function:
    """The function of each part; real arguments are the same for both, but for `values` and for
    what stands in a list beside complex ones."""

    def picked(value: Any, part: str, is_value: bool) -> Any:
        if isinstance(value, (list, tuple)):
            is_value = is_value or any(isinstance(v, Complex) for v in value)
            return type(value)(picked(v, part, is_value) for v in value)
        is_complex = isinstance(value, (Complex, complex)) or is_value
        return getattr(Complex.of(value), part) if is_complex else value

    def apply(*args: Any, **kwargs: Any) -> Any:
        dtype = kwargs.pop("dtype", None)
        if isinstance(dtype, ComplexKind):
            kwargs["dtype"] = dtype.part
        elif dtype is not None:
            raise UnsupportedError(f"complex numbers with a result of {dtype.name}.")
        real, imag = (
            function(*(picked(v, part, at in values) for at, v in enumerate(args)), **kwargs)
            for part in ("real", "imag")
        )
        if isinstance(real, (list, tuple)):
            return [Complex(*pair) for pair in zip(real, imag)]
        return Complex(real, imag)

    return apply


# -- parts ---------------------------------------------------------------------------------------


@rule("view_as_complex")
def _from_real(pairs: Tensor) -> Complex:
    return Complex.from_pairs(pairs)


@rule("view_as_real")
def _as_real(z: Complex) -> Tensor:
    return z.pairs()


@rule("real")
def _real(z: Complex) -> Tensor:
    return z.real


@rule("imag")
def _imag(z: Complex) -> Tensor:
    return z.imag


@rule("complex")
def _complex(real: Tensor, imag: Tensor) -> Complex:
    return Complex(*tgrad.broadcast_tensors(real, imag))


def nonzero(value: Any) -> Any:
    """Whether each number is not 0."""
    return (value.real != 0) | (value.imag != 0) if isinstance(value, Complex) else value != 0


@rule("_conj", "_conj_physical", "conj_physical")
def _conjugate(z: Complex) -> Complex:
    return z.conjugate()


@rule("resolve_conj", "resolve_neg")
def _same(z: Any) -> Any:
    return z


@rule("_to_copy", "convert_element_type")
def converted(z: Any, dtype: Any = None, device: Any = None) -> Any:
    """Of complex numbers real ones are their real parts, truth is whether they are not 0."""
    z = Complex.of(z)
    if dtype is tgrad.bool:
        return nonzero(z)
    if dtype is not None and not isinstance(dtype, ComplexKind):
        return z.real.to(dtype)
    kind = z.real.dtype if dtype is None else dtype.part
    real, imag = (part.to(kind) for part in (z.real, z.imag))
    return Complex(real, imag) if device is None else Complex(real.to(device), imag.to(device))


# -- creation ------------------------------------------------------------------------------------


def _filled(like: Any, size: Any, value: Any, dtype: Any, device: Any) -> Any:
    """A tensor of one value; what is not said is as in `like`."""
    if isinstance(like, Complex):
        dtype, like = ComplexKind(like.real.dtype) if dtype is None else dtype, like.real
    if like is not None:
        device, size = device or like.device, like.shape if size is None else size
    if not isinstance(dtype, ComplexKind):
        return tgrad.full(tuple(size), value, dtype=dtype, device=device)
    value = Complex.of(value)
    return Complex(
        *(
            tgrad.full(tuple(size), part, dtype=dtype.part, device=device)
            for part in (value.real, value.imag)
        )
    )


@rule("zeros_like", "empty_like")
def _zeros_like(z: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(z, None, 0, dtype, device)


@rule("ones_like")
def _ones_like(z: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(z, None, 1, dtype, device)


@rule("full_like")
def _full_like(z: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(z, None, value, dtype, device)


@rule("new_zeros", "new_empty", "new_empty_strided")
def _new_zeros(
    z: Any, size: Any, stride: Any = None, *, dtype: Any = None, device: Any = None
) -> Any:
    return _filled(z, size, 0, dtype, device)


@rule("zeros", "empty", "empty_permuted", "empty_strided", "_efficientzerotensor")
def _zeros(size: Any, order: Any = None, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(None, size, 0, dtype, device)


@rule("full")
def _full(size: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(None, size, value, dtype or ComplexKind(tgrad.float32), device)


@rule("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(None, (), value, dtype or ComplexKind(tgrad.float32), device)
