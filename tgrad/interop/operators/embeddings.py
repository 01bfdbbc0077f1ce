"""Operators that pick rows of a table.

In: arguments of an operator. Out: what it gives. Invariant: of what a bag keeps for its backward,
the bag of each row and the rows of each maximum are PyTorch's; sizes of bags are not read.
"""

from __future__ import annotations

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Tensors, gradients, rule
from tgrad.nn.functional.linear import with_bounded_norms

MODES = ("sum", "mean", "max")


@rule("embedding")
def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return F.embedding(indices, weight)


@rule("embedding_renorm")
def _renormed(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    return with_bounded_norms(weight, indices, max_norm, norm_type)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def _bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    factors: Tensor | None = None,
    include_last: bool = False,
    padding: int = -1,
) -> Tensors:
    ignored = padding if padding >= 0 else None
    y = F.embedding_bag(
        indices, weight, offsets, mode=MODES[mode], per_sample_weights=factors,
        include_last_offset=include_last, padding_idx=ignored,
    )  # fmt: skip
    bag = _bag_of_each(indices, offsets[:-1] if include_last else offsets)
    sizes = tgrad.zeros(y.shape[0], dtype=indices.dtype, device=y.device)
    return y, bag, sizes, _rows_of_maxima(weight, indices, bag, y, ignored) if mode == 2 else sizes


def _bag_of_each(indices: Tensor, starts: Tensor) -> Tensor:
    place = tgrad.arange(indices.shape[0], device=indices.device).unsqueeze(1)
    return (place >= starts).sum(1) - 1


def _rows_of_maxima(
    weight: Tensor, indices: Tensor, bag: Tensor, y: Tensor, ignored: int | None
) -> Tensor:
    """The row that each maximum of a bag is of, the first one; -1 if the bag is empty."""
    count = indices.shape[0]
    is_found = weight[indices] == y[bag]
    if ignored is not None:
        is_found = is_found & (indices != ignored).unsqueeze(1)
    place = tgrad.arange(count, device=y.device).unsqueeze(1).where(is_found, count)
    first = tgrad.full(y.shape, count, dtype=tgrad.int64, device=y.device)
    first = first.index_reduce(0, bag, place, "amin")
    return indices[first.clamp(max=count - 1)].where(first < count, -1)


@rule("_embedding_bag_backward")
def _bag_backward(
    g: Tensor,
    indices: Tensor,
    offsets: Tensor,
    bag: Tensor,
    sizes: Tensor,
    maxima: Tensor,
    rows: int,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    factors: Tensor | None,
    padding: int = -1,
) -> Tensor:
    if scale_grad_by_freq or sparse:
        raise UnsupportedError("scale_grad_by_freq or sparse of embedding_bag.", "Leave it out.")
    table = tgrad.zeros(rows, g.shape[1], dtype=g.dtype, device=g.device)
    if mode == 2:
        return table.scatter_add(0, maxima.clamp(min=0), g.where(maxima >= 0, 0.0))
    how = (factors, offsets.shape[0] > g.shape[0], padding)
    (found,) = gradients(
        lambda w: _bag(w, indices, offsets, False, mode, False, *how)[0], g, (table,), (True,)
    )
    assert found is not None
    return found


@rule("_embedding_bag_per_sample_weights_backward")
def _factors_backward(
    g: Tensor,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    bag: Tensor,
    mode: int,
    padding: int = -1,
) -> Tensor:
    return (g[bag] * weight[indices]).sum(1).where(indices != padding, 0.0)
