"""Values that a later kernel stores a second time: same results, less memory, no launch more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.training import gpt as model
from tgrad import nn, pipeline
from tgrad.device import Device
from tgrad.fusion.partition import Fused
from tgrad.runtime.plan import Plan
from tgrad.runtime.report import report_plan

SAYS = "again, to hold less memory"


@pytest.fixture(autouse=True)
def two_cores_of_256_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a second store may cost follows from the processor's figures: the same everywhere."""
    backend = pipeline.backend_of(Device("cpu"))
    assert backend.figures is not None
    figures = replace(backend.figures, bandwidth=40e9, vector_rate=160e9, units=2)
    monkeypatch.setattr(pipeline, "_plans", OrderedDict())
    monkeypatch.setattr(pipeline, "backend_of", lambda device: replace(backend, figures=figures))


@contextmanager
def stored_once() -> Iterator[None]:
    """Inside, nothing is stored a second time."""

    def as_they_are(fused: Sequence[Fused], *_: object) -> list[Fused]:
        return list(fused)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_plans", OrderedDict())
        patch.setattr(pipeline, "store_again", as_they_are)
        yield


def again(plan: Plan) -> list[str]:
    return [k.name for k in plan.kernels if any(r.endswith(SAYS) for r in k.reasons)]


def mlp(activation: str, layers: int = 4) -> tuple[Plan, np.ndarray]:
    """Two training steps of x + f(x w0) w1, layer after layer; the plan and the weights after."""
    rng = np.random.default_rng(3)
    weights = [
        tgrad.tensor(0.1 * rng.standard_normal(shape, dtype=np.float32), requires_grad=True)
        for _ in range(layers)
        for shape in ((32, 128), (128, 32))
    ]
    x = tgrad.tensor(rng.standard_normal((256, 32), dtype=np.float32))
    optimizer = tgrad.optim.SGD(weights, lr=0.1)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> None:
        for up, down in zip(weights[::2], weights[1::2]):
            x = x + getattr(F, activation)(x @ up) @ down
        optimizer.zero_grad()
        (x * x).mean().backward()
        optimizer.step()

    for _ in range(2):
        step(x)
    return step.plans[-1], np.concatenate([w.numpy().ravel() for w in weights])


@pytest.mark.parametrize("activation", ["gelu", "silu", "mish"])
def test_an_activation_is_stored_again_where_its_gradient_is_computed(activation: str) -> None:
    plan, got = mlp(activation)
    with stored_once():
        whole, want = mlp(activation)
    np.testing.assert_array_equal(got, want)
    assert again(plan) and not again(whole)
    assert plan.launches <= whole.launches
    assert plan.peak_bytes < 0.8 * whole.peak_bytes
    assert report_plan(plan).seconds <= 1.01 * report_plan(whole).seconds


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_what_its_own_gradient_reads_is_kept(activation: str) -> None:
    """Nothing to save: the value before the activation is held by nobody."""
    plan, got = mlp(activation)
    with stored_once():
        whole, want = mlp(activation)
    np.testing.assert_array_equal(got, want)
    assert plan.peak_bytes <= whole.peak_bytes


def gpt(dropout: float) -> tuple[Plan, list[float]]:
    tgrad.manual_seed(0)
    of = model.gpt(nn, F, tgrad, dropout, 2)
    optimizer = tgrad.optim.AdamW(of.parameters(), lr=1e-3)

    @tgrad.compile
    def step(tokens: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
        loss = of(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(tgrad.tensor(x), tgrad.tensor(y)).item() for x, y in model.batches(3, 8, 32)]
    return step.plans[-1], losses


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_gpt_trains_to_the_same_losses(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "WIDTH", 32)
    plan, got = gpt(dropout)
    with stored_once():
        whole, want = gpt(dropout)
    assert got == want
    names = again(plan)
    assert any("gelu" in n for n in names) and any("layer_norm" in n for n in names)
    assert plan.peak_bytes < 0.85 * whole.peak_bytes
