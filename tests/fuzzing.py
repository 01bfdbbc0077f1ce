"""Random graphs for property tests: movement, elementwise, reductions, dots, gathers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tgrad.tensor import Tensor, tensor

SIZES = st.sampled_from([1, 2, 3, 4, 5, 6, 17])


def leaf(draw: Any, shape: tuple[int, ...], device: str, requires_grad: bool = False) -> Tensor:
    """A tensor of normal numbers, repeatable from the drawn seed."""
    seed = draw(st.integers(0, 1 << 16))
    data = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return tensor(data, device=device, requires_grad=requires_grad)


def step(draw: Any, x: Tensor, pool: list[Tensor]) -> Tensor:
    """One random op on x."""
    rank, device = x.ndim, str(x.device)
    kinds = ["unary", "binary", "scalar", "flip", "pad", "reshape", "permute", "expand", "slice"]
    kinds += ["reduce", "softmax", "window", "dot", "gather"]
    kind = draw(st.sampled_from(kinds))
    axis = draw(st.integers(0, rank - 1)) if rank else 0
    if kind == "unary":
        return draw(st.sampled_from([Tensor.tanh, Tensor.neg, Tensor.abs, Tensor.sigmoid]))(x)
    if kind == "binary":
        same = [p for p in pool if p.shape == x.shape]
        return x * draw(st.sampled_from(same)) + 1 if same else x + leaf(draw, x.shape, device)
    if kind == "scalar":
        return x * 0.5 + 0.25
    if kind == "flip" and rank:
        return x.flip(axis)
    if kind == "pad" and rank and x.numel() < 400:
        low = tuple(draw(st.integers(0, 1)) for _ in range(rank))
        return x._pad_zero(low, tuple(1 - n for n in low))
    if kind == "reshape" and rank:
        n = x.numel()
        divisors = [d for d in range(1, n + 1) if n % d == 0]
        d = draw(st.sampled_from(divisors))
        return x.reshape(d, n // d)
    if kind == "permute" and rank:
        return x.permute(draw(st.permutations(range(rank))))
    if kind == "expand" and x.numel() < 200 and rank < 4:
        return x.unsqueeze(axis).expand(*x.shape[:axis], 2, *x.shape[axis:])
    if kind == "slice" and rank and x.shape[axis] > 1:
        item: list[Any] = [slice(None)] * rank
        item[axis] = slice(draw(st.integers(0, 1)), None, draw(st.integers(1, 2)))
        return x[tuple(item)]
    if kind == "reduce" and rank:
        return draw(st.sampled_from([Tensor.sum, Tensor.amax]))(x, axis, draw(st.booleans())) * 0.5
    if kind == "softmax" and rank:
        e = (x - x.amax(axis, keepdim=True)).exp()
        return e / e.sum(axis, keepdim=True)
    if kind == "window" and rank and x.shape[axis] >= 3 and rank < 5 and x.numel() < 200:
        return x._window(axis, 2, draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    if kind == "dot" and rank == 2:
        return (x @ leaf(draw, (x.shape[1], draw(SIZES)), device)) * 0.3
    if kind == "gather" and rank:
        index = np.array(draw(st.lists(st.integers(0, x.shape[axis] - 1), min_size=1, max_size=4)))
        return x.index_select(axis, tensor(index, device=device))
    return x + 1


@st.composite
def graphs(draw: Any, device: str, requires_grad: bool = False) -> list[Tensor]:
    """One to three outputs of a random graph of up to nine ops."""
    shape = tuple(draw(st.lists(SIZES, min_size=0, max_size=3)))
    pool = [leaf(draw, shape, device, requires_grad)]
    for _ in range(draw(st.integers(1, 9))):
        x = pool[-1] if draw(st.booleans()) else draw(st.sampled_from(pool))
        pool.append(step(draw, x, pool))
    count = draw(st.integers(1, 3))
    return pool[-count:]
