"""L D Lᵀ of symmetric matrices, by NumPy: what LAPACK calls sytrf and sytrs, of the lower triangle.

In: batches of matrices. Out: L below the diagonal with the blocks of D on it, pivots, solutions.
Invariant: pivots are LAPACK's: k + 1 where row k was swapped with row k' = pivot - 1 and D has one
number there; for a block of two rows both have -(k' + 1), where the second was swapped with k'.
Source: Bunch and Kaufman, Some stable methods for calculating inertia (1977), algorithm A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Array = np.ndarray

_GROWTH = (1 + math.sqrt(17)) / 8
"""Of what is off the diagonal, a pivot must have this share at least."""


def ldl(a: Array) -> tuple[Array, Array, Array]:
    """L and D in one, pivots, and the number from 1 of the first pivot that is 0, or 0."""
    n = a.shape[-1]
    work = np.tril(a) + np.swapaxes(np.tril(a, -1), -1, -2)
    members = work.reshape(math.prod(a.shape[:-2]), n, n)
    found = [_factor(m) for m in members]
    pivots = np.array([p for p, _ in found], a.dtype).reshape(*a.shape[:-2], n)
    info = np.array([i for _, i in found], a.dtype).reshape(a.shape[:-2])
    return np.tril(members).reshape(a.shape), pivots, info


def _factor(a: Array) -> tuple[list[int], int]:
    """Factor a matrix in place; both its triangles are kept alike right of the pivot."""
    n, k, info, pivots = len(a), 0, 0, []
    while k < n:
        row, size = _pivot(a, k)
        last = k + size - 1
        if row != last:
            part = a[k:, k:]
            i, j = row - k, last - k
            part[[i, j]] = part[[j, i]]
            part[:, [i, j]] = part[:, [j, i]]
        block, below = a[k : k + size, k : k + size], a[k + size :, k : k + size].copy()
        if size == 1 and not block[0, 0]:
            info = info or k + 1
        else:
            factor = np.linalg.solve(block, below.T).T
            a[k + size :, k + size :] -= factor @ below.T
            a[k + size :, k : k + size] = factor
        pivots += [row + 1] if size == 1 else [-(row + 1)] * 2
        k += size
    return pivots, info


def _pivot(a: Array, k: int) -> tuple[int, int]:
    """The row that comes to the end of the next block of D, and the block's size."""
    here = abs(a[k, k])
    column = np.abs(a[k + 1 :, k])
    if not column.size or here >= _GROWTH * column.max():
        return k, 1
    row = k + 1 + int(column.argmax())
    beside = np.abs(np.delete(a[row, k:], row - k)).max()
    if here * beside >= _GROWTH * column.max() ** 2:
        return k, 1
    return (row, 1) if abs(a[row, row]) >= _GROWTH * beside else (row, 2)


def ldl_solve(factor: Array, pivots: Array, b: Array) -> Array:
    """X of A X = B, for what `ldl` gives of A; pivots are (.., n, 1)."""
    n, x = factor.shape[-1], b.copy()
    count = math.prod(b.shape[:-2])
    shapes = (count, n, n), (count, n), (count, n, b.shape[-1])
    for f, p, rows in zip(*(t.reshape(s) for t, s in zip((factor, pivots, x), shapes))):
        _solve(f, p.astype(int).tolist(), rows)
    return x


def _solve(a: Array, pivots: list[int], x: Array) -> None:
    """Solve in place: swaps and L from the top, D, then Lᵀ and the swaps from the bottom."""
    blocks = list(_blocks(pivots))
    for k, end, row in blocks:
        x[[row, end - 1]] = x[[end - 1, row]]
        x[end:] -= a[end:, k:end] @ x[k:end]
        block = np.tril(a[k:end, k:end])
        x[k:end] = np.linalg.solve(block + np.tril(block, -1).T, x[k:end])
    for k, end, row in reversed(blocks):
        x[k:end] -= a[end:, k:end].T @ x[end:]
        x[[row, end - 1]] = x[[end - 1, row]]


def _blocks(pivots: list[int]) -> Iterator[tuple[int, int, int]]:
    """Of each block of D: its first row, the row after it, and the one it was swapped with."""
    k = 0
    while k < len(pivots):
        size = 1 if pivots[k] > 0 else 2
        yield k, k + size, abs(pivots[k]) - 1
        k += size
