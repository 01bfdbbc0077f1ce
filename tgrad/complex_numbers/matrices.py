"""Linear algebra of complex matrices, by real ones.

In: complex matrices, batched in the leading axes. Out: rows of `FUNCTIONS`, by the names of
tgrad.linalg. Invariant: z = x + iy is the real matrix [[x, -y], [y, x]] of twice its size: sums,
products, inverses and power series of such matrices are such matrices, its eigenvalues and singular
values are those of z, each twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from tgrad import factorizations, linalg, pivoting
from tgrad.complex_numbers.functions import FUNCTIONS, _abs, _mul, rule
from tgrad.complex_numbers.parts import nonzero
from tgrad.complex_numbers.tensor import ComplexTensor as Complex
from tgrad.creation import arange, eye, zeros_like
from tgrad.dtype import ComplexDType
from tgrad.errors import UnsupportedError
from tgrad.joining import cat
from tgrad.tensor import Tensor

# -- real matrices for complex ones --------------------------------------------------------------


def blocks(z: Complex) -> Tensor:
    """[[x, -y], [y, x]]"""
    rows = [cat(pair, -1) for pair in ((z.real, -z.imag), (z.imag, z.real))]
    return cat(rows, -2)


def of_blocks(matrix: Tensor, rows: int, columns: int) -> Complex:
    """What `blocks` made."""
    return Complex(matrix[..., :rows, :columns], matrix[..., rows:, :columns])


def entrywise_blocks(z: Complex) -> Tensor:
    """The same with the four numbers of each entry together: (2m, 2n) of (m, n)."""
    pairs = Complex(z.real, z.imag).pairs(), Complex(-z.imag, z.real).pairs()
    (*batch, m, n), four = z.shape, [p.unsqueeze(-2) for p in pairs]
    return cat(four, -2).mT.movedim(-2, -3).reshape(*batch, 2 * m, 2 * n)


def of_entrywise_blocks(matrix: Tensor) -> Complex:
    """What `entrywise_blocks` made."""
    return Complex(matrix[..., ::2, ::2], matrix[..., 1::2, ::2])


def _as_real_matrix(function: Callable[[Tensor], Tensor]) -> Callable[[Complex], Complex]:
    """A function of square matrices that is a power series."""

    def apply(z: Complex) -> Complex:
        size = z.shape[-1]
        return of_blocks(function(blocks(z)), size, size)

    return apply


rule("linalg_matrix_exp", "linalg.matrix_exp", "matrix_exp")(_as_real_matrix(linalg.matrix_exp))
rule("linalg.inv", "inverse")(_as_real_matrix(factorizations.inv))


# -- solving -------------------------------------------------------------------------------------


@rule("linalg.solve")
def _solve(A: Any, B: Any, *, left: bool = True) -> Complex:
    a, b = Complex.of(A), Complex.of(B)
    if b.ndim == 1 or (a.ndim - 1 == b.ndim and b.shape == a.shape[:-1]):
        if not left:
            raise UnsupportedError("solve: left=False with one right-hand side.", "Give a matrix.")
        return _solve(a, b.unsqueeze(-1)).squeeze(-1)
    if not left:
        return _solve(a.mT, b.mT).mT
    found = factorizations.solve(blocks(a), cat((b.real, b.imag), -2))
    size = b.shape[-2]
    return Complex(found[..., :size, :], found[..., size:, :])


@rule("linalg_inv_ex", "linalg.inv_ex")
def _inv_ex(z: Complex, *, check_errors: bool = False) -> pivoting.InvEx:
    made, info = pivoting.inv_ex(blocks(z), check_errors=check_errors)
    size = z.shape[-1]
    found = of_blocks(made, size, size)
    return pivoting.InvEx(found, (info + 1) // 2)  # type: ignore[arg-type]  # two rows are one of z


@rule("linalg.solve_ex")
def _solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> pivoting.SolveEx:
    info = _inv_ex(Complex.of(A), check_errors=check_errors).info
    return pivoting.SolveEx(_solve(A, B, left=left), info)


@rule("linalg.solve_triangular")
def _solve_triangular(
    A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Complex:
    """By the triangle alone, which has zeros and ones elsewhere."""
    a, diagonal = Complex.of(A), 1 if unitriangular else 0
    a = a.triu(diagonal) if upper else a.tril(-diagonal)
    if unitriangular:
        a = a.plus(Complex.of(identity(a)))
    return _solve(a, B, left=left)


def identity(z: Any) -> Tensor:
    """The real identity for a batch of matrices."""
    return eye(z.shape[-1], dtype=z.real.dtype, device=z.device)


@rule("cholesky_solve")
def _cholesky_solve(B: Any, L: Any, upper: bool = False) -> Complex:
    lower = Complex.of(L).mH if upper else Complex.of(L)
    return _solve_triangular(lower.mH, _solve_triangular(lower, B, upper=False), upper=True)


@rule("cholesky_inverse")
def _cholesky_inverse(L: Complex, upper: bool = False) -> Complex:
    return _cholesky_solve(Complex.of(identity(L).expand(L.shape)), L, upper)


def _hermitian(A: Complex) -> Complex:
    """What the lower triangle says of a Hermitian matrix; gradients are of (A + Aᴴ) / 2, as in
    PyTorch."""
    lower = A.detach().tril(-1)
    whole = lower.plus(lower.mH).plus(Complex.of(A.real.detach().diagonal(0, -2, -1).diag_embed()))
    mean = A.plus(A.mH).scaled(0.5)
    return mean.plus(whole.less(mean.detach()))


@rule("linalg.cholesky")
def _cholesky(A: Complex, *, upper: bool = False) -> Complex:
    """The real factor of the entrywise blocks: a positive number on the diagonal of L is that times
    the identity, so the blocks of L are triangular, and there is one such factor."""
    whole = _hermitian(A)
    made = of_entrywise_blocks(factorizations.cholesky(entrywise_blocks(whole)))
    return made.mH if upper else made


@rule("linalg.cholesky_ex")
def _cholesky_ex(
    A: Complex, *, upper: bool = False, check_errors: bool = False
) -> pivoting.CholeskyEx:
    found, info = pivoting.cholesky_ex(entrywise_blocks(_hermitian(A)), check_errors=check_errors)
    made = of_entrywise_blocks(found)
    return pivoting.CholeskyEx(made.mH if upper else made, (info + 1) // 2)  # type: ignore[arg-type]


# -- determinants --------------------------------------------------------------------------------

LARGEST = 32
"""Of the matrices that are eliminated: each row is nodes of its own."""


def _pivots(A: Complex) -> tuple[list[Complex], Tensor]:
    """The diagonal of U in P A = L U, and the determinant of P: in each step the row that starts
    with the largest number goes, and the first one takes its place."""
    size = A.shape[-1]
    if size > LARGEST:
        raise UnsupportedError(
            f"the determinant of complex matrices of {size} rows.", f"Up to {LARGEST} are."
        )
    rest, pivots, sign = A, [], A.real.new_ones(A.shape[:-2])
    for _ in range(size):
        head = rest[..., 0]
        place = head.detach().square_size().argmax(-1, keepdim=True)
        here = arange(head.shape[-1], device=A.device) == place
        row = rest.scaled(here.to(sign.dtype).unsqueeze(-1)).sum(-2)
        is_pivot = here[..., 1:].unsqueeze(-1)
        rest = FUNCTIONS["where"](rest[..., :1, :], is_pivot, rest[..., 1:, :])
        sign = sign * (1.0 - 2.0 * (place.squeeze(-1) != 0).to(sign.dtype))
        pivot = row[..., 0]
        factor = FUNCTIONS["div"](rest[..., 0], _nonzero_or_one(pivot).unsqueeze(-1))
        rest = rest[..., 1:].less(factor.unsqueeze(-1).times(row[..., 1:].unsqueeze(-2)))
        pivots.append(pivot)
    return pivots, sign


def _nonzero_or_one(z: Complex) -> Complex:
    return FUNCTIONS["where"](1.0, ~nonzero(z), z)


@rule("linalg.det", "det")
def _det(A: Complex) -> Complex:
    pivots, sign = _pivots(A)
    return reduce(Complex.times, pivots, Complex.of(sign))


@rule("linalg.slogdet", "slogdet")
def _slogdet(A: Complex) -> factorizations.Slogdet:
    """The determinant over its absolute value, and the logarithm of that."""
    pivots, sign = _pivots(A)
    units = reduce(Complex.times, (p.sgn() for p in pivots), Complex.of(sign))
    sizes = sum((_abs(p).log() for p in pivots), zeros_like(sign))
    return factorizations.Slogdet(units, sizes)  # type: ignore[arg-type]


@rule("logdet")
def _logdet(A: Complex) -> Complex:
    units, sizes = _slogdet(A)
    return Complex(sizes, units.angle())


# -- eigenvalues and singular values -------------------------------------------------------------


@rule("linalg.eigvalsh")
def _eigvalsh(A: Complex, UPLO: str = "L") -> Tensor:
    """Those of the real matrix, every second one."""
    whole = _hermitian(A if UPLO == "L" else A.mH)
    return factorizations.eigvalsh(blocks(whole))[..., ::2]


@rule("linalg.svdvals")
def _svdvals(A: Complex, *, driver: str | None = None) -> Tensor:
    """Those of the real matrix, every second one."""
    return factorizations.svdvals(blocks(A), driver=driver)[..., ::2]


@rule("linalg.pinv")
def _pinv(z: Complex, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Complex:
    """That of the real matrix, with the limits of a matrix of the size of z."""
    whole = _mirrored(z, hermitian)
    rows, columns = z.shape[-2:]
    found = factorizations.pinv(blocks(whole), atol=atol, rtol=_relative(z, atol, rtol))
    return of_blocks(found, columns, rows)


def _mirrored(z: Complex, hermitian: bool) -> Complex:
    """A matrix, or what its lower triangle says of a Hermitian one."""
    return _hermitian(z) if hermitian else z


def _relative(z: Complex, atol: Any, rtol: Any) -> Any:
    """The default of `rtol`, which the size of a matrix goes into."""
    if rtol is not None or atol is not None:
        return rtol
    return max(z.shape[-2:]) * factorizations.rounding(z.real)


@rule("linalg.matrix_rank")
def _matrix_rank(
    z: Complex, *, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Tensor:
    whole = blocks(_mirrored(z, hermitian))
    return factorizations.matrix_rank(whole, atol=atol, rtol=_relative(z, atol, rtol)) // 2


# -- norms ---------------------------------------------------------------------------------------


@rule("linalg.vector_norm", "linalg_vector_norm")
def _vector_norm(
    z: Complex, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    kind = dtype.part if isinstance(dtype, ComplexDType) else dtype
    return linalg.vector_norm(_abs(z), ord, dim, keepdim, dtype=kind)


@rule("norm")
def _norm(
    z: Complex, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    kind = dtype.part if isinstance(dtype, ComplexDType) else dtype
    if p == "nuc":
        return linalg.matrix_norm(z, p, (-2, -1) if dim is None else dim, keepdim)  # type: ignore[arg-type]
    return _abs(z).norm(p, dim, keepdim, dtype=kind)


@rule("linalg.vecdot")
def _vecdot(x: Any, y: Any, *, dim: int = -1) -> Complex:
    """conj(x) . y"""
    return _mul(Complex.of(x).conjugate(), y).sum(dim)
