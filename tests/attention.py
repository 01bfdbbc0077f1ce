"""Regions of causal attention, forward and backward, as the compiler cuts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import tgrad
import tgrad.nn.functional as F
from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.region import Region
from tgrad.pipeline import canonical_bases, cut_graph


def attention_regions(
    heads: int, length: int, size: int, dtype: DType, documents: bool = False
) -> list[Region]:
    """Forward, gradient of the queries, gradients of keys and values (one kernel or, where rows are
    too long for that, two); a batch of 2. With documents, queries see keys of equal ids alone."""
    shape = (2, heads, length, size)
    q, k, v, g = (
        tgrad.tensor(np.zeros(shape, np.float32), device="numpy").to(dtype).detach().realize()
        for _ in range(4)
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]
    if documents:
        ids = tgrad.tensor(np.zeros((2, length), np.int32), device="numpy")
        places = tgrad.arange(length, device="numpy")
        seen = (ids[:, None, :, None] == ids[:, None, None, :]) & (places <= places[:, None])
        y = F.scaled_dot_product_attention(*leaves, attn_mask=seen)
    else:
        y = F.scaled_dot_product_attention(*leaves, is_causal=True)
    y = y.transpose(1, 2).reshape(2, length, heads * size)
    y.backward(g.transpose(1, 2).reshape(2, length, heads * size))
    outputs = [t._node for t in (y, *(x.grad for x in leaves)) if t is not None]
    kernels = cut_graph(canonical_bases(outputs), GPU_LIMITS)
    chains = [f.region for f in kernels if f.region.space.kind == "chain"]
    found = [replace(r, source=Source("train.py", 7, "attention")) for r in chains]
    assert len(found) in (3, 4)
    return found
