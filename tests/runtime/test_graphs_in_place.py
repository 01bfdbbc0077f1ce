"""CUDA graphs that work where arguments and results come back to: with the stand-in for torch's
CUDA calls, and on a GPU if there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.test_graph_capture import (
    BYTES,
    LAUNCHES,
    Kernel,
    add,
    make,
    memory,
    stand_in,
    train_on_a_gpu,
    value,
)
from tgrad import dtype as dt
from tgrad.device import Device
from tgrad.kernel.ir import Executable
from tgrad.runtime.graph_capture import GRAPHS_IN_PLACE, MOST_CAPTURES, CudaCapture
from tgrad.runtime.plan import BufferRef, BufferSpec, Moves, Plan

torch = pytest.importorskip("torch")


def aligned(*values: float) -> list[Any]:
    """Memories of one number each that begin at multiples of what kernels are compiled for."""
    whole = torch.zeros(16 * (len(values) + 1), dtype=torch.uint8)
    first = -whole.data_ptr() % 16
    found = [whole[first + 16 * n : first + 16 * n + BYTES] for n in range(len(values))]
    for one, number in zip(found, values):
        one.view(torch.float32)[0] = number
    return found


class Runs:
    """A program that runs with its argument and result at the places in turn; results are those of
    the formula."""

    def __init__(self, program: CudaCapture, places: list[tuple[Any, Any]]):
        self.program, self.places, self.number, self.want = program, places, 0, 10.0
        (self.state,), self.arena = aligned(10.0), memory(0.0)
        program.bind([memory(0.0), self.state])

    def __call__(self, count: int) -> list[list[str]]:
        """What CUDA is asked for in each of the next runs."""
        seen = []
        for number in range(self.number, self.number + count):
            x, out = self.places[number % len(self.places)]
            x.view(torch.float32)[0] = float(number % 3)
            calls: list[str] = self.program.runtime.torch.calls
            calls.clear()
            assert self.program.run([x], [out], self.arena) == 3
            temp = number % 3 + self.want
            self.want = temp + number % 3
            assert (value(self.state), value(out)) == (self.want, self.want + temp)
            seen.append(list(calls))
        self.number += count
        return seen


def pairs(count: int) -> list[tuple[Any, Any]]:
    memories = aligned(*(0.0 for _ in range(2 * count)))
    return list(zip(memories[::2], memories[1::2]))


def test_places_that_come_back_are_worked_on_with_no_copies() -> None:
    _, program = make()
    runs = Runs(program, pairs(2))
    captured, replayed = ["capture", "replay", *LAUNCHES], ["replay", *LAUNCHES]
    assert runs(6) == [LAUNCHES, captured, replayed, replayed, captured, captured]
    assert program.captures == 3 and len(program.in_place) == 2
    program.entrances = program.exits = None  # type: ignore[assignment]
    assert runs(3) == 3 * [replayed]


def test_many_places_in_turn_are_captured_a_few_times() -> None:
    _, program = make()
    Runs(program, pairs(6))(60)
    assert program.captures == MOST_CAPTURES and len(program.in_place) == GRAPHS_IN_PLACE


def test_places_are_forgotten_with_the_state() -> None:
    _, program = make()
    place = pairs(1)
    Runs(program, place)(4)
    assert len(program.in_place) == 1
    assert Runs(program, place)(2) == [LAUNCHES, ["capture", "replay", *LAUNCHES]]
    assert not program.in_place


def test_an_argument_that_is_state_is_copied_before_it_is_written() -> None:
    """temp = x + state; state = temp + x, where x is the state itself: the second step reads what
    x was before."""
    _, program = make()
    state, out = aligned(10.0, 0.0)
    arena, want = memory(0.0), 10.0
    program.bind([memory(0.0), state])
    for _ in range(5):
        program.run([state], [out], arena)
        temp, want = 2 * want, 3 * want
        assert (value(state), value(out)) == (want, want + temp)
    assert program.captures == 1


def test_typed_arguments_are_memory_too() -> None:
    """torch.compile gives its tensors as they are, of any shape; slots begin at bytes of them.
    temp = x[1] + state, out = state + temp."""
    fake, runtime = stand_in()
    spec, two = BufferSpec(dt.float32, (1,), 4), BufferSpec(dt.float32, (2,), 8)
    x, state = BufferRef("input", 0), BufferRef("input", 1)
    temp, out = BufferRef("temp", 0), BufferRef("output", 0)
    steps = (add(0, (x, state, temp), (4, 0, 0)), add(1, (state, temp, out)))
    artifacts = tuple(Executable(f"k{i}", "", Kernel(fake, f"k{i}"), 1) for i in range(2))
    plan = Plan(Device("cuda"), (), steps, (two, spec), (spec,), (spec,), 4, lambda: artifacts)
    program = CudaCapture(plan, runtime, Moves((0,)))
    arena, held = memory(0.0), memory(10.0)
    program.bind([torch.zeros(8, dtype=torch.uint8), held])
    whole = torch.zeros(32)
    first = -whole.data_ptr() % 16 // 4
    argument, result = whole[first : first + 2].view(2, 1), whole[first + 4]
    for number in range(5):
        argument[1] = float(number)
        program.run([argument], [result], arena)
        assert float(result) == 20.0 + number
    assert [c.graph is not None for c in program.in_place.values()] == [True]


@pytest.mark.parametrize("why", ["refused", "unaligned", "written"])
def test_where_no_graph_may_work_the_one_on_copies_is_replayed(why: str) -> None:
    fake, program = make()
    ((x, out),) = pairs(1)
    if why == "unaligned":
        x = torch.zeros(3 * BYTES, dtype=torch.uint8)
        x = x[BYTES : 2 * BYTES] if x.data_ptr() % 16 == 0 else x[:BYTES]
    if why == "written":
        program.may_stay = False
    runs = Runs(program, [(x, out)])
    runs(2)
    fake.refuses = why == "refused"
    replayed = ["replay", *LAUNCHES]
    assert runs(4) == [replayed, ["capture"] * fake.refuses + replayed, replayed, replayed]
    assert program.captures == 1


def test_plans_that_write_what_moves_never_work_in_place() -> None:
    _, program = make()
    assert program.may_stay
    assert not CudaCapture(program.plan, program.runtime, Moves((0, 1))).may_stay


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_loop_on_a_gpu_works_where_its_batches_come_back() -> None:
    losses, program = train_on_a_gpu(12, keeps_losses=False)
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert program.captures > 1 and any(c.graph is not None for c in program.in_place.values())
