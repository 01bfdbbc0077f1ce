"""Factorisations of matrices, and what they solve: calls of the device's library with VJPs.

In: tensors whose last two axes are matrices. Out: lazy tensors. Invariant: a factorisation is one
`library` node, whose results are slices of it; every VJP is graph, so derivatives go to any order.
Sources: https://docs.pytorch.org/docs/stable/linalg.html; Giles, An extended collection of matrix
derivative results for forward and reverse mode algorithmic differentiation (2008).
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from tgrad import dtype as dt
from tgrad.complex_forms import complex_form
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.library import LibraryCall
from tgrad.graph.op import Op
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = [
    "cholesky", "cond", "det", "eigh", "eigvalsh", "inv", "lstsq", "matrix_rank", "pinv", "qr",
    "slogdet", "solve", "solve_triangular", "svd", "svdvals",
]  # fmt: skip


class QR(NamedTuple):
    """Of `qr`."""

    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    """Of `svd`."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Eigh(NamedTuple):
    """Of `eigh`."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class Slogdet(NamedTuple):
    """Of `slogdet`."""

    sign: Tensor
    logabsdet: Tensor


class Lstsq(NamedTuple):
    """Of `lstsq`; what PyTorch leaves empty for a driver is empty."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


# -- calls ---------------------------------------------------------------------------------------


def check_matrices(name: str, *matrices: Tensor, square: bool = False) -> None:
    for a in matrices:
        if a.ndim < 2 or (square and a.shape[-2] != a.shape[-1]):
            raise ShapeError(
                f"{name} of shape {a.shape}.",
                f"Give {'square matrices' if square else 'matrices'}: the last two axes.",
            )
        if a.dtype not in (dt.float32, dt.float64):
            raise DTypeError(f"{name} of {a.dtype.name}.", "Convert it to float32 or float64.")
        if a.dtype is not matrices[0].dtype:
            raise DTypeError(
                f"{name} of {matrices[0].dtype.name} and {a.dtype.name}.", "Give one dtype."
            )


def call_library(function: str, *operands: Tensor, params: tuple[Any, ...] = ()) -> Tensor:
    """All results of a library function in one array; operands of one batch."""
    first, *others = operands
    return first._apply(Op.LIBRARY, *others, function=function, params=params)


def _parts(packed: Tensor, call: LibraryCall) -> list[Tensor]:
    """The results that a library's array holds."""
    parts, start = [], 0
    for shape in call.results:
        part = packed.narrow(-1, start, prod(shape))
        parts.append(part.reshape((*call.batch, *shape)))
        start += prod(shape)
    return parts


def results_of(
    function: str, packed: Tensor, a: Tensor, *params: Any, operands: int = 1
) -> list[Tensor]:
    return _parts(packed, LibraryCall(function, (a.shape,) * operands, params, a.dtype))


def with_batch(*operands: Tensor) -> list[Tensor]:
    """The operands with their batch axes broadcast."""
    batch = broadcast_shapes(*(t.shape[:-2] for t in operands))
    return [t.expand(*batch, *t.shape[-2:]) for t in operands]


# -- what the rules are made of ------------------------------------------------------------------


def eye_like(like: Tensor, n: int) -> Tensor:
    square = like._constant(1, dt.bool_).expand(n, n)
    return (square._places(0) == square._places(1)).to(like.dtype)


def _diagonal(values: Tensor) -> Tensor:
    """Vectors as the diagonals of matrices."""
    return values.unsqueeze(-1) * eye_like(values, values.shape[-1])


def _half_triangle(a: Tensor) -> Tensor:
    """The lower triangle with half of the diagonal."""
    return a.tril() - a * eye_like(a, a.shape[-1]) * 0.5


def _differences(x: Tensor) -> Tensor:
    """x[j] - x[i], and 1 on the diagonal."""
    return x.unsqueeze(-2) - x.unsqueeze(-1) + eye_like(x, x.shape[-1])


# -- Cholesky ------------------------------------------------------------------------------------


@complex_form("linalg.cholesky")
@labelled("cholesky")
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L of A = L Lᵀ (with `upper`, its transpose).

    Args:
        A: (.., n, n), symmetric and positive-definite; its lower triangle is read.

    Raises:
        LinAlgError: when it runs, if A is not positive-definite.

    >>> import tgrad
    >>> tgrad.linalg.cholesky(tgrad.tensor([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    check_matrices("cholesky", A, square=True)
    factor = call_library("cholesky", A).reshape(A.shape)
    factor = with_vjp("linalg_cholesky", factor, A)
    return factor.mT if upper else factor


@define_vjp("linalg_cholesky")
def _cholesky_rule(g: Tensor, L: Tensor, A: Tensor) -> tuple[Tensor]:
    """S = L⁻ᵀ Φ(Lᵀ g) L⁻¹ with Φ the lower triangle and half of the diagonal; (S + Sᵀ) / 2"""
    inner = _half_triangle(L.mT @ g.tril())
    left = solve_triangular(L.mT, inner, upper=True)
    s = solve_triangular(L.mT, left.mT, upper=True).mT
    return ((s + s.mT) * 0.5,)


# -- solving -------------------------------------------------------------------------------------


@complex_form("linalg.solve")
@labelled("solve")
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of A X = B (with left=False, of X A = B).

    Args:
        A: (.., n, n), invertible.
        B: (.., n, k), or (.., n) for one right-hand side.

    Raises:
        LinAlgError: when it runs, if A is singular.

    >>> import tgrad
    >>> A = tgrad.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> tgrad.linalg.solve(A, tgrad.tensor([2.0, 8.0])).tolist()
    [1.0, 2.0]
    """
    check_matrices("solve", A, square=True)
    is_vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])
    if is_vector:
        if not left:
            raise UnsupportedError("solve: left=False with one right-hand side.", "Give a matrix.")
        return solve(A, B.unsqueeze(-1)).squeeze(-1)
    if not left:
        return solve(A.mT, B.mT).mT
    check_matrices("solve", A, B)
    check_rows("solve", A, B)
    A, B = with_batch(A, B)
    return with_vjp("linalg_solve", call_library("solve", A, B).reshape(B.shape), A, B)


def check_rows(name: str, A: Tensor, B: Tensor) -> None:
    if A.shape[-2] != B.shape[-2]:
        raise ShapeError(f"{name} of shapes {A.shape} and {B.shape}.", "Give as many rows.")


@define_vjp("linalg_solve")
def _solve_rule(g: Tensor, X: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """gB = A⁻ᵀ g, gA = -gB Xᵀ"""
    gb = solve(A.mT, g)
    return -(gb @ X.mT), gb


@complex_form("linalg.solve_triangular")
@labelled("solve_triangular")
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X of A X = B (with left=False, of X A = B) for a triangle of A.

    Args:
        A: (.., n, n); only the triangle is read.
        B: (.., n, k).
        unitriangular: the diagonal is taken as ones, and not read.

    >>> import tgrad
    >>> A = tgrad.tensor([[2.0, 0.0], [1.0, 1.0]])
    >>> tgrad.linalg.solve_triangular(A, tgrad.tensor([[2.0], [3.0]]), upper=False).tolist()
    [[1.0], [2.0]]
    """
    check_matrices("solve_triangular", A, B)
    check_matrices("solve_triangular", A, square=True)
    if not left:
        flipped = solve_triangular(A.mT, B.mT, upper=not upper, unitriangular=unitriangular)
        return flipped.mT
    check_rows("solve_triangular", A, B)
    A, B = with_batch(A, B)
    if upper:
        return _lower_solve(A.flip(-2, -1), B.flip(-2), unitriangular).flip(-2)
    return _lower_solve(A, B, unitriangular)


def _lower_solve(A: Tensor, B: Tensor, unit: bool) -> Tensor:
    found = call_library("triangular", A, B, params=(unit,)).reshape(B.shape)
    return with_vjp("linalg_triangular", found, A, B, params=(unit,))


@define_vjp("linalg_triangular")
def _triangular_rule(
    g: Tensor, X: Tensor, A: Tensor, B: Tensor, unit: bool
) -> tuple[Tensor, Tensor]:
    """gB = A⁻ᵀ g, gA = -gB Xᵀ within the triangle"""
    gb = solve_triangular(A.mT, g, upper=True, unitriangular=unit)
    return (-(gb @ X.mT)).tril(-1 if unit else 0), gb


@complex_form("linalg.inv")
@labelled("inv")
def inv(A: Tensor) -> Tensor:
    """The inverse.

    Raises:
        LinAlgError: when it runs, if A is singular.

    >>> import tgrad
    >>> tgrad.linalg.inv(tgrad.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    check_matrices("inv", A, square=True)
    return solve(A, eye_like(A, A.shape[-1]).expand(A.shape))


# -- determinants --------------------------------------------------------------------------------


@complex_form("linalg.det")
@labelled("det")
def det(A: Tensor) -> Tensor:
    """The determinant. Its gradient needs A to be invertible.

    >>> import tgrad
    >>> tgrad.linalg.det(tgrad.tensor([[2.0, 1.0], [1.0, 3.0]])).item()
    5.0
    """
    check_matrices("det", A, square=True)
    if not A.shape[-1]:
        return A._constant(1, A.dtype).expand(A.shape[:-2])
    return with_vjp("linalg_det", call_library("det", A).reshape(A.shape[:-2]), A)


@define_vjp("linalg_det")
def _det_rule(g: Tensor, y: Tensor, A: Tensor) -> tuple[Tensor]:
    """g det(A) A⁻ᵀ"""
    return ((g * y).unsqueeze(-1).unsqueeze(-1) * inv(A).mT,)


@complex_form("linalg.slogdet")
@labelled("slogdet")
def slogdet(A: Tensor) -> Slogdet:
    """Sign, and logarithm of the absolute value, of the determinant.

    >>> import tgrad
    >>> [t.item() for t in tgrad.linalg.slogdet(-tgrad.eye(3))]
    [-1.0, 0.0]
    """
    check_matrices("slogdet", A, square=True)
    if not A.shape[-1]:
        one = A._constant(1, A.dtype).expand(A.shape[:-2])
        return Slogdet(one, one - 1)
    packed = with_vjp("linalg_slogdet", call_library("slogdet", A), A)
    return Slogdet(*results_of("slogdet", packed, A))


@define_vjp("linalg_slogdet")
def _slogdet_rule(g: Tensor, y: Tensor, A: Tensor) -> tuple[Tensor]:
    """g of the logarithm times A⁻ᵀ"""
    return (g[..., 1, None, None] * inv(A).mT,)


# -- QR ------------------------------------------------------------------------------------------


@complex_form("linalg.qr")
@labelled("qr")
def qr(A: Tensor, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and upper triangular R of A = Q R.

    Args:
        A: (.., m, n).
        mode: "reduced", with min(m, n) columns; "complete", with m; "r": Q is empty.

    Raises:
        GradientError: when differentiated, with "complete" and m > n.

    >>> import tgrad
    >>> tgrad.linalg.qr(tgrad.ones(3, 2)).R.shape
    (2, 2)
    """
    check_matrices("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise UnsupportedError(f"qr: mode={mode!r}.", 'Use "reduced", "complete" or "r".')
    how = "complete" if mode == "complete" else "reduced"
    packed = with_vjp("linalg_qr", call_library("qr", A, params=(how,)), A, params=(how,))
    Q, R = results_of("qr", packed, A, how)
    return QR(A._constant(0, A.dtype).expand(0) if mode == "r" else Q, R)


@define_vjp("linalg_qr")
def _qr_rule(g: Tensor, y: Tensor, A: Tensor, mode: str) -> tuple[Tensor]:
    """With R = [U | V] and A = [X | Y]: of Y, Q gV; of X, that of a square R with gQ + Y gVᵀ"""
    (m, n), k = A.shape[-2:], min(A.shape[-2:])
    if mode == "complete" and m > n:
        raise UnsupportedError('the gradient of qr with mode="complete".', 'Use mode="reduced".')
    (gq, gr), (Q, R) = results_of("qr", g, A, mode), results_of("qr", y, A, mode)
    if m >= n:
        return (_square_qr(gq, gr, Q, R),)
    gv, rest = gr[..., k:], A[..., k:]
    first = _square_qr(gq + rest @ gv.mT, gr[..., :k], Q, R[..., :k])
    from tgrad.joining import cat

    return (cat([first, Q @ gv], -1),)


def _square_qr(gq: Tensor, gr: Tensor, Q: Tensor, R: Tensor) -> Tensor:
    """(gQ + Q (tril M + tril(M, -1)ᵀ)) R⁻ᵀ with M = R gRᵀ - gQᵀ Q"""
    M = R @ gr.mT - gq.mT @ Q
    inner = gq + Q @ (M.tril() + M.tril(-1).mT)
    return solve_triangular(R.mT, inner, upper=False, left=False)


# -- eigenvalues and singular values -------------------------------------------------------------


@complex_form("linalg.eigh")
@labelled("eigh")
def eigh(A: Tensor, UPLO: str = "L") -> Eigh:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix.

    Gradients of vectors need the values to differ, and functions that do not depend on the signs.

    Args:
        A: (.., n, n).
        UPLO: the triangle that is read, "L" or "U".

    >>> import tgrad
    >>> tgrad.linalg.eigh(tgrad.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues.tolist()
    [1.0, 2.0]
    """
    check_matrices("eigh", A, square=True)
    if UPLO not in ("L", "U"):
        raise UnsupportedError(f"eigh: UPLO={UPLO!r}.", 'Use "L" or "U".')
    A = A if UPLO == "L" else A.mT
    packed = with_vjp("linalg_eigh", call_library("eigh", A), A)
    return Eigh(*results_of("eigh", packed, A))


@define_vjp("linalg_eigh")
def _eigh_rule(g: Tensor, y: Tensor, A: Tensor) -> tuple[Tensor]:
    """V (diag gλ + skew(Vᵀ gV) / E) Vᵀ with E[i, j] = λ[j] - λ[i], off the diagonal"""
    (gw, gv), (w, V) = results_of("eigh", g, A), results_of("eigh", y, A)
    M = V.mT @ gv
    turned = (M - M.mT) * 0.5 * (1 - eye_like(V, V.shape[-1])) / _differences(w)
    return (V @ (_diagonal(gw) + turned) @ V.mT,)


@complex_form("linalg.eigvalsh")
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of a symmetric matrix, ascending; of its triangle UPLO.

    >>> import tgrad
    >>> tgrad.linalg.eigvalsh(tgrad.eye(2) * 3).tolist()
    [3.0, 3.0]
    """
    A = A if UPLO == "L" else A.mT
    return with_vjp("linalg_eigvalsh", eigh(A.detach()).eigenvalues, A)


@define_vjp("linalg_eigvalsh")
def _eigvalsh_rule(g: Tensor, w: Tensor, A: Tensor) -> tuple[Tensor]:
    """V diag(g) Vᵀ"""
    V = eigh(A).eigenvectors
    return (V @ _diagonal(g) @ V.mT,)


@complex_form("linalg.svd")
@labelled("svd")
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> SVD:
    """U, S (descending) and Vᵀ of A = U diag(S) Vᵀ.

    Gradients of U and Vh need the singular values to differ, full_matrices=False, and functions
    that do not depend on the signs.

    Args:
        A: (.., m, n).
        driver: of cuSOLVER; only None.

    >>> import tgrad
    >>> tgrad.linalg.svd(tgrad.tensor([[3.0, 0.0], [0.0, 4.0]])).S.tolist()
    [4.0, 3.0]
    """
    check_matrices("svd", A)
    if driver is not None:
        raise UnsupportedError(f"svd: driver={driver!r}.", "Leave it out.")
    params = (full_matrices,)
    packed = with_vjp("linalg_svd", call_library("svd", A, params=params), A, params=params)
    return SVD(*results_of("svd", packed, A, full_matrices))


@define_vjp("linalg_svd")
def _svd_rule(g: Tensor, y: Tensor, A: Tensor, full: bool) -> tuple[Tensor]:
    """U (skew(Uᵀ gU) / E S + S skew(Vᵀ gV) / E + diag gS) Vᵀ, and what leads out of both spaces"""
    k = min(A.shape[-2:])
    (gu, gs, gvh), (U, S, Vh) = results_of("svd", g, A, full), results_of("svd", y, A, full)
    gu, gvh, U, Vh = gu[..., :k], gvh[..., :k, :], U[..., :k], Vh[..., :k, :]
    V, gv, E = Vh.mT, gvh.mT, _differences(S * S)
    of_u, of_v = U.mT @ gu, V.mT @ gv
    inner = (of_u - of_u.mT) / E * S.unsqueeze(-2) + S.unsqueeze(-1) * (of_v - of_v.mT) / E
    total = U @ (inner + _diagonal(gs)) @ Vh
    if A.shape[-2] > k:
        total = total + ((gu - U @ of_u) / S.unsqueeze(-2)) @ Vh
    if A.shape[-1] > k:
        total = total + (U / S.unsqueeze(-2)) @ (gvh - of_v.mT @ Vh)
    return (total,)


@complex_form("linalg.svdvals")
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Singular values, descending.

    >>> import tgrad
    >>> tgrad.linalg.svdvals(tgrad.eye(2) * 3).tolist()
    [3.0, 3.0]
    """
    S = svd(A.detach(), False, driver=driver).S
    return with_vjp("linalg_svdvals", S, A)


@define_vjp("linalg_svdvals")
def _svdvals_rule(g: Tensor, S: Tensor, A: Tensor) -> tuple[Tensor]:
    """U diag(g) Vᵀ"""
    U, _, Vh = svd(A, False)
    return ((U * g.unsqueeze(-2)) @ Vh,)


# -- from the singular values --------------------------------------------------------------------


def rounding(A: Tensor) -> float:
    """The distance from 1 to the next number of its dtype."""
    return float(np.finfo(A.dtype.numpy).eps)


def _limit(S: Tensor, A: Tensor, atol: Any, rtol: Any) -> Tensor:
    """Singular values up to this count as 0."""
    if rtol is None:
        rtol = 0.0 if atol is not None else max(A.shape[-2:]) * rounding(A)
    largest = S.amax(-1) if S.shape[-1] else S.sum(-1)
    relative = largest * rtol
    return relative if atol is None else relative.maximum(relative * 0 + atol)


@complex_form("linalg.pinv")
@labelled("pinv")
def pinv(A: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Tensor:
    """The Moore-Penrose inverse, by singular values.

    Args:
        A: (.., m, n).
        atol, rtol: singular values up to max(atol, rtol * the largest) count as 0.
        hermitian: whether A is symmetric, and its lower triangle alone is read.

    >>> import tgrad
    >>> tgrad.linalg.pinv(tgrad.tensor([[2.0], [0.0]])).tolist()
    [[0.5, 0.0]]
    """
    check_matrices("pinv", A)
    U, S, Vh = svd(_mirrored(A.detach(), hermitian), False)
    keeps = _limit(S, A, atol, rtol).unsqueeze(-1) < S
    inverse = (1.0 / S.where(keeps, 1.0)).where(keeps, 0.0)
    return with_vjp("linalg_pinv", (Vh.mT * inverse.unsqueeze(-2)) @ U.mT, A)


def _mirrored(A: Tensor, hermitian: bool) -> Tensor:
    """A, or what its lower triangle says of a symmetric one."""
    return A.tril() + A.tril(-1).mT if hermitian else A


@define_vjp("linalg_pinv")
def _pinv_rule(g: Tensor, P: Tensor, A: Tensor) -> tuple[Tensor]:
    """-Pᵀ g Pᵀ + (I - A P) gᵀ P Pᵀ + Pᵀ P gᵀ (I - P A)"""
    gt, pt = g.mT, P.mT
    outside = gt @ P @ pt
    beyond = pt @ P @ gt
    return (outside - A @ (P @ outside) + beyond - (beyond @ P) @ A - pt @ g @ pt,)


@labelled("lstsq")
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Lstsq:
    """X that makes the norm of A X - B smallest, by singular values.

    Args:
        A: (.., m, n).
        B: (.., m, k), or (.., m).
        rcond: singular values up to rcond * the largest count as 0.
        driver: what else is returned; the algorithm is the same. None is "gelsy", as in PyTorch.

    Returns:
        The solution; squared residuals of each column, for m > n and all but "gelsy"; the rank, for
        all but "gels"; singular values, for "gelsd" and "gelss". What is left out is empty.

    >>> import tgrad
    >>> tgrad.linalg.lstsq(tgrad.ones(2, 1), tgrad.tensor([[1.0], [3.0]])).solution.shape
    (1, 1)
    """
    check_matrices("lstsq", A.real)
    if driver not in (None, "gelsy", "gelsd", "gelss", "gels"):
        raise UnsupportedError(f"lstsq: driver={driver!r}.", 'Use "gelsd".')
    driver = driver or "gelsy"
    is_vector = A.ndim - 1 == B.ndim and B.shape == A.shape[:-1]
    right = B.unsqueeze(-1) if is_vector else B
    check_matrices("lstsq", A.real, right.real)
    check_rows("lstsq", A, right)
    solution = pinv(A, rtol=rcond) @ right
    empty = A._constant(0, A.real.dtype).expand(0)
    residuals = empty
    if A.shape[-2] > A.shape[-1] and driver != "gelsy":
        residuals = ((A @ solution - right).abs() ** 2).sum(-2)
    S = svdvals(A.detach())
    rank = (_limit(S, A, None, rcond).unsqueeze(-1) < S).sum(-1)
    solution = solution.squeeze(-1) if is_vector else solution
    return Lstsq(
        solution,
        residuals,
        empty.long() if driver == "gels" else rank,
        S if driver in ("gelsd", "gelss") else empty,
    )


@complex_form("linalg.matrix_rank")
@labelled("matrix_rank")
def matrix_rank(
    A: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Tensor:
    """How many singular values are above max(atol, rtol * the largest) (int64).

    >>> import tgrad
    >>> tgrad.linalg.matrix_rank(tgrad.ones(3, 3)).item()
    1
    """
    check_matrices("matrix_rank", A)
    S = svdvals(_mirrored(A.detach(), hermitian))
    return (_limit(S, A, atol, rtol).unsqueeze(-1) < S).sum(-1)


@labelled("cond")
def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: the largest singular value over the smallest (p None or 2), the
    inverse of that (-2), or norm(A, p) * norm(inv(A), p).

    >>> import tgrad
    >>> tgrad.linalg.cond(tgrad.tensor([[4.0, 0.0], [0.0, 2.0]])).item()
    2.0
    """
    from tgrad.linalg import matrix_norm

    if p in (None, 2, -2):
        S = svdvals(A)
        return S[..., -1] / S[..., 0] if p == -2 else S[..., 0] / S[..., -1]
    return matrix_norm(A, p) * matrix_norm(inv(A), p)
