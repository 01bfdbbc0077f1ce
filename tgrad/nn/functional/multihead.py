"""Attention with several heads: projections, attention, and the projection of what it gives.

In: queries, keys and values, and weights. Out: results and, if they are wanted, the weights of
attention. Invariant: where nobody wants those they are never stored.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.creation import zeros
from tgrad.dtype import DType
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.joining import cat
from tgrad.nn.functional.attention import drawn_attention
from tgrad.nn.functional.linear import check_probability, draw_for, dropped, linear
from tgrad.nn.functional.padding import pad
from tgrad.tensor import Tensor

__all__ = ["multi_head_attention_forward"]

Static = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Heads:
    """What an attention with several heads is made of. E are the features of queries and results.

    Attributes:
        count: of heads; divides E.
        joint: (3 E, E), the weights of queries, keys and values below each other; or None.
        apart: weights of queries, keys and values, where there is no joint one.
        bias: (3 E,), of all three; or None.
        extra: a learnt key and value (1, 1, E) that each sequence gets; or None.
        adds_zero: whether each sequence gets a key and value of zeros.
        out_weight, out_bias: of the last projection.
    """

    count: int
    joint: Tensor | None
    apart: tuple[Tensor | None, Tensor | None, Tensor | None]
    bias: Tensor | None
    extra: tuple[Tensor, Tensor] | None
    adds_zero: bool
    out_weight: Tensor
    out_bias: Tensor | None

    def projected(
        self, query: Tensor, key: Tensor, value: Tensor, is_self: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads; in one product where they are one tensor."""
        if self.joint is not None and is_self:
            q, k, v = linear(query, self.joint, self.bias).chunk(3, -1)
            return q, k, v
        weights = self.apart if self.joint is None else self.joint.chunk(3, 0)
        biases = (None,) * 3 if self.bias is None else self.bias.chunk(3, 0)
        q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))  # type: ignore[arg-type]
        return q, k, v

    def split(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, heads, L, E / heads)."""
        return x.unflatten(-1, (self.count, x.shape[-1] // self.count)).transpose(1, 2)

    def joined(self, y: Tensor) -> Tensor:
        """(N, heads, L, E / heads) to results (N, L, E)."""
        return linear(y.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)

    def mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """What is added to the scores (N, heads, L, S), or what broadcasts to it."""
        parts = []
        if attn_mask is not None:
            mask = _added(attn_mask, q.dtype)
            parts.append(mask if mask.ndim == 2 else mask.unflatten(0, (-1, self.count)))
        if padding is not None:
            parts.append(_added(padding, q.dtype).unsqueeze(1).unsqueeze(1))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1] if parts else None

    def with_extra_keys(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values (N, S, E) with those that every sequence gets, and their mask."""
        count, extra = k.shape[0], []
        if self.extra is not None:
            extra.append(tuple(b.expand(count, 1, -1) for b in self.extra))
        if self.adds_zero:
            none = zeros(count, 1, k.shape[-1], dtype=k.dtype, device=k.device)
            extra.append((none, none))
        for key, value in extra:
            k, v = cat([k, key], 1), cat([v, value], 1)
            mask = None if mask is None else pad(mask, (0, 1))
        return k, v, mask


def attend_by_heads(
    heads: Heads,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    dropout_p: float,
    need_weights: bool,
    average_attn_weights: bool,
    is_self: bool,
    static: Static = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """Results (N, L, E) and, if they are wanted, the weights (N, L, S), the mean over heads, or
    (N, heads, L, S).

    Args:
        query, key, value: (N, L, E), (N, S, features), (N, S, features).
        is_self: whether these are one tensor.
        static: keys and values (N * heads, S, E / heads) in place of the projected ones.
    """
    check_probability(dropout_p)
    draw = draw_for(query, dropout_p)
    given = (heads, query, key, value, attn_mask, key_padding_mask, dropout_p, is_self, static)
    if need_weights:
        return _with_weights(*given, average_attn_weights, *draw)
    return _without_weights(*given, *draw), None


@from_template(keeps_order=False)
def _with_weights(
    heads: Heads, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
    key_padding_mask: Tensor | None, dropout_p: float, is_self: bool, static: Static,
    average_attn_weights: bool, *draw: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    given = (heads, query, key, value, attn_mask, key_padding_mask, is_self, static)
    q, k, v, mask = _parts(*given)
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    kept = dropped(weights, dropout_p, *draw) if dropout_p else weights
    y = heads.joined(kept @ v)
    return y, weights.mean(1) if average_attn_weights else weights


@from_template(keeps_order=False)
def _without_weights(
    heads: Heads, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
    key_padding_mask: Tensor | None, dropout_p: float, is_self: bool, static: Static, *draw: Tensor,
) -> Tensor:  # fmt: skip
    given = (heads, query, key, value, attn_mask, key_padding_mask, is_self, static)
    q, k, v, mask = _parts(*given)
    y = drawn_attention(q, k, v, mask, dropout_p, False, None, False, *draw)
    return heads.joined(y)


def _parts(
    heads: Heads, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
    key_padding_mask: Tensor | None, is_self: bool, static: Static,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Queries, keys and values (N, heads, L or S, E / heads), and the mask."""
    q, k, v = heads.projected(query, key, value, is_self)
    k, v = (
        x if fixed is None else fixed.unflatten(0, (-1, heads.count)).transpose(1, 2).flatten(2)
        for x, fixed in zip((k, v), static)
    )
    mask = heads.mask(attn_mask, key_padding_mask, q)
    k, v, mask = heads.with_extra_keys(k, v, mask)
    return heads.split(q), heads.split(k), heads.split(v), mask


def check_causal(name: str, is_causal: bool, attn_mask: Tensor | None) -> None:
    """Make sure that a hint goes with a mask.

    Raises:
        UnsupportedError: it does not.
    """
    if is_causal and attn_mask is None:
        raise UnsupportedError(f"{name}: is_causal=True.", "Give attn_mask too.")


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes, of weights that are given.

    Args:
        query, key, value: (L, N, E), (S, N, features), (S, N, features); or all without N.
        embed_dim_to_check: E.
        num_heads: divides E.
        in_proj_weight, in_proj_bias: (3 E, E) and (3 E,) of queries, keys and values.
        bias_k, bias_v: (1, 1, E), a key and value that each sequence gets; or None.
        add_zero_attn: whether each sequence gets a key and value of zeros.
        dropout_p: of the weights of attention, in training.
        out_proj_weight, out_proj_bias: (E, E) and (E,).
        key_padding_mask: (N, S); True, or what is added to the scores: keys to leave out.
        need_weights: whether the weights are wanted.
        attn_mask: (L, S) or (N * heads, L, S); True, or what is added to the scores.
        use_separate_proj_weight: whether q_proj_weight (E, E), k_proj_weight and v_proj_weight
            (E, features) take the place of in_proj_weight.
        static_k, static_v: (N * heads, S, E / heads) in place of projected keys and values.
        average_attn_weights: whether the weights are the mean over heads.
        is_causal: says that attn_mask is the causal one; the mask is what counts.

    Returns:
        Results (L, N, E), and the weights (N, L, S) or (N, heads, L, S) or None; without N where
        the input has none.

    Raises:
        ShapeError: sizes do not fit.
        UnsupportedError: a weight is missing, or is_causal without attn_mask.

    Source: `torch.nn.functional.multi_head_attention_forward`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> x, w, none = tgrad.ones(5, 2, 8), tgrad.ones(24, 8), None
    >>> y, weights = F.multi_head_attention_forward(
    ...     x, x, x, 8, 2, w, none, none, none, False, 0.0, tgrad.eye(8), none
    ... )
    >>> y.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))
    """
    name = "multi_head_attention_forward"
    check_causal(name, is_causal, attn_mask)
    _check_sizes(query, key, value, embed_dim_to_check, num_heads)
    joint, apart = in_proj_weight, (q_proj_weight, k_proj_weight, v_proj_weight)
    if use_separate_proj_weight:
        joint = None
    if joint is None and (not use_separate_proj_weight or any(w is None for w in apart)):
        raise UnsupportedError(
            f"{name}: use_separate_proj_weight={use_separate_proj_weight} without such weights.",
            "Give in_proj_weight, or the three of True.",
        )
    extra = None if bias_k is None or bias_v is None else (bias_k, bias_v)
    is_static = static_k is not None or static_v is not None
    if (bias_k is None) != (bias_v is None) or (extra is not None and is_static):
        raise UnsupportedError(
            f"{name}: bias_k and bias_v go together, and not with static_k or static_v."
        )
    heads = Heads(
        num_heads,
        joint,
        apart,
        in_proj_bias,
        extra,
        add_zero_attn,
        out_proj_weight,
        out_proj_bias,
    )
    is_self, is_single = key is query and value is key, query.ndim == 2
    if is_single:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    y, weights = attend_by_heads(
        heads,
        query.transpose(0, 1),
        key.transpose(0, 1),
        value.transpose(0, 1),
        attn_mask,
        key_padding_mask,
        dropout_p if training else 0.0,
        need_weights,
        average_attn_weights,
        is_self,
        (static_k, static_v),
    )
    y = y.transpose(0, 1)
    if is_single:
        return y.squeeze(1), None if weights is None else weights.squeeze(0)
    return y, weights


def _check_sizes(query: Tensor, key: Tensor, value: Tensor, features: int, heads: int) -> None:
    ranks = {x.ndim for x in (query, key, value)}
    if ranks not in ({2}, {3}) or key.shape[:-1] != value.shape[:-1]:
        raise ShapeError(
            f"multi_head_attention_forward of shapes {query.shape}, {key.shape} and {value.shape}.",
            "All are (length, batch, features) or (length, features), keys as long as values.",
        )
    if query.shape[-1] != features or heads < 1 or features % heads:
        raise ShapeError(
            f"multi_head_attention_forward: {query.shape[-1]} features in {heads} heads, "
            f"embed_dim_to_check={features}.",
            "The features are those, and heads divide them.",
        )


def _added(mask: Tensor, dtype: DType) -> Tensor:
    """A mask as what is added to scores: minus infinity where a boolean one is True."""
    if not mask.dtype.is_bool:
        return mask.to(dtype)
    return zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf"))
