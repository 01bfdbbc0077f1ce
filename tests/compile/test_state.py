"""State of compiled functions: bound by reference, changed whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, optim
from tgrad.runtime.storage import Storage


def make(lr: float = 0.1, **options: Any) -> tuple[nn.Module, optim.Optimizer, Any]:
    """A model, its optimizer, and a compiled step over them."""
    tgrad.manual_seed(1)
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=lr, **options)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_arguments_of_all_shapes() -> None:
    Pair = namedtuple("Pair", "a b")

    @dataclasses.dataclass
    class Batch:
        x: tgrad.Tensor
        scale: float

    @tgrad.compile
    def f(items: list, named: dict, pair: Any, batch: Batch, *, power: int = 1) -> dict:
        total = items[0] + items[1][0] * named["k"] + pair.a - pair.b + batch.x * batch.scale
        return {"sum": total**power, "power": power, "pair": Pair(total, None)}

    def t(value: float) -> tgrad.Tensor:
        return tgrad.tensor([value])

    for _ in range(2):
        found = f([t(1), (t(2),)], {"k": t(3)}, Pair(t(5), t(4)), Batch(t(7), 2.0), power=2)
        assert found["sum"].tolist() == [22.0**2] and found["power"] == 2
        assert found["pair"].a.tolist() == [22.0] and found["pair"].b is None
    assert f.traces == 1
    f([t(1), (t(2),)], {"k": t(3)}, Pair(t(5), t(4)), Batch(t(7), 3.0), power=2)
    f([t(1), (t(2),)], {"k": t(3)}, Pair(t(5), t(4)), Batch(t(7), 2.0), power=1)
    assert f.traces == 3


def test_a_second_shape_makes_a_second_plan() -> None:
    f = tgrad.compile(lambda x: (x * 2).sum())
    for n in (3, 4, 3, 4):
        assert f(tgrad.ones(n)).item() == 2.0 * n
    assert f.traces == len(f.plans) == 2
    f(tgrad.ones(3, dtype=tgrad.float64))
    assert f.traces == 3


def test_the_same_tensor_twice_and_arguments_changed_in_place() -> None:
    @tgrad.compile
    def f(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        x.add_(1)
        return x + y

    x, y = tgrad.tensor([1.0]), tgrad.tensor([10.0])
    assert f(x, y).tolist() == [12.0] and x.tolist() == [2.0]
    assert f(x, y).tolist() == [13.0] and x.tolist() == [3.0]
    assert f(x, x).tolist() == [8.0] and x.tolist() == [4.0]
    assert f.traces == 2


def test_new_values_between_calls_are_read() -> None:
    model, optimizer, step = make()
    _, twin_optimizer, twin_step = make()
    start = copy.deepcopy(model.state_dict())
    first = [step(tgrad.tensor(X)).item() for _ in range(3)]
    with tgrad.no_grad():
        model.weight.mul_(0.5)
        model.bias.data = tgrad.ones(2)
    assert step(tgrad.tensor(X)).item() != first[0]
    model.load_state_dict(start)
    optimizer.load_state_dict(make()[1].state_dict())
    assert [step(tgrad.tensor(X)).item() for _ in range(3)] == first
    saved = copy.deepcopy(optimizer.state_dict())
    last = step(tgrad.tensor(X)).item()
    for _ in range(3):
        twin_step(tgrad.tensor(X))
    twin_optimizer.load_state_dict(saved)
    assert twin_step(tgrad.tensor(X)).item() == pytest.approx(last, rel=1e-6)


def test_names_may_be_bound_to_other_tensors() -> None:
    held = tgrad.tensor([1.0, 2.0])
    f = tgrad.compile(lambda x: x + held)
    assert f(tgrad.ones(2)).tolist() == [2.0, 3.0]
    held = tgrad.tensor([5.0, 6.0])
    assert f(tgrad.ones(2)).tolist() == [6.0, 7.0]
    assert f.traces == 1
    held = tgrad.tensor(1.0)
    assert f(tgrad.ones(2)).tolist() == [2.0, 2.0]
    assert f.traces == 2


def test_tensors_that_shared_memory_part() -> None:
    """A target network that was copied from the online one, as in Q-learning."""
    online, target = tgrad.tensor([1.0]), tgrad.tensor([0.0])
    target.copy_(online)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        with tgrad.no_grad():
            online.add_(x)
        return online - target

    assert step(tgrad.tensor([1.0])).tolist() == [1.0]
    assert step(tgrad.tensor([1.0])).tolist() == [2.0]
    target.copy_(online)
    assert step(tgrad.tensor([1.0])).tolist() == [1.0]
    assert step(tgrad.tensor([1.0])).tolist() == [2.0]
    assert step.traces == 1


def test_outputs_and_graph_made_before_stay_valid() -> None:
    model, _, step = make()
    results = [step(tgrad.tensor(X)) for _ in range(2)]
    lazy, alias = model.weight * 2, model.weight.detach()
    kept = model.weight.numpy().copy()
    losses = [r.item() for r in results]
    for _ in range(3):
        results.append(step(tgrad.tensor(X)))
        losses.append(results[-1].item())
    assert [r.item() for r in results] == losses
    np.testing.assert_array_equal(lazy.numpy(), kept * 2)
    np.testing.assert_array_equal(alias.numpy(), model.weight.numpy())
    assert not np.array_equal(model.weight.numpy(), kept)
    assert not results[0].requires_grad


def test_a_returned_parameter_is_the_parameter_and_old_values_stay() -> None:
    model, optimizer, _ = make()

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tuple[tgrad.Tensor, tgrad.Tensor]:
        old = model.weight.clone()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return model.weight, old

    before = model.weight.numpy().copy()
    weight, old = step(tgrad.tensor(X))
    assert weight is model.weight
    step(tgrad.tensor(X))
    np.testing.assert_array_equal(old.numpy(), before)


def test_random_streams_advance_as_uncompiled() -> None:
    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        return F.dropout(x, 0.5) + tgrad.rand(8)

    compiled, found = tgrad.compile(f), []
    for call in (f, compiled):
        tgrad.manual_seed(3)
        values = [call(tgrad.ones(8)).tolist() for _ in range(3)]
        values.append(tgrad.rand(2).tolist())
        tgrad.manual_seed(4)
        found.append([*values, call(tgrad.ones(8)).tolist()])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]
    assert compiled.traces == 1


def test_gradients_that_are_not_consumed_are_stored() -> None:
    w = tgrad.tensor([2.0], requires_grad=True)
    x = tgrad.tensor([3.0], requires_grad=True)

    @tgrad.compile
    def f(x: tgrad.Tensor) -> tgrad.Tensor:
        y = (w * x).sum()
        y.backward()
        return y

    assert f(x).item() == 6.0
    assert w.grad is not None and w.grad.tolist() == [3.0]
    assert x.grad is not None and x.grad.tolist() == [2.0]
    f(x)
    assert w.grad.tolist() == [6.0] and x.grad.tolist() == [4.0]
    w.grad = x.grad = None
    f(x)
    assert w.grad.tolist() == [3.0]
    assert f.traces == 2


def test_a_module_is_compiled_for_inference() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    compiled = tgrad.compile(model)
    x = tgrad.tensor(X)
    with tgrad.no_grad():
        model.eval()
        np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-6)
        model.train()
        compiled(x)
        model.eval()
        np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert compiled.traces == 2
    assert compiled.state_dict().keys() == model.state_dict().keys()


def test_methods_are_compiled_by_instance() -> None:
    class Trainer:
        def __init__(self, scale: float):
            self.scale = scale

        @tgrad.compile
        def step(self, x: tgrad.Tensor) -> tgrad.Tensor:
            return x * self.scale

    a, b = Trainer(2.0), Trainer(3.0)
    assert a.step(tgrad.ones(1)).item() == 2.0 and b.step(tgrad.ones(1)).item() == 3.0
    a.scale = 4.0
    assert a.step(tgrad.ones(1)).item() == 4.0


def test_compiled_functions_call_compiled_functions() -> None:
    held = tgrad.tensor([2.0])
    inner = tgrad.compile(lambda x: x * held)
    outer = tgrad.compile(lambda x: inner(x) + 1)
    assert outer(tgrad.ones(1)).item() == 3.0
    held.add_(1)
    assert outer(tgrad.ones(1)).item() == 4.0
    assert outer.traces == 1 and inner.traces == 0


def test_optimizers_whose_parameters_rest() -> None:
    """A parameter without a gradient keeps its own count of steps."""
    found = []
    for compiled in (False, True):
        a, b = (nn.Parameter(tgrad.ones(2)) for _ in range(2))
        optimizer = optim.Adam([a, b], lr=0.1)

        def step(both: bool, a: Any = a, b: Any = b, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            loss = (a * a).sum() + (b * b).sum() if both else (a * a).sum()
            loss.backward()
            optimizer.step()

        call = tgrad.compile(step) if compiled else step
        for both in (True, False, False, True, True):
            call(both)
        found.append([a.tolist(), b.tolist()])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_two_threads_trace_once_and_share_the_state() -> None:
    counter = tgrad.tensor([0.0])

    @tgrad.compile
    def count(x: tgrad.Tensor) -> tgrad.Tensor:
        counter.add_(x)
        return counter * 1

    seen: list[float] = []
    gate = threading.Barrier(2)

    def work() -> None:
        gate.wait()
        for _ in range(50):
            seen.append(count(tgrad.tensor([1.0])).item())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.traces == 1
    assert counter.item() == 100.0
    assert sorted(seen) == [float(i) for i in range(1, 101)]


@pytest.mark.parametrize("where", ["numpy", "cpu"])
def test_devices_agree(where: str) -> None:
    tgrad.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(where)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)

    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    start = {k: v.numpy() for k, v in model.state_dict().items()}
    x = tgrad.tensor(X, device=where)
    want = [step(x).item() for _ in range(4)]
    model.load_state_dict(start)
    optimizer.state.clear()
    compiled = tgrad.compile(step)
    got = [compiled(x).item() for _ in range(4)]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert compiled.traces == 2  # the first step with dampening is one of its own


def test_a_detached_argument_may_become_a_leaf() -> None:
    """As a gradient penalty does: what the trace makes is its own, though it shares values."""

    def penalty(x: tgrad.Tensor) -> tgrad.Tensor:
        y = x.detach().requires_grad_()
        (slope,) = tgrad.autograd.grad((y**3).sum(), y, create_graph=True)
        return (slope.norm() - 1) ** 2

    x = tgrad.tensor([0.5, -1.5, 2.0])
    assert tgrad.compile(penalty)(x).item() == pytest.approx(penalty(x).item())
    assert not x.requires_grad


def test_state_that_is_only_written() -> None:
    """Its old values are read by nothing: no row is left of what would."""
    for device in ("numpy", "cpu"):
        bias = tgrad.ones(4, device=device) * 2

        def step(x: Any, bias: tgrad.Tensor) -> Any:
            y = x + bias
            bias.copy_(y.sum(0).cos())
            return y

        run = tgrad.compile(step)
        for _ in range(2):
            assert run(tgrad.ones(0, 4, device=device), bias).shape == (0, 4)
            assert bias.tolist() == [1.0] * 4


def test_numbers_of_the_host_stay_where_they_are_unless_somebody_has_the_memory() -> None:
    weight = tgrad.zeros(2).requires_grad_()
    optimizer = optim.SGD([weight], lr=1.0)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> None:
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    x, places, held = tgrad.ones(2).realize(), [], []
    for lr in (1.0, 0.5, 0.25, 0.125):
        optimizer.param_groups[0]["lr"] = lr
        step(x)
        (entry,) = step._entries.values()
        (host,) = entry.hosts
        places.append(host.storage.memory.address)
        if lr == 0.25:
            held.append(Storage(host.storage.device, host.storage.dtype, (), host.storage.memory))
    assert places[0] == places[1] == places[2] != places[3]
    assert held[0].numpy() == 0.25
    assert weight.tolist() == [-1.875] * 2


def test_a_held_gradient_sees_what_replays_add() -> None:
    """The tensor, what views it, and functions that read it as a gradient and as state."""
    p = tgrad.tensor([1.0, 2.0], requires_grad=True)
    flat = tgrad.zeros(4)
    held = p.grad = flat[:2]

    @tgrad.compile
    def add() -> tgrad.Tensor:
        loss = (p * p).sum()
        loss.backward()
        return loss

    @tgrad.compile
    def read() -> tgrad.Tensor:
        return held * 1

    for count in range(1, 4):
        add()
        assert held is p.grad and held.tolist() == [2.0 * count, 4.0 * count]
        assert flat.tolist() == [2.0 * count, 4.0 * count, 0.0, 0.0]
        assert read().tolist() == held.tolist()
    held.zero_()
    add()
    assert held.tolist() == [2.0, 4.0] and read().tolist() == [2.0, 4.0]
    assert add.traces == read.traces == 1


def test_gradients_changed_in_place_are_returned() -> None:
    p = tgrad.tensor([1.0, 2.0], requires_grad=True)
    (p * p).sum().backward()

    @tgrad.compile
    def scaled() -> tgrad.Tensor:
        return p.grad.mul_(2)

    @tgrad.compile
    def added() -> tuple[tgrad.Tensor, tgrad.Tensor]:
        held = p.grad
        (p * p).sum().backward()
        return p.grad, held + p.grad

    assert scaled().tolist() == p.grad.tolist() == [4.0, 8.0]
    for count in range(1, 3):
        total, twice = added()
        assert total.tolist() == p.grad.tolist() == [4.0 + 2 * count, 8.0 + 4 * count]
        assert twice.tolist() == [8.0 + 4 * count, 16.0 + 8 * count]
    assert scaled().tolist() == p.grad.tolist() == [16.0, 32.0]
