"""Matrices of low rank: the largest singular values, by products with a few random vectors.

In: matrices. Out: lazy tensors. Invariant: the random vectors are drawn from the default generator,
so `manual_seed` decides them; where the rank is at most that asked for, results are exact up to
rounding. Source: Halko et al., Finding structure with randomness (2009), algorithms 4.4 and 5.1.
"""

from __future__ import annotations

from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import DTypeError, OutOfRangeError
from tgrad.factorizations import Eigh, cholesky, eigh, qr, solve_triangular, svd
from tgrad.random import randn
from tgrad.tensor import Tensor

__all__ = ["lobpcg", "pca_lowrank", "svd_lowrank"]

Factors = tuple[Tensor, Tensor, Tensor]


def _basis(A: Tensor, q: int, niter: int) -> Tensor:
    """Orthogonal columns (..., m, q) that nearly span those of A."""
    drawn = randn(A.shape[-1], q, dtype=A.dtype, device=A.device)
    Q = qr(A @ drawn).Q
    for _ in range(niter):
        Q = qr(A.mH @ Q).Q
        Q = qr(A @ Q).Q
    return Q


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> Factors:
    """U, S and V with A nearly U diag(S) Vᵀ, of the `q` largest singular values.

    Args:
        A: (..., m, n), of floats.
        q: how many; a few more than the rank give the most exact results.
        niter: rounds that make the basis better, 0 or more.
        M: what is subtracted from A first, broadcast to it.

    Returns:
        U (..., m, q), S (..., q), V (..., n, q).

    Raises:
        DTypeError: A is not of floats.
        OutOfRangeError: q is not in 1 to min(m, n), or niter is negative.

    >>> import tgrad
    >>> A = tgrad.ones(5, 1) @ tgrad.ones(1, 3)
    >>> U, S, V = tgrad.svd_lowrank(A, q=2)
    >>> U.shape, round(S[0].item() ** 2, 3), V.shape
    ((5, 2), 15.0, (3, 2))
    """
    count, rounds = 6 if q is None else q, 2 if niter is None else niter
    if not A.dtype.is_float:
        raise DTypeError(f"svd_lowrank of {A.dtype.name}.", "Convert it with .float().")
    if rounds < 0:
        raise OutOfRangeError(f"svd_lowrank: niter={niter}.", "Give 0 or more.")
    if not 1 <= count <= min(A.shape[-2:]):
        raise OutOfRangeError(
            f"svd_lowrank: q={q} of a matrix {tuple(A.shape[-2:])}.",
            f"Give 1 to {min(A.shape[-2:])}.",
        )
    A = A if M is None else A - M
    is_wide = A.shape[-2] < A.shape[-1]
    tall = A.mH if is_wide else A
    Q = _basis(tall, count, rounds)
    U, S, Vh = svd(Q.mH @ tall, False)
    U, V = Q @ U, Vh.mH
    return (V, S, U) if is_wide else (U, S, V)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Factors:
    """`svd_lowrank` of rows whose mean is taken away: principal components.

    Args:
        A: (..., m, n), m samples of n features.
        q: how many components, by default min(6, m, n).
        center: whether the mean of the rows is taken away.
        niter: as `svd_lowrank`'s.

    Returns:
        U (..., m, q), S (..., q), and V (..., n, q), whose columns are the directions.

    Raises:
        OutOfRangeError: q is not in 1 to min(m, n), or niter is negative.

    >>> import tgrad
    >>> A = tgrad.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> U, S, V = tgrad.pca_lowrank(A)
    >>> round(abs(V[1, 0].item() / V[0, 0].item()), 3)
    2.0
    """
    count = min(6, *A.shape[-2:]) if q is None else q
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, count, niter)


def lobpcg(
    A: Tensor,
    k: int | None = None,
    B: Tensor | None = None,
    X: Tensor | None = None,
    n: int | None = None,
    iK: Tensor | None = None,
    niter: int | None = None,
    tol: float | None = None,
    largest: bool | None = None,
    method: str | None = None,
    tracker: Any = None,
    **ortho: Any,
) -> Eigh:
    """The k largest (or smallest) eigenvalues, and vectors, of A x = λ B x.

    Args:
        A: (..., m, m), symmetric.
        k: how many; by default as many as X has columns, or 1.
        B: (..., m, m), symmetric and positive-definite; by default the identity.
        X, n, iK, niter, tol, method: where and how PyTorch's iteration begins and ends, accepted:
            all eigenvalues are computed, to rounding.
        largest: whether the largest come, descending; else the smallest, ascending.
        tracker: not supported.

    Returns:
        Eigenvalues (..., k) and vectors (..., m, k).

    Raises:
        OutOfRangeError: k is not in 1 to m.

    >>> import tgrad
    >>> tgrad.lobpcg(tgrad.tensor([[2.0, 0.0], [0.0, 3.0]]), k=1).eigenvalues.tolist()
    [3.0]
    """
    refuse("lobpcg", tracker=tracker)
    size, given = A.shape[-1], 1 if X is None else X.shape[-1]
    count = given if k is None else k
    if not 1 <= count <= size:
        raise OutOfRangeError(
            f"lobpcg: k={count} of a matrix of {size} rows.", f"Give 1 to {size}."
        )
    if B is None:
        values, vectors = eigh(A)
    else:
        L = cholesky(B)
        half = solve_triangular(L, A, upper=False)
        values, vectors = eigh(solve_triangular(L, half.mT, upper=False))
        vectors = solve_triangular(L.mT, vectors, upper=True)
    if largest is False:
        return Eigh(values[..., :count], vectors[..., :count])
    return Eigh(values[..., size - count :].flip(-1), vectors[..., size - count :].flip(-1))
