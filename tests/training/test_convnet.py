"""Training the convnet: PyTorch's losses step by step, one plan, no recompilation."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.training.convnet import batches, twins
from tgrad import nn, optim
from tgrad.device import Device
from tgrad.runtime.device import counters, release_arena
from tgrad.runtime.plan import record_plans

torch = pytest.importorskip("torch")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def train_ours(model: nn.Module, data: Any, device: str) -> list[float]:
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for images, labels in data:
        x, y = tgrad.tensor(images, device=device), tgrad.tensor(labels, device=device)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.item()))
    return losses


def train_theirs(model: Any, data: Any) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for images, labels in data:
        loss = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(images)), torch.from_numpy(labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.item()))
    return losses


@pytest.mark.parametrize(
    ("device", "size"), [("cpu", 32), pytest.param("interpret", 4, marks=needs_triton)]
)
def test_ten_steps_have_the_losses_of_pytorch(device: str, size: int) -> None:
    ours, theirs = twins(device)
    data = batches(10, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = train_ours(ours, data, device)
    np.testing.assert_allclose(got, train_theirs(theirs, data), rtol=0, atol=1e-4)


def test_the_second_step_compiles_nothing() -> None:
    ours, _ = twins("cpu")
    with record_plans() as first:
        train_ours(ours, batches(1, 8), "cpu")
    assert len(first) >= 1
    optimizer = optim.Adam(ours.parameters(), lr=1e-3)
    counts = []
    for images, labels in batches(4, 8):
        with record_plans() as plans:
            loss = F.cross_entropy(ours(tgrad.tensor(images)), tgrad.tensor(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        counts.append(len(plans))
    assert counts[1:] == [0, 0, 0]


def test_a_step_is_one_plan_that_does_what_it_says() -> None:
    device = Device("cpu")
    ours, _ = twins("cpu")
    optimizer = optim.Adam(ours.parameters(), lr=1e-3)
    images, labels = batches(1, 8)[0]
    x, y = tgrad.tensor(images), tgrad.tensor(labels)
    for _ in range(2):
        with record_plans() as plans:
            release_arena(device)
            before = counters(device).plans, counters(device).launches
            allocated = counters(device).allocated_bytes
            loss = F.cross_entropy(ours(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert counters(device).plans == before[0] + 1
        if plans:
            plan = plans[-1]
    assert counters(device).launches - before[1] == plan.launches
    assert counters(device).allocated_bytes - allocated == plan.peak_bytes
