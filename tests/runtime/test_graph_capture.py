"""CUDA graphs of plans: the logic with a stand-in for torch's CUDA calls, and on a GPU if there is
one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad import dtype as dt
from tgrad import nn, optim
from tgrad.device import Device
from tgrad.errors import DeviceError
from tgrad.kernel.ir import Executable
from tgrad.runtime.cuda import CudaRuntime
from tgrad.runtime.graph_capture import (
    CudaCapture,
    _places,
    _Where,
    capture_graph,
)
from tgrad.runtime.launches import CudaLaunches, is_quicker_launched
from tgrad.runtime.plan import BufferRef, BufferSpec, Moves, Plan, Step
from tgrad.runtime.planning import planning
from tgrad.runtime.side_by_side import Access

torch = pytest.importorskip("torch")

from tests.simulated_torch import Graph, SimulatedTorch  # noqa: E402

BYTES = 4


class NotedGraph(Graph):
    """Says when it is replayed."""

    gpu: StandIn

    def replay(self) -> None:
        self.gpu.calls.append("replay")
        super().replay()


class StandIn(SimulatedTorch):
    """Notes what it is asked for.

    Attributes:
        calls: captures, replays and kernels, by name.
        refuses: whether captures fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.refuses = False
        self.cuda.CUDAGraph = lambda: NotedGraph(self)

    @contextmanager
    def graph(self, graph: Graph, capture_error_mode: str) -> Iterator[None]:
        self.calls.append("capture")
        with super().graph(graph, capture_error_mode):
            yield
            if self.refuses:
                raise RuntimeError("operation not permitted when stream is capturing")


class Kernel:
    """Adds its first two slots into the third, by address, as Triton's CompiledKernel is called."""

    function = packed_metadata = None

    def __init__(self, torch: StandIn, name: str):
        self.torch, self.name = torch, name

    def run(self, *arguments: Any) -> None:
        stream, addresses = arguments[3], arguments[9:]
        assert stream == self.torch.streams[-1].number and self.torch.current == 0

        def work() -> None:
            self.torch.calls.append(self.name)
            a, b, out = (value_at(address) for address in addresses)
            out[0] = a[0] + b[0]

        self.torch.do(work)


def value_at(address: int) -> np.ndarray:
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (1,))


def memory(value: float) -> Any:
    return torch.tensor([value], dtype=torch.float32).view(torch.uint8)


def value(memory: Any) -> float:
    return memory.view(torch.float32).item()


class RecordedRuntime(CudaRuntime):
    """Copies are captured too, as launches are."""

    def copy(self, target: Any, source: Any) -> None:
        self.torch.do(partial(CudaRuntime.copy, self, target, source))


def stand_in() -> tuple[StandIn, CudaRuntime]:
    fake = StandIn()
    runtime = RecordedRuntime.__new__(RecordedRuntime)
    runtime.torch, runtime.device, runtime.torch_device = fake, Device("cuda"), None
    return fake, runtime


def add(number: int, buffers: tuple[BufferRef, ...], starts: tuple[int, ...] = ()) -> Step:
    """A step over single numbers: the last is the sum of the two before it."""
    return Step(number, buffers, starts, (BYTES, BYTES, BYTES), (2,))


def make() -> tuple[StandIn, CudaCapture]:
    """temp = x + state; state = temp + x in place; out = state + temp. x moves."""
    fake, runtime = stand_in()
    spec = BufferSpec(dt.float32, (1,), BYTES)
    x, state = BufferRef("input", 0), BufferRef("input", 1)
    temp, out = BufferRef("temp", 0), BufferRef("output", 0)
    steps = (add(0, (x, state, temp)), add(1, (temp, x, state)), add(2, (state, temp, out)))
    artifacts = tuple(Executable(f"k{i}", "", Kernel(fake, f"k{i}"), 1) for i in range(3))
    plan = Plan(Device("cuda"), (), steps, (spec, spec), (spec,), (spec,), BYTES, lambda: artifacts)
    return fake, CudaCapture(plan, runtime, Moves((0,)))


LAUNCHES = ["k0", "k1", "k2"]


def test_the_first_run_launches_and_the_second_captures() -> None:
    fake, program = make()
    state, arena, seen = memory(10.0), memory(0.0), []
    program.bind([memory(0.0), state])
    outputs = []
    for x in (1.0, 2.0, 3.0, 4.0):
        assert program.is_whole == (len(seen) > 1)
        fake.calls.clear()
        out = memory(0.0)
        assert program.run([memory(x)], [out], arena) == 3
        outputs.append(out)
        seen.append(list(fake.calls))
    assert seen[0] == LAUNCHES
    assert seen[1] == ["capture", "replay", *LAUNCHES]
    assert seen[2] == seen[3] == ["replay", *LAUNCHES]
    want, expected = 10.0, []
    for x in (1.0, 2.0, 3.0, 4.0):
        temp = x + want
        want = temp + x
        expected.append(want + temp)
    assert value(state) == want
    assert [value(out) for out in outputs] == expected  # earlier results stay
    assert program.captures == 1


@pytest.mark.parametrize("what", ["state", "arena"])
def test_other_addresses_are_captured_again(what: str) -> None:
    fake, program = make()
    state, arena = memory(0.0), memory(0.0)
    program.bind([memory(0.0), state])
    for _ in range(3):
        program.run([memory(1.0)], [memory(0.0)], arena)
    assert value(state) == 6.0
    if what == "state":
        other = memory(100.0)
        program.bind([memory(0.0), other])
    else:
        other, kept = state, arena
        arena = memory(0.0)
        assert arena.data_ptr() != kept.data_ptr()
    fake.calls.clear()
    for _ in range(3):
        program.run([memory(1.0)], [memory(0.0)], arena)
    assert fake.calls == [*LAUNCHES, "capture", "replay", *LAUNCHES, "replay", *LAUNCHES]
    assert value(other) == (106.0 if what == "state" else 12.0)
    assert program.captures == 2
    program.bind([memory(0.0), other])
    fake.calls.clear()
    program.run([memory(1.0)], [memory(0.0)], arena)
    assert fake.calls == ["replay", *LAUNCHES]


def test_next_values_of_state_are_put_there_by_the_run() -> None:
    """Each run: next = state + x, out = state + state, state = next."""
    fake, runtime = stand_in()
    spec = BufferSpec(dt.float32, (1,), BYTES)
    refs = BufferRef("input", 1), BufferRef("input", 0), BufferRef("output", 1)
    also = BufferRef("input", 1), BufferRef("input", 1), BufferRef("output", 0)
    artifacts = tuple(Executable(f"k{i}", "", Kernel(fake, f"k{i}"), 1) for i in range(2))
    steps = add(0, refs), add(1, also)
    plan = Plan(Device("cuda"), (), steps, (spec,) * 2, (spec,) * 2, (), 0, lambda: artifacts)
    program = CudaCapture(plan, runtime, Moves((0, 1), successors=((1, 1),)))
    assert program.settled == {1} and program.moving == (0,)
    state, seen = memory(10.0), []
    program.bind([memory(0.0), state])
    for x in (1.0, 2.0, 3.0, 4.0):
        out = memory(0.0)
        program.run([memory(x)], [out], None)
        seen.append((value(out), value(state)))
    assert seen == [(20.0, 11.0), (22.0, 13.0), (26.0, 16.0), (32.0, 20.0)]
    assert program.captures == 1


def test_steps_of_equal_work_keep_addresses_apart() -> None:
    """A table that two launches of a graph wrote in turn would hold the addresses of one."""
    _, program = make()
    shared = program.artifacts[0]
    plan = replace(program.plan, compile=lambda: (shared, shared, shared))
    for made in (CudaCapture, CudaLaunches):
        kept = [a.kept for a in made(plan, program.runtime, Moves((0,))).artifacts]
        assert len({id(k) for k in (*kept, shared.kept)}) == 4


def test_state_is_not_kept_alive() -> None:
    _, program = make()
    state = memory(1.0)
    program.bind([memory(0.0), state])
    assert program.bound[1]() is state
    del state
    assert program.bound[1]() is None


def test_a_run_in_another_arena_starts_kernel_by_kernel() -> None:
    """It may fail between two, so that who asks before must know."""
    _, program = make()
    state, arenas = memory(0.0), [memory(0.0)]
    program.bind([memory(0.0), state])
    for _ in range(2):
        program.run([memory(1.0)], [memory(0.0)], arenas[0])
    assert program.is_whole
    arenas[0] = memory(0.0)  # as a larger plan has the arena grow
    assert not program.is_whole


def test_what_cannot_be_captured_is_launched_one_by_one() -> None:
    fake, program = make()
    fake.refuses = True
    state, arena = memory(0.0), memory(0.0)
    program.bind([memory(0.0), state])
    for _ in range(3):
        program.run([memory(1.0)], [memory(0.0)], arena)
        assert not program.is_whole
    assert fake.calls == [*LAUNCHES, "capture", *LAUNCHES, *LAUNCHES]
    assert value(state) == 6.0
    assert program.refused == "RuntimeError: operation not permitted when stream is capturing"


def test_python_work_of_a_replay_does_not_grow_with_the_plan() -> None:
    fake, program = make()
    state, arena = memory(0.0), memory(0.0)
    program.bind([memory(0.0), state])
    for _ in range(2):
        program.run([memory(1.0)], [memory(0.0)], arena)
    program._launch_all = lambda where: pytest.fail("launches")  # type: ignore[method-assign]
    fake.calls.clear()
    program.run([memory(1.0)], [memory(0.0)], arena)
    assert fake.calls == ["replay", *LAUNCHES]


def test_copies_by_cuda_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library with cudaMemcpyAsync stands in; what it refuses is an error, and nothing is zero
    bytes long."""
    copied: list[tuple[int, ...]] = []
    status = [0]

    class Entry:
        restype: Any = None

        def __call__(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
            copied.append((nbytes, kind, stream))
            ctypes.memmove(target, source, nbytes)
            self.restype(status[0])

    library = SimpleNamespace(cudaMemcpyAsync=Entry())
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcudart.so.13": library}[name])
    monkeypatch.setattr(StandIn, "version", SimpleNamespace(cuda="13.0"))
    fake, program = make()
    assert program.copier is not None
    state, arena = memory(10.0), memory(0.0)
    program.bind([memory(0.0), state])
    out = memory(0.0)
    program.run([memory(1.0)], [out], arena)
    assert value(out) == 23.0 and copied == 2 * [(BYTES, 3, 7)]
    fake.current = 1  # of the caller's thread: torch's copies know the device themselves
    program.run([memory(1.0)], [out], arena)
    assert value(out) == 27.0 and len(copied) == 2
    fake.current = 0
    empty = torch.zeros(0, dtype=torch.uint8)
    program.exits, before = _places([empty]), program.exits
    program.run([memory(1.0)], [empty], arena)
    assert len(copied) == 3
    program.exits = before
    status[0] = 700
    with pytest.raises(DeviceError, match="CUDA's error 700"):
        program.run([memory(1.0)], [out], arena)


def test_launches_that_share_no_bytes_lie_side_by_side() -> None:
    """Sums of neighbours in a tree over eight numbers, then over four and two, in memory that is
    used again: replays run them in any order that the graph allows."""
    fake, runtime = stand_in()
    spec = BufferSpec(dt.float32, (1,), BYTES)
    temps = tuple(BufferSpec(dt.float32, (1,), BYTES, BYTES * (n % 5)) for n in range(6))
    x = [BufferRef("input", n) for n in range(8)]
    t, out = [BufferRef("temp", n) for n in range(6)], BufferRef("output", 0)
    sums = [(x[0], x[1], t[0]), (x[2], x[3], t[1]), (x[4], x[5], t[2]), (x[6], x[7], t[3]),
            (t[0], t[1], t[4]), (t[2], t[3], t[5]), (t[4], t[5], out)]  # fmt: skip
    steps = tuple(add(n, buffers) for n, buffers in enumerate(sums))
    artifacts = tuple(Executable(f"k{n}", "", Kernel(fake, f"k{n}"), 1) for n in range(7))
    plan = Plan(Device("cuda"), (), steps, 8 * (spec,), (spec,), temps, 20,
                lambda: artifacts)  # fmt: skip
    program = CudaCapture(plan, runtime, Moves((0,)))
    arena, held = torch.zeros(20, dtype=torch.uint8), [memory(float(n)) for n in range(8)]
    program.bind(held)
    orders = set()
    for number in range(12):
        fake.calls.clear()
        result = memory(0.0)
        program.run([memory(float(number))], [result], arena)
        assert value(result) == 28.0 + number
        orders.add(tuple(name for name in fake.calls if name.startswith("k")))
    assert len(orders) > 3


def test_what_a_launch_touches() -> None:
    _, program = make()
    held, arena = [memory(0.0), memory(1.0)], memory(0.0)
    program.bind(held)
    where = _Where(program.inputs, program.outputs, arena)
    first = program._accesses(program.plan.steps[0], where)
    places = program.inputs[0].data_ptr(), held[1].data_ptr(), arena.data_ptr()
    assert first == [
        Access(place, place + BYTES, is_write)
        for place, is_write in zip(places, (False, False, True), strict=True)
    ]


def test_a_step_says_what_its_kernel_touches() -> None:
    """And what it must move at least."""
    with planning("sm_90"):
        call = tgrad.compile(lambda x: (x.mul_(2).sum(), x.softmax(0) @ x.mT))
        call(tgrad.zeros(6, 5, device="cuda").realize())
        (plan,) = call.plans
        moved = [(k.region.buffers, k.bytes) for k in plan.kernels]
    for made, (slots, nbytes) in zip(plan.steps, moved, strict=True):
        assert made.spans == tuple(s.nbytes for s in slots) and made.moved == nbytes
        assert made.written == tuple(n for n, s in enumerate(slots) if s.role != "in")
    assert plan.bytes == sum(nbytes for _, nbytes in moved) >= 6 * 5 * 4 * 2


@pytest.mark.parametrize("number", [np.float32(-1.5), np.int64(-7), np.float64(2.5), np.uint32(9)])
def test_a_number_of_the_host_is_written_with_no_copy_of_host_memory(number: Any) -> None:
    """The host would wait for that; the stand-in has no from_numpy."""
    _, runtime = stand_in()
    held = torch.zeros(8, dtype=torch.uint8)
    runtime.write(held, np.array(number))
    assert runtime.read(held, dt.from_numpy(number.dtype), ()) == number


def test_launches_are_on_the_device_of_the_plan() -> None:
    _, captured = make()
    fake, runtime = stand_in()
    artifacts = tuple(replace(a, entry=Kernel(fake, a.name)) for a in captured.artifacts)
    program = CudaLaunches(replace(captured.plan, compile=lambda: artifacts), runtime, Moves((0,)))
    state = memory(0.0)
    program.bind([memory(0.0), state])
    fake.current = 1  # of the caller's thread
    program.run([memory(1.0)], [memory(0.0)], memory(0.0))  # kernels check where they are
    assert fake.calls == LAUNCHES and fake.current == 1


def test_plans_that_are_not_replayed_have_no_graph() -> None:
    _, program = make()
    assert capture_graph(program.plan, None) is None


def test_plans_say_how_they_are_replayed() -> None:
    x = tgrad.ones(4)
    assert "replay: one call\n" in f"{tgrad.explain(x * 2)}\n"
    with planning("sm_90"):
        assert tgrad.explain(x * 3).replay.startswith("one CUDA graph from the second run on")
    y = tgrad.ones(4, device="interpret") * 2
    assert tgrad.explain(y).to_json()["replay"] == "each kernel is launched by itself"


def test_prepared_launches_take_what_moves_where_it_is() -> None:
    _, captured = make()
    fake, runtime = stand_in()
    artifacts = tuple(replace(a, entry=Kernel(fake, a.name)) for a in captured.artifacts)
    program = CudaLaunches(replace(captured.plan, compile=lambda: artifacts), runtime, Moves((0,)))
    state, arena = memory(10.0), memory(0.0)
    program.bind([memory(0.0), state])
    first, second = memory(0.0), memory(0.0)
    assert program.run([memory(1.0)], [first], arena) == 3
    assert program.run([memory(2.0)], [second], memory(0.0)) == 3
    assert fake.calls == 2 * LAUNCHES
    assert (value(state), value(first), value(second)) == (16.0, 23.0, 30.0)
    assert not program.is_whole


@pytest.mark.parametrize("program", [CudaCapture, CudaLaunches])
def test_slots_begin_where_the_step_says(program: type[CudaCapture | CudaLaunches]) -> None:
    """temp = x[1] + state; out = state + temp; captured, replayed, and launched one by one."""
    fake, runtime = stand_in()
    spec, two = BufferSpec(dt.float32, (1,), 4), BufferSpec(dt.float32, (2,), 8)
    x, state = BufferRef("input", 0), BufferRef("input", 1)
    temp, out = BufferRef("temp", 0), BufferRef("output", 0)
    steps = (add(0, (x, state, temp), (4, 0, 4)), add(1, (state, temp, out), (0, 4, 0)))
    artifacts = tuple(Executable(f"k{i}", "", Kernel(fake, f"k{i}"), 1) for i in range(2))
    plan = Plan(Device("cuda"), (), steps, (two, spec), (spec,), (two,), 8, lambda: artifacts)
    made = program(plan, runtime, Moves((0,)))
    arena, result = torch.zeros(8, dtype=torch.uint8), memory(0.0)
    made.bind([torch.zeros(8, dtype=torch.uint8), state_memory := memory(10.0)])
    for number in range(4):
        moved = torch.tensor([100.0, float(number)]).view(torch.uint8)
        made.run([moved], [result], arena)
        assert value(result) == 20.0 + number
    assert value(state_memory) == 10.0


@pytest.mark.parametrize(
    ("write", "is_quick"),
    [
        (lambda x, state: x * 2, True),  # a kernel over arguments that would be copied
        (lambda x, state: chained(state).sum(), False),  # many, and little to copy
        (lambda x, state: state.add_(x), False),  # what it overwrites would have to be kept
    ],
)
def test_plans_with_little_to_launch_and_much_to_copy_have_no_graph(
    write: Any, is_quick: bool
) -> None:
    with planning("sm_90"):
        x, state = tgrad.zeros(1 << 20, device="cuda"), tgrad.zeros(1 << 20, device="cuda")
        call = tgrad.compile(lambda x: write(x, state))
        call(x.realize())
        (plan,) = call.plans
        moving = tuple(n for n, b in enumerate(plan.inputs) if n == 0 and len(plan.inputs) > 1)
        assert is_quicker_launched(plan, Moves(moving)) == is_quick


def chained(x: tgrad.Tensor) -> tgrad.Tensor:
    side = x[:4096].reshape(64, 64)
    made = side
    for _ in range(12):
        made = made @ side
    return made


# -- on a GPU ------------------------------------------------------------------------------------


def train_on_a_gpu(count: int, keeps_losses: bool) -> tuple[list[list[float]], Any]:
    """The losses of so many steps, of an uncompiled and a compiled one, and the latter's program.
    Losses that are kept until the end never lie where earlier ones did."""
    losses = []
    for compiled in (False, True):
        tgrad.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).to("cuda")
        optimizer = optim.AdamW(model.parameters(), lr=0.01)

        def step(x: tgrad.Tensor, model: Any = model, optimizer: Any = optimizer) -> tgrad.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
            return loss

        call, random = tgrad.compile(step) if compiled else step, np.random.default_rng(1)
        made: list[Any] = []
        for _ in range(count):
            x = tgrad.tensor(random.standard_normal((4, 8), np.float32), device="cuda")
            loss = call(x)
            made.append(loss if keeps_losses else loss.item())
        losses.append([loss.item() for loss in made] if keeps_losses else made)
    (entry,) = call._entries.values()
    return losses, entry.parts[0].program


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_step_on_a_gpu() -> None:
    losses, program = train_on_a_gpu(6, keeps_losses=True)
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert program.captures == 1
