"""Attention under `torch.compile` with tgrad: forward keeps a number a row for backward; on GPUs
neither has scores in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.fusion.region import Dot
from tgrad.interop.operators import operator
from tgrad.interop.operators.drawing import SavedGenerator
from tgrad.nn.functional.attention import attend, masked_scores
from tgrad.nn.functional.linear import draw_for
from tgrad.runtime.planning import planning

ATTENTION = torch.nn.functional.scaled_dot_product_attention


def heads(count: int, length: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, count, length, width, dtype=dtype, requires_grad=True)


def some_rows_see_nothing(queries: int, keys: int) -> torch.Tensor:
    mask = torch.rand(2, 1, queries, keys) > 0.4
    mask[:, :, 1] = False
    return mask


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "other lengths": {"keys": 21},
    "other scale": {"scale": 0.3},
    "fewer heads": {"shared": 2, "enable_gqa": True},
    "fewer heads, causal": {"shared": 1, "enable_gqa": True, "is_causal": True},
    "mask": {"attn_mask": lambda: torch.rand(2, 1, 9, 9) > 0.3},
    "mask of keys": {"attn_mask": lambda: torch.arange(9) < torch.tensor([4, 9]).view(2, 1, 1, 1)},
    "empty rows": {"attn_mask": lambda: some_rows_see_nothing(9, 9)},
    "bias": {"attn_mask": lambda: torch.randn(1, 4, 9, 9)},
    "learned bias": {"attn_mask": lambda: torch.randn(1, 4, 9, 9, requires_grad=True)},
    "double": {"dtype": torch.float64},
    "bfloat16": {"dtype": torch.bfloat16, "is_causal": True},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients(name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    options = dict(CASES[name])
    dtype, keys = options.pop("dtype", torch.float32), options.pop("keys", 9)
    shared = options.pop("shared", 4)
    if "attn_mask" in options:
        options["attn_mask"] = options["attn_mask"]()
    run = torch.compile(ATTENTION, backend="tgrad")
    for _ in range(3):
        inputs = (
            heads(4, 9, 16, dtype),
            heads(shared, keys, 16, dtype),
            heads(shared, keys, 16, dtype),
        )
        given = [*inputs, *(m for m in options.values() if getattr(m, "requires_grad", False))]
        g = torch.randn(2, 4, 9, 16, dtype=dtype)
        found = [
            [y, *torch.autograd.grad(y, given, g)]
            for y in (f(*inputs, **options) for f in (run, ATTENTION))
        ]
        unit = 2e-2 if dtype is torch.bfloat16 else 1e-5
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=unit, atol=unit)


def kinds(function: Callable[..., Any], *shapes: Any) -> list[str]:
    """Of the kernels of a plan for a GPU."""
    with planning("sm_90"), tgrad.no_grad():
        inputs = [tgrad.zeros(s, dtype=d, device="cuda").realize() for s, d in shapes]
        compiled = tgrad.compile(function)
        compiled(*inputs)
        (plan,) = compiled.plans
        return [k.region.space.kind for k in plan.kernels]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("length", "width"), [(1024, 64), (1125, 16)])
def test_flash_attention_keeps_no_scores_on_gpus(length: int, width: int, is_causal: bool) -> None:
    aten, half = torch.ops.aten, tgrad.bfloat16
    forward = operator(aten._scaled_dot_product_flash_attention.default)
    backward = operator(aten._scaled_dot_product_flash_attention_backward.default)
    x, rows = ((2, 4, length, width), half), ((2, 4, length), tgrad.float32)
    made = kinds(lambda q, k, v: forward(q, k, v, 0.0, is_causal)[:2], x, x, x)
    assert made == ["chain"]
    sizes, draws = (None, None, length, length), (None, None)
    made = kinds(lambda *t: backward(*t, *sizes, 0.0, is_causal, *draws), x, x, x, x, x, rows)
    assert sorted(made) == ["chain", "chain", "reduce"]


def test_gradients_of_keys_do_not_join_those_of_queries() -> None:
    """As many queries as keys: columns of the scores are rows of their transpose."""

    def backward(q: Any, k: Any, v: Any, g: Any, rows: Any, sums: Any) -> Any:
        weights = (q.float() @ k.float().mT - rows).exp()
        ds = (weights * (g.float() @ v.float().mT - sums)).to(q.dtype)
        return ds @ k, ds.mT @ q, weights.to(v.dtype).mT @ g

    x, row = ((2, 4, 512, 64), tgrad.bfloat16), ((2, 4, 512, 1), tgrad.float32)
    with planning("sm_90"), tgrad.no_grad():
        inputs = [tgrad.zeros(s, dtype=d, device="cuda").realize() for s, d in (*4 * [x], row, row)]
        compiled = tgrad.compile(backward)
        compiled(*inputs)
        chains = [k.region for k in compiled.plans[0].kernels if k.region.space.kind == "chain"]
    assert sorted(len(r.stores) for r in chains) == [1, 2]
    assert all(sum(isinstance(v, Dot) for v in r.values) == 2 + len(r.stores) for r in chains)


@pytest.mark.parametrize("mask", [None, (2, 1, 512, 512), (2, 1, 1, 512)])
def test_efficient_attention_keeps_no_scores_on_gpus(mask: tuple[int, ...] | None) -> None:
    aten, wide = torch.ops.aten, tgrad.float32
    forward = operator(aten._scaled_dot_product_efficient_attention.default)
    backward = operator(aten._scaled_dot_product_efficient_attention_backward.default)
    x, rows = ((2, 4, 512, 64), wide), ((2, 4, 512), wide)
    seen = [] if mask is None else [(mask, tgrad.bool)]

    def masked(*t: Any) -> Any:
        return t[-1] if seen else None

    made = kinds(lambda q, k, v, *m: forward(q, k, v, masked(*m), True)[:2], x, x, x, *seen)
    assert made == ["chain"]

    def gradients(g: Any, q: Any, k: Any, v: Any, o: Any, rows: Any, *m: Any) -> Any:
        wanted = [True, True, True, False]
        return backward(g, q, k, v, masked(*m), o, rows, None, None, 0.0, wanted)

    made = kinds(gradients, x, x, x, x, x, rows, *seen)
    assert sorted(made) == ["chain", "chain", "reduce"]


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("is_causal", [False, True])
def test_backward_by_the_rows_of_forward(is_causal: bool, device: str) -> None:
    """As kernels of each device, beside float64."""
    torch.manual_seed(0)
    aten, length = torch.ops.aten, 70
    forward = operator(aten._scaled_dot_product_flash_attention.default)
    backward = operator(aten._scaled_dot_product_flash_attention_backward.default)
    q, k, v, g = (torch.randn(1, 2, length, 16, dtype=torch.float64) for _ in range(4))
    exact = [t.clone().requires_grad_() for t in (q, k, v)]
    y = ATTENTION(*exact, is_causal=is_causal)
    want = torch.autograd.grad(y, exact, g)
    given = [tgrad.tensor(t.float().numpy(), device=device) for t in (q, k, v)]
    out, rows, *_ = forward(*given, 0.0, is_causal)
    out.realize(), rows.realize()
    np.testing.assert_allclose(out.numpy(), y.detach(), rtol=1e-4, atol=1e-5)
    upstream = tgrad.tensor(g.float().numpy(), device=device)
    sizes, draws = (None, None, length, length), (None, None)
    made = backward(upstream, *given, out, rows, *sizes, 0.0, is_causal, *draws)
    for mine, theirs in zip(made, want, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.devices("cpu", "interpret")
def test_what_is_dropped_is_dropped_again(device: str) -> None:
    """The gradients are those of forward with the same numbers drawn; another call draws others."""
    rng, length, p = np.random.default_rng(0), 70, 0.3
    aten = torch.ops.aten
    forward = operator(aten._scaled_dot_product_efficient_attention.default)
    backward = operator(aten._scaled_dot_product_efficient_attention_backward.default)
    values = [rng.standard_normal((1, 2, length, 16), dtype=np.float32) for _ in range(4)]
    q, k, v, g = (tgrad.tensor(a, device=device) for a in values)
    out, rows, state, unused = forward(q, k, v, None, True, p)
    other = forward(q, k, v, None, True, p)[0]
    assert abs(out.numpy() - other.numpy()).max() > 0.1
    wanted = [True, True, True, False]
    made = backward(g, q, k, v, None, out, rows, state, unused, p, wanted)
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    wide = masked_scores(*leaves[:2], None, False, None)
    y = attend(wide, leaves[2], True, p, draw_for(wide, p, SavedGenerator(state)))
    np.testing.assert_allclose(out.numpy(), y.detach().numpy(), rtol=1e-4, atol=1e-5)
    y.backward(g)
    for mine, leaf in zip(made, leaves):
        assert leaf.grad is not None
        np.testing.assert_allclose(mine.numpy(), leaf.grad.numpy(), rtol=1e-3, atol=1e-5)
    assert made[3] is None


def test_dropping_keeps_no_scores_on_gpus() -> None:
    aten, half = torch.ops.aten, tgrad.bfloat16
    forward = operator(aten._scaled_dot_product_flash_attention.default)
    backward = operator(aten._scaled_dot_product_flash_attention_backward.default)
    x, rows = ((2, 4, 512, 64), half), ((2, 4, 512), tgrad.float32)
    made = kinds(lambda q, k, v: forward(q, k, v, 0.1, True)[:2], x, x, x)
    assert "chain" in made and "dot" not in made
    state = ((2,), tgrad.int64)

    def gradients(*t: Any) -> Any:
        return backward(*t[:6], None, None, 512, 512, 0.1, True, t[6], None)

    made = kinds(gradients, x, x, x, x, x, rows, state)
    assert made.count("chain") == 2 and "dot" not in made


def test_a_model_with_dropout_trains() -> None:
    """Its loss falls, and in evaluation nothing is dropped."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
    run, x = torch.compile(layer, backend="tgrad"), torch.randn(4, 10, 16)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (run(x) - x.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    layer.eval()
    torch.testing.assert_close(run(x), layer(x), rtol=1e-4, atol=1e-5)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(32, 96), torch.nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(2, 9, 3, 4, 8).permute(2, 0, 3, 1, 4)
        made: torch.Tensor = self.out(ATTENTION(q, k, v).transpose(1, 2).reshape(2, 9, 32))
        return made


def test_the_result_is_kept_once() -> None:
    """Attention's heads and the matrix of the next product are one memory, as in PyTorch."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    block, kept = Block(), list[torch.Tensor]()

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept.append(t)
        return t

    run = torch.compile(block, backend="tgrad")
    for _ in range(3):
        x = torch.randn(2, 9, 32)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            y = run(x)
        found = [torch.autograd.grad(f.square().sum(), block.parameters()) for f in (y, block(x))]
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        heads, matrices = (
            {t.data_ptr() for t in kept if t.shape == s} for s in ((2, 4, 9, 8), (18, 32))
        )
        assert len(heads & matrices) == 1
