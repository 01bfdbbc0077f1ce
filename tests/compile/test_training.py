"""Compiled training steps against uncompiled ones and PyTorch, over 20 steps.

Learning rates are such that PyTorch's float32 and float64 losses agree, see
tests/training/test_convnet.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.training import convnet, gpt
from tgrad import nn, optim
from tgrad.runtime.plan import record_plans

torch = pytest.importorskip("torch")

torch.set_num_threads(1)  # on a shared machine, its threads wait for each other

STEPS = 20
CONVNET_RATE, GPT_RATE = 2e-5, 3e-4


def convnet_data(size: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    return convnet.batches(STEPS, size)


def gpt_data(size: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    return gpt.batches(STEPS, size)


def make_step(
    model: Any, optimizer: Any, functional: Any, utils: Any, clip: float | None
) -> Callable[..., Any]:
    """forward, backward, clipping by norm, update; for tgrad and PyTorch alike."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        logits = model(x)
        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        if clip is not None:
            utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    return step


def train_ours(
    model: nn.Module, data: Any, rate: float, compiled: bool, clip: float | None = None
) -> tuple[list[float], Any]:
    """Losses with a cosine schedule and, halfway, an evaluation; and the step."""
    tgrad.manual_seed(7)
    optimizer = optim.AdamW(model.parameters(), lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    step = make_step(model, optimizer, F, nn.utils, clip)
    evaluate = model.__call__
    if compiled:
        step, evaluate = tgrad.compile(step), tgrad.compile(model)
    losses = []
    for number, (x, y) in enumerate(data):
        if number == STEPS // 2:
            model.eval()
            with tgrad.no_grad():
                losses.append(evaluate(tgrad.tensor(x)).square().mean().item())
            model.train()
        losses.append(step(tgrad.tensor(x), tgrad.tensor(y)).item())
        schedule.step()
    return losses, step


def train_theirs(model: Any, data: Any, rate: float, clip: float | None = None) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    step = make_step(model, optimizer, torch.nn.functional, torch.nn.utils, clip)
    losses = []
    for number, (x, y) in enumerate(data):
        if number == STEPS // 2:
            model.eval()
            with torch.no_grad():
                losses.append(model(torch.from_numpy(x)).square().mean().item())
            model.train()
        losses.append(step(torch.from_numpy(x), torch.from_numpy(y)).item())
        schedule.step()
    return losses


@pytest.mark.parametrize("clip", [None, 0.5], ids=["plain", "clipped"])
def test_the_convnet_trains_as_uncompiled_and_as_pytorch(clip: float | None) -> None:
    data = convnet_data()
    got, step = train_ours(convnet.twins("cpu")[0], data, CONVNET_RATE, True, clip)
    plain, _ = train_ours(convnet.twins("cpu")[0], data, CONVNET_RATE, False, clip)
    want = train_theirs(convnet.twins("cpu")[1], data, CONVNET_RATE, clip)
    np.testing.assert_allclose(got, plain, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    assert step.traces == len(step.plans) == 1


@pytest.mark.parametrize("clip", [None, 0.5], ids=["plain", "clipped"])
def test_gpt_trains_as_uncompiled_and_as_pytorch(clip: float | None) -> None:
    data = gpt_data()
    got, step = train_ours(gpt.twins()[0], data, GPT_RATE, True, clip)
    plain, _ = train_ours(gpt.twins()[0], data, GPT_RATE, False, clip)
    want = train_theirs(gpt.twins()[1], data, GPT_RATE, clip)
    np.testing.assert_allclose(got, plain, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    assert want[-1] < want[0]
    assert step.traces == len(step.plans) == 1


def test_dropout_draws_the_same_numbers_compiled() -> None:
    data = gpt_data()
    got, step = train_ours(gpt.twins(dropout=0.2, layers=2)[0], data, GPT_RATE, True)
    plain, _ = train_ours(gpt.twins(dropout=0.2, layers=2)[0], data, GPT_RATE, False)
    without, _ = train_ours(gpt.twins(layers=2)[0], data, GPT_RATE, True)
    np.testing.assert_allclose(got, plain, rtol=0, atol=1e-4)
    assert np.abs(np.array(got) - without).max() > 1e-3
    assert step.traces == 1


def accumulate(model: Any, optimizer: Any, functional: Any, compiled: bool) -> Any:
    """Two functions: one adds gradients, one makes the step."""

    def add(x: Any, y: Any) -> Any:
        loss = functional.cross_entropy(model(x), y) / 4
        loss.backward()
        return loss

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return (tgrad.compile(add), tgrad.compile(update)) if compiled else (add, update)


def test_gradients_accumulate_over_calls() -> None:
    data = convnet_data()
    losses = []
    for compiled in (True, False):
        model, _ = convnet.twins("cpu")
        optimizer = optim.SGD(model.parameters(), lr=2e-4, momentum=0.9)
        add, update = accumulate(model, optimizer, F, compiled)
        found = []
        for number, (x, y) in enumerate(data):
            found.append(add(tgrad.tensor(x), tgrad.tensor(y)).item())
            if number % 4 == 3:
                update()
        losses.append(found)
        if compiled:
            assert add.traces == 2  # with a gradient from the call before, and without
            assert update.traces == 1
    theirs = convnet.twins("cpu")[1]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=2e-4, momentum=0.9)
    add, update = accumulate(theirs, optimizer, torch.nn.functional, False)
    want = []
    for number, (x, y) in enumerate(data):
        want.append(add(torch.from_numpy(x), torch.from_numpy(y)).item())
        if number % 4 == 3:
            update()
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(losses[0], want, rtol=0, atol=1e-4)


def train_with_everything(
    model: Any, data: Any, kind: str, rate: float, library: Any, drop: float = 0.0
) -> tuple[list[float], list[float]]:
    """Losses, and norms of gradients: two batches a step with their gradients added up, a schedule,
    clipping by norm, dropout on the logits, and an evaluation after each fourth step.

    Args:
        kind: "torch", or ours "lazy" or "compiled".
        library: torch or tgrad.
    """
    functional, of = library.nn.functional, library.nn
    optimizer = library.optim.AdamW(model.parameters(), lr=rate)
    schedule = library.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    dropout = of.Dropout(drop)

    def add(x: Any, y: Any) -> Any:
        logits = model(x)
        logits = dropout(logits.reshape(-1, logits.shape[-1]))
        loss = functional.cross_entropy(logits, y.reshape(-1)) / 2
        loss.backward()
        return loss

    def update() -> Any:
        norm = of.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def evaluate(x: Any) -> Any:
        return model(x).square().mean()

    if kind == "compiled":
        add, update, evaluate = map(tgrad.compile, (add, update, evaluate))
    found, norms = [], []
    for number in range(STEPS):
        for x, y in (data[number], data[(number + 7) % STEPS]):
            found.append(add(library.from_numpy(x), library.from_numpy(y)).item())
        norms.append(update().item())
        schedule.step()
        if number % 4 == 3:
            model.eval()
            with library.no_grad():
                found.append(evaluate(library.from_numpy(data[number][0])).item())
            model.train()
    if kind == "compiled":
        assert (add.traces, update.traces, evaluate.traces) == (2, 1, 1)
    return found, norms


MODELS: dict[str, Callable[[], tuple[Any, Any, Any, float]]] = {
    "convnet": lambda: (*convnet.twins("cpu"), convnet_data(), CONVNET_RATE),
    "gpt": lambda: (*gpt.twins(), gpt_data(), GPT_RATE),
}


@pytest.mark.parametrize("name", MODELS)
def test_accumulation_clipping_schedule_and_evaluation_together(name: str) -> None:
    kinds = ("compiled", "lazy", "torch")
    got, plain, want = (
        train_with_everything(theirs if kind == "torch" else ours, data, kind, rate,
                              torch if kind == "torch" else tgrad)
        for kind, (ours, theirs, data, rate) in ((kind, MODELS[name]()) for kind in kinds)
    )  # fmt: skip
    for other in (plain, want):
        np.testing.assert_allclose(got[0], other[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(got[1], other[1], rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_with_dropout(name: str) -> None:
    found = []
    for kind in ("compiled", "lazy"):
        model, _, data, rate = MODELS[name]()
        tgrad.manual_seed(9)
        found.append(train_with_everything(model, data, kind, rate, tgrad, drop=0.3))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3)


def test_a_step_makes_one_plan_and_no_more() -> None:
    model, _ = convnet.twins("cpu")
    optimizer = optim.Adam(model.parameters(), lr=1e-4)
    step = tgrad.compile(make_step(model, optimizer, F, nn.utils, None))
    counts = []
    for x, y in convnet_data(4)[:5]:
        with record_plans() as plans:
            step(tgrad.tensor(x), tgrad.tensor(y))
        counts.append(len(plans))
    assert counts == [1, 0, 0, 0, 0]
    assert all(p.grad is None for p in model.parameters())


def test_state_is_written_in_place() -> None:
    model, _ = convnet.twins("cpu")
    optimizer = optim.Adam(model.parameters(), lr=1e-4)
    step = tgrad.compile(make_step(model, optimizer, F, nn.utils, None))
    (x, y), *_ = convnet_data(4)
    step(tgrad.tensor(x), tgrad.tensor(y))

    def addresses() -> list[int]:
        return [p._storage.memory.address for p in model.parameters() if p._storage is not None]

    before = addresses()
    step(tgrad.tensor(x), tgrad.tensor(y))
    kept = sum(a == b for a, b in zip(before, addresses()))
    assert kept == len(before)
