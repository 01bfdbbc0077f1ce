"""torch.nn.attention.flex_attention in graphs of torch.compile.

In: the arguments of PyTorch's operators `flex_attention` and `flex_attention_backward`, with their
functions of scores and places as functions of tensors of tgrad. Out: what they give. Invariant:
those functions are traced for one score, and run once for all, with places that broadcast; so they
may hold nothing but elementwise operators and reads of single elements. The list of tiles that
PyTorch keeps beside a mask is not read: fusion finds the tiles.
Source: https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

import tgrad
from tgrad import Tensor
from tgrad.interop.operators.attention import products_of
from tgrad.nn.attention.flex_attention import modified_scores, places_of, row_sums, shared
from tgrad.nn.functional.attention import attend, scores

FORWARD = torch.ops.higher_order.flex_attention
BACKWARD = torch.ops.higher_order.flex_attention_backward
JOINT_GRAPH = 8
"""Which argument of the backward is a graph that is not used: tgrad differentiates the forward."""
PLAIN = ("full", "scalar_tensor", "index", "_unsafe_index", "alias", "detach", "lift_fresh_copy")
"""Operators on single elements beside those that PyTorch calls pointwise."""

LN2 = math.log(2)
"""PyTorch keeps logarithms to the base of 2."""


def what_is_not_of_one_score(call: torch.fx.Node) -> str:
    """The first operator of the functions of scores and places that is not elementwise; "" if there
    is none."""
    used = [n for n in call.all_input_nodes if n.op == "get_attr"]
    if call.target is BACKWARD:
        used.remove(call.args[JOINT_GRAPH])
    functions = (getattr(call.graph.owning_module, str(n.target)) for n in used)
    graphs = (f.graph for f in functions if isinstance(f, torch.fx.GraphModule))
    return next((str(n.target) for g in graphs for n in g.nodes if not _is_of_one(n)), "")


def _is_of_one(node: torch.fx.Node) -> bool:
    target, found = node.target, node.meta.get("val")
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return True
    is_plain = torch.Tag.pointwise in target.tags or target.overloadpacket.__name__ in PLAIN
    return is_plain and not (isinstance(found, torch.Tensor) and found.ndim)


def _of_places(function: Callable[..., Any], others: Sequence[Any]) -> Callable[..., Any]:
    """Without the tensors that it reads."""
    return lambda *args: function(*args, *others)


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Any],
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any,
    of_score: Sequence[Any] = (),
    of_mask: Sequence[Any] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, and of each row the log-sum-exp and the largest score, both to the base of 2."""
    key, value = shared(query, key, value)
    functions = _of_places(score_mod, of_score), _of_places(block_mask[-1], of_mask)
    wide = modified_scores(query, key, *functions, scale)
    return attend(wide, value, False), row_sums(wide) / LN2, wide.amax(-1) / LN2


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    grad_out: Tensor | None,
    grad_logsumexp: Tensor | None,
    score_mod: Callable[..., Any],
    joint_graph: Any,
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any,
    of_score: Sequence[Any] = (),
    of_mask: Sequence[Any] = (),
) -> tuple[Any, ...]:
    """Gradients of queries, keys and values, and of the tensors that score_mod reads."""
    k, v = shared(query, key, value)
    raw = scores(query, k) * scale
    places = places_of(raw.shape, query.device)
    learned = [i for i, x in enumerate(of_score) if isinstance(x, Tensor) and x.dtype.is_float]

    def modified(raw: Tensor, *values: Tensor) -> Tensor:
        others = list(of_score)
        for i, x in zip(learned, values):
            others[i] = x
        made: Tensor = score_mod(raw, *places, *others)
        return made.to(raw.dtype)

    with tgrad.enable_grad():
        made, pull = tgrad.func.vjp(modified, raw, *(of_score[i] for i in learned))
    seen = block_mask[-1](*places, *of_mask)
    rows = (logsumexp * LN2).where(logsumexp != -math.inf, 0.0).unsqueeze(-1)
    weights = (made.where(seen, -math.inf) - rows).exp()
    g = tgrad.zeros_like(out) if grad_out is None else grad_out
    sums = (g.to(raw.dtype) * out.to(raw.dtype)).sum(-1, keepdim=True)
    if grad_logsumexp is not None:
        sums = sums - (grad_logsumexp / LN2).unsqueeze(-1)
    of_made = (weights * (scores(g, v) - sums)).where(seen, 0.0)
    ds, *found = pull(of_made)
    of_others: list[Any] = [None] * len(of_score)
    for i, gradient in zip(learned, found):
        of_others[i] = gradient
    dq, dk, dv = products_of(ds, weights, query, k, v, g, scale)
    return dq, _as_given(dk, key), _as_given(dv, value), tuple(of_others)


def _as_given(gradient: Tensor, given: Tensor) -> Tensor:
    """The sum over batches and heads that share one."""
    if gradient.shape[1] != given.shape[1]:
        gradient = gradient.unflatten(1, (given.shape[1], -1)).sum(2)
    return gradient.sum_to_size(given.shape)
