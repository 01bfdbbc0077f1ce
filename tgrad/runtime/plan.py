"""Plans: what runs, in which order, in which memory; known before it runs.

In: kernels with the buffers of their slots. Out: a frozen Plan. Invariant: launches, FLOPs, bytes
and peak memory are numbers of the plan, and running it does exactly that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UNKNOWN, Source
from tgrad.fusion.choices import NO_CHOICES, PlanChoices, Site
from tgrad.fusion.cost import DeviceFigures
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, Executable


@dataclass(frozen=True, slots=True)
class BufferRef:
    """A buffer of a plan: `kind` is "input", "output" or "temp", `number` counts within it."""

    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class BufferSpec:
    """Type and place of a buffer; `offset` is into the arena, for temporaries; `source` is the
    user's line that made it, with the name of what was called there."""

    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    offset: int = 0
    source: Source = field(default=UNKNOWN, compare=False)


@dataclass(frozen=True)
class KernelInfo:
    """A generated kernel of a plan, or a call of a library (region.call), which has no source.

    Attributes:
        name: identifier, after what it computes.
        source: generated source text.
        line: the user's line, as "file.py:12".
        domain: iteration domain, as "512 x 32 x 576".
        flops, bytes: of one launch.
        reasons: why it is not one with each neighbour.
        config: tiles and launch options, with their origin.
        region: what it computes, as data.
    """

    name: str
    source: str
    line: str
    domain: str
    flops: int
    bytes: int
    reasons: tuple[str, ...]
    config: Config | None
    region: Region


@dataclass(frozen=True, slots=True)
class Step:
    """One launch.

    Attributes:
        kernel: its number.
        buffers: of its slots.
        starts: the byte of each at which its slot begins; empty if all begin at 0.
        spans: bytes of each slot; empty for a call of a library.
        written: numbers of the slots that are written.
        moved: bytes that it must move at least.
    """

    kernel: int
    buffers: tuple[BufferRef, ...]
    starts: tuple[int, ...] = ()
    spans: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    moved: int = 0

    @property
    def windows(self) -> list[tuple[BufferRef, int]]:
        """The buffers with the byte at which each begins."""
        return list(zip(self.buffers, self.starts or len(self.buffers) * (0,), strict=True))


def step_of(
    number: int, region: Region, buffers: tuple[BufferRef, ...], starts: tuple[int, ...], moved: int
) -> Step:
    """The launch of a region's kernel."""
    spans = () if region.call is not None else tuple(s.nbytes for s in region.buffers)
    written = tuple(n for n, s in enumerate(region.buffers) if s.role != "in")
    return Step(number, buffers, starts, spans, written, moved)


@dataclass(frozen=True, slots=True)
class Moves:
    """What lies elsewhere from run to run of a program.

    Attributes:
        inputs: numbers of the inputs whose memories each run is given.
        successors: (output, input): the output is the input's value for the next run, nobody else
            gets it, and the input's memory may be overwritten.
    """

    inputs: tuple[int, ...]
    successors: tuple[tuple[int, int], ...] = ()


class Program(Protocol):
    """A plan prepared to run all of its steps in one call, again and again.

    Attributes:
        is_whole: whether the next run starts all kernels or none. Where it does not, somebody must
            keep a copy of what the plan overwrites.
        settled: outputs that each run itself puts where the inputs are that they follow. These
            inputs do not move, and no memory is given for these outputs.
    """

    @property
    def is_whole(self) -> bool: ...

    @property
    def settled(self) -> frozenset[int]: ...

    def bind(self, inputs: Sequence[Any]) -> None:
        """Say where all inputs are; until the next `bind` only those that move are said again."""

    def run(self, moved: Sequence[Any], outputs: Sequence[Any], arena: Any) -> int:
        """Run all steps; the number of kernels that ran.

        Args:
            moved: memories of the inputs that move, in the order given to `prepare`.
            outputs: memories of the outputs that are not settled.
            arena: the temporaries lie at their offsets in it; None if there are none.
        """


HostFunction = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """Ordered steps over one arena.

    Attributes:
        device: where it runs.
        kernels: one entry per step, in order; of a plan that was kept they are made when asked for.
        steps: launches, in order.
        inputs, outputs, temps: the buffers.
        arena_bytes: size of the arena that the temporaries share.
        compile: makes the compiled kernels, one a step, and None for a call of a library.
        host: for the device "numpy": the whole graph as one host function, instead of steps.
        prepare: makes the program that runs all steps in one call, where the device has one: of
            the plan and what moves from run to run; None for all inputs.
        replay: how a compiled step runs it again, in words.
        target: what the kernels are generated for, such as "cpu" or "sm_90".
        figures: what that can do at most; None for the device "numpy".
        labels: names of what the user called for the results, such as "adam".
        choices: what passes did otherwise than by themselves, because it was measured to be
            quicker.
    """

    device: Device
    kernels: Sequence[KernelInfo]
    steps: tuple[Step, ...]
    inputs: tuple[BufferSpec, ...]
    outputs: tuple[BufferSpec, ...]
    temps: tuple[BufferSpec, ...]
    arena_bytes: int
    compile: Callable[[], tuple[Executable | None, ...]]
    host: HostFunction | None = None
    prepare: Callable[[Plan, Moves | None], Program | None] | None = None
    replay: str = "each kernel is launched by itself"
    target: str = ""
    figures: DeviceFigures | None = None
    labels: frozenset[str] = frozenset()
    choices: PlanChoices = NO_CHOICES

    @cached_property
    def artifacts(self) -> tuple[Executable | None, ...]:
        """Compiled kernels, one a step, None for calls; compiled on first use."""
        return self.compile()

    @cached_property
    def awaited(self) -> Mapping[int, Sequence[int]]:
        """By step, the exchanges that must have ended before it; see `awaited_before`."""
        from tgrad.runtime.exchanges import awaited_before

        return awaited_before(self)

    @property
    def compiled(self) -> tuple[Executable, ...]:
        """The compiled kernels."""
        return tuple(a for a in self.artifacts if a is not None)

    @cached_property
    def program(self) -> Program | None:
        """All steps as one call, for inputs that all move; None where the device launches them one
        by one."""
        return None if self.prepare is None else self.prepare(self, None)

    @property
    def launches(self) -> int:
        """Number of kernel launches of one run."""
        return len(self.steps)

    @property
    def flops(self) -> int:
        return sum(k.flops for k in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that the kernels must move at least."""
        return sum(step.moved for step in self.steps)

    @property
    def output_bytes(self) -> int:
        return sum(b.nbytes for b in self.outputs)

    @property
    def input_bytes(self) -> int:
        return sum(b.nbytes for b in self.inputs)

    @property
    def peak_bytes(self) -> int:
        """Bytes that one run allocates: the arena and the outputs. Inputs exist before."""
        return self.arena_bytes + self.output_bytes

    def explain(self, memory_limit: int | None = None, compiled: bool = False) -> str:
        """What will run: a row a kernel with times, equations and reasons, totals, memory.

        Args:
            memory_limit: bytes; the text says whether inputs, arena and outputs fit.
            compiled: compile the kernels (run none), for their registers and spills.
        """
        from tgrad.runtime.report import report_plan, text_of

        return text_of(report_plan(self, memory_limit, compiled))

    def __str__(self) -> str:
        return self.explain()

    def to_json(self, memory_limit: int | None = None, compiled: bool = False) -> dict[str, Any]:
        """The same as plain data; the keys are those of runtime/report/text.py."""
        from tgrad.runtime.report import data_of, report_plan

        return data_of(report_plan(self, memory_limit, compiled))

    def to_html(self, memory_limit: int | None = None, compiled: bool = False) -> str:
        """The same as a page of its own, with the graph of kernels, a memory timeline, a roofline
        plot and the generated code."""
        from tgrad.runtime.report import page_of, report_plan

        return page_of(report_plan(self, memory_limit, compiled))

    def _repr_html_(self) -> str:
        """A short table for notebooks."""
        from tgrad.runtime.report import report_plan, table_of

        return table_of(report_plan(self))


@dataclass(frozen=True)
class Compiled:
    """A plan and how it meets the caller's graph.

    Attributes:
        plan: what runs.
        leaves: which of the graph's buffers, in order of first use, are the plan's inputs.
        results: for each output of the graph, the plan's output or the leaf that it is.
    """

    plan: Plan
    leaves: tuple[int, ...]
    results: tuple[BufferRef, ...]


@dataclass(frozen=True)
class PlannedGraph:
    """A graph that was planned, and can be planned again with other choices; it holds no memory.

    Attributes:
        key: the same in every process.
        leaves: how many buffers it reads.
        planned: what was planned.
        again: the same graph with given choices and no other.
        places: where a choice may be made beside those given.
    """

    key: str
    leaves: int
    planned: Compiled
    again: Callable[[PlanChoices], Compiled]
    places: Callable[[PlanChoices], Sequence[Site]]


_recorders = threading.local()


@contextmanager
def record_plans() -> Iterator[list[Plan]]:
    """Collect every plan that this thread makes inside the block.

    >>> with record_plans() as plans:
    ...     pass
    >>> plans
    []
    """
    with _record("plans") as plans:
        yield plans


@contextmanager
def record_graphs() -> Iterator[list[PlannedGraph]]:
    """Collect every graph that this thread plans inside the block."""
    with _record("graphs") as graphs:
        yield graphs


def are_graphs_recorded() -> bool:
    """Whether somebody will plan this thread's graphs again."""
    return bool(_recorders.__dict__.get("graphs"))


@contextmanager
def _record(what: str) -> Iterator[list[Any]]:
    stack: list[list[Any]] = _recorders.__dict__.setdefault(what, [])
    stack.append([])
    try:
        yield stack[-1]
    finally:
        stack.pop()


def announce_plan(compiled: Compiled, graph: Callable[[], PlannedGraph]) -> None:
    """Tell the recorders of this thread about a new plan, and those of graphs how to plan again."""
    for plans in _recorders.__dict__.get("plans", []):
        plans.append(compiled.plan)
    for graphs in _recorders.__dict__.get("graphs", []):
        graphs.append(graph())
