"""The kernels of attention that PyTorch chooses from on each device, and their backwards.

In: arguments of an operator. Out: what it gives. Invariant: all are one attention, and PyTorch's
schemas say where its parts stand. A backward computes the weights again from the scores and the one
number a row that forward kept, as PyTorch's kernels do, and what was dropped from the state of the
generator, which tgrad keeps where PyTorch keeps its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.drawing import SavedGenerator, saved_state
from tgrad.interop.operators.table import Tensors, rule
from tgrad.nn.functional.attention import attend, log_sums, masked_scores, scores, share_heads
from tgrad.nn.functional.linear import draw_for

KERNELS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)

STATES = ("rng_state", "philox_seed")
"""Where the state of a generator is kept, and read again."""


def _given(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operator's arguments by its names for them.

    Raises:
        UnsupportedError: they ask for a mask to look at.
    """
    given = {a.name: a.default_value for a in schema.arguments}
    given |= dict(zip(given, args)) | kwargs
    if given.get("return_debug_mask"):
        raise UnsupportedError("attention that also gives what it dropped.")
    return given


def _mask_of(given: dict[str, Any]) -> Tensor | None:
    return given.get("attn_mask", given.get("attn_bias"))


def _shared(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, and keys and values of as many heads: of fewer, each is for several of theirs."""
    q, k, v = (given[name] for name in ("query", "key", "value"))
    if q.shape[-3] == k.shape[-3]:
        return q, k, v
    return q, *(share_heads(t, q.shape[-3]) for t in (k, v))


def _scores_of(given: dict[str, Any], q: Tensor, k: Tensor) -> Tensor:
    return masked_scores(q, k, _mask_of(given), given["is_causal"], given["scale"])


def _forward(schema: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    given = _given(schema, args, kwargs)
    q, k, v = _shared(given)
    wide, sees_a_key = _scores_of(given, q, k), _mask_of(given) is None
    rows, p = log_sums(wide, sees_a_key), given["dropout_p"]
    unused = tgrad.zeros((), dtype=tgrad.int64, device=q.device)
    state = saved_state(q.device) if p else unused
    draw = draw_for(wide, p, SavedGenerator(state)) if p else ()
    known = {
        "output": attend(wide, v, sees_a_key, p, draw),
        "logsumexp": rows, "log_sumexp": rows, "max_q": q.shape[2], "max_k": k.shape[2],
        "cum_seq_q": None, "cum_seq_k": None, **dict.fromkeys(STATES, state),
    }  # fmt: skip
    return tuple(known.get(result.name, unused) for result in schema.returns)


def _backward(schema: Any, *args: Any, **kwargs: Any) -> Tensors:
    """Of weights w = exp(scores - rows): with the gradient h of w, that of the scores is
    w (h - Σ h w), whose sum is Σ g o, also where weights are dropped on their way to o."""
    given, g = _given(schema, args, kwargs), args[0]
    q, k, v = _shared(given)
    wide = _scores_of(given, q, k)
    weights = (wide - given["logsumexp"].to(wide.dtype).unsqueeze(-1)).exp()
    sums = (g.to(wide.dtype) * given["out"].to(wide.dtype)).sum(-1, keepdim=True)
    h, kept = scores(g, v), weights
    if p := given["dropout_p"]:
        (state,) = (given[name] for name in STATES if name in given)
        h, kept = (F.dropout(x, p, generator=SavedGenerator(state)) for x in (h, weights))
    ds, scale = weights * (h - sums), given["scale"]
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    dq, dk, dv = products_of(ds, kept, q, k, v, g, factor)
    found = dq, _of_heads(dk, given["key"]), _of_heads(dv, given["value"])
    wanted = list(given.get("grad_input_mask", len(schema.returns) * (True,)))
    made = (*found, _of_mask(ds, _mask_of(given)))
    return tuple(x if is_wanted else None for x, is_wanted in zip(made, wanted))


def products_of(
    ds: Tensor, weights: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values by that of the scores, which are products times a
    factor, and by the weights."""
    narrow = ds.to(q.dtype)
    return (
        (narrow._matmul(k, ds.dtype) * factor).to(q.dtype),
        (_over_queries(narrow, q, ds.dtype) * factor).to(k.dtype),
        _over_queries(weights.to(v.dtype), g, v.dtype),
    )


def _of_mask(ds: Tensor, mask: Tensor | None) -> Tensor | None:
    if mask is None or not mask.dtype.is_float:
        return None
    return ds.sum_to_size(mask.shape).to(mask.dtype)


def _over_queries(weights: Tensor, rows: Tensor, dtype: DType) -> Tensor:
    """The sum over queries of their weights, each times a row of its own."""
    heads, queries = tuple(range(rows.ndim - 2)), (rows.ndim - 2,)
    return weights._dot(rows, (queries, queries), (heads, heads), dtype)


def _of_heads(gradient: Tensor, head: Tensor) -> Tensor:
    """The sum over those that a head was shared by."""
    if gradient.shape == head.shape:
        return gradient
    return gradient.unflatten(-3, (head.shape[-3], -1)).sum(-3)


@rule("_native_multi_head_attention")
def _heads(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> Tensors:
    """
    Raises:
        UnsupportedError: the weights are asked for.
    """
    if need_weights:
        raise UnsupportedError("attention that also gives its weights.", "Say need_weights=False.")
    parts = zip((query, key, value), qkv_weight.chunk(3), qkv_bias.chunk(3))
    q, k, v = (F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2) for x, w, b in parts)
    if mask is not None:
        mask = (mask[:, None, None] if mask_type == 1 else mask) == 0  # type 1: of each sequence
    y = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(-2)
    return F.linear(y, out_weight, out_bias), None


@rule("_transformer_encoder_layer_fwd")
def _encoder_layer(
    x: Tensor,
    width: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *feed_forward: Any,
) -> Tensor:
    """What nn.TransformerEncoderLayer calls in eval mode. Last come two weights with their biases,
    a mask and its type."""
    wide, wide_bias, narrow, narrow_bias, *mask = feed_forward

    def attended(x: Tensor) -> Tensor:
        weights = (qkv_weight, qkv_bias, out_weight, out_bias)
        of, mask_type = (mask[0], mask[1]) if mask else (None, None)
        made = _heads(x, x, x, width, heads, *weights, of, False, True, mask_type)[0]
        assert made is not None
        return made

    def fed(x: Tensor) -> Tensor:
        return F.linear(
            (F.gelu if use_gelu else F.relu)(F.linear(x, wide, wide_bias)), narrow, narrow_bias
        )

    def norm1(x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), weight1, bias1, eps)

    def norm2(x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), weight2, bias2, eps)

    if norm_first:
        x = x + attended(norm1(x))
        return x + fed(norm2(x))
    x = norm1(x + attended(x))
    return norm2(x + fed(x))


for _name in KERNELS:
    for _suffix, _function in (("", _forward), ("_backward", _backward)):
        _packet = getattr(torch.ops.aten, _name + _suffix)
        rule(_name + _suffix)(partial(_function, _packet.default._schema))
