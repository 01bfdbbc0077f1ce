"""The kernels of attention that PyTorch chooses from on each device, and their backwards.

In: arguments of an operator. Out: what it gives. Invariant: all are one attention. What kernels of
PyTorch keep of rows, and of random numbers, for their backward is not read by tgrad's, which
computes the rows again: zeros stand in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Tensors, gradients, rule


@rule("_scaled_dot_product_flash_attention_for_cpu")
def _flash_cpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    return _attention(q, k, v, attn_mask, dropout_p, is_causal, scale), _unread(q)


@rule("_scaled_dot_product_flash_attention_for_cpu_backward")
def _flash_cpu_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensors:
    return _attention_backward(g, q, k, v, attn_mask, dropout_p, is_causal, scale)[:3]


@rule("_scaled_dot_product_flash_attention")
def _flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    out = _attention(q, k, v, None, dropout_p, is_causal, scale)
    return (out, _unread(q), None, None, q.shape[2], k.shape[2], *_seeds(q), _seeds(q)[0])


@rule("_scaled_dot_product_flash_attention_backward")
def _flash_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Any,
    cum_seq_k: Any,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    philox_seed: Tensor,
    philox_offset: Tensor,
    *,
    scale: float | None = None,
) -> Tensors:
    return _attention_backward(g, q, k, v, None, dropout_p, is_causal, scale)[:3]


@rule("_scaled_dot_product_efficient_attention")
def _efficient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    out = _attention(q, k, v, attn_bias, dropout_p, is_causal, scale)
    return out, _unread(q), *_seeds(q)


@rule("_scaled_dot_product_efficient_attention_backward")
def _efficient_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_bias: Tensor | None,
    out: Tensor,
    logsumexp: Tensor,
    philox_seed: Tensor,
    philox_offset: Tensor,
    dropout_p: float,
    grad_input_mask: Sequence[bool],
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> Tensors:
    found = _attention_backward(g, q, k, v, attn_bias, dropout_p, is_causal, scale)
    return tuple(x if wanted else None for x, wanted in zip(found, grad_input_mask))


@rule("_scaled_dot_product_cudnn_attention")
def _cudnn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    out = _attention(q, k, v, attn_bias, dropout_p, is_causal, scale)
    return (out, _unread(q), None, None, q.shape[2], k.shape[2], *_seeds(q), _seeds(q)[0])


@rule("_scaled_dot_product_cudnn_attention_backward")
def _cudnn_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    philox_seed: Tensor,
    philox_offset: Tensor,
    attn_bias: Tensor | None,
    cum_seq_q: Any,
    cum_seq_k: Any,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    *,
    scale: float | None = None,
) -> Tensors:
    return _attention_backward(g, q, k, v, attn_bias, dropout_p, is_causal, scale)[:3]


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    causal: bool,
    scale: float | None,
) -> Tensor:
    _no_dropout(dropout_p)
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)


def _attention_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    causal: bool,
    scale: float | None,
) -> Tensors:
    """Gradients of queries, keys, values and, if it is of floats, the mask."""
    has_slopes = mask is not None and mask.dtype.is_float

    def again(q: Tensor, k: Tensor, v: Tensor, *own: Tensor) -> Tensor:
        return _attention(q, k, v, own[0] if own else mask, dropout_p, causal, scale)

    if not has_slopes:
        return *gradients(again, g, (q, k, v), 3 * (True,)), None
    assert mask is not None
    return gradients(again, g, (q, k, v, mask), 4 * (True,))


def _unread(q: Tensor) -> Tensor:
    return tgrad.zeros(q.shape[:-1], dtype=tgrad.float32, device=q.device)


def _seeds(q: Tensor) -> tuple[Tensor, Tensor]:
    zero = tgrad.zeros((), dtype=tgrad.int64, device=q.device)
    return zero, zero


def _no_dropout(p: float) -> None:
    if p:
        raise UnsupportedError(
            "torch.compile with the backend tgrad: dropout inside an attention kernel of PyTorch.",
            "Use torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or dropout_p=0.",
        )
