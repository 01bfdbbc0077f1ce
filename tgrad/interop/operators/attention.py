"""The kernels of attention that PyTorch chooses from on each device, and their backwards.

In: arguments of an operator. Out: what it gives. Invariant: all are one attention, and PyTorch's
schemas say where its parts stand. What kernels of PyTorch keep of rows, and of random numbers, for
their backward is not read by tgrad's, which computes the rows again: zeros stand in its place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Tensors, gradients, rule

KERNELS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)


def _given(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operator's arguments by its names for them.

    Raises:
        UnsupportedError: they ask for dropout, or for a mask to look at.
    """
    given = {a.name: a.default_value for a in schema.arguments}
    given |= dict(zip(given, args)) | kwargs
    if given["dropout_p"] or given.get("return_debug_mask"):
        raise UnsupportedError(
            "dropout inside an attention kernel of PyTorch.",
            "Use torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or dropout_p=0.",
        )
    return given


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, how: Any) -> Tensor:
    is_causal, scale = how["is_causal"], how["scale"]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=scale)


def _mask_of(given: dict[str, Any]) -> Tensor | None:
    return given.get("attn_mask", given.get("attn_bias"))


def _forward(schema: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    given = _given(schema, args, kwargs)
    q, k, v = (given[name] for name in ("query", "key", "value"))
    rows = tgrad.zeros(q.shape[:-1], dtype=tgrad.float32, device=q.device)
    known = {
        "output": _attention(q, k, v, _mask_of(given), given),
        "logsumexp": rows, "log_sumexp": rows, "max_q": q.shape[2], "max_k": k.shape[2],
        "cum_seq_q": None, "cum_seq_k": None,
    }  # fmt: skip
    seed = tgrad.zeros((), dtype=tgrad.int64, device=q.device)
    return tuple(known.get(result.name, seed) for result in schema.returns)


def _backward(schema: Any, *args: Any, **kwargs: Any) -> Tensors:
    given = _given(schema, args, kwargs)
    inputs = [given[name] for name in ("query", "key", "value")]
    mask = _mask_of(given)
    wanted = list(given.get("grad_input_mask", len(schema.returns) * (True,)))

    def again(q: Tensor, k: Tensor, v: Tensor, *own: Tensor) -> Tensor:
        return _attention(q, k, v, own[0] if own else mask, given)

    g = args[0]
    if len(wanted) > 3 and mask is not None and mask.dtype.is_float:
        return gradients(again, g, (*inputs, mask), wanted)
    return *gradients(again, g, inputs, wanted[:3]), *(None for _ in wanted[3:])


for _name in KERNELS:
    for _suffix, _function in (("", _forward), ("_backward", _backward)):
        _packet = getattr(torch.ops.aten, _name + _suffix)
        rule(_name + _suffix)(partial(_function, _packet.default._schema))
