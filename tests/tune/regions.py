"""Regions to tune, from small programs."""

from __future__ import annotations

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.region import Region
from tgrad.tensor import Tensor

KINDS = (
    "matmul", "batched", "conv", "softmax", "chain", "transpose", "columns", "picked", "attention",
)  # fmt: skip


def region_of(kind: str, size: int = 64) -> Region:
    """The region with the most FLOPs of a small program."""
    plan = tgrad.explain(program_of(kind, size))
    return max(plan.kernels, key=lambda k: k.flops + k.bytes).region


def _stored(*shape: int) -> Tensor:
    """A tensor that is in memory already, so that no kernel makes it."""
    made = tgrad.ones(*shape)
    made.numpy()
    return made


def program_of(kind: str, size: int) -> Tensor:
    x = _stored(size, size)
    if kind == "matmul":
        return x @ _stored(size, size)
    if kind == "batched":
        return _stored(4, size, size) @ _stored(4, size, size)
    if kind == "conv":
        return F.conv2d(_stored(4, 8, size, size), _stored(16, 8, 3, 3), padding=1)
    if kind == "softmax":
        return F.softmax(x, -1)
    if kind == "chain":
        return (x * 2 + 1).tanh()
    if kind == "transpose":
        return x.t() + 1
    if kind == "columns":
        return x.sum(0)
    if kind == "picked":  # columns, added up where a stride lies between neighbours
        return _stored(size, 4).index_add(1, tgrad.tensor([i % 4 for i in range(size)]), x)
    q = _stored(2, 2, size, 32)
    return F.scaled_dot_product_attention(q, q, q, is_causal=True)
