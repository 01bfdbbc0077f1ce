"""Loops that are not compiled: what changes from turn to turn in numbers and places alone compiles
twice at most."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import to_numpy
from tgrad import pending, pipeline, realizing
from tgrad.device import Device
from tgrad.graph.form import Form
from tgrad.graph.node import Node
from tgrad.tensor import Tensor


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> OrderedDict:
    """The plans made since the test began, with nothing of earlier tests to compute."""
    made: OrderedDict = OrderedDict()
    monkeypatch.setattr(pending, "_pending", {})
    monkeypatch.setattr(pending, "_holders", [])
    monkeypatch.setattr(pipeline, "_plans", made)
    monkeypatch.setattr(realizing, "_seen", OrderedDict())
    return made


def shift(x: Tensor, i: int) -> Tensor:
    return x * (0.1 + i / 7) - i


LOOPS: dict[str, tuple[Callable[[Tensor, int], Tensor], int]] = {
    "a row": (lambda x, i: x[i], 1),
    "a value": (lambda x, i: x[i, i], 1),
    "rows": (lambda x, i: x[i : i + 3].exp(), 1),
    "batches": (lambda x, i: _stack(x, [i, i + 2, (i + 5) % 8]), 1),
    "columns": (lambda x, i: x[:, i : i + 3] + 1, 2),
    "crops": (lambda x, i: x[i : i + 3, 5 - i : 8 - i].sum(0), 2),
    "numbers": (lambda x, i: shift(x, i), 2),
    "joined fills": (lambda x, i: _joined(x, i / 3), 2),
    "fills": (lambda x, i: _fill(x, i / 3), 2),
    "positions": (lambda x, i: _positions(x) + i, 2),
}


def _positions(x: Tensor) -> Tensor:
    library = torch if isinstance(x, torch.Tensor) else tgrad
    return library.arange(4, device=x.device)


def _fill(x: Tensor, value: float) -> Tensor:
    library = torch if isinstance(x, torch.Tensor) else tgrad
    return library.full((3,), value, device=x.device)


def _joined(x: Tensor, value: float) -> Tensor:
    library = torch if isinstance(x, torch.Tensor) else tgrad
    return library.cat([x, library.full((10, 1), value, device=x.device)], 1)


def _stack(x: Tensor, places: list[int]) -> Tensor:
    library = torch if isinstance(x, torch.Tensor) else tgrad
    return library.stack([x[i : i + 2] for i in places])


@pytest.mark.parametrize("name", LOOPS)
def test_turns_share_plans(name: str, device: str, plans: OrderedDict) -> None:
    function, most = LOOPS[name]
    array = np.random.default_rng(0).standard_normal((10, 10)).astype(np.float32)
    ours, theirs = tgrad.tensor(array, device=device), torch.from_numpy(array)
    for i in range(6):
        got = to_numpy(function(ours, i))
        np.testing.assert_allclose(got, function(theirs, i).numpy(), rtol=1e-5, atol=1e-6)
    assert len(plans) <= most


def test_a_schedule_by_hand_compiles_twice(plans: OrderedDict) -> None:
    w = tgrad.ones(8, requires_grad=True)
    for i in range(6):
        loss = (w * w).sum() * 0.5 ** (i % 3)
        (gradient,) = tgrad.autograd.grad(loss, [w])
        with tgrad.no_grad():
            w -= 0.1 / (1 + i) * gradient
        w.sum().item()
    expected = np.ones(8)
    for i in range(6):
        expected -= 0.1 / (1 + i) * 2 * expected * 0.5 ** (i % 3)
    np.testing.assert_allclose(w.detach().numpy(), expected.astype(np.float32), rtol=1e-6)
    assert len(plans) <= 4, "two forms: one also computes the weight"


def test_a_row_is_a_copy_of_its_own() -> None:
    x = tgrad.arange(12).reshape(3, 4).float()
    x.realize()
    row = x[1].realize()
    x += 1
    x.realize()
    assert x[1].tolist() == [5, 6, 7, 8]
    assert row.tolist() == [5, 6, 7, 8], "a view follows its base"
    kept = x[1].clone().realize()
    x.zero_()
    assert kept.tolist() == [5, 6, 7, 8]


def test_a_number_that_was_equal_to_another_one(device: str) -> None:
    """Once the leaf was full of the number that is added; found by random draws of gamma variables,
    whose second turn had made both one input."""
    for value in (0.25, 1.0, 7.5):
        x = tgrad.full((5,), value, device=device).requires_grad_()
        y = x.exp() * 0.5 + 1.0
        np.testing.assert_allclose(y.detach().numpy(), np.exp(value) * 0.5 + 1.0, rtol=1e-6)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of nodes of each graph that ran."""
    sizes: list[int] = []
    planned = realizing._planned

    def counted(outputs: Sequence[Node], device: Device) -> tuple[Form, Any]:
        form, bound = planned(outputs, device)
        sizes.append(len(form.order) + len(form.deferred))
        return form, bound

    monkeypatch.setattr(realizing, "_planned", counted)
    return sizes


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_state_that_is_carried_on_is_computed_once(plans, graphs, when, device) -> None:
    """Truncated backpropagation through time, detached before a step or after it."""
    random = np.random.default_rng(0)
    batches = random.standard_normal((9, 3, 2, 4)).astype(np.float32)
    losses = []
    for library in (tgrad, torch):
        net = library.nn.RNN(4, 5)
        weights = np.random.default_rng(1)
        with library.no_grad():
            for p in net.parameters():
                p.copy_(library.tensor(weights.standard_normal(tuple(p.shape)) / 2))
        net = net.to(device) if library is tgrad else net
        place = {"device": device} if library is tgrad else {}
        state, found = library.zeros(1, 2, 5, **place), []
        for batch in batches:
            x = library.tensor(batch, **place)
            state = state.detach() if when == "before" else state
            out, state = net(x, state)
            loss = (out * out).mean()
            net.zero_grad()
            loss.backward()
            state = state.detach() if when == "after" else state
            with library.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
            found.append(loss.item())
        losses.append(found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert len(set(graphs[-2:])) == 1 and len(plans) <= 6


def test_iterations_that_look_at_their_change_do_not_grow(plans, graphs) -> None:
    a = tgrad.tensor(np.random.default_rng(0).random((6, 6)), device="numpy")
    v = tgrad.ones(6, device="numpy", dtype=tgrad.float64)
    for _ in range(8):
        w = a @ v
        w = w / w.norm()
        (w - v).abs().max().item()
        v = w
    assert len(set(graphs[-4:])) == 1
    np.testing.assert_allclose((a @ v).numpy(), (v * (a @ v).norm()).numpy(), rtol=1e-4)


def test_a_choice_that_nobody_reads_is_carried_on(plans, graphs, device) -> None:
    """A token is computed from scores of which something else is read, and is the next input."""
    random = np.random.default_rng(0)
    table, weight = (random.standard_normal(s).astype(np.float32) for s in ((7, 4), (4, 7)))
    found = []
    for library in (tgrad, torch):
        place = {"device": device} if library is tgrad else {}
        rows, w = (library.tensor(a, **place) for a in (table, weight))
        token, best = library.tensor([3], **place), []
        for _ in range(8):
            scores = (rows[token] @ w).softmax(-1)
            shares = scores * scores
            shares = shares / shares.sum(-1, keepdim=True)
            token = shares.argmax(-1)
            best.append(scores.max().item())
        found.append((best, token.tolist()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    assert found[0][1] == found[1][1]
    assert len(set(graphs[-4:-1])) == 1, "it does not grow"


def test_an_evaluation_that_reads_two_values_computes_its_model_once(plans, graphs) -> None:
    net = tgrad.nn.Linear(4, 3).to("numpy")
    for i in range(3):
        x = tgrad.tensor(np.full((5, 4), i, np.float32), device="numpy")
        with tgrad.no_grad():
            scores = net(x)
            scores.sum().item()
            scores.argmax(1).tolist()
    assert graphs[-1] < graphs[2]


def test_masks_are_not_stored_for_being_computed_again(plans, graphs) -> None:
    """Kernels know what is made of places alone, and skip what it hides."""
    mask = tgrad.ones(4, 4, device="numpy").tril() == 0
    for _ in range(3):
        x = tgrad.rand(4, 4, device="numpy")
        x.masked_fill(mask, 0.0).sum().item()
        again = tgrad.ones(4, 4, device="numpy").tril() == 0
    assert mask._storage is None and again._storage is None


def test_batches_drawn_from_a_memory_share_a_plan(plans, device) -> None:
    """Transitions whose next state is the next one's state: draws repeat tensors in random ways."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((30, 1, 3)).astype(np.float32)
    states = [tgrad.tensor(r[0], device=device).unsqueeze(0) for r in rows]
    numbers = [tgrad.tensor(i, device=device) for i in range(30)]
    for _ in range(5):
        drawn = random.permutation(29)[:10]
        here, there = (tgrad.cat([states[i + k] for i in drawn]) for k in (0, 1))
        place = tgrad.stack([numbers[i] for i in drawn])
        assert place.dtype is tgrad.int64 and place.tolist() == drawn.tolist()
        want = rows[drawn, 0] * 2 - rows[drawn + 1, 0]
        np.testing.assert_allclose((here * 2 - there).numpy(), want, rtol=1e-6)
    assert len(plans) == 1
    grown = tgrad.cat([s.requires_grad_() for s in map(tgrad.clone, states)])
    grown.sum().backward()
    assert grown.requires_grad and grown.shape == (30, 3)
