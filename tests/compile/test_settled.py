"""State that no kernel can write in place, where the program puts its next values into its memory,
as a CUDA graph does: a stand-in of one on host memory."""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import nn, optim, pipeline
from tgrad.cpu_fallback.runner import compile_runner
from tgrad.device import Device
from tgrad.runtime.capture import CpuCapture
from tgrad.runtime.cpu import HostMemory
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import Moves, Plan
from tgrad.runtime.profile import profiling
from tgrad.settings import Settings


class Settling:
    """Runs a plan's kernels, then copies what is settled home."""

    is_whole = True

    def __init__(self, plan: Plan, moves: Moves, options: Settings):
        self.successors = moves.successors
        self.settled = frozenset(output for output, _ in moves.successors)
        stay = {number for _, number in moves.successors}
        moving = [number for number in moves.inputs if number not in stay]
        self.inner = CpuCapture(plan, plan.compiled, compile_runner(options), moving)
        self.own = [open_device(Device("cpu")).allocate(b.nbytes) for b in plan.outputs]
        self.inputs: list[int] = []
        self.binds = 0

    def bind(self, inputs: Sequence[HostMemory]) -> None:
        self.inputs, self.binds = [m.address for m in inputs], self.binds + 1
        self.inner.bind(inputs)

    def run(self, moved: Sequence[Any], outputs: Sequence[Any], arena: Any) -> int:
        given = iter(outputs)
        places = [m if n in self.settled else next(given) for n, m in enumerate(self.own)]
        assert not list(given)
        launches = self.inner.run(moved, places, arena)
        for output, number in self.successors:
            own = self.own[output]
            ctypes.memmove(self.inputs[number], own.address, own.block.nbytes)
        return launches


@pytest.fixture(autouse=True)
def settles(monkeypatch: pytest.MonkeyPatch) -> None:
    def capture_of(device: Device, options: Settings) -> Any:
        return lambda plan, moves: None if moves is None else Settling(plan, moves, options)

    monkeypatch.setattr(pipeline, "capture_of", capture_of)
    monkeypatch.setattr(pipeline, "_plans", OrderedDict())


Pair = tuple[tgrad.Tensor, tgrad.Tensor]


def flipped(a: tgrad.Tensor, b: tgrad.Tensor, x: tgrad.Tensor) -> tgrad.Tensor:
    a.copy_(a.flip(0) + x)
    b.copy_(b.flip(0) * x + a)
    return a.sum() + b.sum()


def swapped(a: tgrad.Tensor, b: tgrad.Tensor, x: tgrad.Tensor) -> tgrad.Tensor:
    held = a + 0
    a.copy_(b)
    b.copy_(held)
    return a + x


def returned_old(a: tgrad.Tensor, b: tgrad.Tensor, x: tgrad.Tensor) -> Any:
    old = a + 0
    a.copy_(a.flip(0) + x)
    return old, b


def returned_new(a: tgrad.Tensor, b: tgrad.Tensor, x: tgrad.Tensor) -> tgrad.Tensor:
    new = a.flip(0) + x
    a.copy_(new)
    b.copy_(new)
    return new


def overwritten(a: tgrad.Tensor, b: tgrad.Tensor, x: tgrad.Tensor) -> tgrad.Tensor:
    a.copy_(x * 2)
    return b + a


FUNCTIONS = (flipped, swapped, returned_old, returned_new, overwritten)


def state() -> Pair:
    return (
        tgrad.tensor(np.arange(6, dtype=np.float32)),
        tgrad.tensor(np.arange(6, dtype=np.float32) * 3 + 1),
    )


def values(results: Any) -> list[np.ndarray]:
    found = results if isinstance(results, tuple) else (results,)
    return [t.numpy() for t in found]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("between", ["nothing", "look", "view", "profile"])
def test_steps_are_those_of_the_function(function: Callable[..., Any], between: str) -> None:
    seen = []
    for compiled in (False, True):
        a, b = state()

        def step(x: tgrad.Tensor, a: Any = a, b: Any = b) -> Any:
            return function(a, b, x)

        call = tgrad.compile(step) if compiled else step
        results, kept = [], []
        for number in range(5):
            x = tgrad.tensor(np.full(6, number + 0.5, np.float32))
            if between == "profile" and number in (0, 2, 3):
                with profiling():
                    results.append(call(x))
            else:
                results.append(call(x))
            if between == "look":
                kept.append((a.numpy(), b.numpy()))
            if between == "view":
                kept.append((a[1:3] + 1, b.detach() * 2))
        seen.append([
            *(v for each in results for v in values(each)),  # results of earlier calls stay
            *(np.asarray(v if isinstance(v, np.ndarray) else v.numpy()) for k in kept for v in k),
            a.numpy(), b.numpy(),
        ])  # fmt: skip
    assert len(seen[0]) == len(seen[1])
    for want, got in zip(*seen):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_settled_state_stays_where_it_is() -> None:
    a, b = state()
    call = tgrad.compile(lambda x: flipped(a, b, x))
    x = tgrad.ones(6).realize()
    call(x)
    (entry,) = call._entries.values()
    (part,) = entry.parts
    memories = [s.memory for s in entry.state_storages]
    assert len(part.settled) == 2 and not part.writes and not part.moving_places
    for _ in range(3):
        call(x)
    assert part.program.binds == 1
    assert all(s.memory is m for s, m in zip(entry.state_storages, memories))


def test_two_functions_share_settled_state() -> None:
    want_a, want_b = state()
    a, b = state()
    first = tgrad.compile(lambda x: flipped(a, b, x))
    second = tgrad.compile(lambda x: (a * b + x).sum())
    for number in range(4):
        x = tgrad.tensor(np.full(6, float(number), np.float32))
        np.testing.assert_allclose(first(x).item(), flipped(want_a, want_b, x).item())
        np.testing.assert_allclose(second(x).item(), (want_a * want_b + x).sum().item())
    (entry,) = second._entries.values()
    assert entry.parts[0].program.binds == 1  # nothing moved


def test_a_borrowed_array_is_not_written() -> None:
    array = np.arange(6, dtype=np.float32)
    a, b = tgrad.from_dlpack(array), state()[1]
    call = tgrad.compile(lambda x: flipped(a, b, x))
    for _ in range(2):
        call(tgrad.ones(6))
    np.testing.assert_array_equal(array, np.arange(6))
    assert a.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_work_of_a_call_does_not_grow_with_the_state() -> None:
    """Parameters and moments in place, and buffers of which each is settled."""
    counts = []
    for layers in (2, 12):
        model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(layers)])
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        for number in range(layers):
            model.register_buffer(f"turned{number}", tgrad.arange(4.0))

        def step(x: tgrad.Tensor, model: Any = model, optimizer: Any = optimizer) -> tgrad.Tensor:
            optimizer.zero_grad()
            for buffer in model.buffers():
                buffer.copy_(buffer.flip(0) * 0.5)
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
            return loss

        call, x = tgrad.compile(step), tgrad.ones(2, 4).realize()
        for _ in range(3):
            call(x)
        (entry,) = call._entries.values()
        assert len(entry.parts[0].settled) == layers
        counts.append(calls_in(lambda call=call, x=x: call(x)))
    assert counts[0] == counts[1]


def calls_in(function: Callable[[], Any]) -> int:
    """How many calls of Python functions happen."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
