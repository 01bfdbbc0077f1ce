"""A plan on `cuda` as one CUDA graph.

In: a plan, and what moves from run to run. Out: a Program. Invariant: the graph reads and writes
fixed addresses alone: inputs that stay, where they are; copies of inputs that move; outputs of its
own, which each run copies out, so that results stay valid after later runs. When one of the
addresses changes, the graph is captured again. Python's work does not grow with kernels or state:
outputs that are the next values of inputs are copied there at the end of the graph itself. Kernels
that touch none of the same bytes lie side by side in the graph (runtime/side_by_side.py).

    run 1          copy inputs in ─ launch each kernel ─ copy outputs out
    run 2          copy inputs in ─ capture, replay    ─ copy outputs out
    run 3, 4, ...  copy inputs in ─ replay             ─ copy outputs out

The first run launches one by one because a capture executes nothing and must load nothing: Triton
loads a kernel's binary at its first launch. Written after
https://docs.pytorch.org/docs/stable/generated/torch.cuda.CUDAGraph.html; where there is no GPU, its
logic is tested with a stand-in for torch's calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast
from weakref import ReferenceType, ref

from tgrad.runtime.cuda import CudaRuntime, Memory
from tgrad.runtime.device import open_device
from tgrad.runtime.launches import CudaLaunches, is_quicker_launched, own_artifacts
from tgrad.runtime.plan import Moves, Plan, Program, Step
from tgrad.runtime.side_by_side import Access, take_turns

STREAMS = 4
"""Kernels that run side by side, at most. With eight GPT-2's step took as long (H200, 2026-11)."""


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


class CudaCapture:
    """One plan's graph.

    Attributes:
        refused: why no graph could be captured; then every run launches one by one.
        captures: how often a graph was captured.
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
        runtime = self.runtime
        copy = self.copier if self.copier is not None and runtime.is_current() else None
        stream = runtime.stream() if copy is not None else 0
        for (memory, address, nbytes), source in zip(self.entrances, moved):
            if copy is None:
                runtime.copy(memory, source)
            elif nbytes:
                copy(address, source.data_ptr(), nbytes, stream)
        if arena is not (None if self.arena is None else self.arena()):
            self.arena = ref(arena)
            self._forget()
        if self.graph is None and self.has_warmed_up and not self.refused:
            self._capture(arena)
        if self.graph is None:
            self._launch_all(arena)
            self.has_warmed_up = True
        else:
            self.graph.replay()
        for (memory, address, nbytes), target in zip(self.exits, outputs):
            if copy is None:
                runtime.copy(target, memory)
            elif nbytes:
                copy(target.data_ptr(), address, nbytes, stream)
        return self.plan.launches

    def _forget(self) -> None:
        """Addresses have changed: launch one by one again, then capture again."""
        self.graph, self.has_warmed_up = None, False

    def _capture(self, arena: Memory | None) -> None:
        torch = self.runtime.torch
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.device(self.runtime.device.index),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                self._launch_side_by_side(arena)
        except RuntimeError as error:
            self.refused = f"{type(error).__name__}: {error}"
            return
        self.graph = graph
        self.captures += 1

    def _launch_all(self, arena: Memory | None) -> None:
        for number in range(len(self.artifacts)):
            self._launch(number, arena)
        self._put_home(arena)

    def _launch(self, number: int, arena: Memory | None) -> None:
        self.runtime.launch(self.artifacts[number], self._windows(self.plan.steps[number], arena))

    def _windows(self, step: Step, arena: Memory | None) -> list[Memory]:
        return [self._memory(b.kind, b.number, arena)[start:] for b, start in step.windows]

    def _put_home(self, arena: Memory | None) -> None:
        for output, number in self.successors:
            self.runtime.copy(self._memory("input", number, arena), self.outputs[output])

    def _launch_side_by_side(self, arena: Memory | None) -> None:
        """Launch all on streams that fork from the current one and join it again."""
        cuda = self.runtime.torch.cuda
        turns = take_turns([self._accesses(step, arena) for step in self.plan.steps], STREAMS)
        streams = [cuda.current_stream(), *(cuda.Stream() for _ in range(1, STREAMS))]
        awaited = {number for turn in turns for number in turn.waits}
        ended: dict[int, Any] = {}
        last: dict[int, int] = {}
        began = streams[0].record_event()
        for number, turn in enumerate(turns):
            stream = streams[turn.stream]
            is_fork = turn.stream > 0 and turn.stream not in last and not turn.waits
            for event in [began] if is_fork else [ended[n] for n in turn.waits]:
                stream.wait_event(event)
            with cuda.stream(stream):
                self._launch(number, arena)
            if number in awaited:
                ended[number] = stream.record_event()
            last[turn.stream] = number
        for stream in [streams[s] for s in last if s]:
            streams[0].wait_event(stream.record_event())
        self._put_home(arena)

    def _accesses(self, step: Step, arena: Memory | None) -> list[Access]:
        """What a launch touches, by address."""
        starts = [m.data_ptr() for m in self._windows(step, arena)]
        return [
            Access(start, start + nbytes, number in step.written)
            for number, (start, nbytes) in enumerate(zip(starts, step.spans, strict=True))
        ]

    def _memory(self, kind: str, number: int, arena: Memory | None) -> Memory:
        if kind == "output":
            return self.outputs[number]
        if kind == "temp":
            temp = self.plan.temps[number]
            return self.runtime.view(arena, temp.offset, temp.nbytes)
        return self.inputs[number] if number in self.inputs else self.bound[number]()
