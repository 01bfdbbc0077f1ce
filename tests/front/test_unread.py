"""Loops that read nothing, and steps written by hand: values are PyTorch's, graphs do not grow with
the turns, and later turns make no plans."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.front import test_derivatives
from tests.front.test_loops import graphs as graphs
from tests.front.test_loops import plans as plans
from tgrad import unread
from tgrad.unread import loops

LONG, SHORT = 60, 16
DEEP, FEWER = 150, 40


@pytest.fixture(autouse=True)
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are long after few results, and none was found before the test."""
    monkeypatch.setattr(unread, "LONG", LONG)
    monkeypatch.setattr(unread, "SHORT", SHORT)
    monkeypatch.setattr(unread, "DEEP", DEEP)
    monkeypatch.setattr(unread, "FEWER", FEWER)
    for name, value in vars(type(loops)()).items():
        monkeypatch.setattr(loops, name, value)
    loops.limit, loops.deep_limit = LONG, DEEP


class Library:
    """A library, and numbers that are the same for each."""

    def __init__(self, library: Any, device: str):
        self.torch, self.F = library, library.nn.functional
        self.place = {"device": device} if library is tgrad else {}
        self.random = np.random.default_rng(0)

    def numbers(self, *shape: int) -> Any:
        array = self.random.standard_normal(shape).astype(np.float32) / 2
        return self.torch.tensor(array, **self.place)

    def weight(self, *shape: int) -> Any:
        return self.numbers(*shape).requires_grad_()


def diffusion(lib: Library, turns: int) -> Any:
    """A simulation from zeros that keeps some of its states."""
    u, kept = lib.torch.zeros(6, 6, **lib.place), []
    u[3, 3] = 1.0
    for turn in range(turns):
        near = lib.torch.roll(u, 1, 0) + lib.torch.roll(u, -1, 0) - 2 * u
        u = u + 0.1 * near
        if turn % 5 == 0:
            kept.append(u)
    return lib.torch.stack(kept)


def evaluation(lib: Library, turns: int) -> Any:
    """Counts and sums over batches, by in-place addition."""
    w = lib.weight(4, 3)
    right, total = (lib.torch.tensor(0, **lib.place), lib.torch.tensor(0.0, **lib.place))
    with lib.torch.no_grad():
        for _ in range(turns):
            scores = lib.numbers(5, 4) @ w
            right += (scores.argmax(1) == 1).sum()
            total += lib.F.log_softmax(scores, 1)[:, 0].sum()
    return total + right


def with_gradients(lib: Library, turns: int) -> Any:
    """An evaluation that forgot no_grad: of what it adds up, nothing requires a gradient."""
    weights = [lib.weight(4, 4) for _ in range(4)]
    right = lib.torch.tensor(0, **lib.place)
    for _ in range(turns):
        x = lib.numbers(5, 4)
        for w in weights:
            x = lib.torch.tanh(x @ w) + x
        right += (x.argmax(1) == 1).sum()
    return right


def predictions(lib: Library, turns: int) -> Any:
    """Results of all batches, joined at the end."""
    net = [lib.numbers(4, 8), lib.numbers(8, 2)]
    found = []
    for _ in range(turns):
        found.append(lib.torch.tanh(lib.numbers(3, 4) @ net[0]) @ net[1])
    return lib.torch.cat(found)


def layers(lib: Library, turns: int) -> Any:
    """Nested loops: a state through some layers, in each turn."""
    weights, x = [lib.numbers(4, 4) for _ in range(5)], lib.numbers(2, 4)
    for _ in range(turns):
        for w in weights:
            x = lib.torch.tanh(x @ w)
            x = x + 0.5
        x = x * 0.5
    return x


def tokens(lib: Library, turns: int) -> Any:
    """Each token from those before, the last four of them, by greedy choice."""
    table, w = lib.numbers(7, 4), lib.numbers(4, 7)
    row = lib.torch.zeros(1, 4, dtype=lib.torch.int64, **lib.place)
    chosen = []
    for _ in range(turns):
        scores = table[row].cumsum(1)[:, -1] @ w
        token = lib.F.softmax(scores, -1).argmax(-1, keepdim=True)
        chosen.append(token)
        row = lib.torch.cat([row[:, 1:], token], 1)
    return lib.torch.cat(chosen, 1)


def by_hand(lib: Library, turns: int) -> Any:
    """Steps of gradient descent under no_grad, of which nothing is read."""
    w, b, x = lib.weight(4, 1), lib.weight(1), lib.numbers(9, 4)
    for _ in range(turns):
        loss = ((x @ w + b - 1) ** 2).mean()
        loss.backward()
        with lib.torch.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
            w.grad = b.grad = None
    return lib.torch.cat([w.detach()[:, 0], b.detach()])


def by_data(lib: Library, turns: int) -> Any:
    """The older way, by `.data`, with losses that are kept for later."""
    w, x = lib.weight(4), lib.numbers(9, 4)
    losses = []
    for _ in range(turns):
        loss = ((x @ w - 1) ** 2).mean()
        loss.backward()
        w.data -= 0.1 * w.grad.data
        w.grad.zero_()
        losses.append(loss.detach())
    return lib.torch.cat([lib.torch.stack(losses), w.detach()])


def new_leaves(lib: Library, turns: int) -> Any:
    """A new leaf in each step."""
    w, x = lib.weight(4), lib.numbers(9, 4)
    for _ in range(turns):
        loss = ((x @ w - 1) ** 2).mean()
        (gradient,) = lib.torch.autograd.grad(loss, w)
        w = (w - 0.1 * gradient).detach().requires_grad_()
    return w.detach()


def momentum(lib: Library, turns: int) -> Any:
    """Steps with state."""
    w, x = lib.weight(4), lib.numbers(9, 4)
    velocity = lib.torch.zeros(4, **lib.place)
    for _ in range(turns):
        (gradient,) = lib.torch.autograd.grad(((x @ w - 1) ** 2).mean(), w)
        with lib.torch.no_grad():
            velocity.mul_(0.9).add_(gradient)
            w -= 0.05 * velocity
    return w.detach()


def saliency(lib: Library, turns: int) -> Any:
    """Gradients of inputs, which no step uses."""
    w, found = lib.weight(4, 3), []
    for _ in range(turns):
        x = lib.weight(2, 4)
        lib.torch.tanh(x @ w).sum().backward()
        found.append(x.grad)
    return lib.torch.cat([*found, w.grad.t()])


LOOPS: tuple[Callable[[Library, int], Any], ...] = (
    diffusion, evaluation, with_gradients, predictions, layers, tokens, by_hand, by_data,
    new_leaves, momentum, saliency,
)  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_graphs_do_not_grow(
    loop: Callable[[Library, int], Any], device: str, plans: OrderedDict, graphs: list[int]
) -> None:
    found = []
    for turns in (40, 90):
        ours = loop(Library(tgrad, device), turns)
        found.append((ours.tolist(), max(graphs), len(plans)))
        theirs = loop(Library(torch, device), turns)
        np.testing.assert_allclose(np.array(ours.tolist()), theirs.numpy(), rtol=2e-4, atol=1e-5)
    assert max(graphs) < 6 * LONG
    assert len(plans) <= found[0][2] + 6, "what 40 turns have compiled serves 90"


def test_a_value_from_before_a_loop_is_stored(device: str, graphs: list[int]) -> None:
    """It was made before the plan that had to compute it a second time."""
    lazy = tgrad.nn.LazyLinear(3)  # its parameters have no values
    x = tgrad.tensor(np.random.default_rng(0).random((5, 5)), device=device)
    gram = x @ x.T / 5
    v = tgrad.ones(5, device=device, dtype=tgrad.float64)
    for _ in range(5):
        v = gram @ v
        v = v / v.norm()
        v.sum().item()
    assert gram._storage is not None and tgrad.nn.parameter.is_lazy(lazy.weight)
    assert graphs[-1] < graphs[0]
    want = np.linalg.matrix_power(x.numpy() @ x.numpy().T, 5) @ np.ones(5)
    np.testing.assert_allclose(v.numpy(), want / np.linalg.norm(want), rtol=1e-6)


def test_a_view_of_what_was_stored_begins_there(device: str, graphs: list[int]) -> None:
    x = tgrad.tensor([[1.0, 2.0], [3.0, 4.0]], device=device).requires_grad_()
    y = (x * x).exp()
    row, apart = y.detach()[1], y.detach()
    y.sum().item()
    y.realize()
    assert apart._storage is y._storage
    before = len(graphs)
    row = row + 0
    assert row.tolist() == y.tolist()[1] and graphs[before] <= 4
    with tgrad.no_grad():
        y.mul_(0)
    assert apart.tolist() == [[0, 0], [0, 0]], "they share memory still"


def test_masks_stay_what_kernels_know(device: str) -> None:
    mask = tgrad.ones(4, 4, device=device).tril() == 0
    x = tgrad.tensor(np.eye(4, dtype=np.float32), device=device)
    for _ in range(60):
        x = (x * 0.5 + 1).masked_fill(mask, 0.0)
    assert loops.ends and mask._storage is None


def test_what_has_no_values_is_left_alone(device: str) -> None:
    """What a trace made while it lives in the state that it leaves, and what leaks from a mapped
    function."""
    kept: list[Any] = []

    def doubled(x: Any) -> Any:
        kept.append(x * 2)
        return kept[-1] + 1

    x = tgrad.ones(3, device=device)
    w = tgrad.ones(3, device=device).requires_grad_()
    optimizer = tgrad.optim.Adam([w], lr=0.1)

    @tgrad.compile
    def step(x: Any) -> Any:
        for _ in range(2 * LONG):
            x = x * 0.5 + 1
        (w * x).sum().backward()
        optimizer.step()
        return x

    for turn in range(80):
        x = x * 0.5 + 1
        x = x + 0
        if turn in (40, 50, 60):
            step(x)
            tgrad.vmap(doubled)(tgrad.ones(2, 3, device=device))
    assert loops.living is not None
    assert x.tolist() == [2, 2, 2]
    np.testing.assert_allclose(w.tolist(), [0.7] * 3, rtol=1e-5)


@pytest.mark.parametrize("name", test_derivatives.CASES)
def test_what_is_differentiated_stays_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a transform, results are graph of variables that no tensor requires gradients of."""
    monkeypatch.setattr(unread, "LONG", 8)
    monkeypatch.setattr(unread, "SHORT", 2)
    loops.limit = 8
    for _ in range(2):
        test_derivatives.test_functional(name)


def test_parts_of_a_batch_are_one_plan(device: str, graphs: list[int]) -> None:
    """Gradients of up to eight calls wait for the step."""
    w = tgrad.ones(3, device=device, requires_grad=True)
    optimizer = tgrad.optim.SGD([w], lr=0.1)
    for _ in range(2):
        for part in range(4):
            (w * part).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(graphs) == 3, "the weight's first value, and a plan for each step"
    np.testing.assert_allclose(w.tolist(), [1 - 2 * 0.1 * 6] * 3, rtol=1e-6)


def test_a_step_is_not_cut(device: str, graphs: list[int]) -> None:
    """However many results it has, on one line, and whatever was read before it."""
    weights = [tgrad.ones(3, device=device, requires_grad=True) for _ in range(12)]
    optimizer = tgrad.optim.AdamW(weights, lr=0.1)
    for _ in range(4):
        loss = sum((w * w).sum() for w in weights)
        loss.backward()
        loss.item()
        before = len(graphs)
        optimizer.step()
        assert len(graphs) == before + 1
        optimizer.zero_grad()


def test_inner_loops_are_not_cut(device: str, graphs: list[int]) -> None:
    """Steps of a step keep their graph, whatever its length: gradients go through it."""
    w = tgrad.full((2,), 0.5, device=device).requires_grad_()
    fast = w
    for _ in range(20):
        (gradient,) = tgrad.autograd.grad((fast**2).sum(), fast, create_graph=True)
        fast = fast - 0.1 * gradient
    fast.sum().backward()
    assert not graphs
    np.testing.assert_allclose(w.grad.tolist(), [0.8**20] * 2, rtol=1e-5)


def test_a_graph_without_a_loop_is_one_plan(device: str, graphs: list[int]) -> None:
    x = tgrad.ones(3, device=device)
    chain: Sequence[str] = ("sin", "cos", "tanh", "exp", "sigmoid", "sqrt") * 2
    source = "y = x\n" + "\n".join(f"y = y.{name}() * 1.5" for name in chain * 6)
    names = {"x": x}
    exec(compile(source, "a_program.py", "exec"), names)
    assert names["y"].isfinite().all().item()
    assert len(graphs) == 1
