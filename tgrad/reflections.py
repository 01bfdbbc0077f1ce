"""Products of Householder reflections, and the factorisation that gives them.

In: vectors below the diagonals of matrices, and factors tau. Out: lazy tensors. Invariant: a
product H₁ H₂ ... of Hᵢ = I - τᵢ vᵢ vᵢᵀ is I - V T Vᵀ with T = (I + D U)⁻¹ D, where D has τ on its
diagonal and U is VᵀV above its diagonal; so no loop, and derivatives to any order.
Source: Joffrain et al., Accumulating Householder transformations, revisited (2006).
"""

from __future__ import annotations

from typing import NamedTuple

from tgrad.errors import ShapeError
from tgrad.factorizations import (
    call_library,
    check_matrices,
    eye_like,
    results_of,
    solve_triangular,
)
from tgrad.tensor import Tensor, labelled

__all__ = ["geqrf", "householder_product", "orgqr", "ormqr"]


class Geqrf(NamedTuple):
    """Of `geqrf`."""

    a: Tensor
    tau: Tensor


@labelled("geqrf")
def geqrf(input: Tensor) -> Geqrf:
    """R of a QR factorisation in the upper triangle, below it the vectors whose reflections
    multiply to Q, and their factors. It has no gradient; `tgrad.linalg.qr` has.

    Args:
        input: (.., m, n).

    Returns:
        a (.., m, n) and tau (.., min(m, n)).

    >>> import tgrad
    >>> a, tau = tgrad.geqrf(tgrad.tensor([[3.0, 1.0], [4.0, 2.0]]))
    >>> (tgrad.linalg.householder_product(a, tau) @ a.triu()).round(decimals=3).tolist()
    [[3.0, 1.0], [4.0, 2.0]]
    """
    check_matrices("geqrf", input)
    return Geqrf(*results_of("geqrf", call_library("geqrf", input), input))


@labelled("householder_product")
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of a product of reflections.

    Args:
        A: (.., m, n) with n <= m; column i has the vector of reflection i below its diagonal, and
            a one on it, which is not read.
        tau: (.., k) with k <= n.

    >>> import tgrad
    >>> tgrad.linalg.householder_product(tgrad.zeros(2, 1), tgrad.tensor([2.0])).tolist()
    [[-1.0], [0.0]]
    """
    V, T = _reflections("householder_product", A, tau)
    if A.shape[-1] > A.shape[-2]:
        raise ShapeError(f"householder_product of shape {A.shape}.", "Give no more columns.")
    columns = A.shape[-1]
    return eye_like(A, A.shape[-2])[:, :columns] - V @ (T @ V[..., :columns, :].mT)


def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """`tgrad.linalg.householder_product`."""
    return householder_product(input, input2)


@labelled("ormqr")
def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """A matrix multiplied by the whole product of reflections, m x m, which is not made.

    Args:
        input, tau: as of `householder_product`.
        other: (.., m, n), or (.., n, m) with left=False.
        left: whether the product stands on the left.
        transpose: whether it is transposed.

    >>> import tgrad
    >>> a, tau = tgrad.geqrf(tgrad.tensor([[3.0], [4.0]]))
    >>> tgrad.ormqr(a, tau, tgrad.tensor([[3.0], [4.0]]), transpose=True).round().tolist()
    [[-5.0], [0.0]]
    """
    check_matrices("ormqr", input, other)
    V, T = _reflections("ormqr", input, tau)
    if other.shape[-2 if left else -1] != input.shape[-2]:
        raise ShapeError(f"ormqr of shapes {input.shape} and {other.shape}.", "Rows are as many.")
    if not left:
        return ormqr(input, tau, other.mT, True, not transpose).mT
    return other - V @ ((T.mT if transpose else T) @ (V.mT @ other))


def _reflections(name: str, A: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """V (.., m, k) and T (.., k, k)."""
    check_matrices(name, A)
    k = tau.shape[-1] if tau.ndim else 0
    if tau.ndim != A.ndim - 1 or tau.shape[:-1] != A.shape[:-2] or k > min(A.shape[-2:]):
        raise ShapeError(
            f"{name} of shapes {A.shape} and {tau.shape}.", "Give a factor for each vector."
        )
    V = A[..., :k].tril(-1) + eye_like(A, A.shape[-2])[:, :k]
    D = tau.unsqueeze(-1) * eye_like(tau, k)
    above = tau.unsqueeze(-1) * (V.mT @ V).triu(1)
    return V, solve_triangular(above, D, upper=True, unitriangular=True)
