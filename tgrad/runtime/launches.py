"""A plan on `cuda` as launches with prepared addresses.

In: a plan, and which of its inputs move from run to run. Out: a Program. Invariant: kernels run in
the order of the plan, on the caller's memory itself: nothing is copied.

A CUDA graph reads and writes fixed addresses, so what moves is copied in and out. Where that takes
longer than Python takes to launch the kernels, as for one kernel over large tensors, they are
launched.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.runtime.cuda import CudaRuntime, Memory
from tgrad.runtime.plan import Plan

HOST_CALL = 5e-6
"""Seconds that Python takes to launch a kernel, or to copy a tensor; assumed."""


def is_quicker_launched(plan: Plan, moving: Sequence[int]) -> bool:
    """Whether launching a plan's kernels takes less time than a graph with its copies.

    Plans that write their inputs in place are never launched one by one: a graph starts as a
    whole, and otherwise somebody must keep a copy of what they overwrite.
    """
    if plan.figures is None or _writes_inputs(plan):
        return False
    copied = [plan.inputs[number].nbytes for number in moving]
    copied += [b.nbytes for b in plan.outputs]
    working = plan.bytes / plan.figures.bandwidth
    copying = 2 * sum(copied) / plan.figures.bandwidth
    launched = max(working, plan.launches * HOST_CALL)
    return launched <= max(working + copying, (len(copied) + 1) * HOST_CALL)


def _writes_inputs(plan: Plan) -> bool:
    for step in plan.steps:
        slots = plan.kernels[step.kernel].region.buffers
        if any(b.kind == "input" and s.role != "in" for b, s in zip(step.buffers, slots)):
            return True
    return False


class CudaLaunches:
    """One plan's launches; the addresses of each are filled in where they are known.

    Args:
        moving: numbers of the inputs whose memories each run is given.
    """

    def __init__(self, plan: Plan, runtime: CudaRuntime, moving: Sequence[int]):
        self.plan, self.runtime, self.moving = plan, runtime, tuple(moving)
        artifacts = [a for a in plan.compile() if a is not None]
        self.launches = [(a, [0] * len(s.buffers)) for a, s in zip(artifacts, plan.steps)]
        self.places: dict[tuple[str, int], list[tuple[list[int], int]]] = {}
        for step, (_, addresses) in zip(plan.steps, self.launches):
            for at, buffer in enumerate(step.buffers):
                self.places.setdefault((buffer.kind, buffer.number), []).append((addresses, at))
        self.arena = 0

    @property
    def is_whole(self) -> bool:
        """One launch starts or does not."""
        return self.plan.launches == 1

    def bind(self, inputs: Sequence[Memory]) -> None:
        """Say where all inputs are; they are not kept alive."""
        for number, memory in enumerate(inputs):
            self._place("input", number, memory.data_ptr())

    def run(self, moved: Sequence[Memory], outputs: Sequence[Memory], arena: Memory | None) -> int:
        """Run all steps; see `Program`."""
        for number, memory in zip(self.moving, moved):
            self._place("input", number, memory.data_ptr())
        for number, memory in enumerate(outputs):
            self._place("output", number, memory.data_ptr())
        if arena is not None and arena.data_ptr() != self.arena:
            self.arena = arena.data_ptr()
            for number, temp in enumerate(self.plan.temps):
                self._place("temp", number, self.arena + temp.offset)
        runtime = self.runtime
        with runtime.torch.cuda.device(runtime.device.index):
            stream = runtime.stream()
            for artifact, addresses in self.launches:
                runtime.start(artifact, addresses, stream)
        return self.plan.launches

    def _place(self, kind: str, number: int, address: int) -> None:
        for addresses, at in self.places.get((kind, number), ()):
            addresses[at] = address
