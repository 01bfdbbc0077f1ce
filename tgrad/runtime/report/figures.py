"""Figures of a plan: each kernel's predicted time, and what memory holds at each step.

In: a Plan, a memory limit. Out: a PlanReport. Invariant: all of it follows from the plan; only
registers, shared memory, spills and matrix instructions need the kernels compiled, which needs no
device. The largest `held` of the timeline is the plan's peak.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tgrad.fusion.cost import Prediction, cost_of, predict
from tgrad.fusion.region import extent_of
from tgrad.kernel.ir import Config, Role, StaticFigures, count_programs
from tgrad.runtime.memory import ALIGNMENT
from tgrad.runtime.plan import BufferRef, BufferSpec, KernelInfo, Plan
from tgrad.runtime.report.equation import equations_of


@dataclass(frozen=True)
class KernelReport:
    """A step of a plan.

    Attributes:
        step: its number, from 0.
        info: name, line, domain, FLOPs, bytes, reasons, source.
        call: what the user called there, such as "conv2d".
        code: the user's line itself, "" if it cannot be read.
        equations: what it computes, for people.
        dot_flops: the part of the FLOPs that a dot does.
        programs: size of the grid.
        tiles: blocks and launch options, in words.
        origin: of the configuration: "heuristic", "stored" or "nearest"; see kernel/ir.py.
        time: predicted seconds; None on the device "numpy".
        static: of the compiled kernel; None if it was not compiled.
        reads, writes: names of buffers.
    """

    step: int
    info: KernelInfo
    call: str
    code: str
    equations: tuple[str, ...]
    dot_flops: int
    programs: int
    tiles: str
    origin: str
    time: Prediction | None
    static: StaticFigures | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.info.flops / max(self.info.bytes, 1)


@dataclass(frozen=True, slots=True)
class BufferReport:
    """A buffer, the steps that it lives through, and who made it.

    Attributes:
        name: "temp 3", "output 0", "input 12".
        spec: type, place, line.
        first, last: steps; inputs and outputs live through all.
    """

    name: str
    kind: str
    spec: BufferSpec
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    @property
    def aligned(self) -> int:
        return -(-self.spec.nbytes // ALIGNMENT) * ALIGNMENT

    @property
    def type_text(self) -> str:
        """Such as "f32[64,32]"."""
        return f"{self.spec.dtype.short}[{','.join(map(str, self.spec.shape))}]"

    @property
    def call(self) -> str:
        """What the user called to make it; "" for stored tensors, which may have any past."""
        label = self.spec.source.label
        return "" if label == "buffer" else label

    @property
    def line(self) -> str:
        """Such as "train.py:12"; "" if it is not known."""
        return str(self.spec.source) if self.spec.source.line else ""


@dataclass(frozen=True, slots=True)
class MemoryStep:
    """Memory of a run while a step runs.

    Attributes:
        step: its number.
        live: bytes of temporaries and outputs that are alive.
        held: the same with the gaps between them in the arena.
    """

    step: int
    live: int
    held: int


@dataclass(frozen=True)
class PlanReport:
    """What a plan will do.

    Attributes:
        plan: the plan.
        kernels: one a step.
        buffers: inputs, outputs, temporaries.
        memory: one entry a step.
        peak_step: the step at which the most is held, and of those alive the most; else 0.
        limit: bytes that it shall fit into, or None.
    """

    plan: Plan
    kernels: tuple[KernelReport, ...]
    buffers: tuple[BufferReport, ...]
    memory: tuple[MemoryStep, ...]
    peak_step: int
    limit: int | None = None

    @property
    def intensity(self) -> float:
        """FLOPs per byte of the whole plan."""
        return self.plan.flops / max(self.plan.bytes, 1)

    @property
    def dot_flops(self) -> int:
        return sum(k.dot_flops for k in self.kernels)

    @property
    def bound(self) -> float:
        """Seconds that no run of these kernels can beat."""
        return sum(k.time.bound for k in self.kernels if k.time)

    @property
    def seconds(self) -> float:
        """Predicted seconds of a run, launches included."""
        return sum(k.time.seconds for k in self.kernels if k.time)

    @property
    def needed(self) -> int:
        """Bytes of a run with its inputs."""
        return self.plan.input_bytes + self.plan.peak_bytes

    @property
    def fits(self) -> bool | None:
        """Whether inputs, arena and outputs fit the limit; None without one."""
        return None if self.limit is None else self.needed <= self.limit

    @property
    def live_at_peak(self) -> tuple[BufferReport, ...]:
        """Buffers alive at the peak: what the run allocates, then inputs; the largest first."""
        alive = [b for b in self.buffers if b.first <= self.peak_step <= b.last]
        return tuple(sorted(alive, key=lambda b: (b.kind == "input", -b.nbytes, b.name)))


def report_plan(plan: Plan, limit: int | None = None, compiled: bool = False) -> PlanReport:
    """The figures of a plan.

    Args:
        plan: not run.
        limit: bytes that it shall fit into.
        compiled: whether to compile its kernels, for registers, shared memory, spills and matrix
            instructions.
    """
    static: list[StaticFigures | None] = [None] * len(plan.kernels)
    if compiled:
        static = [None if a is None else a.figures for a in plan.artifacts]
    kernels = tuple(
        _kernel(plan, step, figures) for step, figures in zip(range(plan.launches), static)
    )
    buffers = _buffers(plan)
    memory = _timeline(plan, buffers)
    peak = max(memory, key=lambda m: (m.held, m.live), default=None)
    return PlanReport(plan, kernels, buffers, memory, peak.step if peak else 0, limit)


def _kernel(plan: Plan, step: int, static: StaticFigures | None) -> KernelReport:
    info = plan.kernels[plan.steps[step].kernel]
    region = info.region
    cost = cost_of(region)
    programs = 1 if info.config is None else count_programs(info.config.axes, region.table)
    refs = plan.steps[step].buffers
    slots = list(zip(region.buffers, map(_name, refs)))
    return KernelReport(
        step=step,
        info=info,
        call=region.source.label,
        code=region.source.text,
        equations=equations_of(region),
        dot_flops=cost.dot_flops,
        programs=programs,
        tiles="" if info.config is None else tiles_of(info.config, plan.target),
        origin="" if info.config is None else info.config.origin,
        time=None if plan.figures is None else predict(cost, programs, plan.figures),
        static=static if static != StaticFigures() else None,
        reads=tuple(dict.fromkeys(name for slot, name in slots if slot.role != "out")),
        writes=tuple(dict.fromkeys(name for slot, name in slots if slot.role != "in")),
    )


def tiles_of(config: Config, target: str) -> str:
    """Such as "m 128, n 64, k 32 (loop), 4 warps, 3 stages"; C and OpenCL C have neither."""
    marks = {Role.GRID: "", Role.LOOP: " (loop)", Role.FULL: " (whole)"}
    parts = [
        f"{a.name} {min(a.block, extent_of(a.covers)) if a.role is Role.FULL else a.block}"
        f"{marks[a.role]}"
        for a in config.axes
    ]
    if target not in ("cpu", "opencl"):
        parts.append(f"{config.num_warps} warps" if config.num_warps > 1 else "1 warp")
        parts += [f"{config.num_stages} stages"] if config.num_stages > 1 else []
    return ", ".join(parts)


def _name(ref: BufferRef) -> str:
    return f"{ref.kind} {ref.number}"


def _buffers(plan: Plan) -> tuple[BufferReport, ...]:
    touched: dict[BufferRef, list[int]] = defaultdict(list)
    for number, step in enumerate(plan.steps):
        for ref in step.buffers:
            touched[ref].append(number)
    last = max(plan.launches - 1, 0)
    result = []
    for kind, specs in (("input", plan.inputs), ("output", plan.outputs), ("temp", plan.temps)):
        for number, spec in enumerate(specs):
            ref = BufferRef(kind, number)
            steps = touched[ref] if kind == "temp" else [0, last]
            if steps:
                result.append(BufferReport(_name(ref), kind, spec, steps[0], steps[-1]))
    return tuple(result)


def _timeline(plan: Plan, buffers: tuple[BufferReport, ...]) -> tuple[MemoryStep, ...]:
    """Outputs are allocated before the first step; the arena counts up to its last live byte."""
    outputs = plan.output_bytes
    result = []
    temps = [b for b in buffers if b.kind == "temp"]
    for step in range(plan.launches):
        alive = [b for b in temps if b.first <= step <= b.last]
        live = outputs + sum(b.nbytes for b in alive)
        held = outputs + max((b.spec.offset + b.aligned for b in alive), default=0)
        result.append(MemoryStep(step, live, held))
    return tuple(result)
