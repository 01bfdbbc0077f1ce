"""Calls that change nothing take the short way, and only while it is the same."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import nn, optim
from tgrad.compiling import pure
from tgrad.compiling.pure import MISSED, PureCall
from tgrad.device import Device
from tgrad.runtime.device import counters
from tgrad.runtime.planning import planning
from tgrad.runtime.watch import watching

CPU = Device("cpu")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call that looked whether the short way is the same: whether it was."""
    found: list[bool] = []

    class Watched(PureCall):
        __slots__ = ()

        def __call__(self, arguments: tuple[Any, ...]) -> Any:
            result = super().__call__(arguments)
            found.append(result is not MISSED)
            return result

    monkeypatch.setattr(pure, "PureCall", Watched)
    monkeypatch.setattr("tgrad.compiling.function.PureCall", Watched)
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


def test_a_program_of_a_gpu_is_not_cut_in_two(short: list[bool]) -> None:
    """Ctrl-C while it runs is raised at its end; a C function on the host needs no such care."""
    f = warmed(lambda x: x + 1, some(6))
    assert f._pure is not None and f._pure.is_host
    program, ended = f._pure.program, []

    class Interrupted:
        def run(self, moved: Any, outputs: Any, arena: Any) -> int:
            signal.raise_signal(signal.SIGINT)
            ended.append(program.run(moved, outputs, arena))
            return ended[-1]

    f._pure.program, f._pure.is_host = Interrupted(), False
    with pytest.raises(KeyboardInterrupt):
        f(some(6))
    assert ended == [1]
    f._pure.program = program
    np.testing.assert_array_equal(f(some(6)).numpy(), some(6).numpy() + 1)
    assert short == [True]


def test_memory_that_runs_out(short: list[bool]) -> None:
    f = warmed(lambda x: x + 1, some(6))
    assert f._pure is not None

    def fail(nbytes: int) -> Any:
        raise MemoryError

    f._pure.allocate = fail
    np.testing.assert_array_equal(f(some(6)).numpy(), some(6).numpy() + 1)
    assert short == [False]


def test_what_a_step_changes_takes_the_whole_way(short: list[bool]) -> None:
    total = tgrad.zeros(3)

    def add(x: tgrad.Tensor) -> tgrad.Tensor:
        total.add_(x)
        return total * 1

    f = tgrad.compile(add)
    x = tgrad.ones(3)
    assert [f(x).numpy()[0] for _ in range(4)] == [1, 2, 3, 4]
    g = tgrad.compile(lambda x: x + tgrad.rand(3))
    drawn = {tuple(g(x).numpy()) for _ in range(4)}
    assert len(drawn) == 4 and not short
