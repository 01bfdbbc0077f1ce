"""Numbers that a function sees: a change is another trace, never a stale result."""

from __future__ import annotations

import random
from array import array
from collections import ChainMap, UserDict, UserList, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import nn, optim
from tgrad.compiling import trace
from tgrad.errors import TraceError

SCALE = 2.0
SETTINGS = {"scale": 2.0, "deep": {"shift": [0.0, 1.0]}}


class Config:
    SCALE = 2.0


def helper(x: tgrad.Tensor) -> tgrad.Tensor:
    return x * SCALE


def check(f: Any, first: float, change: Any, second: float, undo: Any) -> None:
    """The result follows the change; going back finds the first trace again."""
    one = tgrad.ones(1)
    assert f(one).item() == f(one).item() == first
    assert f.traces == 1
    change()
    assert f(one).item() == f(one).item() == second
    assert f.traces == 2
    undo()
    assert f(one).item() == first
    assert f.traces == 2


def test_globals_and_functions_called(monkeypatch: pytest.MonkeyPatch) -> None:
    f = tgrad.compile(lambda x: helper(x) + 1)
    check(
        f, 3.0,
        lambda: monkeypatch.setitem(globals(), "SCALE", 4.0), 5.0,
        lambda: monkeypatch.undo(),
    )  # fmt: skip


def test_attributes_with_the_name_of_a_global(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setitem(globals(), "log", seen)
    f = tgrad.compile(lambda x: x.exp().log())
    for _ in range(3):
        seen.append(f(tgrad.ones(1)).item())
    assert f.traces == 1


def test_containers_are_compared_by_their_items() -> None:
    f = tgrad.compile(lambda x: x * SETTINGS["scale"] + SETTINGS["deep"]["shift"][1])

    def shift(value: float) -> None:
        SETTINGS["deep"]["shift"][1] = value  # type: ignore[index]

    check(f, 3.0, lambda: shift(5.0), 7.0, lambda: shift(1.0))


def test_class_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    f = tgrad.compile(lambda x: x * Config.SCALE)
    check(f, 2.0, lambda: setattr(Config, "SCALE", 3.0), 3.0, lambda: setattr(Config, "SCALE", 2.0))


def test_closure_cells_defaults_and_objects() -> None:
    scale, settings = 2.0, SimpleNamespace(shift=1.0)

    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        def inner() -> tgrad.Tensor:
            return x * scale + settings.shift

        return inner()

    compiled = tgrad.compile(f)
    assert compiled(tgrad.ones(1)).item() == 3.0
    scale = 3.0
    assert compiled(tgrad.ones(1)).item() == 4.0
    settings.shift = 0.0
    assert compiled(tgrad.ones(1)).item() == 3.0
    scale = True
    assert compiled(tgrad.ones(1)).item() == 1.0
    assert compiled.traces == 4


def test_numpy_arrays_of_the_closure() -> None:
    mask = np.ones(1, np.float32)
    f = tgrad.compile(lambda x: x * tgrad.tensor(mask))

    def fill(value: float) -> None:
        mask[0] = value

    check(f, 1.0, lambda: fill(3.0), 3.0, lambda: fill(1.0))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.drop = 2.0, nn.Dropout(0.0)
        self.sizes = [1.0]

    def forward(self, x: tgrad.Tensor) -> tgrad.Tensor:
        return self.drop(x) * self.scale * self.sizes[0] * SCALE


def test_attributes_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scaled()
    f = tgrad.compile(model)
    check(f, 4.0, lambda: setattr(model, "scale", 3.0), 6.0, lambda: setattr(model, "scale", 2.0))
    model.sizes[0] = 10.0
    assert f(tgrad.ones(1)).item() == 40.0
    model.sizes[0] = 1.0
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    assert f(tgrad.ones(1)).item() == 2.0
    model.drop.p = 1.0
    assert f(tgrad.ones(1)).item() == 0.0
    model.eval()
    assert f(tgrad.ones(1)).item() == 2.0
    model.drop = nn.Identity() if hasattr(nn, "Identity") else nn.ReLU()
    assert f(-tgrad.ones(1)).item() in (-2.0, 0.0)


def make(optimizer_of: Any) -> tuple[tgrad.Tensor, Any, Any]:
    w = nn.Parameter(tgrad.ones(1))
    optimizer = optimizer_of([w])

    def step() -> None:
        optimizer.zero_grad()
        (w * 1.0).sum().backward()
        optimizer.step()

    return w, optimizer, tgrad.compile(step)


def test_learning_rates_are_inputs_and_other_settings_are_guarded() -> None:
    w, optimizer, step = make(lambda p: optim.SGD(p, lr=0.5))
    for _ in range(3):
        step()
    optimizer.param_groups[0]["lr"] = 0.25
    step()
    assert w.item() == 1.0 - 3 * 0.5 - 0.25 and step.traces == 1
    optimizer.param_groups[0]["maximize"] = True
    step()
    assert w.item() == -0.5 and step.traces == 2


def test_one_cycle_moves_momentum_without_a_trace() -> None:
    found = []
    for compiled in (False, True):
        w, optimizer, step = make(lambda p: optim.AdamW(p, lr=0.1))
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
        for _ in range(5):
            step() if compiled else step._function()
            schedule.step()
        found.append(w.item())
        assert step.traces == int(compiled)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_parameters_that_are_replaced_frozen_or_converted() -> None:
    model = nn.Linear(1, 1, bias=False)
    f = tgrad.compile(lambda x: model(x).sum().detach())
    for value in (1.0, 2.0):
        model.weight = nn.Parameter(tgrad.full((1, 1), value))
        assert f(tgrad.ones(1, 1)).item() == value
    assert f.traces == 2
    model.weight.requires_grad_(False)
    f(tgrad.ones(1, 1))
    assert f.traces == 3
    model.double()
    assert f(tgrad.ones(1, 1, dtype=tgrad.float64)).dtype is tgrad.float64


def test_gradient_mode_is_part_of_the_key() -> None:
    w = tgrad.ones(1, requires_grad=True)
    f = tgrad.compile(lambda: (w * 2).requires_grad)
    assert f() is True
    with tgrad.no_grad():
        assert f() is False
    assert f.traces == 2


def test_modules_and_functions_as_arguments() -> None:
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    f = tgrad.compile(lambda model, g, x: g(model(x)).detach())
    x = tgrad.ones(1, 1)
    for model in (a, b, a):
        assert f(model, helper, x).item() == pytest.approx(helper(model(x)).item())
    assert f.traces == 2


def test_values_that_depend_on_nothing_are_known() -> None:
    """Masks and places made of sizes alone choose shapes while a function is traced."""

    @tgrad.compile
    def pairs(x: tgrad.Tensor) -> tgrad.Tensor:
        mask = tgrad.eye(4, dtype=tgrad.bool).roll(1, 0)
        return x[mask] * len(mask.nonzero())

    x = np.arange(16.0).reshape(4, 4)
    wanted = x[np.roll(np.eye(4, dtype=bool), 1, 0)] * 4
    assert pairs(tgrad.tensor(x)).tolist() == wanted.tolist()
    chosen = tgrad.compile(lambda x: x[x > 0])
    with pytest.raises(TraceError, match="the value of a tensor is read"):
        chosen(tgrad.ones(3))
    drawn = tgrad.compile(lambda x: x[tgrad.rand(3) > 0.5])
    with pytest.raises(TraceError, match="the value of a tensor is read"):
        drawn(tgrad.ones(3))


def test_places_of_numbers_that_the_trace_makes():
    """A mask of a mask, as contrastive losses have it."""

    @tgrad.compile
    def split(x):
        labels = tgrad.cat([tgrad.arange(3)] * 2)
        same = labels[None] == labels[:, None]
        other = ~tgrad.eye(6, dtype=tgrad.bool)
        same, x = same[other].view(6, -1), x[other].view(6, -1)
        return (
            x[same].view(6, -1),
            x[~same].view(6, -1),
            x[0][tgrad.tensor([True, False] * 2 + [False])],
        )

    for _ in range(2):
        x = np.random.default_rng().standard_normal((6, 6))
        positive, negative, chosen = split(tgrad.tensor(x))
        np.testing.assert_array_equal(
            positive.numpy()[:, 0], x[np.arange(6), (np.arange(6) + 3) % 6]
        )
        assert negative.shape == (6, 4)
        np.testing.assert_array_equal(chosen.numpy(), x[0, [1, 3]])
    assert split.traces == 1


def beside_eager(function: Any, make: Any, change: str, calls: int = 5) -> list[list[Any]]:
    """What a function of state gives, run as it is and compiled, where the state changes after the
    second call."""
    seen = []
    for compiled in (False, True):
        state = make()
        run = tgrad.compile(function) if compiled else function
        seen.append([])
        for number in range(calls):
            if number == 2:
                exec(change, {"s": state, "tgrad": tgrad})
            found = run(tgrad.ones(3), state)
            seen[-1].append([t.tolist() for t in (found if isinstance(found, tuple) else (found,))])
    return seen


def held() -> SimpleNamespace:
    s = SimpleNamespace(a=tgrad.arange(3.0), b=tgrad.zeros(3), mat=tgrad.ones(4, 3))
    s.view = s.mat[1:3]
    return s


def written(x: tgrad.Tensor, s: Any) -> Any:
    s.a.add_(1)
    return s.a


def written_view(x: tgrad.Tensor, s: Any) -> Any:
    s.mat.mul_(2)
    return x.sum() + s.view.sum()


def two(x: tgrad.Tensor, s: Any) -> Any:
    s.a.add_(1)
    s.b.add_(s.a)
    return x + s.b


@pytest.mark.parametrize(
    ("function", "change"),
    [
        (lambda x, s: s.a, "s.a = tgrad.ones(3)"),
        (lambda x, s: (s.a, x + s.a), "s.a = tgrad.ones(3)"),
        (lambda x, s: (x + s.a, {"a": s.a}["a"]), "s.a = s.a.clone()"),
        (written, "s.a = tgrad.ones(3)"),
        (written_view, "s.view = tgrad.zeros(2, 3)"),
        (written_view, "s.mat = s.mat.clone()"),
        (written_view, "s.mat = tgrad.ones(4, 3); s.view = s.mat[2:]"),
        (lambda x, s: s.a.add_(x), "s.mat[0].add_(5); s.a = s.mat[0].clone()"),
        (two, "s.b = s.a"),
        (two, "s.b = s.a[:]"),
        (two, "s.b = s.a.detach()"),
        (two, "s.a = s.mat[0]; s.b = s.mat[1]"),
        (two, "s.a = s.mat[0]; s.b = s.mat[1]; s.mat = s.view = None"),
    ],
)
def test_names_bound_to_other_tensors(function: Any, change: str) -> None:
    """They are returned, and share memory, as what the names are bound to now."""
    eager, compiled = beside_eager(function, held, change)
    assert eager == compiled


def test_a_name_bound_anew_needs_no_trace_where_it_shares_nothing() -> None:
    s = held()
    f = tgrad.compile(written)
    for _ in range(3):
        f(tgrad.ones(3), s)
        s.a = (s.a * 2).detach()
    assert f.traces == 1


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: deque([1.0, 2.0]), "s.append(3.0)"),
        (lambda: deque([tgrad.ones(3)]), "s[0].mul_(4)"),
        (lambda: deque([tgrad.ones(3)], maxlen=1), "s.append(tgrad.zeros(3))"),
        (lambda: UserList([2.0]), "s[0] = 3.0"),
        (lambda: bytearray([1, 2]), "s[0] = 5"),
        (lambda: array("f", [1.0]), "s[0] = 5"),
    ],
)
def test_other_sequences(make: Any, change: str) -> None:
    s, seen = make(), []
    compiled = tgrad.compile(lambda x: x * sum(s))
    for number in range(4):
        if number == 2:
            exec(change, {"s": s, "tgrad": tgrad})
        seen.append((compiled(tgrad.ones(3)).tolist(), (tgrad.ones(3) * sum(s)).tolist()))
    assert all(found == wanted for found, wanted in seen)


def test_mappings_of_other_types() -> None:
    for s in (UserDict(a=2.0), ChainMap({"a": 2.0})):
        compiled = tgrad.compile(lambda x, s=s: x * s["a"])
        assert compiled(tgrad.ones(1)).item() == compiled(tgrad.ones(1)).item() == 2
        s["a"] = 3.0
        assert compiled(tgrad.ones(1)).item() == 3


def test_a_rate_that_the_function_reads_is_a_number_like_others() -> None:
    seen = []
    for compiled in (False, True):
        w = nn.Parameter(tgrad.ones(1))
        optimizer = optim.SGD([w], lr=0.5)
        schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

        def step(x: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            (w * x).sum().backward()
            with tgrad.no_grad():
                w.sub_(optimizer.param_groups[0]["lr"] * w.grad)
            w.grad = None
            return w.detach() + optimizer.param_groups[0].get("lr")

        run = tgrad.compile(step) if compiled else step
        seen.append([])
        for _ in range(5):
            seen[-1].append(run(tgrad.ones(1)).item())
            schedule.step()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["python", "numpy", "own", "generator"])
def test_random_numbers_of_the_host_are_refused(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where other threads run, one of them may have drawn: a warning."""
    monkeypatch.setattr(trace, "active_count", lambda: threads)
    own, generator = random.Random(0), np.random.default_rng(0)
    draw = {
        "python": random.random,
        "numpy": np.random.rand,
        "own": lambda: own.random(),
        "generator": lambda: generator.random(),
    }[name]
    f = tgrad.compile(lambda x: x * draw())
    text = r"draws from .* while tgrad.compile traces it"
    with pytest.raises(TraceError, match=text) if threads == 1 else pytest.warns(match=text):
        f(tgrad.ones(1))


def test_a_name_of_a_part_is_bound_to_something_else() -> None:
    seen = []
    for compiled in (False, True):
        s = held()
        s.a = s.mat[0]

        def step(x: Any, s: Any = s) -> None:
            s.a.add_(x)

        run = tgrad.compile(step) if compiled else step
        for number in range(4):
            if number == 2:
                s.a = tgrad.zeros(3)
            run(tgrad.ones(3))
        seen.append((s.mat.tolist(), s.a.tolist(), s.view.tolist()))
    assert seen[0] == seen[1]
