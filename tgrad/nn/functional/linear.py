"""Linear layers, embeddings, dropout, padding, attention.

In: tensors and weights. Out: lazy tensors. Invariant: products accumulate in float32 for float16
and bfloat16. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math

from tgrad.arguments import refuse
from tgrad.creation import places
from tgrad.dtype import promote
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.joining import broadcast_tensors
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.indexing import check_known_index
from tgrad.methods.reduction import normal_axis
from tgrad.random import Generator, rand
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


@labelled("linear")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b.

    Args:
        input: (..., in).
        weight: (out, in) or (in,).
        bias: (out,).

    Raises:
        ShapeError: the last axes differ in size.
        DTypeError: dtypes differ.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.linear(tgrad.ones(1, 3), tgrad.ones(2, 3)).tolist()
    [[3.0, 3.0]]
    """
    if not input.shape or weight.ndim not in (1, 2) or input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            f"linear of shape {input.shape} with a weight of shape {weight.shape}.",
            "Their last sizes must be equal, and the weight has one or two axes.",
        )
    axes = ((input.ndim - 1,), (weight.ndim - 1,))
    if bias is None:
        return input._dot(weight, axes)
    wide = input.dtype.accumulator if input.dtype.is_float else input.dtype
    return (input._dot(weight, axes, dtype=wide) + bias.to(wide)).to(input.dtype)


@labelled("embedding")
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names.

    Args:
        input: integers of any shape.
        weight: (rows, size).
        padding_idx: a row that gets no gradient.
        max_norm, scale_grad_by_freq, sparse: not supported.

    Returns:
        (*input.shape, size).

    Raises:
        OutOfRangeError: a row, where its number is known, does not exist.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.embedding(tgrad.tensor([1, 0]), tgrad.eye(2)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    refuse("embedding", max_norm=max_norm, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight of shape {weight.shape}.", "It has two axes.")
    check_known_index(input, weight.shape[0])
    rows = weight.index_select(0, input.reshape(-1))
    if padding_idx is not None:
        padding = padding_idx % weight.shape[0]
        kept = (input.reshape(-1, 1) != padding).expand(rows.shape)
        rows = with_vjp("mask_gradient", rows, rows, kept)
    return rows.reshape(*input.shape, weight.shape[1])


@define_vjp("mask_gradient")
def _mask_backward(g: Tensor, y: Tensor, x: Tensor, kept: Tensor) -> tuple[Tensor, None]:
    """g where it is kept, else 0"""
    return g.where(kept, 0.0), None


@labelled("dropout")
def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Each element is 0 with probability p, else divided by 1 - p; itself when not training.

    Args:
        generator: by default the one that `tgrad.manual_seed` seeds.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.dropout(tgrad.ones(2), 0.5, training=False).tolist()
    [1.0, 1.0]
    """
    if not 0.0 <= p <= 1.0:
        raise ShapeError(f"dropout: p={p}.", "A probability is 0 to 1.")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        result = input * 0.0
    else:
        draw = rand(input.shape, generator=generator, device=input.device)
        scale = input._constant(1.0 / (1.0 - p), input.dtype)
        result = input * scale.where(draw >= p, 0.0)
    return input._assign(result) if inplace else result


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
    if enable_gqa:
        key, value = (_share_heads(t, query.shape[-3]) for t in (key, value))
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    wide = _scores(query, key) * factor
    seen = attn_mask
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        rows, columns = (places(shape, axis, device=query.device) for axis in (0, 1))
        seen = columns <= rows
    if seen is None:
        weights = wide.softmax(-1)
    else:
        # a causal query sees the first key at least
        wide = wide.where(seen, -math.inf) if seen.dtype.is_bool else wide + seen
        weights = wide.softmax(-1) if is_causal else _softmax_or_zero(wide)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights.to(value.dtype).matmul(value)


def _softmax_or_zero(scores: Tensor) -> Tensor:
    """softmax over the last axis; 0 in a row that is -inf throughout."""
    axis = scores.ndim - 1
    highest = scores.amax(axis, keepdim=True)
    highest = highest.where(~(highest == -math.inf), 0.0)
    power = (scores - highest).exp()
    total = power.sum(axis, keepdim=True)
    weights = power / total.where(~(total == 0.0), 1.0)
    return with_vjp("softmax", weights, scores, params=(axis,))


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """q kᵀ in the accumulator's dtype: a score beyond float16 is no overflow."""
    batch = broadcast_shapes(query.shape[:-2], key.shape[:-2])
    q, k = query.expand(*batch, *query.shape[-2:]), key.expand(*batch, *key.shape[-2:])
    axes, last = tuple(range(len(batch))), len(batch) + 1
    return q._dot(k, ((last,), (last,)), (axes, axes), q.dtype.accumulator)


def _share_heads(x: Tensor, heads: int) -> Tensor:
    """Each head repeated for its group of query heads."""
    axis = normal_axis(-3, x.ndim)
    have = x.shape[axis]
    if heads % have:
        raise ShapeError(f"attention of {heads} query heads over {have} key heads.")
    spread = x.unsqueeze(axis + 1)
    wide = spread.expand(*x.shape[: axis + 1], heads // have, *x.shape[axis + 1 :])
    return wide.reshape(*x.shape[:axis], heads, *x.shape[axis + 1 :])


@labelled("cosine_similarity")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / max(‖x1‖ ‖x2‖, eps) along `dim`, each norm at least eps.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.cosine_similarity(tgrad.ones(1, 4), tgrad.ones(1, 4)).item()
    1.0
    """
    a, b = (x.to(promote(x1.dtype, x2.dtype)) for x in broadcast_tensors(x1, x2))
    norms = [(x * x).sum(dim).sqrt().maximum(eps) for x in (a, b)]
    return (a * b).sum(dim) / (norms[0] * norms[1])


__all__ = [
    "cosine_similarity", "dropout", "embedding", "linear", "scaled_dot_product_attention",
]  # fmt: skip
