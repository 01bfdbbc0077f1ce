"""Products of 8-bit floats with scales.

In: matrices of float8_e4m3fn or float8_e5m2 and float32 scales. Out: lazy tensors. Invariant: the
product is one dot of the 8-bit values with float32 sums, and scales, bias and rounding are its
epilogue, so that it is one kernel, on the matrix unit where that takes 8-bit floats.
Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import DTypeError, GradientError, ShapeError, UnsupportedError
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = ["ScalingType", "SwizzleType", "scaled_mm"]


class ScalingType(IntEnum):
    """Which elements share a scale; `scaled_mm` takes the first two."""

    TensorWise = 0
    RowWise = 1
    BlockWise1x16 = 2
    BlockWise1x32 = 3
    BlockWise1x128 = 4
    BlockWise128x128 = 5


class SwizzleType(IntEnum):
    """How scales of blocks lie in memory."""

    NO_SWIZZLE = 0
    SWIZZLE_32_4_4 = 1


@labelled("scaled_mm")
def scaled_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    scale_a: Tensor | Sequence[Tensor],
    scale_recipe_a: ScalingType | Sequence[ScalingType],
    scale_b: Tensor | Sequence[Tensor],
    scale_recipe_b: ScalingType | Sequence[ScalingType],
    swizzle_a: Any = None,
    swizzle_b: Any = None,
    bias: Tensor | None = None,
    output_dtype: DType | None = dt.bfloat16,
    contraction_dim: Sequence[int] = (),
    use_fast_accum: bool = False,
) -> Tensor:
    """(mat_a * scale_a) @ (mat_b * scale_b) + bias, with sums in float32.

    Fastest where mat_b is the transpose of a matrix (N, K), as PyTorch asks for.

    Args:
        mat_a: (M, K), float8_e4m3fn or float8_e5m2.
        mat_b: (K, N), one of them too.
        scale_a, scale_b: float32: of one element for TensorWise, (M, 1) and (1, N) for RowWise.
        scale_recipe_a, scale_recipe_b: TensorWise or RowWise, the same for both.
        swizzle_a, swizzle_b: None or NO_SWIZZLE.
        bias: (N,).
        output_dtype: of the result; by default bfloat16, None for that of mat_a.
        contraction_dim: empty or (1, 0), which is the same.
        use_fast_accum: accepted; it allows sums of fewer bits, which are not used.

    Raises:
        DTypeError: an operand is no 8-bit float, or a scale is not float32.
        ShapeError: the shapes do not fit.
        UnsupportedError: another recipe, a swizzle or another contraction.
        GradientError: in the backward pass, which PyTorch does not have either.

    >>> import tgrad, tgrad.nn.functional as F
    >>> a = tgrad.ones(2, 4).to(tgrad.float8_e4m3fn)
    >>> one, by = tgrad.tensor(1.0), F.ScalingType.TensorWise
    >>> F.scaled_mm(a, a.t(), one, by, one / 2, by).tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    for name, swizzle in (("swizzle_a", swizzle_a), ("swizzle_b", swizzle_b)):
        if swizzle is not None and _single(name, swizzle) != SwizzleType.NO_SWIZZLE:
            raise UnsupportedError(f"scaled_mm: {name}={swizzle!r}.", "Leave it out.")
    if tuple(contraction_dim) not in ((), (1, 0)):
        raise UnsupportedError(
            f"scaled_mm: contraction_dim={tuple(contraction_dim)}.", "Transpose the operands."
        )
    recipes = [_single("scale_recipe", r) for r in (scale_recipe_a, scale_recipe_b)]
    if recipes[0] != recipes[1] or recipes[0] not in (ScalingType.TensorWise, ScalingType.RowWise):
        raise UnsupportedError(
            f"scaled_mm: scales by {recipes[0]!s} and {recipes[1]!s}.",
            "Use ScalingType.TensorWise or ScalingType.RowWise for both.",
        )
    scales = _single("scale_a", scale_a), _single("scale_b", scale_b)
    _check_operands(mat_a, mat_b)
    rows, columns = mat_a.shape[0], mat_b.shape[1]
    wanted = ((rows, 1), (1, columns)) if recipes[0] == ScalingType.RowWise else (None, None)
    wide = [_checked_scale(n, s, w) for n, s, w in zip(("scale_a", "scale_b"), scales, wanted)]
    result = mat_a._dot(mat_b, ((1,), (0,)), dtype=dt.float32) * wide[0] * wide[1]
    if bias is not None:
        if bias.shape != (columns,):
            raise ShapeError(
                f"scaled_mm: bias of shape {bias.shape}.", f"Its shape must be {(columns,)}."
            )
        result = result + bias.to(dt.float32)
    result = result.to(mat_a.dtype if output_dtype is None else output_dtype)
    return with_vjp("scaled_mm", result, mat_a, mat_b)


@define_vjp("scaled_mm")
def _no_gradient(g: Tensor, y: Tensor, mat_a: Tensor, mat_b: Tensor) -> tuple[None, None]:
    raise GradientError(
        "scaled_mm has no derivative, as in PyTorch.",
        "Wrap it in an autograd.Function whose backward says with which scales it multiplies.",
    )


def _single(name: str, value: Any) -> Any:
    """The value, or the only one of a sequence."""
    if not isinstance(value, (list, tuple)):
        return value
    if len(value) != 1:
        raise UnsupportedError(f"scaled_mm: {name} with {len(value)} levels.", "Give one.")
    return value[0]


def _check_operands(a: Tensor, b: Tensor) -> None:
    if not (a.dtype.is_float8 and b.dtype.is_float8):
        raise DTypeError(
            f"scaled_mm of {a.dtype.name} and {b.dtype.name}.",
            "Both must be 8-bit floats, such as x.to(tgrad.float8_e4m3fn).",
        )
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(
            f"scaled_mm of shapes {a.shape} and {b.shape}.", "They must be (M, K) and (K, N)."
        )


def _checked_scale(name: str, scale: Tensor, shape: tuple[int, int] | None) -> Tensor:
    """A scale that broadcasts against the product."""
    if scale.dtype is not dt.float32:
        raise DTypeError(f"scaled_mm: {name} of {scale.dtype.name}.", "Scales are float32.")
    if shape is None and scale.numel() == 1:
        return scale.reshape(())
    if scale.shape != shape:
        wanted = "one element" if shape is None else f"shape {shape}"
        raise ShapeError(f"scaled_mm: {name} of shape {scale.shape}.", f"Give {wanted}.")
    return scale
