"""Values computed again: the same results in less memory, or an error that says how much."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tests.training.gpt as model
import tgrad
import tgrad.nn.functional as F
from tgrad import nn
from tgrad.errors import MemoryLimitError
from tgrad.fusion.recompute import REASON
from tgrad.runtime.device import counters
from tgrad.runtime.plan import Plan
from tgrad.runtime.report import report_plan


def total(plan: Plan) -> int:
    return plan.peak_bytes + plan.input_bytes


def chain(limit: int | None, length: int = 12) -> tuple[Plan, np.ndarray]:
    """A deep stack of activations, its gradient, and its plan."""
    rng = np.random.default_rng(0)
    weights = [tgrad.tensor(rng.standard_normal((16, 16), dtype=np.float32), requires_grad=True)
               for _ in range(length)]  # fmt: skip
    x = tgrad.tensor(rng.standard_normal((256, 16), dtype=np.float32))
    optimizer = tgrad.optim.SGD(weights, lr=0.1)

    @tgrad.compile(memory_limit=limit)
    def step(x: tgrad.Tensor) -> None:
        h = x
        for w in weights:
            h = (h @ w).tanh()
        optimizer.zero_grad()
        (h * h).mean().backward()
        optimizer.step()

    for _ in range(3):
        step(x)
    return step.plans[0], np.stack([w.numpy() for w in weights])


@pytest.mark.parametrize("share", [0.8, 0.6, 0.5])
def test_a_chain_fits_and_gives_the_same(share: float) -> None:
    whole, want = chain(None)
    limit = int(total(whole) * share)
    plan, got = chain(limit)
    np.testing.assert_array_equal(got, want)
    assert total(plan) <= limit < total(whole)
    again = [k for k in plan.kernels if REASON in k.reasons]
    assert len(again) == plan.launches - whole.launches > 0
    assert plan.flops == whole.flops + sum(k.flops for k in again)
    assert report_plan(plan).seconds > report_plan(whole).seconds


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    whole, _ = chain(None)
    plan, _ = chain(total(whole))
    assert [k.name for k in plan.kernels] == [k.name for k in whole.kernels]


def gpt(limit: int | str | None, layers: int = 12) -> tuple[Plan, list[float]]:
    """Three training steps of a GPT whose activations outweigh its parameters."""
    tgrad.manual_seed(0)
    of = model.gpt(nn, F, tgrad, 0.1, layers)
    optimizer = tgrad.optim.AdamW(of.parameters(), lr=1e-3)

    @tgrad.compile(memory_limit=limit)
    def step(tokens: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
        loss = of(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(tgrad.tensor(x), tgrad.tensor(y)).item() for x, y in model.batches(3, 16, 32)]
    return step.plans[0], losses


def test_a_deep_gpt_trains_in_half_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: a mask that is computed again is the same mask."""
    monkeypatch.setattr(model, "WIDTH", 32)
    whole, want = gpt(None)
    limit = total(whole) // 2
    plan, got = gpt(limit)
    assert got == want
    assert total(plan) <= limit
    predicted = report_plan(plan).seconds / report_plan(whole).seconds
    assert 1 < predicted < 1.5


def test_what_cannot_fit_says_by_how_much_and_what_is_large() -> None:
    big = tgrad.ones(512, 512).realize()

    @tgrad.compile(memory_limit="2MiB")
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        return ((x @ x).softmax(-1) @ x).sum()

    before = counters(big.device).launches
    with pytest.raises(MemoryLimitError) as caught:
        step(big)
    text = str(caught.value)
    found = re.search(r"takes ([\d,]+) bytes, ([\d,]+) more than its memory_limit of 2,097,", text)
    assert found is not None, text
    takes, excess = (int(n.replace(",", "")) for n in found.groups())
    assert takes == 2_097_152 + excess
    assert "f32[512, 512] of matmul at test_recompute.py:" in text
    assert counters(big.device).launches == before
    whole = tgrad.compile(lambda x: ((x @ x).softmax(-1) @ x).sum())
    whole(big)
    assert takes <= total(whole.plans[0])


def test_a_limit_that_is_no_size() -> None:
    with pytest.raises(ValueError, match="is not a size"):
        tgrad.compile(lambda: None, memory_limit="much")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.ReLU())

    def forward(self, x: tgrad.Tensor) -> tgrad.Tensor:
        return x + self.inner(x)


def loss_or_bytes(layers: list[nn.Module], is_clipped: bool, limit: int | None) -> float:
    """The loss of a step under a limit; the bytes that it takes at least, where they are more."""
    model = nn.Sequential(*layers)
    optimizer = tgrad.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mean = tgrad.zeros(24)

    @tgrad.compile(memory_limit=limit)
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        y = model(x)
        loss = (y * y).mean()
        loss.backward()
        if is_clipped:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with tgrad.no_grad():
            mean.add_(y.mean(0))
        return loss

    try:
        return step(tgrad.randn(128, 24)).item()
    except MemoryLimitError as error:
        (found,) = re.findall(r"takes ([\d,]+) bytes", str(error))
        return float(found.replace(",", ""))


def plateau() -> list[nn.Module]:
    return [Residual(), nn.Linear(24, 24), nn.Tanh()]


def test_there_is_an_end_where_the_peak_is_reached_twice() -> None:
    bytes_at_least = loss_or_bytes(plateau(), False, 10_000)
    losses = []
    for limit in (None, int(bytes_at_least)):
        tgrad.manual_seed(0)
        losses.append(loss_or_bytes(plateau(), False, limit))
    assert bytes_at_least > 10_000 and losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_copies_of_values_that_are_stored_again_have_names_of_their_own() -> None:
    layers = [nn.BatchNorm1d(24), Residual(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24)]
    assert loss_or_bytes([*layers, nn.Tanh()], True, 10_000) > 10_000
