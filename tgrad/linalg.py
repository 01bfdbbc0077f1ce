"""Linear algebra, under the names of torch.linalg.

In: vectors and matrices, batched in the leading axes. Out: lazy tensors. Invariant: what factors a
matrix comes from factorizations.py, the rest is sums and products; norms are computed in float32
for float16 and bfloat16. Source: https://docs.pytorch.org/docs/stable/linalg.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from tgrad.complex_forms import complex_form
from tgrad.creation import eye
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.errors import LinAlgError as LinAlgError
from tgrad.factorizations import *  # noqa: F403
from tgrad.factorizations import (
    QR,
    cholesky,
    inv,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
)  # fmt: skip
from tgrad.joining import stack
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.reduction import Dim, normal_axes, normal_axis
from tgrad.pivoting import *  # noqa: F403
from tgrad.pivoting import lu_factor, lu_factor_ex, lu_solve
from tgrad.reflections import *  # noqa: F403
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

Order = float | str


@complex_form("linalg.vector_norm")
@labelled("norm")
def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: Dim = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over axes; the largest for inf, the smallest for -inf, a count for 0.

    Raises:
        DTypeError: the dtype is not floating point.

    >>> import tgrad
    >>> tgrad.linalg.vector_norm(tgrad.tensor([3.0, -4.0])).item()
    5.0
    """
    x = x if dtype is None else x.to(dtype)
    if not x.dtype.is_float:
        raise DTypeError(f"norm of a tensor of {x.dtype.name}.", "Use .float() or pass dtype=.")
    wide, axes = x.to(x.dtype.accumulator), normal_axes(dim, x.ndim)
    size = wide.abs()
    if ord == 0:
        count = (wide != 0).to(wide.dtype).sum(axes, keepdim=True)
        y = with_vjp("count", count, wide)
    elif ord == 1:
        y = size.sum(axes, keepdim=True)
    elif math.isinf(ord):
        y = size.amax(axes, keepdim=True) if ord > 0 else size.amin(axes, keepdim=True)
    else:
        total = (wide * wide if ord == 2 else size ** float(ord)).sum(axes, keepdim=True)
        y = total.sqrt() if ord == 2 else total ** (1.0 / ord)
        y = with_vjp("vector_norm", y, wide, params=(float(ord),))
    kept = tuple(n for a, n in enumerate(x.shape) if a not in axes)
    return (y if keepdim or not x.shape else y.reshape(kept)).to(x.dtype)


@define_vjp("count")
def _count_backward(g: Tensor, y: Tensor, x: Tensor) -> tuple[None]:
    """No gradient, as PyTorch has none"""
    return (None,)


@define_vjp("vector_norm")
def _vector_norm_backward(g: Tensor, y: Tensor, x: Tensor, ord: float) -> tuple[Tensor]:
    """g * sign(x) * (|x| / y)^(ord - 1), and 0 where x or y is 0"""
    empty = (y == 0) | (x == 0)
    share = x.abs() / y.where(y != 0, 1.0)
    slope = share if ord == 2 else share.where(~empty, 1.0) ** (ord - 1.0)
    return ((g * slope * x.sign()).where(~empty, 0.0),)


@labelled("matrix_norm")
def matrix_norm(
    A: Tensor,
    ord: Order = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """The norm of matrices: "fro"; the largest (smallest) sum of a column, 1 (-1), or of a row,
    inf (-inf), or singular value, 2 (-2); the sum of singular values, "nuc".

    Raises:
        UnsupportedError: another `ord`.

    >>> import tgrad
    >>> tgrad.linalg.matrix_norm(tgrad.ones(2, 3), 1).item()
    2.0
    """
    x = A if dtype is None else A.to(dtype)
    rows, columns = (normal_axis(d, x.ndim) for d in dim)
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(x.movedim((rows, columns), (-2, -1)))
        values = values.sum(-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
        kept = tuple(1 if a in (rows, columns) else n for a, n in enumerate(x.shape))
        return values.reshape(kept) if keepdim else values
    if not isinstance(ord, (int, float)) or abs(ord) not in (1, math.inf):
        raise UnsupportedError(
            f"matrix_norm: ord={ord!r}.", 'Use "fro", "nuc", 1, -1, 2, -2, inf or -inf.'
        )
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    totals = x.abs().sum(inner, keepdim=True)
    found = totals.amax(outer, keepdim=True) if ord > 0 else totals.amin(outer, keepdim=True)
    return found if keepdim else found.squeeze((rows, columns))


def norm(
    A: Tensor,
    ord: Order | None = None,
    dim: Dim = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """`matrix_norm` where `ord` is given and two axes are named (or there are two), else
    `vector_norm`.

    >>> import tgrad
    >>> tgrad.linalg.norm(tgrad.ones(2, 2)).item()
    2.0
    """
    axes = normal_axes(dim, A.ndim)
    is_matrix = ord is not None and len(axes) == 2
    if is_matrix or isinstance(ord, str):
        order: Order = "fro" if ord is None else ord
        given = axes if dim is None or isinstance(dim, int) else tuple(dim)
        return matrix_norm(A, order, given, keepdim, dtype=dtype)
    return vector_norm(A, 2 if ord is None else float(ord), dim, keepdim, dtype=dtype)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of matrices, as the last axis.

    >>> import tgrad
    >>> tgrad.linalg.diagonal(tgrad.eye(2)).tolist()
    [1.0, 1.0]
    """
    return A.diagonal(offset, dim1, dim2)


@complex_form("linalg.vecdot")
@labelled("vecdot")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Inner products along an axis.

    >>> import tgrad
    >>> tgrad.linalg.vecdot(tgrad.ones(3), tgrad.ones(3)).item()
    3.0
    """
    return (x * y).sum(dim)


@labelled("cross")
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along an axis of size 3.

    Raises:
        ShapeError: the axis has another size.

    >>> import tgrad
    >>> tgrad.linalg.cross(tgrad.tensor([1.0, 0, 0]), tgrad.tensor([0.0, 1, 0])).tolist()
    [0.0, 0.0, 1.0]
    """
    shape = broadcast_shapes(input.shape, other.shape)
    axis = normal_axis(dim, len(shape))
    if shape[axis] != 3 or input.ndim != other.ndim:
        raise ShapeError(
            f"cross of shapes {input.shape} and {other.shape} along axis {dim}.",
            "Both need as many axes, and 3 elements along that one.",
        )
    a, b = input.expand(shape), other.expand(shape)
    return a.roll(-1, axis) * b.roll(1, axis) - a.roll(1, axis) * b.roll(-1, axis)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """`tgrad.matmul`."""
    return input.matmul(other)


@labelled("matrix_power")
def matrix_power(A: Tensor, n: int) -> Tensor:
    """A matrix times itself, n times, by repeated squares; its inverse for a negative n.

    >>> import tgrad
    >>> tgrad.linalg.matrix_power(tgrad.tensor([[1.0, 1.0], [0.0, 1.0]]), 3).tolist()
    [[1.0, 3.0], [0.0, 1.0]]
    """
    if n < 0:
        return matrix_power(inv(A), -n)
    if n == 0:
        return eye(A.shape[-1], dtype=A.dtype, device=A.device).expand(A.shape)
    power = A
    while n % 2 == 0:
        power, n = power.matmul(power), n // 2
    result = power.clone()
    while n > 1:
        power, n = power.matmul(power), n // 2
        result = result.matmul(power) if n % 2 else result
    return result


EXPONENTIAL_TERMS = {"float32": 9, "float64": 16}
"""Of the series, for a norm of at most 1/2: the next is below the dtype's rounding."""
SQUARINGS = {"float32": 20, "float64": 49}
"""Enough for norms of 2^19 and 2^48: the rounding of a larger matrix alone moves its exponential by
more than a sixteenth."""


@complex_form("linalg.matrix_exp")
@labelled("matrix_exp")
def matrix_exp(A: Tensor) -> Tensor:
    """The sum of A^k / k!, by the series of A / 2^s, squared s times.

    s depends on the matrix and is chosen on the device. PyTorch takes any norm; here the result is
    NaN beyond a 1-norm of 2^19 in float32 and 2^48 in float64, as are its gradients.

    Args:
        A: (.., n, n), float32 or float64; half types are computed in float32.

    >>> import tgrad
    >>> tgrad.linalg.matrix_exp(tgrad.zeros(2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ShapeError(f"matrix_exp of shape {A.shape}.", "Give square matrices.")
    if A.dtype.is_float and A.dtype.itemsize == 2:
        return matrix_exp(A.float()).to(A.dtype)
    if A.dtype.name not in EXPONENTIAL_TERMS:
        raise DTypeError(f"matrix_exp of {A.dtype.name}.", "Use float32 or float64.")
    if 0 in A.shape:
        return A.clone()
    largest = A.detach().abs().sum(-2, keepdim=True).amax(-1, keepdim=True)
    count = (largest * 2).maximum(1.0).log2().ceil()
    limit = SQUARINGS[A.dtype.name]
    known = A.new_ones(()).where(count <= limit, math.nan)
    count = count.clamp(0, limit)
    small = A * (-count).exp2()
    identity = (A._places(A.ndim - 2) == A._places(A.ndim - 1)).to(A.dtype)
    result = identity + small * (1.0 / EXPONENTIAL_TERMS[A.dtype.name])
    for k in range(EXPONENTIAL_TERMS[A.dtype.name] - 1, 0, -1):
        result = identity + small.matmul(result) * (1.0 / k)
    for number in range(limit):
        result = result.matmul(result).where(count > number, result)
    return result * known


@labelled("tensorinv")
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of A as a matrix whose rows are its first `ind` axes.

    >>> import tgrad
    >>> tgrad.linalg.tensorinv(tgrad.eye(4).reshape(4, 2, 2), ind=1).shape
    (2, 2, 4)
    """
    rows, columns = A.shape[: max(ind, 0)], A.shape[max(ind, 0) :]
    if ind <= 0 or math.prod(rows) != math.prod(columns):
        raise ShapeError(
            f"tensorinv of shape {A.shape}, ind={ind}.", "Both parts have as many elements."
        )
    return inv(A.reshape(math.prod(rows), math.prod(columns))).reshape(*columns, *rows)


@labelled("tensorsolve")
def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B.

    Args:
        A: whose first axes are B's, and whose others are X's; `dims` are moved to its end first.
    """
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A.shape[B.ndim :]
    if math.prod(shape) != B.numel() or A.numel() != B.numel() ** 2:
        raise ShapeError(
            f"tensorsolve of shapes {A.shape} and {B.shape}.", "A is square, with B's axes first."
        )
    return solve(A.reshape(B.numel(), B.numel()), B.reshape(-1)).reshape(shape)


class TriangularSolution(NamedTuple):
    """Of `triangular_solve`."""

    solution: Tensor
    cloned_coefficient: Tensor


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> TriangularSolution:
    """PyTorch's older `solve_triangular`, with the matrix second; also returns the matrix."""
    matrix = A.mT if transpose else A
    is_upper = upper != transpose
    found = solve_triangular(matrix, b, upper=is_upper, unitriangular=unitriangular)
    return TriangularSolution(found, A.clone())


@labelled("multi_dot")
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices, the first and the last of which may be vectors, in the order that
    takes the fewest multiplications.

    >>> import tgrad
    >>> tgrad.linalg.multi_dot([tgrad.ones(2), tgrad.ones(2, 3), tgrad.ones(3)]).item()
    6.0
    """
    given = list(tensors)
    if len(given) < 2:
        raise ShapeError(f"multi_dot of {len(given)} tensors.", "Give at least two.")
    is_row, is_column = given[0].ndim == 1, given[-1].ndim == 1
    given[0] = given[0].unsqueeze(0) if is_row else given[0]
    given[-1] = given[-1].unsqueeze(1) if is_column else given[-1]
    product = _product(given, _splits([t.shape[0] for t in given] + [given[-1].shape[1]]))
    product = product.squeeze(0) if is_row else product
    return product.squeeze(-1) if is_column else product


def _splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut each run of matrices i..j, by dynamic programming over the cost."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    cuts: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], cuts[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return cuts


def _product(given: list[Tensor], cuts: dict[tuple[int, int], int]) -> Tensor:
    def between(i: int, j: int) -> Tensor:
        if i == j:
            return given[i]
        cut = cuts[i, j]
        return between(i, cut).matmul(between(cut + 1, j))

    return between(0, len(given) - 1)


@labelled("vander")
def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Powers 0 to N - 1 of each element, as the last axis; of integers in int64.

    >>> import tgrad
    >>> tgrad.linalg.vander(tgrad.tensor([2, 3]), N=3).tolist()
    [[1, 2, 4], [1, 3, 9]]
    """
    x = x if x.ndim else x.reshape(1)
    x = x if x.dtype.is_float or x.dtype.is_complex else x.long()
    count = x.shape[-1] if N is None else N
    columns: list[Any] = [x._constant(1, x.dtype).expand(x.shape)]
    while len(columns) < count:
        columns.append(columns[-1] * x)
    return stack(columns[:count], -1)


@complex_form("logdet")
@labelled("logdet")
def logdet(A: Tensor) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative.

    >>> import tgrad
    >>> tgrad.logdet(tgrad.eye(2)).item()
    0.0
    """
    sign, value = slogdet(A)
    return value.where(sign >= 0, math.nan)


@complex_form("cholesky_solve")
@labelled("cholesky_solve")
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X of A X = B, where A = L Lᵀ (with `upper`, A = Lᵀ L).

    >>> import tgrad
    >>> tgrad.cholesky_solve(tgrad.ones(2, 1), tgrad.eye(2) * 2).tolist()
    [[0.25], [0.25]]
    """
    lower = L.mT if upper else L
    return solve_triangular(lower.mT, solve_triangular(lower, B, upper=False), upper=True)


@complex_form("cholesky_inverse")
@labelled("cholesky_inverse")
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A = L Lᵀ (with `upper`, of Lᵀ L).

    >>> import tgrad
    >>> tgrad.cholesky_inverse(tgrad.eye(2) * 2).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    n = L.shape[-1]
    eye = (L._places(L.ndim - 2) == L._places(L.ndim - 1)).to(L.dtype)
    return cholesky_solve(eye, L, upper) if n else L


# -- older names ---------------------------------------------------------------------------------


class SVDWithV(NamedTuple):
    """Of `tgrad.svd`."""

    U: Tensor
    S: Tensor
    V: Tensor


def reduced_svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVDWithV:
    """`tgrad.svd`: `svd` with V in place of its transpose; zeros for U and V without compute_uv.

    >>> import tgrad
    >>> tgrad.svd(tgrad.eye(2)).S.tolist()
    [1.0, 1.0]
    """
    U, S, Vh = svd(input, not some)
    if compute_uv:
        return SVDWithV(U, S, Vh.mH)
    return SVDWithV(U.detach() * 0, S, Vh.mH.detach() * 0)


def some_qr(input: Tensor, some: bool = True) -> QR:
    """`tgrad.qr`: reduced, or complete without `some`.

    >>> import tgrad
    >>> tgrad.qr(tgrad.eye(2)).Q.shape
    (2, 2)
    """
    return qr(input, "reduced" if some else "complete")


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """`pinv` with singular values up to rcond * the largest left out.

    >>> import tgrad
    >>> tgrad.pinverse(tgrad.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return pinv(input, rtol=rcond)


def positional_cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """`tgrad.cholesky`.

    >>> import tgrad
    >>> tgrad.cholesky(tgrad.eye(2) * 4).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    return cholesky(input, upper=upper)


def packed_lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """`tgrad.lu`: `lu_factor`, with get_infos `lu_factor_ex`.

    >>> import tgrad
    >>> tgrad.lu(tgrad.eye(2))[1].tolist()
    [1, 2]
    """
    if get_infos:
        return tuple(lu_factor_ex(A, pivot=pivot))
    return tuple(lu_factor(A, pivot=pivot))


def older_lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """`tgrad.lu_solve`: the right-hand side comes first.

    >>> import tgrad
    >>> tgrad.lu_solve(tgrad.ones(2, 1), *tgrad.lu(tgrad.eye(2) * 2)).tolist()
    [[0.5], [0.5]]
    """
    return lu_solve(LU_data, LU_pivots, b)


def __getattr__(name: str) -> object:
    if name in ("eig", "eigvals"):
        return getattr(import_module("tgrad.complex_numbers.decompositions"), name)
    raise AttributeError(f"module 'tgrad.linalg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "eig", "eigvals"]
