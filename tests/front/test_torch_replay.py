"""torch.compile(model, backend="tgrad") at its later calls, which make no tensors of tgrad."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tgrad
from tgrad.interop import torch_compile
from tgrad.interop.torch_compile import backend


@pytest.fixture(autouse=True)
def _forget() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


@pytest.fixture
def crossings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What became a tensor of tgrad."""
    found: list[Any] = []
    cross = torch_compile.to_tgrad
    monkeypatch.setattr(torch_compile, "to_tgrad", lambda x: (found.append(x), cross(x))[1])
    yield found


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(8), nn.Linear(8, 8)
        self.register_buffer("scale", torch.full((), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(F.gelu(self.norm(x))) * self.scale


def check_steps(model: nn.Module, run: Any, batches: list[torch.Tensor]) -> None:
    """Training steps, beside PyTorch's."""
    eager = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (model, eager)]
    for x in batches:
        results = []
        for call, optimizer in zip((run, eager), optimizers):
            optimizer.zero_grad()
            given = x.clone().requires_grad_()
            y = call(given)
            y.square().mean().backward()
            optimizer.step()
            results.append((y.detach(), given.grad))
        for mine, theirs in zip(*results):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(model.parameters(), eager.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_later_steps_make_no_tensors_of_tgrad(crossings: list[Any]) -> None:
    model = nn.Sequential(Layer(), Layer())
    run = torch.compile(model, backend=backend)
    check_steps(model, run, [torch.randn(4, 8) for _ in range(3)])
    assert crossings
    crossings.clear()
    run(torch.randn(4, 8, requires_grad=True)).sum().backward()
    assert not crossings


def test_layers_of_one_graph_have_parameters_of_their_own() -> None:
    """A block compiled once, as PyTorch advises for deep models: its parameters do not stay."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    run = Stack()
    eager = copy.deepcopy(run)
    for layer in run.layers:
        layer.compile(backend=backend)
    for _ in range(3):
        x = torch.randn(4, 8)
        got, want = run(x), eager(x)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        got.sum().backward()
        want.sum().backward()
    for mine, theirs in zip(run.parameters(), eager.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_parameters_that_go_elsewhere_are_found() -> None:
    model = Layer()
    run = torch.compile(model, backend=backend)
    x = torch.randn(4, 8)
    kept = []
    for scale in (1.0, 2.0, 3.0, 4.0):
        for p in model.parameters():
            kept.append(p.data)  # so that its place is not used again
            p.data = p.data * scale
        for _ in range(3):
            torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_arguments_of_any_layout() -> None:
    function = lambda x, w: F.conv2d(x, w).relu() @ x[..., :3, :3].mean((0, 1))  # noqa: E731
    run = torch.compile(function, backend=backend)
    for _ in range(4):
        x = torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
        w = nn.Parameter(torch.randn(4, 3, 3, 3).transpose(0, 1))
        found = []
        for call in (run, function):
            y = call(x, w)
            found.append((y.detach(), *torch.autograd.grad(y.sum(), (x, w))))
        for mine, theirs in zip(*found):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_sizes_in_turn() -> None:
    """A graph of symbolic sizes has a plan for each, and each plan its short way."""
    run = torch.compile(lambda x, n: (x * n).cumsum(0), backend=backend, dynamic=True)
    for rows in (3, 5, 3, 4, 5, 3, 5, 4):
        for n in (2, 7):
            x = torch.randn(rows, 3)
            torch.testing.assert_close(run(x, n), (x * n).cumsum(0))


def test_results_share_no_memory_at_any_call() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.clone(), x * 2, (x * 2).view(-1), x * 1, w * 1, torch.zeros(2), torch.zeros(2)

    run = torch.compile(function, backend=backend)
    w = nn.Parameter(torch.ones(3))
    for _ in range(4):
        x = torch.ones(2, 2)
        results = run(x, w)
        with torch.no_grad():
            for number, y in enumerate(results):
                y.add_(number)
        assert x.eq(1).all() and w.eq(1).all()
        assert [y.flatten()[0].item() for y in results] == [1, 3, 4, 4, 5, 5, 6]


def test_large_results_stay_as_they_are() -> None:
    """They lie in memory that tgrad keeps when it is freed: not before."""
    run = torch.compile(lambda x: (x + 1, x.bfloat16() * 2), backend=backend)
    kept = []
    for n in range(5):
        x = torch.full((1 << 19,), float(n))
        kept.append(run(x))
        run(x + 7)
    for n, (y, z) in enumerate(kept):
        assert y.eq(n + 1).all() and z.eq(2 * n).all()
        y.fill_(0)


def test_draws_differ_from_call_to_call_and_follow_the_seed() -> None:
    layer = nn.Dropout(0.5)
    run = torch.compile(lambda x: layer(x), backend=backend)
    x = torch.ones(1000)
    streams = []
    for _ in range(2):
        tgrad.manual_seed(3)
        streams.append([run(x) for _ in range(4)])
    for a, b in zip(*streams):
        assert torch.equal(a, b) and 0.4 < (a != 0).float().mean() < 0.6
    assert not torch.equal(*streams[0][-2:])


def test_an_index_out_of_range_raises_at_every_call() -> None:
    table = nn.Embedding(5, 3)
    run = torch.compile(table, backend=backend)
    rows = torch.tensor([1, 4, 0])
    for _ in range(3):
        torch.testing.assert_close(run(rows), table(rows))
    with pytest.raises(Exception, match="5"):
        run(torch.tensor([1, 5, 0]))
    torch.testing.assert_close(run(rows), table(rows))


def test_threads_share_a_graph() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = Layer()
    run = torch.compile(model, backend=backend)
    batches = [torch.randn(64, 8) for _ in range(40)]
    run(batches[0])
    with ThreadPoolExecutor(4) as pool, torch.no_grad():
        results = list(pool.map(run, batches))
    for x, y in zip(batches, results):
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
