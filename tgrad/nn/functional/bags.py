"""Sums of embeddings over bags, and bilinear forms.

In: indices or vectors, and weights. Out: lazy tensors. Invariant: rows of a table are gathered;
bags are one scatter. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from typing import Any

from tgrad.arguments import refuse
from tgrad.creation import places
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.methods.indexing import check_known_index
from tgrad.nn.functional.linear import bound_norms
from tgrad.products import einsum
from tgrad.tensor import Tensor, labelled

__all__ = ["bilinear", "embedding_bag"]


@labelled("bilinear")
@from_template()
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Σ_(i, j) input1[i] weight[o, i, j] input2[j] + bias[o].

    Args:
        input1, input2: (.., I) and (.., J).
        weight: (O, I, J).
        bias: (O,).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.bilinear(tgrad.ones(2), tgrad.ones(3), tgrad.ones(1, 2, 3)).tolist()
    [6.0]
    """
    if weight.ndim != 3 or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]:
        raise ShapeError(
            f"bilinear of shapes {input1.shape}, {input2.shape} and {weight.shape}.",
            "The weight is (outputs, features of input1, features of input2).",
        )
    y = einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias


@labelled("embedding_bag")
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Rows of a table, summed, averaged or maximised over bags; an empty bag gives 0.

    Args:
        input: rows, (B, N), or (L,) with offsets.
        weight: the table, (rows, D).
        offsets: where each bag of (L,) starts, (B,).
        max_norm: rows that are named and whose norm is larger are scaled to it, in `weight` itself.
        norm_type: of max_norm.
        scale_grad_by_freq, sparse: not supported.
        mode: "sum", "mean" or "max".
        per_sample_weights: a factor a row, for mode "sum".
        include_last_offset: whether the last offset is the end of the last bag.
        padding_idx: a row that does not count.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.embedding_bag(tgrad.tensor([[0, 1]]), tgrad.tensor([[1.0], [3.0]])).tolist()
    [[2.0]]
    """
    refuse("embedding_bag", scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    if mode not in ("sum", "mean", "max") or (per_sample_weights is not None and mode != "sum"):
        raise UnsupportedError(
            f"embedding_bag: mode={mode!r}.",
            'Use "sum", or "mean" or "max" without per_sample_weights.',
        )
    check_known_index(input, weight.shape[0])
    bound_norms(weight, input, max_norm, norm_type)
    rows, (bag, count) = input.reshape(-1), _bags(input, offsets, include_last_offset)
    picked = weight.index_select(0, rows)
    if per_sample_weights is not None:
        picked = picked * per_sample_weights.reshape(-1, 1)
    counted: Any = rows == rows if padding_idx is None else rows != padding_idx % weight.shape[0]
    return _combined(picked, counted, bag, count, mode)


def _combined(picked: Tensor, counted: Tensor, bag: Tensor, count: int, mode: str) -> Tensor:
    """The rows that count, by bag."""
    base = picked._constant(0, picked.dtype).expand(count, picked.shape[1])
    column = counted.unsqueeze(1)
    sizes = base[:, 0].index_add(0, bag, counted.to(picked.dtype)).unsqueeze(1)
    if mode == "max":
        lowest = picked.where(column, picked.dtype.min)
        return base.index_reduce(0, bag, lowest, "amax", include_self=False).where(sizes > 0, 0.0)
    total = base.index_add(0, bag, picked.where(column, 0.0))
    return total if mode == "sum" else total / sizes.clamp(min=1.0)


def _bags(input: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, int]:
    """The bag of each row, and how many bags there are."""
    if (input.ndim == 2) == (offsets is not None) or input.ndim > 2:
        raise ShapeError(
            f"embedding_bag of shape {input.shape}.", "Give (B, N), or (L,) with offsets."
        )
    if offsets is None:
        return places(input.shape, 0, device=input.device).reshape(-1), input.shape[0]
    starts = offsets[:-1] if include_last else offsets
    place = places(input.shape, 0, device=input.device).unsqueeze(1)
    return (place >= starts).sum(1) - 1, starts.shape[0]
