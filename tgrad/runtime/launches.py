"""A plan on `cuda` as launches with prepared addresses.

In: a plan, and what moves from run to run. Out: a Program. Invariant: kernels run in the order of
the plan, on the caller's memory itself: nothing is copied.

A CUDA graph reads and writes fixed addresses, so what moves is copied in and out. Where that takes
longer than Python takes to launch the kernels, as for one kernel over large tensors, they are
launched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tgrad.kernel.ir import Executable
from tgrad.runtime.cuda import CudaRuntime, Memory, Start
from tgrad.runtime.plan import BufferRef, Moves, Plan

HOST_CALL = 5e-6
"""Seconds that Python takes to launch a kernel, or to copy a tensor; assumed."""


def is_quicker_launched(plan: Plan, moves: Moves) -> bool:
    """Whether launching a plan's kernels takes less time than a graph with its copies.

    Plans that write their inputs in place are never launched one by one: a graph starts as a
    whole, and otherwise somebody must keep a copy of what they overwrite.
    """
    if plan.figures is None or _writes_inputs(plan):
        return False
    settled = dict(moves.successors)
    moving = set(moves.inputs) - set(settled.values())
    copied = [plan.inputs[number].nbytes for number in moving]
    copied += [b.nbytes for b in plan.outputs]
    working = plan.bytes / plan.figures.bandwidth
    copying = 2 * sum(copied) / plan.figures.bandwidth
    launched = max(working, plan.launches * HOST_CALL)
    return launched <= max(working + copying, (len(copied) - len(settled) + 1) * HOST_CALL)


def _writes_inputs(plan: Plan) -> bool:
    return any(step.buffers[n].kind == "input" for step in plan.steps for n in step.written)


Places = list[tuple[list[int], int, int]]
"""Where the address of a buffer is written: lists of addresses, the place in each, and the byte of
the buffer that is meant there."""


def own_artifacts(plan: Plan) -> list[Executable]:
    """The kernel of each step, its own: a batch keeps the addresses of its buffers, and steps of
    equal work share what was compiled."""
    return [replace(a, kept={}) for a in plan.compiled]


class CudaLaunches:
    """One plan's launches; the addresses of each are filled in where they are known."""

    settled: frozenset[int] = frozenset()
    """Memory changes hands: nothing is copied."""

    def __init__(self, plan: Plan, runtime: CudaRuntime, moves: Moves):
        self.plan, self.runtime = plan, runtime
        self.artifacts = own_artifacts(plan)
        self.addresses = [[0] * len(s.buffers) for s in plan.steps]
        self.starts: list[tuple[Start, list[int]]] = []
        found: dict[BufferRef, Places] = {}
        for step, addresses in zip(plan.steps, self.addresses):
            for at, (buffer, start) in enumerate(step.windows):
                found.setdefault(buffer, []).append((addresses, at, start))
        self.inputs = [found.get(BufferRef("input", n), []) for n in range(len(plan.inputs))]
        self.outputs = [found.get(BufferRef("output", n), []) for n in range(len(plan.outputs))]
        self.temps = [found.get(BufferRef("temp", n), []) for n in range(len(plan.temps))]
        self.moving = [self.inputs[number] for number in moves.inputs]
        self.is_whole = plan.launches == 1  # one launch starts or does not
        self.arena = 0

    def bind(self, inputs: Sequence[Memory]) -> None:
        """Say where all inputs are; they are not kept alive."""
        for places, memory in zip(self.inputs, inputs):
            _fill(places, memory.data_ptr())

    def run(self, moved: Sequence[Memory], outputs: Sequence[Memory], arena: Memory | None) -> int:
        """Run all steps; see `Program`."""
        for places, memory in zip(self.moving, moved):
            _fill(places, memory.data_ptr())
        for places, memory in zip(self.outputs, outputs):
            _fill(places, memory.data_ptr())
        if arena is not None and arena.data_ptr() != self.arena:
            self.arena = arena.data_ptr()
            for places, temp in zip(self.temps, self.plan.temps):
                _fill(places, self.arena + temp.offset)
        runtime = self.runtime
        if runtime.is_current():
            return self._start_all()
        with runtime.torch.cuda.device(runtime.device.index):
            return self._start_all()

    def _start_all(self) -> int:
        if not self.starts:
            starters = map(self.runtime.starter, self.artifacts)
            self.starts = list(zip(starters, self.addresses))
        stream = self.runtime.stream()
        for start, addresses in self.starts:
            start(addresses, stream)
        return len(self.starts)


def _fill(places: Places, address: int) -> None:
    for addresses, at, start in places:
        addresses[at] = address + start
