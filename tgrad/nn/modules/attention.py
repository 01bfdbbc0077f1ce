"""Attention with several heads, as a module.

In: queries, keys and values. Out: results and, if they are wanted, the weights. Invariant:
PyTorch's parameter names; where nobody wants the weights they are never stored.
"""

from __future__ import annotations

from typing import Any

from tgrad.creation import DeviceLike, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.nn import init
from tgrad.nn.functional.multihead import Heads, attend_by_heads, check_causal
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
        check_causal("MultiheadAttention", is_causal, attn_mask)
        is_single, is_self = query.ndim == 2, key is query and value is key
        axis = 0 if self.batch_first else 1
        if is_single:
            query, key, value = (x.unsqueeze(axis) for x in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        y, weights = attend_by_heads(
            self._heads(),
            query,
            key,
            value,
            attn_mask,
            key_padding_mask,
            self.dropout if self.training else 0.0,
            need_weights,
            average_attn_weights,
            is_self,
        )
        y = y if self.batch_first else y.transpose(0, 1)
        if is_single:
            return y.squeeze(axis), None if weights is None else weights.squeeze(0)
        return y, weights

    def _heads(self) -> Heads:
        return Heads(
            self.num_heads,
            self.in_proj_weight,
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight),
            self.in_proj_bias,
            None if self.bias_k is None else (self.bias_k, self.bias_v),
            self.add_zero_attn,
            self.out_proj.weight,
            self.out_proj.bias,
        )
