"""Attention with several heads, as a module.

In: queries, keys and values. Out: results and, if they are wanted, the weights. Invariant:
PyTorch's parameter names; where nobody wants the weights they are never stored.
"""

from __future__ import annotations

from typing import Any

from tgrad.creation import DeviceLike, empty, zeros
from tgrad.dtype import DType
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.joining import cat
from tgrad.nn import functional as F
from tgrad.nn import init
from tgrad.nn.module import Module
from tgrad.nn.modules.linear import Linear
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor


class MultiheadAttention(Module):
    """softmax(Q Kᵀ / sqrt(E / heads)) V for each head, from and to `embed_dim` features.

    Args:
        embed_dim: E, features of queries and results.
        num_heads: must divide E.
        dropout: of the weights, in training.
        bias: whether the four projections have one.
        add_bias_kv: whether one learnt key and value are added to each sequence.
        add_zero_attn: whether a key and value of zeros are added to each sequence.
        kdim, vdim: features of keys and values; E by default.
        batch_first: (N, L, E) rather than (L, N, E).

    >>> import tgrad
    >>> x = tgrad.ones(5, 2, 8)
    >>> y, weights = tgrad.nn.MultiheadAttention(8, 2)(x, x, x)
    >>> y.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ShapeError(f"MultiheadAttention: {embed_dim} features in {num_heads} heads.")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.head_dim, self.batch_first = embed_dim // num_heads, batch_first
        self.add_zero_attn = add_zero_attn
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        is_joint = self.kdim == self.vdim == embed_dim
        shapes = {
            "in_proj_weight": (3 * embed_dim, embed_dim) if is_joint else None,
            "q_proj_weight": None if is_joint else (embed_dim, embed_dim),
            "k_proj_weight": None if is_joint else (embed_dim, self.kdim),
            "v_proj_weight": None if is_joint else (embed_dim, self.vdim),
            "in_proj_bias": (3 * embed_dim,) if bias else None,
        }
        for name, shape in shapes.items():
            value = None if shape is None else Parameter(empty(shape, **made))
            self.register_parameter(name, value)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, **made)
        for name in ("bias_k", "bias_v"):
            value = Parameter(empty((1, 1, embed_dim), **made)) if add_bias_kv else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Results like the queries and, if need_weights, the weights (N, L, S), the mean over heads
        or (N, heads, L, S).

        Args:
            query, key, value: (L, N, E), (S, N, kdim), (S, N, vdim); batch_first and single
                sequences as in the constructor's and PyTorch's words.
            key_padding_mask: (N, S); True, or what is added to the scores: keys to leave out.
            attn_mask: (L, S) or (N * heads, L, S); True, or what is added to the scores.
            is_causal: says that attn_mask is the causal one.
        """
        if is_causal and attn_mask is None:
            raise UnsupportedError("MultiheadAttention: is_causal=True.", "Give attn_mask too.")
        is_single, same = query.ndim == 2, (key is query, value is key)
        axis = 0 if self.batch_first else 1
        if is_single:
            query, key, value = (x.unsqueeze(axis) for x in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._projected(query, key, value, all(same))
        mask = self._mask(attn_mask, key_padding_mask, q)
        k, v, mask = self._with_extra_keys(k, v, mask)
        q, k, v = self._split(q), self._split(k), self._split(v)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = self._weights(q, k, mask)
            y = F.dropout(weights, p) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, p)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        y = y if self.batch_first else y.transpose(0, 1)
        if is_single:
            return y.squeeze(axis), None if weights is None else weights.squeeze(0)
        return y, weights

    def _projected(
        self, query: Tensor, key: Tensor, value: Tensor, is_self: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads; in one product where they are one tensor."""
        if self.in_proj_weight is not None and is_self:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
            return q, k, v
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3, 0)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3, 0)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
        return q, k, v

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """What is added to the scores (N, heads, L, S), or what broadcasts to it."""
        parts = []
        if attn_mask is not None:
            mask = _added(attn_mask, q.dtype)
            parts.append(mask if mask.ndim == 2 else mask.unflatten(0, (-1, self.num_heads)))
        if padding is not None:
            parts.append(_added(padding, q.dtype).unsqueeze(1).unsqueeze(1))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1] if parts else None

    def _with_extra_keys(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        extra: list[tuple[Any, Any]] = []
        count = k.shape[0]
        if self.bias_k is not None:
            extra.append(tuple(b.expand(count, 1, -1) for b in (self.bias_k, self.bias_v)))
        if self.add_zero_attn:
            empty_key = zeros(count, 1, self.embed_dim, dtype=k.dtype, device=k.device)
            extra.append((empty_key, empty_key))
        for key, value in extra:
            k, v = cat([k, key], 1), cat([v, value], 1)
            mask = None if mask is None else F.pad(mask, (0, 1))
        return k, v, mask

    def _split(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, heads, L, E / heads)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        scores = q * self.head_dim**-0.5 @ k.transpose(-1, -2)
        return F.softmax(scores if mask is None else scores + mask, -1)


def _added(mask: Tensor, dtype: DType) -> Tensor:
    """A mask as what is added to scores: minus infinity where a boolean one is True."""
    if not mask.dtype.is_bool:
        return mask.to(dtype)
    return zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf"))
