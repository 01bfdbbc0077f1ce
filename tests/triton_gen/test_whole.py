"""Loops of attention in parts, of which one asks for no mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, realize_tensors

LENGTH, WIDTH = 330, 16
Seen = Callable[[Tensor, Tensor], Tensor]

MASKS: dict[str, tuple[Seen, int]] = {
    "causal": (lambda q, k: q >= k, 2),
    "window": (lambda q, k: (q >= k) & (q - k < 150), 3),
    "later": (lambda q, k: k >= q, 2),
    "shifted": (lambda q, k: q + 7 >= k, 2),
    "prefix": (lambda q, k: (q >= k) | (k < 40), 1),
    "all": (lambda q, k: q >= 0, 1),
}
"""A mask of places, and into how many loops the kernel of the result is cut."""


def attention(seen: Seen, inputs: list[Tensor]) -> list[Tensor]:
    """The result and the gradients."""
    q, k, v, slope = inputs
    place = tgrad.arange(LENGTH, device=q.device)
    mask = seen(place[:, None], place)
    made = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    made.backward(slope)
    return [made, *(x.grad for x in (q, k, v))]  # type: ignore[misc]


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, LENGTH, WIDTH), np.float32) for _ in range(4)]


def inputs(device: str) -> list[Tensor]:
    made = [tgrad.tensor(a, device=device) for a in arrays()]
    return [x.requires_grad_() for x in made[:3]] + made[3:]


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.devices("interpret")
def test_values_and_gradients(name: str, device: str) -> None:
    seen, _ = MASKS[name]
    wants, haves = (attention(seen, inputs(d)) for d in ("numpy", device))
    realize_tensors(wants)
    realize_tensors(haves)
    for want, have in zip(wants, haves):
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_loops(name: str) -> None:
    """How many there are, and that one of several has no mask."""
    seen, loops = MASKS[name]
    with planning("sm_90"), record_plans() as plans:
        realize_tensors(attention(seen, inputs("cuda")))
    chains = [k for p in plans for k in p.kernels if k.region.space.kind == "chain"]
    forward: Any = chains[0]
    text = forward.source.split("@triton.jit")[-1]
    assert text.count(" in tl.range(") == loops
    bodies = text.split(" in tl.range(")[1:]
    masked = [any("k[None, :]" in x and ">=" in x for x in b.splitlines()) for b in bodies]
    assert masked.count(False) == (1 if loops > 1 or name == "all" else 0)
