"""A plan on `cuda` as one CUDA graph.

In: a plan, and what moves from run to run. Out: a Program. Invariant: a graph reads and writes
fixed addresses alone: inputs that stay, where they are; copies of inputs that move; outputs of its
own, which each run copies out, so that results stay valid after later runs. When one of the
addresses changes, the graph is captured again. Python's work does not grow with kernels or state:
outputs that are the next values of inputs are copied there at the end of the graph itself. Kernels
that touch none of the same bytes lie side by side in the graph (runtime/side_by_side.py).

    run 1          copy inputs in ─ launch each kernel ─ copy outputs out
    run 2          copy inputs in ─ capture, replay    ─ copy outputs out
    run 3, 4, ...  copy inputs in ─ replay             ─ copy outputs out

A loop's batches and results mostly lie at a few addresses in turn, since the allocator gives memory
again that was freed. A place that comes back gets a graph of its own, which works there and copies
nothing; each copy costs the host as much as the launch of a graph.

    run n, its inputs and outputs where those of an earlier run were: capture once, replay

The first run launches one by one because a capture executes nothing and must load nothing: Triton
loads a kernel's binary at its first launch. Written after
https://docs.pytorch.org/docs/stable/generated/torch.cuda.CUDAGraph.html; where there is no GPU, its
logic is tested with a stand-in for torch's calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import ReferenceType, ref

from tgrad.device import GPU_ALIGNMENT
from tgrad.kernel.ir import Executable
from tgrad.runtime.cuda import CudaRuntime, Memory
from tgrad.runtime.device import open_device
from tgrad.runtime.launches import CudaLaunches, is_quicker_launched, own_artifacts
from tgrad.runtime.plan import Moves, Plan, Program, Step
from tgrad.runtime.side_by_side import Access, take_turns

GRAPHS_IN_PLACE, PLACES_MET, MOST_CAPTURES = 4, 8, 16
"""Graphs that work at addresses that came back, at a time; sets of addresses that are remembered
until they do; captures after which no more such graphs are made: they take milliseconds each."""
STREAMS = 4
"""Kernels that run side by side, at most. With eight GPT-2's step took as long (H200, 2026-11)."""
Addresses = tuple[int, ...]


def capture_graph(plan: Plan, moves: Moves | None) -> Program | None:
    """The program of a plan whose other inputs stay where they are: a graph, or launches where
    they are quicker; None where all move, as for plans that are not replayed."""
    if moves is None:
        return None
    make = CudaLaunches if is_quicker_launched(plan, moves) else CudaCapture
    return make(plan, cast(CudaRuntime, open_device(plan.device)), moves)


def _places(memories: Iterable[Memory]) -> list[tuple[Memory, int, int]]:
    """Memories that stay, with their addresses and bytes."""
    return [(m, m.data_ptr(), m.nbytes) for m in memories]


@dataclass(frozen=True)
class _Where:
    """The memories that a run works on.

    Attributes:
        inputs: those that move, by number; the others are bound.
        outputs: all of them.
        arena: of the temporaries.
    """

    inputs: Mapping[int, Memory]
    outputs: Sequence[Memory]
    arena: Memory | None


@dataclass(frozen=True)
class _Captured:
    """A graph, None where none may work there; the kernels whose tables of addresses it reads."""

    graph: Any
    artifacts: Sequence[Executable] = ()


class CudaCapture:
    """One plan's graphs.

    Attributes:
        refused: why no graph could be captured; then every run launches one by one.
        captures: how often a graph was captured.
        graph: the one that works on copies.
        in_place: those that work at addresses that came back, the oldest first.
        met: addresses that may come back.
        written: inputs that a run overwrites.
        may_stay: whether no argument is among these, so that graphs may work where arguments lie.
    """

    def __init__(self, plan: Plan, runtime: CudaRuntime, moves: Moves):
        self.plan, self.runtime = plan, runtime
        self.successors = moves.successors
        self.settled = frozenset(output for output, _ in moves.successors)
        stay = {number for _, number in moves.successors}
        self.moving = tuple(number for number in moves.inputs if number not in stay)
        self.artifacts = own_artifacts(plan)
        self.inputs: dict[int, Memory] = {
            number: runtime.allocate(plan.inputs[number].nbytes) for number in self.moving
        }
        self.outputs = [runtime.allocate(b.nbytes) for b in plan.outputs]
        given = [m for n, m in enumerate(self.outputs) if n not in self.settled]
        self.entrances, self.exits = _places(self.inputs.values()), _places(given)
        self.copier = runtime.copier()
        self.bound: dict[int, ReferenceType[Memory]] = {}
        self.addresses: dict[int, int] = {}
        self.arena: ReferenceType[Memory] | None = None
        self.graph: Any = None
        self.has_warmed_up = False
        written = (step.buffers[n] for step in plan.steps for n in step.written)
        self.written = {b.number for b in written if b.kind == "input"} | stay
        self.may_stay = self.written.isdisjoint(self.moving)
        self.in_place: dict[Addresses, _Captured] = {}
        self.met: dict[Addresses, None] = {}
        self.refused = ""
        self.captures = 0

    @property
    def is_whole(self) -> bool:
        """A graph starts as a whole, as long as its arena is there; single launches need not."""
        return self.graph is not None and (self.arena is None or self.arena() is not None)

    def bind(self, inputs: Sequence[Memory]) -> None:
        """Say where all inputs are; they are not kept alive."""
        self.bound = {n: ref(m) for n, m in enumerate(inputs) if n not in self.inputs}
        addresses = {n: inputs[n].data_ptr() for n in self.bound}
        if addresses != self.addresses:
            self.addresses = addresses
            self._forget()

    def run(self, moved: Sequence[Memory], outputs: Sequence[Memory], arena: Memory | None) -> int:
        """Run all steps; see `Program`."""
        if arena is not (None if self.arena is None else self.arena()):
            self.arena = ref(arena)
            self._forget()
        if self.graph is not None and self.may_stay:
            there = tuple([m.data_ptr() for m in (*moved, *outputs)])
            found = self.in_place.get(there) or self._come_back(there, moved, outputs, arena)
            if found is not None and found.graph is not None:
                self.start(found.graph)
                return self.plan.launches
        runtime = self.runtime
        copy = self.copier if self.copier is not None and runtime.is_current() else None
        stream = runtime.stream() if copy is not None else 0
        for (memory, address, nbytes), source in zip(self.entrances, moved):
            if copy is None:
                runtime.copy(memory, source)
            elif nbytes:
                copy(address, source.data_ptr(), nbytes, stream)
        if self.graph is None:
            self._begin(_Where(self.inputs, self.outputs, arena))
        else:
            self.start(self.graph)
        for (memory, address, nbytes), target in zip(self.exits, outputs):
            if copy is None:
                runtime.copy(target, memory)
            elif nbytes:
                copy(target.data_ptr(), address, nbytes, stream)
        return self.plan.launches

    def _begin(self, where: _Where) -> None:
        """The first run launches one by one, the second captures and replays."""
        if self.has_warmed_up and not self.refused:
            try:
                self.graph = self._capture(where, self.artifacts)
            except RuntimeError as error:
                self.refused = f"{type(error).__name__}: {error}"
        if self.graph is None:
            self._launch_all(where)
            self.has_warmed_up = True
        else:
            self.start(self.graph)

    def start(self, graph: Any) -> None:
        """Enqueue a graph on the current stream."""
        graph.replay()

    def _forget(self) -> None:
        """Addresses have changed: launch one by one again, then capture again."""
        self.graph, self.has_warmed_up = None, False
        self.in_place, self.met = {}, {}

    def _come_back(
        self, there: Addresses, moved: Sequence[Memory], outputs: Sequence[Memory], arena: Memory
    ) -> _Captured | None:
        """What works at addresses that have none yet: nothing where they are new, or where enough
        have come back before."""
        if there not in self.met:
            if len(self.met) == PLACES_MET:
                del self.met[next(iter(self.met))]
            self.met[there] = None
            return None
        if self.captures >= MOST_CAPTURES:
            return None
        found = self._captured_there(moved, outputs, arena)
        if len(self.in_place) == GRAPHS_IN_PLACE:
            del self.in_place[next(iter(self.in_place))]  # the oldest
        self.in_place[there] = found
        return found

    def _captured_there(
        self, moved: Sequence[Memory], outputs: Sequence[Memory], arena: Memory | None
    ) -> _Captured:
        """A graph that works on the caller's memory, if one may."""
        if not self._lies_well(moved, outputs):
            return _Captured(None)
        byte = self.runtime.torch.uint8  # PyTorch's tensors come as they are
        inputs, given = ([m.reshape(-1).view(byte) for m in these] for these in (moved, outputs))
        taken = iter(given)
        all_outputs = [m if n in self.settled else next(taken) for n, m in enumerate(self.outputs)]
        where = _Where(dict(zip(self.moving, inputs)), all_outputs, arena)
        artifacts = own_artifacts(self.plan)
        try:
            for step, artifact in zip(self.plan.steps, artifacts):  # no table is made in a capture
                self.runtime.arguments(artifact, [m.data_ptr() for m in self._windows(step, where)])
            return _Captured(self._capture(where, artifacts), artifacts)
        except RuntimeError:
            return _Captured(None)

    def _lies_well(self, moved: Sequence[Memory], outputs: Sequence[Memory]) -> bool:
        """Whether kernels may read and write these themselves: they are aligned, and no argument is
        state that the plan overwrites before it has read the argument."""
        spans = [(m.data_ptr(), m.data_ptr() + m.nbytes) for m in (*moved, *outputs)]
        if any(start % GPU_ALIGNMENT for start, _ in spans):
            return False
        state = [(self.addresses[n], self.addresses[n] + self.plan.inputs[n].nbytes)
                 for n in self.written]  # fmt: skip
        return not any(a < stop and start < b for a, b in state for start, stop in spans)

    def _capture(self, where: _Where, artifacts: Sequence[Executable]) -> Any:
        """A graph of all launches.

        Raises:
            RuntimeError: CUDA captures none.
        """
        torch = self.runtime.torch
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self.runtime.device.index),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            self._launch_side_by_side(where, artifacts)
        self.captures += 1
        return graph

    def _launch_all(self, where: _Where) -> None:
        for step, artifact in zip(self.plan.steps, self.artifacts):
            self.runtime.launch(artifact, self._windows(step, where))
        self._put_home(where)

    def _windows(self, step: Step, where: _Where) -> list[Memory]:
        return [self._memory(b.kind, b.number, where)[start:] for b, start in step.windows]

    def _put_home(self, where: _Where) -> None:
        for output, number in self.successors:
            self.runtime.copy(self._memory("input", number, where), self.outputs[output])

    def _launch_side_by_side(self, where: _Where, artifacts: Sequence[Executable]) -> None:
        """Launch all on streams that fork from the current one and join it again."""
        cuda = self.runtime.torch.cuda
        turns = take_turns([self._accesses(step, where) for step in self.plan.steps], STREAMS)
        streams = [cuda.current_stream(), *(cuda.Stream() for _ in range(1, STREAMS))]
        awaited = {number for turn in turns for number in turn.waits}
        ended: dict[int, Any] = {}
        last: dict[int, int] = {}
        began = streams[0].record_event()
        for number, (turn, step) in enumerate(zip(turns, self.plan.steps)):
            stream = streams[turn.stream]
            is_fork = turn.stream > 0 and turn.stream not in last and not turn.waits
            for event in [began] if is_fork else [ended[n] for n in turn.waits]:
                stream.wait_event(event)
            with cuda.stream(stream):
                self.runtime.launch(artifacts[number], self._windows(step, where))
            if number in awaited:
                ended[number] = stream.record_event()
            last[turn.stream] = number
        for stream in [streams[s] for s in last if s]:
            streams[0].wait_event(stream.record_event())
        self._put_home(where)

    def _accesses(self, step: Step, where: _Where) -> list[Access]:
        """What a launch touches, by address."""
        starts = [m.data_ptr() for m in self._windows(step, where)]
        return [
            Access(start, start + nbytes, number in step.written)
            for number, (start, nbytes) in enumerate(zip(starts, step.spans, strict=True))
        ]

    def _memory(self, kind: str, number: int, where: _Where) -> Memory:
        if kind == "output":
            return where.outputs[number]
        if kind == "temp":
            temp = self.plan.temps[number]
            return self.runtime.view(where.arena, temp.offset, temp.nbytes)
        return where.inputs[number] if number in where.inputs else self.bound[number]()
