"""Products of groups of rows with matrices of their own, as in mixtures of experts.

In: rows sorted by group, a matrix a group, and where each group ends. Out: lazy tensors. Invariant:
no work is done for a row that is not its own group's, beyond the last tile of each.

    rows      |  0  0  0  1  2  2  2  2  2  .  .  |        offs = 3, 4, 9: dots belong to nobody
    tiles     |  0  0  0 -|  1 -  -  -|  2  2  2  2|  2 -  -  -|     of as many rows each
    product   of each tile with one matrix: a batched dot whose second operand is gathered

What a row - is does not matter: nobody reads its product.

Gradients of the matrices are sums over runs of rows, whose loops begin and end where the runs do.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grouped_mm.html
"""

from __future__ import annotations

from tgrad import dtype as dt
from tgrad.creation import arange
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError
from tgrad.nn.functional.padding import pad
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = ["grouped_mm"]

LEAST_TILE, MOST_TILE = 16, 128
"""Rows of a tile: what a matrix unit takes at least, and what a program does at once."""


@labelled("grouped_mm")
def grouped_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: DType | None = None,
) -> Tensor:
    """The product of each group with its own matrix.

    Args:
        mat_a: (M, K), or (G, M, K).
        mat_b: (G, K, N), or (K, N).
        offs: (G,), int32: where each group ends along the axis that a matrix without G has: M of
            mat_a, N of mat_b, or K of both. They do not decrease. None where both have G.
        bias: (N,) or (G, N); with offs along M, of each row its group's.
        out_dtype: of the result; by default that of mat_a.

    Returns:
        (M, N), or (G, M, N) where offs are along K or None. What lies behind the last group is 0.

    Raises:
        ShapeError: the shapes do not fit, or offs is missing or too much.
        DTypeError: offs is no int32.

    >>> import tgrad, tgrad.nn.functional as F
    >>> rows, matrices = tgrad.ones(3, 2), tgrad.tensor([[[1.0], [1.0]], [[2.0], [3.0]]])
    >>> F.grouped_mm(rows, matrices, offs=tgrad.tensor([1, 3], dtype=tgrad.int32)).tolist()
    [[2.0], [5.0], [5.0]]
    """
    _check(mat_a, mat_b, offs)
    dtype = mat_a.dtype if out_dtype is None else out_dtype
    if offs is None:
        result = mat_a._matmul(mat_b, dtype)
    elif mat_b.ndim == 3:
        result = _rows(mat_a, mat_b, offs, dtype)
    elif mat_a.ndim == 3:
        result = _rows(mat_b.mT, mat_a.mT, offs, dtype).mT
    else:
        result = _sums(mat_a.mT, mat_b, offs, dtype)
    return result if bias is None else result + _fitting(bias.to(dtype), result, mat_a, offs)


def _check(a: Tensor, b: Tensor, offs: Tensor | None) -> None:
    shapes = f"grouped_mm of shapes {a.shape} and {b.shape}"
    if a.ndim not in (2, 3) or b.ndim not in (2, 3) or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{shapes}.", "They are (M, K) or (G, M, K), and (K, N) or (G, K, N).")
    groups = {t.shape[0] for t in (a, b) if t.ndim == 3}
    if len(groups) > 1:
        raise ShapeError(f"{shapes}.", "Both must have as many groups.")
    if (offs is None) != (a.ndim == b.ndim == 3):
        what = "without offs" if offs is None else "with offs"
        raise ShapeError(f"{shapes} {what}.", "Give offs where a matrix has no axis of groups.")
    if offs is None:
        return
    if offs.dtype is not dt.int32:
        raise DTypeError(f"grouped_mm: offs of {offs.dtype.name}.", "Use offs.to(tgrad.int32).")
    if offs.ndim != 1 or (groups and offs.shape != tuple(groups)):
        wanted = tuple(groups) if groups else "(groups,)"
        raise ShapeError(f"grouped_mm: offs of shape {offs.shape}.", f"Its shape must be {wanted}.")


def _fitting(bias: Tensor, result: Tensor, a: Tensor, offs: Tensor | None) -> Tensor:
    """The bias as it is added to the result."""
    if bias.ndim == 2 and result.ndim == 3:
        return bias.unsqueeze(1)
    if bias.ndim == 2 and offs is not None and a.ndim == 2:
        return bias.index_select(0, _groups_of(offs, a.shape[0]).clamp(max=bias.shape[0] - 1))
    return bias


# -- where rows lie ------------------------------------------------------------------------------


def _places(count: int, like: Tensor) -> Tensor:
    return arange(count, device=like.device, dtype=dt.int32)


def _groups_of(offs: Tensor, rows: int) -> Tensor:
    """The group of each row, int32[rows]; one that is behind the last has their number."""
    return (offs <= _places(rows, offs).unsqueeze(1)).sum(1, dtype=dt.int32)


def _first_of(offs: Tensor) -> Tensor:
    """Where each group begins."""
    return pad(offs, (1, -1))


def _picked(x: Tensor, places: Tensor) -> Tensor:
    """Rows of x, [*places.shape, ...]."""
    return x.index_select(0, places.reshape(-1)).reshape(*places.shape, *x.shape[1:])


# -- rows by matrices ----------------------------------------------------------------------------


def _rows(x: Tensor, w: Tensor, offs: Tensor, dtype: DType) -> Tensor:
    """x[t] @ w[group of t]: [T, K], [G, K, N] -> [T, N]."""
    (total, _), (groups, _, columns) = x.shape, w.shape
    if not total or not groups:
        result = x.new_zeros(total, columns, dtype=dtype)
        return with_vjp("grouped_rows", result, x, w, offs)
    tile = LEAST_TILE
    while tile < MOST_TILE and 2 * tile * groups < total:
        tile *= 2
    filled = min(groups, total)
    count = (total + filled * (tile - 1)) // tile
    first = _first_of(offs)
    tiles = (offs - first + (tile - 1)) // tile
    end = tiles.cumsum(0, dtype=dt.int32)
    number = _places(count, x)
    group = (end <= number.unsqueeze(1)).sum(1, dtype=dt.int32).clamp(max=groups - 1)
    # Of each group: the row where tile 0 would begin, were all tiles before it the group's.
    begins = first - (end - tiles) * tile
    row = (_picked(begins, group) + number * tile).unsqueeze(1) + _places(tile, x)
    # Tiles of no group are not computed, since nobody reads them.
    used = number < tiles.sum(dtype=dt.int32)
    product = _picked(x, row.clamp(0, total - 1))._matmul(_picked(w, group), dtype)
    own = _groups_of(offs, total)
    place = _places(total, x) - _picked(begins, own.clamp(max=groups - 1))
    product = product.where(used.reshape(count, 1, 1), 0).reshape(count * tile, columns)
    result = _picked(product, place.clamp(0, count * tile - 1))
    result = result.where((own < groups).unsqueeze(1), 0)
    return with_vjp("grouped_rows", result, x, w, offs)


@define_vjp("grouped_rows")
def _rows_backward(
    g: Tensor, y: Tensor, x: Tensor, w: Tensor, offs: Tensor
) -> tuple[Tensor, Tensor, None]:
    """g @ w.T of each row; sums of x.T @ g over each group"""
    g = g.to(x.dtype)
    return _rows(g, w.mT, offs, x.dtype), _sums(x, g, offs, w.dtype), None


# -- sums over groups of rows --------------------------------------------------------------------


def _sums(x: Tensor, y: Tensor, offs: Tensor, dtype: DType) -> Tensor:
    """The sum of x[t] outer y[t] over the rows of each group: [T, K], [T, N] -> [G, K, N]."""
    row, first = _places(x.shape[0], x), _first_of(offs)
    is_mine = (first.unsqueeze(1) <= row) & (row < offs.unsqueeze(1))
    left, right = (t.where(is_mine.unsqueeze(2), 0) for t in (x, y))
    return with_vjp("grouped_sums", left.mT._matmul(right, dtype), x, y, offs)


@define_vjp("grouped_sums")
def _sums_backward(
    g: Tensor, s: Tensor, x: Tensor, y: Tensor, offs: Tensor
) -> tuple[Tensor, Tensor, None]:
    """y @ g.T and x @ g of each row"""
    g = g.to(x.dtype)
    return _rows(y, g.mT, offs, x.dtype), _rows(x, g, offs, y.dtype), None
