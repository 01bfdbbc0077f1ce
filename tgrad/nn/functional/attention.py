"""Attention: what each query takes of values, by its scores with keys.

In: queries, keys and values. Out: lazy tensors. Invariant: the algebra is written out, and fusion
finds that it is one kernel (fusion/find_chains.py).
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tgrad.creation import places
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.reduction import normal_axis
from tgrad.nn.functional.linear import check_probability, draw_for, dropped
from tgrad.tensor import Tensor, labelled, with_vjp

__all__ = ["scaled_dot_product_attention"]


@labelled("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q kᵀ * scale + mask) v.

    Args:
        query: (..., H, L, E).
        key: (..., H, S, E).
        value: (..., H, S, Ev).
        attn_mask: broadcasts to (..., H, L, S); bool (True takes part) or added to the scores.
        dropout_p: probability of dropping an attention weight; applied whenever it is not 0.
        is_causal: each query sees the keys up to its own place only.
        scale: by default 1 / sqrt(E).
        enable_gqa: key and value may have fewer heads, each shared by a group of query heads.

    Returns:
        (..., H, L, Ev). A query that may see no key gets 0, as in PyTorch.

    Raises:
        UnsupportedError: both attn_mask and is_causal.

    >>> import tgrad, tgrad.nn.functional as F
    >>> q = tgrad.zeros(1, 2, 4)
    >>> F.scaled_dot_product_attention(q, q, tgrad.ones(1, 2, 3)).shape
    (1, 2, 3)
    """
    if attn_mask is not None and is_causal:
        raise UnsupportedError(
            "scaled_dot_product_attention: attn_mask with is_causal=True.", "Give one of them."
        )
    if query.dtype is not key.dtype or query.dtype is not value.dtype:
        raise DTypeError(
            f"attention of {query.dtype.name}, {key.dtype.name} and {value.dtype.name}.",
            "Query, key and value need one dtype.",
        )
    check_probability(dropout_p)
    mask, draw = attn_mask, draw_for(query, dropout_p)
    return drawn_attention(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa, *draw)


@from_template(keeps_order=False)
def drawn_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float,
    is_causal: bool, scale: float | None, enable_gqa: bool, *draw: Tensor,
) -> Tensor:  # fmt: skip
    """The same, its weights dropped by a draw if there is one."""
    if enable_gqa:
        key, value = (share_heads(t, query.shape[-3]) for t in (key, value))
    wide = masked_scores(query, key, mask, is_causal, scale)
    return attend(wide, value, mask is None, dropout_p, draw)


def attend(
    wide: Tensor,
    value: Tensor,
    sees_a_key: bool,
    dropout_p: float = 0.0,
    draw: Sequence[Tensor] = (),
) -> Tensor:
    """Values by the softmax of scores.

    Args:
        sees_a_key: whether no row is -inf throughout, as of causal queries, which see the first
            key at least; the result of one that is, is 0.
    """
    weights = wide.softmax(-1) if sees_a_key else _softmax_or_zero(wide)
    if dropout_p:
        weights = dropped(weights, dropout_p, *draw)
    return weights.to(value.dtype).matmul(value)


def masked_scores(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    """q kᵀ * scale + mask; -inf for keys that a query does not see."""
    wide = scores(query, key) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    seen = mask
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        rows, columns = (places(shape, axis, device=query.device) for axis in (0, 1))
        seen = columns <= rows
    if seen is None:
        return wide
    return wide.where(seen, -math.inf) if seen.dtype.is_bool else wide + seen


def _softmax_or_zero(wide: Tensor) -> Tensor:
    """softmax over the last axis; 0 in a row that is -inf throughout."""
    highest, total = _rows_of(wide)
    weights = (wide - highest).exp() / total
    return with_vjp("softmax", weights, wide, params=(wide.ndim - 1,))


def log_sums(wide: Tensor, sees_a_key: bool) -> Tensor:
    """log Σ exp of each row, whose weights are exp(wide - it).

    Args:
        sees_a_key: whether no row is -inf throughout; of one that is, the result is 0.
    """
    if sees_a_key:
        highest = wide.amax(wide.ndim - 1, keepdim=True)
        total = (wide - highest).exp().sum(wide.ndim - 1, keepdim=True)
    else:
        highest, total = _rows_of(wide)
    return (highest + total.log()).squeeze(-1)


def _rows_of(wide: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each row and the sum of its exponentials, such that they are numbers."""
    axis = wide.ndim - 1
    highest = wide.amax(axis, keepdim=True)
    highest = highest.where(~(highest == -math.inf), 0.0)
    total = (wide - highest).exp().sum(axis, keepdim=True)
    return highest, total.where(~(total == 0.0), 1.0)


def scores(query: Tensor, key: Tensor) -> Tensor:
    """q kᵀ in the accumulator's dtype: a score beyond float16 is no overflow."""
    batch = broadcast_shapes(query.shape[:-2], key.shape[:-2])
    q, k = query.expand(*batch, *query.shape[-2:]), key.expand(*batch, *key.shape[-2:])
    axes, last = tuple(range(len(batch))), len(batch) + 1
    return q._dot(k, ((last,), (last,)), (axes, axes), q.dtype.accumulator)


def share_heads(x: Tensor, heads: int) -> Tensor:
    """Each head repeated for its group of query heads."""
    axis = normal_axis(-3, x.ndim)
    have = x.shape[axis]
    if heads % have:
        raise ShapeError(f"attention of {heads} query heads over {have} key heads.")
    spread = x.unsqueeze(axis + 1)
    wide = spread.expand(*x.shape[: axis + 1], heads // have, *x.shape[axis + 1 :])
    return wide.reshape(*x.shape[:axis], heads, *x.shape[axis + 1 :])
