"""LU factorisations with pivoting, and factorisations that report and do not raise.

In: tensors whose last two axes are matrices. Out: lazy tensors. Invariant: what LAPACK calls info
is a tensor (int32): 0, or the number from 1 of the pivot or leading minor that failed.
Source: https://docs.pytorch.org/docs/stable/linalg.html
"""

from __future__ import annotations

from typing import NamedTuple

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.complex_forms import complex_form
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.factorizations import (
    call_library,
    check_matrices,
    check_rows,
    cholesky,
    eye_like,
    results_of,
    solve_triangular,
    with_batch,
)
from tgrad.joining import cat
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = [
    "cholesky_ex", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lu", "lu_factor",
    "lu_factor_ex", "lu_solve", "lu_unpack", "solve_ex",
]  # fmt: skip


class LU(NamedTuple):
    """Of `lu` and `lu_unpack`."""

    P: Tensor
    L: Tensor
    U: Tensor


class LUFactor(NamedTuple):
    """Of `lu_factor`."""

    LU: Tensor
    pivots: Tensor


class LUFactorEx(NamedTuple):
    """Of `lu_factor_ex`."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


class LDLFactor(NamedTuple):
    """Of `ldl_factor`."""

    LD: Tensor
    pivots: Tensor


class LDLFactorEx(NamedTuple):
    """Of `ldl_factor_ex`."""

    LD: Tensor
    pivots: Tensor
    info: Tensor


class CholeskyEx(NamedTuple):
    """Of `cholesky_ex`."""

    L: Tensor
    info: Tensor


class InvEx(NamedTuple):
    """Of `inv_ex`."""

    inverse: Tensor
    info: Tensor


class SolveEx(NamedTuple):
    """Of `solve_ex`."""

    result: Tensor
    info: Tensor


# -- LU ------------------------------------------------------------------------------------------


def _factor(name: str, A: Tensor, check: bool) -> LUFactor:
    check_matrices(name, A)
    packed = with_vjp("linalg_lu", call_library("lu", A, params=(check,)), A, params=(check,))
    factor, swaps = results_of("lu", packed, A, check)
    return LUFactor(factor, swaps.detach().to(dt.int32))


@complex_form("linalg.lu_factor")
@labelled("lu_factor")
def lu_factor(A: Tensor, *, pivot: bool = True) -> LUFactor:
    """L (below the diagonal, its ones left out) and U of A = P L U in one matrix, and the pivots.

    Args:
        A: (.., m, n).
        pivot: only True.

    Returns:
        LU (.., m, n) and pivots (.., min(m, n)), int32: the row, from 1, that each row was swapped
        with.

    Raises:
        LinAlgError: when it runs, if U has a 0 on its diagonal.

    >>> import tgrad
    >>> tgrad.linalg.lu_factor(tgrad.tensor([[1.0, 3.0], [2.0, 4.0]])).pivots.tolist()
    [2, 2]
    """
    check_pivot("lu_factor", pivot)
    return _factor("lu_factor", A, True)


@complex_form("linalg.lu_factor_ex")
@labelled("lu_factor_ex")
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    """`lu_factor`, and the number of the first 0 on U's diagonal, 0 if there is none.

    Args:
        check_errors: whether a 0 raises LinAlgError when it runs.

    >>> import tgrad
    >>> tgrad.linalg.lu_factor_ex(tgrad.zeros(2, 2)).info.item()
    1
    """
    check_pivot("lu_factor_ex", pivot)
    factor, pivots = _factor("lu_factor_ex", A, check_errors)
    return LUFactorEx(factor, pivots, first_zero(factor))


def check_pivot(name: str, pivot: bool) -> None:
    if not pivot:
        raise UnsupportedError(f"{name}: pivot=False.", "Leave it out.")


def first_zero(factor: Tensor) -> Tensor:
    is_zero = (factor.detach().diagonal(0, -2, -1) == 0).to(dt.int32)
    count = is_zero.shape[-1]
    if not count:
        return is_zero.sum(-1).to(dt.int32)
    number = is_zero._places(is_zero.ndim - 1).to(dt.int32) + 1
    first = number.where(is_zero != 0, count + 1).amin(-1)
    return first.where(first <= count, 0).to(dt.int32)


@define_vjp("linalg_lu")
def _lu_rule(g: Tensor, y: Tensor, A: Tensor, check: bool) -> tuple[Tensor]:
    """P L⁻ᵀ (tril(Lᵀ gL, -1) + triu(gU Uᵀ)) U⁻ᵀ for a square A; rows and columns beyond the square
    are L₂ = A₂ U⁻¹ and U₂ = L⁻¹ A₂"""
    (factor, swaps), (given, _) = results_of("lu", y, A, check), results_of("lu", g, A, check)
    (m, n), k = A.shape[-2:], min(A.shape[-2:])
    L, U = factor[..., :k].tril(-1) + eye_like(factor, m)[:, :k], factor[..., :k, :].triu()
    gl, gu = given[..., :k].tril(-1), given[..., :k, :].triu()
    square_l, square_u = L[..., :k, :], U[..., :k]
    if m > n:
        below = solve_triangular(square_u.mT, gl[..., k:, :], upper=False, left=False)
        gu = (gu - L[..., k:, :].mT @ below).triu()
        gl = gl[..., :k, :]
    if n > m:
        beside = _under(square_l.mT, gu[..., k:])
        gl = (gl - beside @ U[..., k:].mT).tril(-1)
        gu = gu[..., :k]
    inner = (square_l.mT @ gl).tril(-1) + (gu @ square_u.mT).triu()
    inner = _under(square_l.mT, inner)
    found = solve_triangular(square_u.mT, inner, upper=False, left=False)
    if m > n:
        found = cat([found, below], -2)
    if n > m:
        found = cat([found, beside], -1)
    return (_rows(found, _permutation(swaps.to(dt.int32), m, A.dtype).argsort(-1)),)


def _under(upper: Tensor, B: Tensor) -> Tensor:
    """upper⁻¹ B, for ones on the diagonal."""
    return solve_triangular(upper, B, upper=True, unitriangular=True)


def _permutation(pivots: Tensor, rows: int, dtype: dt.DType) -> Tensor:
    """Where each row of L U comes from (int64)."""
    swaps = pivots.to(dtype).unsqueeze(-1)
    return call_library("permutation", swaps, params=(rows,)).long()


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """Rows of matrices in another order."""
    return x.take_along_dim(places.unsqueeze(-1).expand(x.shape), -2)


@complex_form("linalg.lu")
@labelled("lu")
def lu(A: Tensor, *, pivot: bool = True) -> LU:
    """P, L (unit lower) and U (upper) of A = P L U.

    Args:
        A: (.., m, n).
        pivot: only True.

    >>> import tgrad
    >>> P, L, U = tgrad.linalg.lu(tgrad.tensor([[1.0, 3.0], [2.0, 4.0]]))
    >>> (P @ L @ U).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    check_pivot("lu", pivot)
    return lu_unpack(*_factor("lu", A, False))


@complex_form("linalg.lu_unpack")
@labelled("lu_unpack")
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> LU:
    """P, L and U of what `lu_factor` gives; empty where they are not wanted.

    >>> import tgrad
    >>> tgrad.lu_unpack(*tgrad.linalg.lu_factor(tgrad.eye(2) * 3)).U.tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    check_matrices("lu_unpack", LU_data)
    _check_pivots("lu_unpack", LU_data, LU_pivots)
    m, k = LU_data.shape[-2], min(LU_data.shape[-2:])
    empty = LU_data._constant(0, LU_data.dtype).expand(0)
    P = L = U = empty
    if unpack_data:
        L = LU_data[..., :k].tril(-1) + eye_like(LU_data, m)[:, :k]
        U = LU_data[..., :k, :].triu()
    if unpack_pivots:
        places = _permutation(LU_pivots, m, LU_data.dtype).unsqueeze(-2)
        P = (LU_data._constant(0, dt.int64).expand(m, 1)._places(0) == places).to(LU_data.dtype)
    return LU(P, L, U)


def _check_pivots(name: str, factor: Tensor, pivots: Tensor) -> None:
    if pivots.dtype is not dt.int32:
        raise DTypeError(f"{name}: pivots of {pivots.dtype.name}.", "They are int32.")
    wanted = (*factor.shape[:-2], min(factor.shape[-2:]))
    if pivots.shape != wanted:
        raise ShapeError(f"{name}: pivots of shape {pivots.shape}.", f"The shape is {wanted}.")


@complex_form("linalg.lu_solve")
@labelled("lu_solve")
def lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X of A X = B, for the LU and pivots of A; with left=False of X A = B, with `adjoint` of Aᵀ.

    Args:
        LU, pivots: of `lu_factor` of (.., n, n).
        B: (.., n, k).

    >>> import tgrad
    >>> factors = tgrad.linalg.lu_factor(tgrad.tensor([[0.0, 2.0], [4.0, 0.0]]))
    >>> tgrad.linalg.lu_solve(*factors, tgrad.tensor([[2.0], [8.0]])).tolist()
    [[2.0], [1.0]]
    """
    check_matrices("lu_solve", LU, square=True)
    _check_pivots("lu_solve", LU, pivots)
    if not left:
        return lu_solve(LU, pivots, B.mT, adjoint=not adjoint).mT
    check_matrices("lu_solve", LU, B)
    check_rows("lu_solve", LU, B)
    n = LU.shape[-1]
    places = _permutation(pivots, n, LU.dtype)
    factor, B = with_batch(LU, B)
    places = places.expand(*factor.shape[:-1])
    if adjoint:
        X = solve_triangular(factor.mT, B, upper=False)
        return _rows(_under(factor.mT, X), places.argsort(-1))
    X = solve_triangular(factor, _rows(B, places), upper=False, unitriangular=True)
    return solve_triangular(factor, X, upper=True)


# -- L D Lᵀ --------------------------------------------------------------------------------------


@labelled("ldl_factor_ex")
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> LDLFactorEx:
    """`ldl_factor`, and the number of the first pivot that is 0, 0 if there is none.

    Args:
        check_errors: not supported: a symmetric matrix that is singular has factors too.

    >>> import tgrad
    >>> tgrad.linalg.ldl_factor_ex(tgrad.zeros(2, 2)).info.item()
    1
    """
    refuse("ldl_factor_ex", check_errors=check_errors)
    check_matrices("ldl_factor_ex", A, square=True)
    factor, pivots, info = results_of("ldl", call_library("ldl", A), A)
    return LDLFactorEx(factor, pivots.detach().to(dt.int32), info.detach().to(dt.int32))


@labelled("ldl_factor")
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> LDLFactor:
    """L, below the diagonal, and D, blocks of one and two rows on it, of a symmetric A = L D Lᵀ.
    It has no gradient, as PyTorch's.

    Args:
        A: (.., n, n); its lower triangle is read.
        hermitian: makes no difference to real matrices.

    Returns:
        LD (.., n, n) and pivots (.., n), int32: LAPACK's, negative for blocks of two.

    >>> import tgrad
    >>> tgrad.linalg.ldl_factor(tgrad.tensor([[0.0, 2.0], [2.0, 0.0]])).pivots.tolist()
    [-2, -2]
    """
    return LDLFactor(*ldl_factor_ex(A)[:2])


@labelled("ldl_solve")
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X of A X = B, for what `ldl_factor` gives of A.

    Args:
        B: (.., n, k).

    >>> import tgrad
    >>> factors = tgrad.linalg.ldl_factor(tgrad.tensor([[0.0, 2.0], [2.0, 0.0]]))
    >>> tgrad.linalg.ldl_solve(*factors, tgrad.tensor([[2.0], [4.0]])).tolist()
    [[2.0], [1.0]]
    """
    check_matrices("ldl_solve", LD, square=True)
    _check_pivots("ldl_solve", LD, pivots)
    check_matrices("ldl_solve", LD, B)
    check_rows("ldl_solve", LD, B)
    operands = with_batch(LD, pivots.to(LD.dtype).unsqueeze(-1), B)
    return call_library("ldl_solve", *operands).reshape(operands[2].shape)


# -- with info -----------------------------------------------------------------------------------


@complex_form("linalg.cholesky_ex")
@labelled("cholesky_ex")
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyEx:
    """`cholesky`, and the number of the first leading minor that is not positive, 0 if there is
    none; where there is one the factor is NaN.

    Args:
        check_errors: whether there being one raises LinAlgError when it runs.

    >>> import tgrad
    >>> tgrad.linalg.cholesky_ex(tgrad.tensor([[1.0, 2.0], [2.0, 1.0]])).info.item()
    2
    """
    check_matrices("cholesky_ex", A, square=True)
    if check_errors:
        factor = cholesky(A, upper=upper)
        return CholeskyEx(factor, (factor.detach()[..., :0].sum((-2, -1))).to(dt.int32))
    found, info = results_of("cholesky_ex", call_library("cholesky_ex", A.detach()), A)
    factor = with_vjp("linalg_cholesky", found, A)
    return CholeskyEx(factor.mT if upper else factor, info.detach().to(dt.int32))


@complex_form("linalg.solve_ex")
@labelled("solve_ex")
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> SolveEx:
    """`solve`, and the number of the first pivot that is 0, 0 if there is none; where there is one
    the result is not finite.

    Args:
        check_errors: whether a 0 raises LinAlgError when it runs.

    >>> import tgrad
    >>> tgrad.linalg.solve_ex(tgrad.eye(2) * 2, tgrad.ones(2, 1)).result.tolist()
    [[0.5], [0.5]]
    """
    check_matrices("solve_ex", A, square=True)
    is_vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])
    if is_vector and not left:
        raise UnsupportedError("solve_ex: left=False with one right-hand side.", "Give a matrix.")
    factor, pivots = _factor("solve_ex", A, check_errors)
    found = lu_solve(factor, pivots, B.unsqueeze(-1) if is_vector else B, left=left)
    return SolveEx(found.squeeze(-1) if is_vector else found, first_zero(factor))


@complex_form("linalg.inv_ex")
@labelled("inv_ex")
def inv_ex(A: Tensor, *, check_errors: bool = False) -> InvEx:
    """`inv`, and the number of the first pivot that is 0, 0 if there is none; where there is one
    the inverse is not finite.

    Args:
        check_errors: whether a 0 raises LinAlgError when it runs.

    >>> import tgrad
    >>> tgrad.linalg.inv_ex(tgrad.zeros(2, 2)).info.item()
    1
    """
    check_matrices("inv_ex", A, square=True)
    return InvEx(*solve_ex(A, eye_like(A, A.shape[-1]).expand(A.shape), check_errors=check_errors))
