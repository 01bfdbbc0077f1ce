"""Operators of linear algebra: factorisations, solutions and determinants, and distances.

In: arguments of an operator. Out: what it gives. Invariant: as PyTorch says, factors and pivots
included. Where a matrix has no value, as a singular one, results are NaN or infinities, and info
says it: `Graph.checks` has PyTorch raise for it after the plan.
"""

from __future__ import annotations

from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.interop.operators.table import Lies, Tensors, gradients, rule

linalg = tgrad.linalg


@rule("linalg_cholesky_ex")
def _cholesky(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Tensors:
    return tuple(linalg.cholesky_ex(A, upper=upper))


@rule("linalg_inv_ex")
def _inv(A: Tensor, *, check_errors: bool = False) -> Tensors:
    return tuple(linalg.inv_ex(A))


@rule("linalg_lu_factor_ex")
def _lu_factor(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Tensors:
    return tuple(linalg.lu_factor_ex(A, pivot=pivot))


@rule("_linalg_solve_ex")
def _solve(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Tensors:
    LU, pivots, info = linalg.lu_factor_ex(A)
    is_vector = B.ndim == 1 or B.shape == A.shape[:-1]
    X = linalg.lu_solve(LU, pivots, B.unsqueeze(-1) if is_vector else B, left=left)
    return X.squeeze(-1) if is_vector else X, LU, pivots, info


@rule("_linalg_det")
def _det(A: Tensor, *, lies: Lies) -> Tensors:
    return linalg.det(A), *_lu_of_columns(A, lies)


@rule("_linalg_slogdet")
def _slogdet(A: Tensor, *, lies: Lies) -> Tensors:
    return *linalg.slogdet(A), *_lu_of_columns(A, lies)


def _lu_of_columns(A: Tensor, lies: Lies) -> Tensors:
    """PyTorch, whose matrices for LAPACK are columns, factorises the transpose of one of rows, and
    its backward counts on that."""
    return tuple(linalg.lu_factor(A.mT if lies.order == tuple(range(A.ndim)) else A))


@rule("_linalg_svd")
def _svd(
    A: Tensor, full_matrices: bool = False, compute_uv: bool = True, *, driver: Any = None
) -> Tensors:
    if compute_uv:
        return tuple(linalg.svd(A, full_matrices))
    none = tgrad.zeros(0, dtype=A.dtype, device=A.device)
    return none, linalg.svdvals(A), none


@rule("_linalg_eigh")
def _eigh(A: Tensor, UPLO: str = "L", compute_v: bool = True) -> Tensors:
    if compute_v:
        return tuple(linalg.eigh(A, UPLO))
    return linalg.eigvalsh(A, UPLO), tgrad.zeros(0, dtype=A.dtype, device=A.device)


@rule("triangular_solve")
def _triangular_solve(
    B: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Tensors:
    return tuple(linalg.triangular_solve(B, A, upper, transpose, unitriangular))


# -- distances -----------------------------------------------------------------------------------


@rule("_cdist_forward")
def _cdist(x: Tensor, y: Tensor, p: float, mode: int | None) -> Tensor:
    return tgrad.cdist(x, y, p)


@rule("_cdist_backward")
def _cdist_backward(g: Tensor, x: Tensor, y: Tensor, p: float, distance: Tensor) -> Tensor:
    """For each matrix of the other argument; PyTorch adds them up."""
    x = x.expand((*g.shape[:-2], *x.shape[-2:]))
    (found,) = gradients(lambda x: tgrad.cdist(x, y, p), g, (x,), (True,))
    assert found is not None
    return found


@rule("_pdist_forward")
def _pdist(x: Tensor, p: float = 2.0) -> Tensor:
    return F.pdist(x, p)


@rule("_pdist_backward")
def _pdist_backward(g: Tensor, x: Tensor, p: float, distance: Tensor) -> Tensor:
    (found,) = gradients(lambda x: F.pdist(x, p), g, (x,), (True,))
    assert found is not None
    return found
