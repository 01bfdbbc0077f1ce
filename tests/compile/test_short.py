"""Calls take the short way where nothing came between, and only while it is the same."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import nn, optim
from tgrad.compiling import short as short_calls
from tgrad.compiling.short import MISSED, ShortCall
from tgrad.device import Device
from tgrad.errors import OutOfMemoryError
from tgrad.random import default_generator
from tgrad.runtime.cpu import CpuRuntime
from tgrad.runtime.device import counters
from tgrad.runtime.planning import planning
from tgrad.runtime.watch import watching

CPU = Device("cpu")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call that looked whether the short way is the same: whether it was."""
    found: list[bool] = []

    class Watched(ShortCall):
        __slots__ = ()

        def __call__(self, arguments: tuple[Any, ...]) -> Any:
            result = super().__call__(arguments)
            found.append(result is not MISSED)
            return result

    monkeypatch.setattr(short_calls, "ShortCall", Watched)
    monkeypatch.setattr("tgrad.compiling.function.ShortCall", Watched)
    return found


def some(*shape: int, seed: int = 0) -> tgrad.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return tgrad.tensor(values, device="cpu")


def warmed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compiled, traced and run once more."""
    f = tgrad.compile(function)
    for _ in range(2):
        f(*arguments)
    return f


def test_results_are_new_and_stay(short: list[bool]) -> None:
    f = warmed(lambda x, y: {"sum": x + y, "rows": (x * y).sum(1)}, some(3, 5), some(3, 5))
    results = []
    for seed in range(4):
        x, y = some(3, 5, seed=seed), some(3, 5, seed=seed + 9)
        results.append((x.numpy(), y.numpy(), f(x, y)))
    assert short == [True] * 4 and f.traces == 1
    for x, y, have in results:
        np.testing.assert_allclose(have["sum"].numpy(), x + y, rtol=1e-6)
        np.testing.assert_allclose(have["rows"].numpy(), (x * y).sum(1), rtol=1e-4)


def test_counters_say_what_the_whole_way_says(short: list[bool]) -> None:
    x = some(64, 64)
    f = tgrad.compile(lambda x: (x @ x).softmax(-1))
    f(x)

    def difference() -> tuple[int, int, int]:
        count = counters(CPU)
        before = (count.launches, count.plans, count.allocated_bytes)
        f(x)
        after = (count.launches, count.plans, count.allocated_bytes)
        return tuple(b - a for a, b in zip(before, after))  # type: ignore[return-value]

    assert difference() == difference() == difference()
    assert short == [True] * 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: (some(4, 3),), id="shape"),
        pytest.param(lambda: (some(3, 4).to(tgrad.float64),), id="dtype"),
        pytest.param(lambda: (tgrad.tensor(np.ones((3, 4), np.float32), device="numpy"),),
                     id="device"),
        pytest.param(lambda: (nn.Parameter(some(3, 4)),), id="parameter"),
        pytest.param(lambda: (some(3, 4).requires_grad_(),), id="gradient"),
        pytest.param(lambda: (some(3, 4) + 1,), id="not computed yet"),
        pytest.param(lambda: (3.0,), id="number"),
    ],
)  # fmt: skip
def test_other_arguments(short: list[bool], other: Callable[[], tuple[Any, ...]]) -> None:
    f = warmed(lambda x: x * 2 + 1, some(3, 4))
    have = f(*other())
    assert short == [False]
    want = other()[0] * 2 + 1
    if isinstance(want, float):
        assert have == want
        return
    np.testing.assert_array_equal(have.detach().numpy(), want.detach().numpy())
    assert have.requires_grad == want.requires_grad


def test_one_tensor_twice(short: list[bool]) -> None:
    x, y = some(5), some(5, seed=1)
    f = warmed(lambda x, y: x - y, x, y)
    assert f(x, y).numpy().any() and short == [True]
    assert not f(x, x).numpy().any() and short == [True, False]
    assert f.traces == 2
    f(x, x)
    np.testing.assert_array_equal(f(x, y).numpy(), x.numpy() - y.numpy())


@contextmanager
def switched(switch: Callable[[Any], None], to: Any, back: Any) -> Iterator[None]:
    switch(to)
    try:
        yield
    finally:
        switch(back)


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(tgrad.no_grad, id="gradients"),
        pytest.param(lambda: tgrad.autocast("cpu", tgrad.bfloat16), id="autocast"),
        pytest.param(lambda: tgrad.device("numpy"), id="device"),
        pytest.param(lambda: switched(tgrad.set_default_device, "numpy", None),
                     id="default device"),
        pytest.param(lambda: switched(tgrad.set_float32_matmul_precision, "high", "highest"),
                     id="precision"),
        pytest.param(lambda: switched(tgrad.use_deterministic_algorithms, True, False),
                     id="determinism"),
    ],
)  # fmt: skip
def test_modes_make_other_plans(short: list[bool], mode: Callable[[], Any]) -> None:
    x = some(4, 4)
    f = warmed(lambda x: x @ x, x)
    with mode():
        f(x)
        assert short == [False] and f.traces == 2
    f(x)
    assert short == [False, True] and f.traces == 2


def test_weights_that_change(short: list[bool]) -> None:
    model = nn.Linear(4, 3)
    f = tgrad.compile(lambda x: model(x))
    x = some(2, 4)
    with tgrad.no_grad():
        for _ in range(3):
            f(x)
        for step in range(3):
            model.weight.copy_(some(3, 4, seed=step + 1))
            want = x.numpy() @ model.weight.numpy().T + model.bias.numpy()
            for _ in range(2):
                np.testing.assert_allclose(f(x).numpy(), want, rtol=1e-5, atol=1e-6)
    assert f.traces == 1 and short[0] and short[-1]


def test_training_between(short: list[bool]) -> None:
    """The step and the evaluation share weights, which the step has borrowed."""
    model = nn.Linear(4, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = some(8, 4), some(8, 1, seed=1)

    @tgrad.compile
    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    evaluate = tgrad.compile(lambda x: model(x))
    for _ in range(6):
        step(x, y)
        with tgrad.no_grad():
            have = [evaluate(x).numpy() for _ in range(3)]
        want = x.numpy() @ model.weight.detach().numpy().T + model.bias.detach().numpy()
        for a in have:
            np.testing.assert_allclose(a, want, rtol=1e-5, atol=1e-6)
    assert any(short)


def test_plans_and_watchers_see_the_call(short: list[bool]) -> None:
    f = warmed(lambda x: x + 1, some(6))
    plans, launches = [], []

    class Watcher:
        def watch(self, plan: Any, step: int, memories: Any, launch: Callable[[], None]) -> None:
            launches.append(step)
            launch()

    x = some(6)
    with planning("cpu", plans.append):
        f(x)
    with watching(Watcher()):
        f(x)
    assert len(plans) == 1 and launches == [0] and short == [False, False]


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_program_of_a_gpu_is_not_cut_in_two(short: list[bool]) -> None:
    """Ctrl-C while it runs is raised at its end; a C function on the host needs no such care."""
    f = warmed(lambda x: x + 1, some(6))
    assert f._short is not None and f._short.is_host
    program, ended = f._short.program, []

    class Interrupted:
        def run(self, moved: Any, outputs: Any, arena: Any) -> int:
            signal.raise_signal(signal.SIGINT)
            ended.append(program.run(moved, outputs, arena))
            return ended[-1]

    f._short.program, f._short.is_host = Interrupted(), False
    with pytest.raises(KeyboardInterrupt):
        f(some(6))
    assert ended == [1]
    f._short.program = program
    np.testing.assert_array_equal(f(some(6)).numpy(), some(6).numpy() + 1)
    assert short == [True]


def test_memory_that_runs_out(short: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    f = warmed(lambda x: x + 1, some(6))
    x = some(6)

    def fail(runtime: CpuRuntime, nbytes: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(CpuRuntime, "allocate", fail)
        with pytest.raises(OutOfMemoryError, match="24 more bytes"):
            f(x)
    np.testing.assert_array_equal(f(x).numpy(), x.numpy() + 1)
    assert short == [True]


def test_state_is_changed_where_it_lies(short: list[bool]) -> None:
    total = tgrad.zeros(3)

    def add(x: tgrad.Tensor) -> tgrad.Tensor:
        total.add_(x)
        return total * 2

    f = tgrad.compile(add)
    x = tgrad.ones(3)
    assert [f(x).numpy()[0] for _ in range(4)] == [2, 4, 6, 8] and short == [True, True]
    row = total[:2]  # shares memory, and must see what comes
    assert [f(x).numpy()[0] for _ in range(3)] == [10, 12, 14] and row.tolist() == [7, 7]
    total.zero_()
    assert [f(x).numpy()[0] for _ in range(3)] == [2, 4, 6] and total.tolist() == [3, 3, 3]


def test_random_streams_advance(short: list[bool]) -> None:
    def draw(x: tgrad.Tensor) -> tgrad.Tensor:
        return x + tgrad.rand(3)

    f, x = tgrad.compile(draw), tgrad.zeros(3)
    tgrad.manual_seed(7)
    have = [f(x).tolist() for _ in range(5)]
    tgrad.manual_seed(7)
    assert have == [draw(x).tolist() for _ in range(5)]
    assert any(short)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_an_interrupted_draw_counts(short: list[bool]) -> None:
    """Ctrl-C behind the run of a step leaves its random stream where the run left it."""
    f, x = warmed(lambda x: x + tgrad.rand(3), tgrad.zeros(3)), tgrad.zeros(3)
    while not any(short):
        f(x)
    program = f._short.program

    class Interrupted:
        is_whole = True

        def run(self, moved: Any, outputs: Any, arena: Any) -> int:
            launches = program.run(moved, outputs, arena)
            signal.raise_signal(signal.SIGINT)
            return launches

    before = default_generator._draws
    f._short.program = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        f(x)
    f._short.program = program
    assert default_generator._draws == before + 1


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(11, 8), nn.BatchNorm1d(8)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(8, 5)

    def forward(self, tokens: tgrad.Tensor) -> tgrad.Tensor:
        return self.last(self.drop(self.norm(self.table(tokens))))


def train(is_compiled: bool, events: dict[int, str]) -> list[float]:
    """Losses of 14 steps with a learning rate that sinks; an event comes before its step."""
    tgrad.manual_seed(3)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    rng = np.random.default_rng(0)

    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = tgrad.compile(step) if is_compiled else step
    losses, kept = [], None
    for n in range(14):
        x, y = (tgrad.tensor(rng.integers(0, high, 6)) for high in (11, 5))
        match events.get(n):
            case "evaluate":
                model.eval()
                with tgrad.no_grad():
                    losses.append(model(tgrad.tensor(rng.integers(0, 11, 6))).sum().item())
                model.train()
            case "load":
                model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()})
            case "hold":
                kept = model.last.weight * 2
            case "freeze":
                model.last.bias.requires_grad_(False)
            case "accumulate":
                nn.functional.cross_entropy(model(x), y).backward()
        losses.append(run(x, y).item())
        schedule.step()
    if kept is not None:
        losses.append(kept.sum().item())
    return losses


@pytest.mark.parametrize("event", ["evaluate", "load", "hold", "freeze", "accumulate"])
def test_training(short: list[bool], event: str) -> None:
    """Dropout, running statistics, a scheduler, and what may come between steps."""
    events = {5: event, 9: event}
    np.testing.assert_allclose(train(True, events), train(False, events), rtol=1e-4)
    assert short.count(True) >= 6


def test_an_index_out_of_range(short: list[bool]) -> None:
    table = nn.Embedding(5, 3)
    optimizer = optim.SGD(table.parameters(), lr=0.1)

    @tgrad.compile
    def step(index: tgrad.Tensor) -> tgrad.Tensor:
        loss = table(index).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(tgrad.tensor([0, 4]))
    before = table.weight.numpy()
    with pytest.raises(IndexError, match="5"):
        step(tgrad.tensor([0, 5]))
    np.testing.assert_array_equal(table.weight.numpy(), before)
    step(tgrad.tensor([1, 2]))
    assert any(short)


def test_a_call_that_is_planned_leaves_no_short_way() -> None:
    """Its memory would be that of no device, which programs of a GPU cannot take."""
    f = tgrad.compile(lambda x: x * 2 + 1)
    first, second = (tgrad.ones(n).realize() for n in (3, 4))
    for x in (first, first, second, second):
        f(x)
    with planning():
        f(first)
    assert [f(first).tolist() for _ in range(3)] == 3 * [[3.0] * 3]
    assert f._short is not None and type(f._short.runtime) is CpuRuntime
