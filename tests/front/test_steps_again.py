"""Eager steps that were done before: what is made of templates, against PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad import realizing
from tgrad.graph.deferred import Instance

STEPS = 7
"""The first starts state, two teach the backward pass, one more runs what is known."""


class Net:
    """Two layers with a norm between them, of either library, with equal weights."""

    def __init__(self, library: Any, optimizer: Callable[[Any, list[Any]], Any]):
        random = np.random.default_rng(3)
        arrays = [random.standard_normal(s).astype("f") / 2 for s in ((6, 8), (8,), (8, 3))]
        self.library = library
        self.w = [library.tensor(a).requires_grad_() for a in arrays]
        self.optimizer = optimizer(library, self.w)

    def loss(self, x: Any, y: Any) -> Any:
        f = self.library.nn.functional
        h = f.gelu(f.layer_norm(x @ self.w[0], (8,), self.w[1]))
        return f.mse_loss(h @ self.w[2], y)

    def step(self, number: int) -> float:
        random = np.random.default_rng(number)
        x, y = (self.library.tensor(random.standard_normal((5, n)).astype("f")) for n in (6, 3))
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())


@pytest.fixture()
def made(monkeypatch: pytest.MonkeyPatch) -> list[Instance]:
    """The instances whose nodes were asked for."""
    found, make = list[Instance](), Instance.make
    monkeypatch.setattr(Instance, "make", lambda self: (found.append(self), make(self))[1])
    monkeypatch.setattr(realizing, "_seen", OrderedDict())
    return found


def adamw(library: Any, params: list[Any]) -> Any:
    return library.optim.AdamW(params, lr=0.05, weight_decay=0.1)


OPTIMIZERS: list[Callable[[Any, list[Any]], Any]] = [
    adamw,
    lambda library, params: library.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    lambda library, params: library.optim.SGD(params, lr=0.1),
    lambda library, params: library.optim.RMSprop(params, lr=0.01, centered=True, momentum=0.5),
    lambda library, params: library.optim.Adagrad(params, lr=0.1),
    lambda library, params: library.optim.Adam(
        [{"params": params[:1], "lr": 0.01}, {"params": params[1:]}], lr=0.1, amsgrad=True
    ),
]


def assert_same(one: Net, other: Net) -> None:
    for a, b in zip(one.w, other.w):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_known_steps_make_no_nodes(optimizer: Any, made: list[Instance]) -> None:
    ours, theirs = Net(tgrad, optimizer), Net(torch, optimizer)
    for number in range(STEPS):
        if number == STEPS - 2:
            made.clear()
        assert ours.step(number) == pytest.approx(theirs.step(number), rel=1e-4)
    assert not made
    assert_same(ours, theirs)


def test_gradients_that_are_read_later_are_the_step_s(made: list[Instance]) -> None:
    ours, theirs = Net(tgrad, adamw), Net(torch, adamw)
    for number in range(STEPS):
        ours.step(number), theirs.step(number)
        for a, b in zip(ours.w, theirs.w):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=2e-3, atol=1e-5)
    assert_same(ours, theirs)


def test_a_rate_that_changes_each_step_is_an_input(made: list[Instance]) -> None:
    ours, theirs = Net(tgrad, adamw), Net(torch, adamw)
    for number in range(STEPS):
        if number == STEPS - 2:
            made.clear()
        for net in (ours, theirs):
            net.optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
            net.step(number)
    assert not made
    assert_same(ours, theirs)


def test_a_decay_that_changes_each_step(made: list[Instance]) -> None:
    ours, theirs = Net(tgrad, adamw), Net(torch, adamw)
    for number in range(STEPS):
        for net in (ours, theirs):
            net.optimizer.param_groups[0]["weight_decay"] = 0.1 / (1 + number)
            net.step(number)
    assert_same(ours, theirs)


def test_gradients_of_many_calls_and_of_some_parameters(made: list[Instance]) -> None:
    def program(library: Any) -> list[Any]:
        net = Net(library, adamw)
        for number in range(2 * STEPS):
            random = np.random.default_rng(number)
            net.optimizer.zero_grad()
            net.w[1].requires_grad_(number % 4 != 3)
            for _ in range(1 + number % 2):
                x, y = (library.tensor(random.standard_normal((5, n)).astype("f")) for n in (6, 3))
                net.loss(x, y).backward()
            if number % 3 == 0:
                library.nn.utils.clip_grad_norm_(net.w, 0.1)
            if number == 5:
                net.w[0].grad = None
            net.optimizer.step()
        return [net]

    (ours,), (theirs,) = program(tgrad), program(torch)
    assert_same(ours, theirs)


def test_gradients_that_are_numbers(made: list[Instance]) -> None:
    """A loss that is linear in a parameter has a gradient that no buffer is in."""

    def program(library: Any) -> Any:
        w, v = (library.ones(3).requires_grad_() for _ in range(2))
        optimizer = adamw(library, [w, v])
        for _ in range(STEPS):
            optimizer.zero_grad()
            (w.sum() + (v * w).sum() * 0.0).backward()
            optimizer.step()
        return [w.detach().numpy(), v.detach().numpy()]

    for ours, theirs in zip(program(tgrad), program(torch)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_parameters_with_one_gradient(made: list[Instance]) -> None:
    def program(library: Any) -> Any:
        w, v = (library.ones(3).requires_grad_() for _ in range(2))
        optimizer = adamw(library, [w, v])
        for number in range(STEPS):
            optimizer.zero_grad()
            x = library.tensor(np.arange(3, dtype="f") + number)
            ((w + v) * x).sum().backward()
            if number % 2:
                v.grad = w.grad
            optimizer.step()
        return [w.detach().numpy(), v.detach().numpy()]

    for ours, theirs in zip(program(tgrad), program(torch)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_what_older_tensors_hold_is_stored(made: list[Instance]) -> None:
    """A batch that was made of random numbers before the loop is drawn once."""
    x = tgrad.randn(4, 6)
    net = Net(tgrad, adamw)
    y = tgrad.zeros(4, 3)
    for _ in range(STEPS):
        net.optimizer.zero_grad()
        net.loss(tgrad.nn.functional.pad(x, (1, 1))[:, 1:7], y).backward()
        net.optimizer.step()
    assert x._storage is not None
