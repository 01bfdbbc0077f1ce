"""PyTorch's operators on complex numbers: two real tensors each.

In: an operator, such as aten.mul, one of whose arguments or results is complex. Out: a function of
`Complex` values and tensors of tgrad. Invariant: no dtype of tgrad is complex; where a complex
tensor of torch comes in or goes out, its memory is read as real numbers, a part after the other
along a last axis of two.
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
    "alias", "as_strided", "cat", "clone", "constant_pad_nd", "contiguous", "cumsum", "detach",
    "diagonal", "expand", "flip", "gather", "index", "index_select", "lift_fresh",
    "lift_fresh_copy", "mean", "narrow", "neg", "permute", "repeat", "reshape", "roll", "select",
    "slice", "split", "split_with_sizes", "squeeze", "stack", "sum", "t", "transpose", "unbind",
    "unfold", "unsqueeze", "view", "_unsafe_view",
)  # fmt: skip
"""Operators that do the same to both parts of all complex arguments."""
JOINS = {
    "add": (0, 1), "copy": (0, 1), "index_put": (0, 2), "scatter": (0, 3),
    "select_scatter": (0, 1), "slice_scatter": (0, 1), "sub": (0, 1), "where": (1, 2),
}  # fmt: skip
"""The same; a real tensor or number at these places is a complex one without imaginary part."""


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

    def __mul__(self, other: Complex) -> Complex:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return Complex(a * c - b * d, a * d + b * c)

    def __matmul__(self, other: Complex) -> Complex:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return Complex(a @ c - b @ d, a @ d + b @ c)

    def scaled(self, by: Any) -> Complex:
        """Times a real number, or a tensor of them."""
        return Complex(self.real * by, self.imag * by)

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
    return None


def _by_parts(function: Function, values: Sequence[int]) -> Function:
    """The function of each part; real arguments are the same for both, but for `values`."""

    def picked(value: Any, part: str, is_value: bool) -> Any:
        if isinstance(value, (list, tuple)):
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
    return Complex(real, imag)


@rule("polar")
def _polar(length: Tensor, angle: Tensor) -> Complex:
    return Complex(length * angle.cos(), length * angle.sin())


@rule("_conj", "_conj_physical", "conj_physical")
def _conjugate(z: Complex) -> Complex:
    return z.conjugate()


@rule("resolve_conj", "resolve_neg")
def _same(z: Any) -> Any:
    return z


@rule("_to_copy", "convert_element_type")
def _to_copy(z: Any, dtype: Any = None, device: Any = None) -> Any:
    """Of complex numbers real ones are their real parts."""
    if dtype is not None and not isinstance(dtype, ComplexKind):
        return Complex.of(z).real.to(dtype)
    z = Complex.of(z)
    kind = z.real.dtype if dtype is None else dtype.part
    real, imag = (part.to(kind) for part in (z.real, z.imag))
    return Complex(real, imag) if device is None else Complex(real.to(device), imag.to(device))


# -- creation ------------------------------------------------------------------------------------


def _filled(like: Tensor | None, size: Any, value: Any, dtype: Any, device: Any) -> Complex:
    value = Complex.of(value)
    if like is not None:
        device, own = like.device if device is None else device, like.dtype
        kind = dtype.part if isinstance(dtype, ComplexKind) else own
        size = like.shape if size is None else size
    else:
        kind = dtype.part if isinstance(dtype, ComplexKind) else tgrad.float32
    parts = (
        tgrad.full(tuple(size), v, dtype=kind, device=device) for v in (value.real, value.imag)
    )
    return Complex(*parts)


def _like(z: Any) -> Tensor:
    return z.real if isinstance(z, Complex) else z


@rule("zeros_like", "empty_like")
def _zeros_like(z: Any, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(_like(z), None, 0, dtype, device)


@rule("ones_like")
def _ones_like(z: Any, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(_like(z), None, 1, dtype, device)


@rule("full_like")
def _full_like(z: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(_like(z), None, value, dtype, device)


@rule("new_zeros", "new_empty", "new_empty_strided")
def _new_zeros(
    z: Any, size: Any, stride: Any = None, *, dtype: Any = None, device: Any = None
) -> Complex:
    return _filled(_like(z), size, 0, dtype, device)


@rule("zeros", "empty", "empty_permuted", "empty_strided")
def _zeros(size: Any, order: Any = None, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(None, size, 0, dtype, device)


@rule("full")
def _full(size: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(None, size, value, dtype, device)


@rule("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None) -> Complex:
    return _filled(None, (), value, dtype, device)


# -- arithmetic ----------------------------------------------------------------------------------


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
    other = Complex.of(y)
    made = z * other.conjugate()
    size = other.square()
    return Complex(made.real / size, made.imag / size)


@rule("reciprocal")
def _reciprocal(z: Complex) -> Complex:
    return _div(tgrad.ones_like(z.real), z)


@rule("rsub")
def _rsub(x: Any, y: Any, alpha: float = 1) -> Complex:
    left, right = Complex.of(x), Complex.of(y)
    return Complex(right.real - left.real * alpha, right.imag - left.imag * alpha)


@rule("pow")
def _pow(z: Complex, exponent: Any) -> Complex:
    if not isinstance(exponent, (int, float)) or exponent != int(exponent) or exponent < 0:
        raise UnsupportedError(f"a complex number to the power of {exponent}.")
    made = Complex(tgrad.ones_like(z.real), tgrad.zeros_like(z.real))
    for _ in range(int(exponent)):
        made = made * z
    return made


@rule("exp")
def _exp(z: Complex) -> Complex:
    return _polar(z.real.exp(), z.imag)


@rule("log")
def _log(z: Complex) -> Complex:
    return Complex(_abs(z).log(), _angle(z))


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


@rule("masked_fill")
def _masked_fill(z: Complex, mask: Tensor, value: Any) -> Complex:
    filled = Complex.of(value)
    return Complex(z.real.masked_fill(mask, filled.real), z.imag.masked_fill(mask, filled.imag))


@rule("mm", "bmm", "dot", "mv")
def _product(x: Any, y: Any) -> Complex:
    return Complex.of(x) @ Complex.of(y)


@rule("linalg_vector_norm")
def _norm(
    z: Complex, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    kind = dtype.part if isinstance(dtype, ComplexKind) else dtype
    return tgrad.linalg.vector_norm(_abs(z), ord, dim, keepdim, dtype=kind)


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
