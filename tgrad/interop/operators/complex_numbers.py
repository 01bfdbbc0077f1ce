"""PyTorch's operators of complex numbers, which are two real tensors each.

In: an operator, such as aten.cat, one of whose arguments or results is complex. Out: a function of
complex tensors and tensors of tgrad. Invariant: where a complex tensor of torch comes in or goes
out, its memory is read as real numbers, a part after the other along a last axis of two. Formulas
are those of tgrad/complex_numbers.
Source: https://docs.pytorch.org/docs/stable/complex_numbers.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import tgrad
from tgrad import Tensor
from tgrad.complex_numbers.functions import FUNCTIONS
from tgrad.complex_numbers.parts import in_parts, nonzero
from tgrad.complex_numbers.tensor import ComplexTensor as Complex
from tgrad.dtype import ComplexDType, complex64
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
    "as_strided_scatter": (0, 1), "constant_pad_nd": (0, 2), "copy": (0, 1),
    "diagonal_scatter": (0, 1), "index_add": (0, 3), "index_copy": (0, 3), "index_fill": (0, 3),
    "index_put": (0, 2), "masked_fill": (0, 2), "masked_scatter": (0, 2), "put": (0, 2),
    "scatter": (0, 3), "scatter_add": (0, 3), "select_scatter": (0, 1), "slice_scatter": (0, 1),
    "where": (1, 2),
}  # fmt: skip
"""The same; a real tensor or number at these places is a complex one without imaginary part."""

SIZES = ("sym_numel", "sym_size", "sym_storage_offset", "sym_stride")
"""What is asked of a tensor's memory, in elements."""


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
        return in_parts(Complex, real(), JOINS.get(name, ()))
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if name in SIZES:
        function = real()
        return lambda z, *args, **kwargs: function(z.real, *args, **kwargs)
    return None


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


@rule("_conj", "_conj_physical")
def _conjugate(z: Complex) -> Complex:
    return z.conjugate()


@rule("_to_copy", "convert_element_type")
def converted(z: Any, dtype: Any = None, device: Any = None) -> Any:
    """Of complex numbers real ones are their real parts, truth is whether they are not 0."""
    if isinstance(z, Tensor) and isinstance(dtype, ComplexDType):
        z = z.to(dtype.part)
    z = Complex.of(z)
    if dtype is tgrad.bool:
        return nonzero(z)
    if dtype is not None and not isinstance(dtype, ComplexDType):
        return z.real.to(dtype)
    kind = z.real.dtype if dtype is None else dtype.part
    real, imag = (part.to(kind) for part in (z.real, z.imag))
    return Complex(real, imag) if device is None else Complex(real.to(device), imag.to(device))


# -- creation ------------------------------------------------------------------------------------


def _filled(like: Any, size: Any, value: Any, dtype: Any, device: Any) -> Any:
    """A tensor of one value; what is not said is as in `like`."""
    if isinstance(like, Complex):
        dtype, like = like.dtype if dtype is None else dtype, like.real
    if like is not None:
        device, size = device or like.device, like.shape if size is None else size
    if not isinstance(dtype, ComplexDType):
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
    return _filled(None, size, value, dtype or complex64, device)


@rule("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return _filled(None, (), value, dtype or complex64, device)


# -- Fourier transforms --------------------------------------------------------------------------

FORWARD, INVERSE = ("backward", "ortho", "forward"), ("forward", "ortho", "backward")
"""How the results are scaled: not, by the root of the number of elements, by that number."""


@rule("_fft_r2c")
def _fft_of_real(x: Tensor, dim: Any, normalization: int, onesided: bool) -> Complex:
    norm, axes = FORWARD[normalization], tuple(d % x.ndim for d in dim)
    transform = tgrad.fft.rfftn if onesided else tgrad.fft.fftn
    return transform(x, dim=axes, norm=norm)


@rule("_fft_c2c")
def _fft(z: Complex, dim: Any, normalization: int, forward: bool) -> Complex:
    norm = (FORWARD if forward else INVERSE)[normalization]
    transform = tgrad.fft.fftn if forward else tgrad.fft.ifftn
    axes = tuple(d % z.real.ndim for d in dim)
    return transform(z, dim=axes, norm=norm)


@rule("_fft_c2r")
def _fft_to_real(z: Complex, dim: Any, normalization: int, last_dim_size: int) -> Tensor:
    axes = tuple(d % z.real.ndim for d in dim)
    sizes = (*(z.real.shape[d] for d in axes[:-1]), last_dim_size)
    return tgrad.fft.irfftn(z, s=sizes, dim=axes, norm=INVERSE[normalization])
