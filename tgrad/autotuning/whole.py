"""Two plans of one graph, measured beside each other: the part of a worker's work that is not one
kernel.

In: two plans as plain data, with the steps in which they differ. Out: seconds of these steps, in
turns, or why there are none. Invariant: before a time counts, both plans were run as a whole on the
same random inputs, and their results agree.

Temporaries have memory of their own here, so that the steps that differ can run again and again on
what the whole plan left there. They run as a plan's steps do, in one call where the device can.

    {"regions": [...], "steps": [[region, [buffer, ...]], ...], "buffers": [bytes, ...],
     "inputs": count, "results": [buffer, ...], "changed": [step, ...]}

The buffers of inputs come first, in the order of the graph's leaves: they are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from tgrad.autotuning.clock import launch_seconds
from tgrad.autotuning.inputs import bounds_of, random_array
from tgrad.backend import Backend, capture_of
from tgrad.device import Device
from tgrad.dtype import uint8
from tgrad.fusion.region import Region, Slot
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.kernel.ir import Executable
from tgrad.runtime.device import open_device
from tgrad.runtime.execute import execute
from tgrad.runtime.plan import (
    BufferRef,
    BufferSpec,
    Compiled,
    KernelInfo,
    Plan,
    step_of,
)
from tgrad.settings import Settings
from tgrad.threads import get_num_threads
from tgrad.tune.workers import Message

TOLERANCE, FLIPPED = 1e-2, 1e-2
"""Of a result's largest element, and the part of the elements that may differ by more: whole
training steps round in another order, and where a ReLU's input is near zero they decide otherwise.
A wrong kernel is wrong in most of its elements."""
LEAST_SECONDS, MOST_RUNS = 1e-3, 100
"""Of one measurement: steps that take less run several times in it."""


def message_of(compiled: Compiled, leaves: int, changed: Sequence[int]) -> Message:
    """A plan as plain data.

    Args:
        leaves: how many buffers the graph reads.
        changed: the steps to measure.
    """
    plan = compiled.plan
    buffers = [0] * leaves
    for number, spec in zip(compiled.leaves, plan.inputs):
        buffers[number] = spec.nbytes
    first = {"output": leaves, "temp": leaves + len(plan.outputs)}
    buffers += [spec.nbytes for spec in (*plan.outputs, *plan.temps)]

    def number_of(ref: BufferRef) -> int:
        if ref.kind == "input":
            return compiled.leaves[ref.number]
        return first[ref.kind] + ref.number

    regions: dict[Region, int] = {}
    steps = []
    for step in plan.steps:
        region = plan.kernels[step.kernel].region
        number = regions.setdefault(region, len(regions))
        steps.append([number, [number_of(b) for b in step.buffers], list(step.starts)])
    results = [ref.number if ref.kind == "input" else number_of(ref) for ref in compiled.results]
    return {
        "regions": [region_to_json(r) for r in regions],
        "steps": steps,
        "buffers": buffers,
        "inputs": leaves,
        "results": results,
        "changed": list(changed),
    }


@dataclass
class _Whole:
    """A plan in a worker."""

    data: Message
    regions: list[Region]
    artifacts: list[Executable | None]
    device: Device
    settings: Settings
    memories: list[Any]

    @cached_property
    def slots(self) -> list[tuple[int, Slot]]:
        """Buffers with a use of each, in the order of the steps."""
        return [
            (buffer, slot)
            for region, buffers, _ in self.data["steps"]
            for buffer, slot in zip(buffers, self.regions[region].buffers)
        ]

    def plan(self, steps: Sequence[int]) -> Plan:
        """Some of the steps, on buffers that are all inputs."""
        chosen = [self.data["steps"][n] for n in steps]
        kernels = tuple(_info(self.regions[r]) for r, _, _ in chosen)
        made = tuple(self.artifacts[r] for r, _, _ in chosen)
        specs = tuple(BufferSpec(uint8, (n,), n) for n in self.data["buffers"])
        has_calls = any(k.region.call is not None for k in kernels)
        return Plan(
            self.device,
            kernels,
            tuple(
                step_of(
                    n,
                    k.region,
                    tuple(BufferRef("input", b) for b in buffers),
                    tuple(starts),
                    k.bytes,
                )
                for n, (k, (_, buffers, starts)) in enumerate(zip(kernels, chosen))
            ),
            specs,
            (),
            (),
            0,
            lambda: made,
            prepare=None if has_calls else capture_of(self.device, self.settings),
        )

    def run(self, inputs: Sequence[np.ndarray]) -> None:
        """All steps, once."""
        runtime = open_device(self.device)
        for memory, array in zip(self.memories, inputs):
            runtime.write(memory, array)
        execute(self.plan(range(len(self.data["steps"]))), self.memories)

    def results(self) -> list[np.ndarray]:
        """The graph's outputs."""
        runtime, slots = open_device(self.device), dict(self.slots)
        found = []
        for buffer in self.data["results"]:
            if buffer in slots:
                slot = slots[buffer]
                found.append(runtime.read(self.memories[buffer], slot.dtype, (slot.size,)))
        return found


def _info(region: Region) -> KernelInfo:
    return KernelInfo(region.name, "", "", "", 0, 0, (), None, region)


def compare(
    backend: Backend,
    device: Device,
    settings: Settings,
    plans: Sequence[Message],
    rounds: int,
    seed: int,
) -> Message:
    """Seconds of the steps in which two plans differ: {"seconds": [[...], [...]]}; or {"failure"}.

    Raises:
        TgradError: a kernel is refused by its compiler.
        MemoryError: the temporaries do not fit.
    """
    wholes = [_open(data, backend, device, settings) for data in plans]
    inputs = _inputs(wholes, seed)
    found = []
    for whole in wholes:
        whole.run(inputs)
        found.append(whole.results())
    reason = _disagreement(*found)
    if reason:
        return {"failure": reason}
    timed = [_Timed(whole) for whole in wholes]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for each, times in zip(timed, seconds):
            times.append(each.seconds())
    return {"seconds": seconds}


def _open(data: Message, backend: Backend, device: Device, settings: Settings) -> _Whole:
    regions = [region_from_json(r) for r in data["regions"]]
    generated = [r for r in regions if r.call is None]
    made = iter(backend.generate(generated, settings, [None] * len(generated))[1]())
    artifacts = [next(made) if r.call is None else None for r in regions]
    runtime = open_device(device)
    memories = [runtime.allocate(max(n, 1)) for n in data["buffers"]]
    return _Whole(data, regions, artifacts, device, settings, memories)


def _inputs(wholes: Sequence[_Whole], seed: int) -> list[np.ndarray]:
    """An array for each leaf that either plan reads; the same for both."""
    random = np.random.default_rng(seed)
    ranges: dict[int, tuple[int, int]] = {}
    slots: dict[int, Slot] = {}
    for whole in wholes:
        for region, buffers, _ in whole.data["steps"]:
            bounds = bounds_of(whole.regions[region])
            for n, (buffer, slot) in enumerate(zip(buffers, whole.regions[region].buffers)):
                if slot.role != "out":
                    size = whole.data["buffers"][buffer] // slot.dtype.itemsize
                    slots.setdefault(buffer, replace(slot, size=size))
                if n in bounds:
                    low, high = ranges.get(buffer, bounds[n])
                    ranges[buffer] = max(low, bounds[n][0]), min(high, bounds[n][1])
    return [
        random_array(slots[n], ranges.get(n), random) if n in slots else np.zeros(0, np.uint8)
        for n in range(wholes[0].data["inputs"])
    ]


def _disagreement(wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> str:
    if len(wanted) != len(got):
        return "one plan does not write all results"
    for number, (a, b) in enumerate(zip(wanted, got)):
        wrong = _wrong(a, b)
        if wrong > FLIPPED:
            return f"result {number} is wrong in {wrong:.2%} of its elements"
    return ""


def _wrong(a: np.ndarray, b: np.ndarray) -> float:
    """The part of the elements that differ."""
    if not a.size:
        return 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = x[np.isfinite(x)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        same = (np.abs(x - y) <= TOLERANCE * scale) | (x == y) | (np.isnan(x) & np.isnan(y))
    return float(1 - same.mean())


class _Timed:
    """The steps of a plan that are measured, after the whole was run."""

    def __init__(self, whole: _Whole):
        self.whole, self.runtime = whole, open_device(whole.device)
        changed = [whole.data["steps"][n] for n in whole.data["changed"]]
        self.plan = whole.plan(whole.data["changed"])
        updated = {
            buffer: slot
            for region, buffers, _ in changed
            for buffer, slot in zip(buffers, whole.regions[region].buffers)
            if slot.role == "inout"
        }
        self.initial = [
            (whole.memories[n], self.runtime.read(whole.memories[n], slot.dtype, (slot.size,)))
            for n, slot in updated.items()
        ]
        is_taking = any(whole.regions[r].space.kind == "chain" for r, _, _ in changed)
        self.takers = get_num_threads() if is_taking else 0
        self.runs = 1
        self.runs = max(1, min(MOST_RUNS, round(LEAST_SECONDS / max(self.seconds(), 1e-7))))

    def seconds(self) -> float:
        """Of one run of the steps, the mean; what they update in place is as it was."""
        for memory, array in self.initial:
            self.runtime.write(memory, array)
        run = partial(execute, self.plan, self.whole.memories)
        return launch_seconds(self.runtime, run, self.runs, self.takers)
