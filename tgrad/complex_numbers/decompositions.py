"""Decompositions whose factors are complex: LAPACK's, by the library of graph/library.py.

In: complex matrices, or real ones for `eig`, batched in the leading axes. Out: rows of `FUNCTIONS`,
by the names of tgrad.linalg. Invariant: a decomposition is one `library` node of the two parts of
its operand, and its VJP is graph, as in factorizations.py, with PyTorch's gradients: of the real
and the imaginary part of a complex number, as one complex number.
Sources: those of factorizations.py; PyTorch's formulas (autograd/FunctionsManual.cpp, linalg_eig)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tgrad import dtype as dt
from tgrad import pivoting
from tgrad.complex_numbers.functions import FUNCTIONS, rule
from tgrad.complex_numbers.matrices import identity
from tgrad.complex_numbers.tensor import ComplexTensor as Complex
from tgrad.errors import UnsupportedError
from tgrad.factorizations import (
    QR,
    SVD,
    Eigh,
    call_library,
    check_matrices,
    results_of,
)
from tgrad.joining import cat
from tgrad.methods.elementwise import is_complex
from tgrad.pivoting import LU, LUFactor, LUFactorEx
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


class Eig(NamedTuple):
    """Of `eig`."""

    eigenvalues: Complex
    eigenvectors: Complex


def _decomposed(name: str, z: Complex, *params: Any) -> list[Tensor]:
    """The results of a library function of a complex matrix; its VJP has the function's name."""
    check_matrices(name, z.real, square=name.endswith(("eig", "eigh")))
    function = f"complex_{name}"
    packed = call_library(function, z.real, z.imag, params=params)
    made = with_vjp(f"linalg_{function}", packed, z.real, z.imag, params=params)
    return _unpacked(name, made, z.real, *params)


def _unpacked(name: str, packed: Tensor, x: Tensor, *params: Any) -> list[Tensor]:
    return results_of(f"complex_{name}", packed, x, *params, operands=2)


def _parts_of(z: Complex) -> tuple[Tensor, Tensor]:
    return z.real, z.imag


def _scaled_columns(z: Complex, by: Tensor) -> Complex:
    return z.scaled(by.unsqueeze(-2))


def _diagonal(z: Any) -> Complex:
    """Vectors as the diagonals of matrices."""
    if not is_complex(z):
        return Complex.of(z.diag_embed())
    return Complex(z.real.diag_embed(), z.imag.diag_embed())


def _off_diagonal(z: Complex) -> Complex:
    """A matrix with zeros on its diagonal."""
    return z.scaled(1 - identity(z))


def _without_phases(product: Complex) -> Complex:
    """z - zᴴ"""
    return product.less(product.mH)


def _differences(x: Tensor) -> Tensor:
    """x[j] - x[i], and 1 on the diagonal."""
    return (
        x.unsqueeze(-2) - x.unsqueeze(-1) + identity(x.unsqueeze(-1).expand(*x.shape, x.shape[-1]))
    )


# -- eigenvalues ---------------------------------------------------------------------------------


@rule("linalg.eig")
@labelled("eig")
def eig(A: Any) -> Eig:
    """Eigenvalues, in no order, and eigenvectors (columns, of norm 1) of a square matrix; complex.

    Gradients of vectors need the values to differ, and functions that do not depend on the phases
    of vectors, which PyTorch checks.

    Args:
        A: (.., n, n), real or complex.

    Raises:
        ShapeError: it is not square.
        LinAlgError: when it runs, if the algorithm does not converge.

    >>> import tgrad
    >>> values, vectors = tgrad.linalg.eig(tgrad.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    >>> values.tolist()
    [1j, -1j]
    """
    if is_complex(A):
        w, wi, v, vi = _decomposed("eig", A)
        return Eig(Complex(w, wi), Complex(v, vi))
    check_matrices("eig", A, square=True)
    packed = with_vjp("linalg_eig", call_library("eig", A), A)
    w, wi, v, vi = results_of("eig", packed, A)
    return Eig(Complex(w, wi), Complex(v, vi))


@rule("linalg.eigvals")
def eigvals(A: Any) -> Complex:
    """The eigenvalues of `eig`.

    >>> import tgrad
    >>> tgrad.linalg.eigvals(tgrad.eye(2) * 3).tolist()
    [(3+0j), (3+0j)]
    """
    return eig(A).eigenvalues


@define_vjp("linalg_eig")
def _eig_rule(g: Tensor, y: Tensor, A: Tensor) -> tuple[Tensor]:
    """The real part of what follows"""
    return (_of_eig(results_of("eig", g, A), results_of("eig", y, A)).real,)


@define_vjp("linalg_complex_eig")
def _complex_eig_rule(g: Tensor, y: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    return _parts_of(_of_eig(_unpacked("eig", g, A), _unpacked("eig", y, A)))


def _of_eig(given: list[Tensor], made: list[Tensor]) -> Complex:
    """V⁻ᴴ (diag gλ + (Vᴴ gV - Vᴴ V diag Re(Vᴴ gV)) / conj(E)) Vᴴ with E[i, j] = λ[j] - λ[i]"""
    gw, gv = Complex(*given[:2]), Complex(*given[2:])
    w, V = Complex(*made[:2]), Complex(*made[2:])
    product = V.mH.contracted(gv)
    lengths = _scaled_columns(V.mH.contracted(V), product.real.diagonal(0, -2, -1))
    E = Complex(_differences(w.real), w.imag.unsqueeze(-1) - w.imag.unsqueeze(-2))
    inner = _off_diagonal(FUNCTIONS["div"](product.less(lengths), E)).plus(_diagonal(gw))
    return Complex.of(FUNCTIONS["linalg.solve"](V.mH, inner.contracted(V.mH)))


@rule("linalg.eigh")
def _eigh(A: Complex, UPLO: str = "L") -> Eigh:
    if UPLO not in ("L", "U"):
        raise UnsupportedError(f"eigh: UPLO={UPLO!r}.", 'Use "L" or "U".')
    w, v, vi = _decomposed("eigh", A if UPLO == "L" else A.mH)
    return Eigh(w, Complex(v, vi))  # type: ignore[arg-type]


@define_vjp("linalg_complex_eigh")
def _eigh_rule(g: Tensor, y: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """V (diag gλ + skew(Vᴴ gV) / E) Vᴴ with E[i, j] = λ[j] - λ[i], off the diagonal"""
    (gw, *gv), (w, *v) = _unpacked("eigh", g, A), _unpacked("eigh", y, A)
    V = Complex(*v)
    turned = _without_phases(V.mH.contracted(Complex(*gv))).scaled(0.5 / _differences(w))
    inner = _off_diagonal(turned).plus(_diagonal(gw))
    return _parts_of(V.contracted(inner).contracted(V.mH))


# -- singular values -----------------------------------------------------------------------------


@rule("linalg.svd")
def _svd(A: Complex, full_matrices: bool = True, *, driver: str | None = None) -> SVD:
    if driver is not None:
        raise UnsupportedError(f"svd: driver={driver!r}.", "Leave it out.")
    u, ui, s, vh, vhi = _decomposed("svd", A, full_matrices)
    return SVD(Complex(u, ui), s, Complex(vh, vhi))  # type: ignore[arg-type]


@define_vjp("linalg_complex_svd")
def _svd_rule(g: Tensor, y: Tensor, A: Tensor, B: Tensor, full: bool) -> tuple[Tensor, Tensor]:
    """That of factorizations.py with ᴴ for ᵀ, and Im(diag Uᴴ gU) / S on the diagonal"""
    k = min(A.shape[-2:])
    gu, gs, gvh = _svd_parts(_unpacked("svd", g, A, full), k)
    U, S, Vh = _svd_parts(_unpacked("svd", y, A, full), k)
    gv, E = gvh.mH, _differences(S * S)
    of_u, of_v = U.mH.contracted(gu), Vh.contracted(gv)
    of_u_skew, of_v_skew = _without_phases(of_u), _without_phases(of_v)
    left = _off_diagonal(of_u_skew.scaled(1 / E)).scaled(S.unsqueeze(-2))
    right = _off_diagonal(of_v_skew.scaled(1 / E)).scaled(S.unsqueeze(-1))
    phases = _diagonal(Complex(gs, of_u_skew.imag.diagonal(0, -2, -1) / (2 * S)))
    total = U.contracted(left.plus(right).plus(phases)).contracted(Vh)
    if A.shape[-2] > k:
        beyond = gu.less(U.contracted(of_u)).scaled(1 / S.unsqueeze(-2))
        total = total.plus(beyond.contracted(Vh))
    if A.shape[-1] > k:
        beyond = gvh.less(of_v.mH.contracted(Vh))
        total = total.plus(U.scaled(1 / S.unsqueeze(-2)).contracted(beyond))
    return _parts_of(total)


def _svd_parts(parts: list[Tensor], k: int) -> tuple[Complex, Tensor, Complex]:
    """The first k columns of U, S, the first k rows of Vᴴ."""
    u, ui, s, vh, vhi = parts
    return Complex(u[..., :k], ui[..., :k]), s, Complex(vh[..., :k, :], vhi[..., :k, :])


# -- QR ------------------------------------------------------------------------------------------


@rule("linalg.qr")
def _qr(A: Complex, mode: str = "reduced") -> QR:
    if mode not in ("reduced", "complete", "r"):
        raise UnsupportedError(f"qr: mode={mode!r}.", 'Use "reduced", "complete" or "r".')
    q, qi, r, ri = _decomposed("qr", A, "complete" if mode == "complete" else "reduced")
    Q = Complex.of(q.new_zeros(0)) if mode == "r" else Complex(q, qi)
    return QR(Q, Complex(r, ri))  # type: ignore[arg-type]


@define_vjp("linalg_complex_qr")
def _qr_rule(g: Tensor, y: Tensor, A: Tensor, B: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """With R = [U | V] and A = [X | Y]: of Y, Q gV; of X, that of a square R with gQ + Y gVᴴ"""
    (m, n), k = A.shape[-2:], min(A.shape[-2:])
    if mode == "complete" and m > n:
        raise UnsupportedError('the gradient of qr with mode="complete".', 'Use mode="reduced".')
    given, made = _unpacked("qr", g, A, mode), _unpacked("qr", y, A, mode)
    gq, gr, Q, R = (Complex(*pair) for pair in (given[:2], given[2:], made[:2], made[2:]))
    if m >= n:
        return _parts_of(_square_qr(gq, gr, Q, R))
    rest, gv = Complex(A, B)[..., k:], gr[..., k:]
    first = _square_qr(gq.plus(rest.contracted(gv.mH)), gr[..., :k], Q, R[..., :k])
    beside = Q.contracted(gv)
    return cat([first.real, beside.real], -1), cat([first.imag, beside.imag], -1)


def _square_qr(gq: Complex, gr: Complex, Q: Complex, R: Complex) -> Complex:
    """(gQ + Q (triu(M, 1) + triu(M, 1)ᴴ + Re diag M)) R⁻ᴴ with M = gR Rᴴ - Qᴴ gQ"""
    M = gr.contracted(R.mH).less(Q.mH.contracted(gq))
    upper, diagonal = M.triu(1), M.real.diagonal(0, -2, -1)
    inner = gq.plus(Q.contracted(upper.plus(upper.mH).plus(_diagonal(diagonal))))
    return _divided(inner, R.mH, upper=False)


def _divided(z: Complex, by: Complex, upper: bool) -> Complex:
    """z by⁻¹, for a triangle."""
    return Complex.of(FUNCTIONS["linalg.solve_triangular"](by, z, upper=upper, left=False))


# -- LU ------------------------------------------------------------------------------------------


def _factor(A: Complex, check: bool) -> LUFactor:
    x, y, swaps = _decomposed("lu", A, check)
    return LUFactor(Complex(x, y), swaps.detach().to(dt.int32))  # type: ignore[arg-type]


@rule("linalg.lu_factor")
def _lu_factor(A: Complex, *, pivot: bool = True) -> LUFactor:
    pivoting.check_pivot("lu_factor", pivot)
    return _factor(A, True)


@rule("linalg.lu_factor_ex")
def _lu_factor_ex(A: Complex, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    pivoting.check_pivot("lu_factor_ex", pivot)
    factor, pivots = _factor(A, check_errors)
    size: Any = factor
    return LUFactorEx(factor, pivots, pivoting.first_zero(size.real.abs() + size.imag.abs()))


@rule("linalg.lu")
def _lu(A: Complex, *, pivot: bool = True) -> LU:
    pivoting.check_pivot("lu", pivot)
    return _lu_unpack(*_factor(A, False))


@rule("linalg.lu_unpack")
def _lu_unpack(
    LU_data: Any, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> LU:
    real = pivoting.lu_unpack(LU_data.real, LU_pivots, unpack_data, unpack_pivots)
    imag = pivoting.lu_unpack(LU_data.imag, LU_pivots, unpack_data, False)
    below = imag.L.tril(-1) if unpack_data else imag.L
    found: Any = Complex.of(real.P), Complex(real.L, below), Complex(real.U, imag.U)
    return LU(*found)


@rule("linalg.lu_solve")
def _lu_solve(LU: Any, pivots: Tensor, B: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    if not left:
        return _lu_solve(LU, pivots, Complex.of(B).mH, adjoint=not adjoint).mH
    P, L, U = _lu_unpack(Complex.of(LU), pivots)
    solve: Any = FUNCTIONS["linalg.solve_triangular"]
    if adjoint:
        inner = solve(L.mH, solve(U.mH, B, upper=False), upper=True, unitriangular=True)
        return P @ inner
    return solve(U, solve(L, P.mT @ B, upper=False, unitriangular=True), upper=True)


@define_vjp("linalg_complex_lu")
def _lu_rule(g: Tensor, y: Tensor, A: Tensor, B: Tensor, check: bool) -> tuple[Tensor, Tensor]:
    """That of pivoting.py with ᴴ for ᵀ"""
    x, yi, swaps = _unpacked("lu", y, A, check)
    (m, n), k = A.shape[-2:], min(A.shape[-2:])
    P, L, U = _lu_unpack(Complex(x, yi), swaps.to(dt.int32))
    given = Complex(*_unpacked("lu", g, A, check)[:2])
    gl, gu = given[..., :k].tril(-1), given[..., :k, :].triu()
    square_l, square_u = L[..., :k, :], U[..., :k]
    below = beside = None
    if m > n:
        below = _divided(gl[..., k:, :], square_u.mH, upper=False)
        gu = gu.less(L[..., k:, :].mH.contracted(below)).triu()
        gl = gl[..., :k, :]
    if n > m:
        beside = _under(square_l.mH, gu[..., k:])
        gl = gl.less(beside.contracted(U[..., k:].mH)).tril(-1)
        gu = gu[..., :k]
    inner = square_l.mH.contracted(gl).tril(-1).plus(gu.contracted(square_u.mH).triu())
    found = _divided(_under(square_l.mH, inner), square_u.mH, upper=False)
    if below is not None:
        found = Complex(cat([found.real, below.real], -2), cat([found.imag, below.imag], -2))
    if beside is not None:
        found = Complex(cat([found.real, beside.real], -1), cat([found.imag, beside.imag], -1))
    return _parts_of(P.contracted(found))


def _under(upper: Complex, z: Complex) -> Complex:
    """upper⁻¹ z, for ones on the diagonal."""
    found: Complex = FUNCTIONS["linalg.solve_triangular"](upper, z, upper=True, unitriangular=True)
    return found
