"""Functions that a device's library computes: LAPACK by NumPy on the host, torch's on `cuda`.

In: a name, shapes and parameters. Out: the results' shapes, FLOPs, and their values by NumPy.
Invariant: a call reads whole operands of one floating dtype, whose leading axes are the same batch,
and gives one array: for each member of the batch its results, one after the other.

    cholesky(A)          L, lower
    cholesky_ex(A)       the same and 0; NaN and the number of the first leading minor that is not
                         positive, where there is one
    lu(A, check)         L below the diagonal and U of A = P L U, and the row (from 1) that each row
                         was swapped with; `check` refuses a U with a 0 on its diagonal
    ldl(A)               L below the diagonal and D of A = L D Lᵀ, pivots, and the number of the
                         first that is 0, or 0
    ldl_solve(F, p, B)   X of A X = B, of these factors and pivots (.., n, 1)
    permutation(s, m)    where each of m rows comes from, after swaps (.., k, 1)
    solve(A, B)          X of A X = B
    triangular(A, B)     the same for the (lower) triangle of A, with ones on its diagonal (unit)
    qr(A)                Q, R, reduced or complete
    geqrf(A)             R and, below it, vectors of reflections; and their factors
    eigh(A)              eigenvalues of the lower triangle of A, ascending, and vectors
    svd(A)               U, S, Vh, reduced or full
    eig(A)               eigenvalues and vectors (columns) of any square A, real and imaginary parts
    complex_eig(X, Y)    the same of X + iY, as are those below: each complex result is two real
                         ones, its real and its imaginary part
    complex_lu(X, Y, check), complex_qr(X, Y, mode), complex_eigh(X, Y), complex_svd(X, Y, full)
    det(A)               the determinant
    slogdet(A)           its sign and the logarithm of its absolute value
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tgrad.dtype import DType
from tgrad.errors import LinAlgError, Source
from tgrad.graph.indefinite import ldl, ldl_solve

Array = np.ndarray
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class LibraryCall:
    """A call of a function of `LIBRARY`.

    Attributes:
        function: its name.
        shapes: of the operands.
        params: of the function.
        dtype: of operands and results.
    """

    function: str
    shapes: Shapes
    params: tuple[Any, ...]
    dtype: DType

    @property
    def reads(self) -> int:
        """Operands whose values are read."""
        return len(self.shapes)

    @property
    def batch(self) -> Shape:
        return self.shapes[0][:-2]

    @property
    def results(self) -> Shapes:
        """Shapes of the results of one member of the batch."""
        cores = tuple(shape[-2:] for shape in self.shapes)
        return LIBRARY[self.function].results(*cores, *self.params)

    @property
    def shape(self) -> Shape:
        """Of the one array that holds all results."""
        return (*self.batch, sum(map(prod, self.results)))

    @property
    def flops(self) -> int:
        """Floating-point operations, as textbooks count them."""
        cores = tuple(shape[-2:] for shape in self.shapes)
        return prod(self.batch) * int(LIBRARY[self.function].flops(*cores, *self.params))

    def text(self) -> str:
        """The call, as people write it."""
        names = [f"in{i}" for i in range(len(self.shapes))]
        return f"{self.function}({', '.join([*names, *map(repr, self.params)])})"

    def compute(self, operands: Sequence[Array], source: Source) -> Array:
        """The results by NumPy.

        Raises:
            LinAlgError: the function has no value for an operand.
        """
        arrays = [a.reshape(shape) for a, shape in zip(operands, self.shapes, strict=True)]
        try:
            with np.errstate(all="ignore"):
                found = LIBRARY[self.function].run(*arrays, *self.params)
        except np.linalg.LinAlgError as error:
            raise refused(self.function, str(error), source) from None
        return packed(found, self, lambda a, shape: np.asarray(a, self.dtype.numpy).reshape(shape),
                      lambda parts: np.concatenate(parts, -1))  # fmt: skip


def packed(
    found: Sequence[Any],
    call: LibraryCall,
    reshape: Callable[[Any, Shape], Any],
    concatenate: Callable[[list[Any]], Any],
) -> Any:
    """The results of a call as one array."""
    pairs = zip(found, call.results, strict=True)
    return concatenate([reshape(a, (*call.batch, prod(shape))) for a, shape in pairs])


REASONS = {
    "cholesky": "The factorization could not be completed because the input is not "
    "positive-definite.",
    "lu": "U has a 0 on its diagonal: the matrix is singular.",
    "solve": "The solver failed because the input matrix is singular.",
    "svd": "The algorithm failed to converge.",
    "eigh": "The algorithm failed to converge.",
    "eig": "The algorithm failed to converge.",
}


def refused(function: str, message: str, source: Source) -> LinAlgError:
    """The error of a function that has no value for its operand."""
    name = function.removeprefix("complex_")
    return LinAlgError(
        f"linalg.{name}: {REASONS.get(name, message)}",
        "Look at the matrix, or add a multiple of the identity to it.",
        source,
    )


# -- by NumPy ------------------------------------------------------------------------------------


def _triangular(a: Array, b: Array, unit: bool) -> tuple[Array]:
    """Forward substitution, a row of all members of the batch at a time."""
    x = np.array(b)
    for i in range(a.shape[-1]):
        row = x[..., i, :] - np.einsum("...k,...kn->...n", a[..., i, :i], x[..., :i, :])
        x[..., i, :] = row if unit else row / a[..., i, i, None]
    return (x,)


def _cholesky(a: Array) -> tuple[Array]:
    return (np.linalg.cholesky(a),)


def _cholesky_ex(a: Array) -> tuple[Array, Array]:
    factors, infos = np.full_like(a, np.nan), np.zeros(a.shape[:-2], a.dtype)
    for place in np.ndindex(a.shape[:-2]):
        if not _is_positive(a[place]):
            sizes = range(1, a.shape[-1] + 1)
            infos[place] = next(n for n in sizes if not _is_positive(a[place][:n, :n]))
        else:
            factors[place] = np.linalg.cholesky(a[place])
    return factors, infos


def _is_positive(a: Array) -> bool:
    try:
        return bool(np.isfinite(np.linalg.cholesky(a)).all())
    except np.linalg.LinAlgError:
        return False


PANEL = 32
"""Columns that are factored one by one; what is right of them is a product of matrices."""


def _lu(a: Array, check: bool) -> tuple[Array, Array]:
    """Partial pivoting, a panel of columns of all members of the batch at a time."""
    shape = a.shape
    x = np.array(a).reshape(prod(shape[:-2]), *shape[-2:])
    steps = min(shape[-2:])
    swaps = np.zeros((len(x), steps), a.real.dtype)
    every = np.arange(len(x))
    for start in range(0, steps, PANEL):
        stop = min(start + PANEL, steps)
        for k in range(start, stop):
            largest = _sizes(x[:, k:, k]).argmax(-1) + k
            swaps[:, k] = largest + 1
            x[every, k], x[every, largest] = x[every, largest].copy(), x[every, k].copy()
            pivot = x[:, k, k, None]
            x[:, k + 1 :, k] /= np.where(pivot == 0, 1, pivot)
            x[:, k + 1 :, k + 1 : stop] -= x[:, k + 1 :, k, None] * x[:, k, None, k + 1 : stop]
        (right,) = _triangular(x[:, start:stop, start:stop], x[:, start:stop, stop:], True)
        x[:, start:stop, stop:] = right
        x[:, stop:, stop:] -= x[:, stop:, start:stop] @ right
    if check and (np.diagonal(x, axis1=-2, axis2=-1) == 0).any():
        raise np.linalg.LinAlgError
    return x.reshape(shape), swaps.reshape(*shape[:-2], steps)


def _sizes(a: Array) -> Array:
    """Absolute values; of complex numbers those of both parts, added, as LAPACK compares them."""
    size = np.abs(a.real) + np.abs(a.imag) if np.iscomplexobj(a) else np.abs(a)
    return np.nan_to_num(size, nan=np.inf, posinf=np.inf)


def _permutation(swaps: Array, rows: int) -> tuple[Array]:
    flat = swaps.reshape(prod(swaps.shape[:-2]), swaps.shape[-2]).astype(np.int64) - 1
    places = np.tile(np.arange(rows), (len(flat), 1))
    every = np.arange(len(flat))
    for k in range(flat.shape[1]):
        other = flat[:, k]
        places[every, k], places[every, other] = places[every, other], places[every, k].copy()
    return (places.reshape(*swaps.shape[:-2], rows),)


def _solve(a: Array, b: Array) -> tuple[Array]:
    return (np.linalg.solve(a, b),)


def _qr(a: Array, mode: str) -> Sequence[Array]:
    return np.linalg.qr(a, mode)  # type: ignore[call-overload]


def _geqrf(a: Array) -> tuple[Array, Array]:
    columns, factors = np.linalg.qr(a, "raw")
    return columns.swapaxes(-1, -2), factors


def _eigh(a: Array) -> Sequence[Array]:
    return np.linalg.eigh(a)


def _svd(a: Array, full: bool) -> Sequence[Array]:
    return np.linalg.svd(a, full_matrices=full)


def _det(a: Array) -> tuple[Array]:
    return (np.linalg.det(a),)


def _slogdet(a: Array) -> Sequence[Array]:
    return np.linalg.slogdet(a)


def _parts(*arrays: Array) -> list[Array]:
    """Real and imaginary parts of each."""
    return [part for a in arrays for part in (a.real, a.imag)]


def _eig(a: Array) -> Sequence[Array]:
    return _parts(*np.linalg.eig(a))


def _complex_lu(x: Array, y: Array, check: bool) -> Sequence[Array]:
    factor, swaps = _lu(x + 1j * y, check)
    return *_parts(factor), swaps


def _complex_svd(x: Array, y: Array, full: bool) -> Sequence[Array]:
    u, s, vh = _svd(x + 1j * y, full)
    return *_parts(u), s, *_parts(vh)


def _complex_eigh(x: Array, y: Array) -> Sequence[Array]:
    w, v = np.linalg.eigh(x + 1j * y)
    return w, *_parts(v)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the table: of operands' last two axes and parameters.

    Attributes:
        run: of arrays, by NumPy.
        results: shapes of what it gives.
        flops: of one matrix.
    """

    run: Callable[..., Sequence[Array]]
    results: Callable[..., Shapes]
    flops: Callable[..., float]


def _qr_results(a: Shape, mode: str) -> Shapes:
    (m, n), k = a, min(a)
    return ((m, m), (m, n)) if mode == "complete" else ((m, k), (k, n))


def _svd_results(a: Shape, full: bool) -> Shapes:
    (m, n), k = a, min(a)
    return ((m, m), (k,), (n, n)) if full else ((m, k), (k,), (k, n))


def _complex_svd_results(x: Shape, y: Shape, full: bool) -> Shapes:
    u, s, vh = _svd_results(x, full)
    return u, u, s, vh, vh


def _eig_results(a: Shape) -> Shapes:
    return (a[0],), (a[0],), a, a


LIBRARY: dict[str, Function] = {
    "cholesky": Function(_cholesky, lambda a: (a,), lambda a: a[0] ** 3 / 3),
    "cholesky_ex": Function(_cholesky_ex, lambda a: (a, ()), lambda a: a[0] ** 3 / 3),
    "lu": Function(
        _lu,
        lambda a, check: (a, (min(a),)),
        lambda a, check: max(a) * min(a) ** 2 - min(a) ** 3 / 3,
    ),
    "ldl": Function(ldl, lambda a: (a, (a[0],), ()), lambda a: a[0] ** 3 / 3),
    "ldl_solve": Function(
        lambda f, p, b: (ldl_solve(f, p, b),),
        lambda f, p, b: (b,),
        lambda f, p, b: 2 * f[0] ** 2 * b[1],
    ),
    "permutation": Function(_permutation, lambda a, rows: ((rows,),), lambda a, rows: 0),
    "solve": Function(
        _solve, lambda a, b: (b,), lambda a, b: 2 * a[0] ** 3 / 3 + 2 * a[0] ** 2 * b[1]
    ),
    "triangular": Function(
        _triangular, lambda a, b, unit: (b,), lambda a, b, unit: a[0] ** 2 * b[1]
    ),
    "qr": Function(
        _qr, _qr_results, lambda a, mode: 4 * max(a) * min(a) ** 2 - 4 * min(a) ** 3 / 3
    ),
    "geqrf": Function(
        _geqrf,
        lambda a: (a, (min(a),)),
        lambda a: 2 * max(a) * min(a) ** 2 - 2 * min(a) ** 3 / 3,
    ),
    "eigh": Function(_eigh, lambda a: ((a[0],), a), lambda a: 9 * a[0] ** 3),
    "svd": Function(
        _svd, _svd_results, lambda a, full: 6 * max(a) * min(a) ** 2 + 16 * min(a) ** 3
    ),
    "eig": Function(_eig, _eig_results, lambda a: 25 * a[0] ** 3),
    "complex_eig": Function(
        lambda x, y: _eig(x + 1j * y),
        lambda x, y: _eig_results(x),
        lambda x, y: 100 * x[0] ** 3,
    ),
    "complex_lu": Function(
        _complex_lu,
        lambda x, y, check: (x, x, (min(x),)),
        lambda x, y, check: 4 * max(x) * min(x) ** 2 - 4 * min(x) ** 3 / 3,
    ),
    "complex_qr": Function(
        lambda x, y, mode: _parts(*_qr(x + 1j * y, mode)),
        lambda x, y, mode: tuple(a for a in _qr_results(x, mode) for _ in range(2)),
        lambda x, y, mode: 16 * max(x) * min(x) ** 2 - 16 * min(x) ** 3 / 3,
    ),
    "complex_eigh": Function(
        _complex_eigh, lambda x, y: ((x[0],), x, x), lambda x, y: 36 * x[0] ** 3
    ),
    "complex_svd": Function(
        _complex_svd,
        _complex_svd_results,
        lambda x, y, full: 24 * max(x) * min(x) ** 2 + 64 * min(x) ** 3,
    ),
    "det": Function(_det, lambda a: ((),), lambda a: 2 * a[0] ** 3 / 3),
    "slogdet": Function(_slogdet, lambda a: ((), ()), lambda a: 2 * a[0] ** 3 / 3),
}
