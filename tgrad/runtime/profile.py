"""Measured times of launches, beside what the cost model predicted.

In: launches, through the hook of runtime/execute.py. Out: `Profile`: medians a kernel, text, and a
trace in the Trace Event Format of Chrome and Perfetto. Invariant: every launch is measured; on the
CPU by a clock around it, on CUDA by events on its stream, so that nothing waits between launches.

The trace: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from threading import get_ident
from time import perf_counter
from typing import Any

from tgrad.fusion.cost import Prediction
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import Plan
from tgrad.runtime.report.figures import PlanReport, report_plan
from tgrad.runtime.report.text import duration
from tgrad.runtime.watch import watching

_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Launch:
    """A measured launch: step of a plan, seconds since the profile began, and the thread."""

    plan: Plan
    step: int
    start: float
    seconds: float
    thread: int


@dataclass(frozen=True)
class MeasuredKernel:
    """A step over all runs of its plan.

    Attributes:
        step, name, line: of the plan.
        runs: how often it was measured.
        seconds: median of its times.
        time: what was predicted; None where the plan has no figures.
        flops, bytes: of one launch.
    """

    step: int
    name: str
    line: str
    runs: int
    seconds: float
    time: Prediction | None
    flops: int
    bytes: int


@dataclass(frozen=True)
class MeasuredPlan:
    """A plan that ran: its report and a measured kernel for each step."""

    report: PlanReport
    kernels: tuple[MeasuredKernel, ...]
    total: float

    @property
    def seconds(self) -> float:
        """Sum of the medians: the kernels of a typical run."""
        return sum(k.seconds for k in self.kernels)

    @property
    def work(self) -> float:
        """Predicted seconds of all its runs: says which plan matters, first touches aside."""
        return self.report.seconds * max(k.runs for k in self.kernels)


class Profile:
    """A watcher that measures.

    Attributes:
        launches: what was measured so far; complete after `finish`.
    """

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self._began = perf_counter()
        self._clocks: dict[int, _CudaClock] = {}

    def watch(
        self, plan: Plan, step: int, memories: Sequence[Any], launch: Callable[[], None]
    ) -> None:
        """Launch and measure; see runtime/watch.py."""
        if plan.device.type == "cuda":
            if plan.device.index not in self._clocks:
                self._clocks[plan.device.index] = _CudaClock(plan.device.index, self._began)
            self._clocks[plan.device.index].measure(plan, step, launch)
            return
        start = perf_counter()
        launch()
        open_device(plan.device).synchronize()
        end = perf_counter()
        self.launches.append(Launch(plan, step, start - self._began, end - start, get_ident()))

    def finish(self) -> None:
        """Wait for what is pending and read its times."""
        for clock in self._clocks.values():
            self.launches += clock.read()

    def plans(self) -> tuple[MeasuredPlan, ...]:
        """Plans that ran, in the order of their first launches."""
        by_plan: dict[int, list[Launch]] = {}
        for launch in self.launches:
            by_plan.setdefault(id(launch.plan), []).append(launch)
        return tuple(_measured(launches) for launches in by_plan.values())


class _CudaClock:
    """Events around launches on a device's current stream; read when the profile ends.

    Written after torch's documentation of `torch.cuda.Event` and not yet run on a GPU; its times
    have the resolution of the device's clock, about half a microsecond.
    """

    def __init__(self, index: int, began: float):
        self.torch: Any = import_module("torch")
        self.index = index
        self.events: list[tuple[Plan, int, Any, Any, int]] = []
        with self.torch.cuda.device(index):
            self.torch.cuda.synchronize()
            self.origin = self._event()
        self.offset = perf_counter() - began

    def _event(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def measure(self, plan: Plan, step: int, launch: Callable[[], None]) -> None:
        with self.torch.cuda.device(self.index):
            before = self._event()
            launch()
            self.events.append((plan, step, before, self._event(), get_ident()))

    def read(self) -> list[Launch]:
        with self.torch.cuda.device(self.index):
            self.torch.cuda.synchronize()
        events, self.events = self.events, []
        return [
            Launch(
                plan,
                step,
                self.offset + self.origin.elapsed_time(before) / 1e3,
                before.elapsed_time(after) / 1e3,
                thread,
            )
            for plan, step, before, after, thread in events
        ]


@contextmanager
def profiling() -> Iterator[Profile]:
    """Measure every launch of all threads until the scope ends.

    >>> with profiling() as profile:
    ...     pass
    >>> profile.plans()
    ()
    """
    profile = Profile()
    with watching(profile):
        yield profile
    profile.finish()


def _measured(launches: list[Launch]) -> MeasuredPlan:
    report = report_plan(launches[0].plan)
    times: dict[int, list[float]] = {}
    for launch in launches:
        times.setdefault(launch.step, []).append(launch.seconds)
    kernels = tuple(
        MeasuredKernel(
            step=step,
            name=report.kernels[step].info.name,
            line=report.kernels[step].info.line,
            runs=len(found),
            seconds=median(found),
            time=report.kernels[step].time,
            flops=report.kernels[step].info.flops,
            bytes=report.kernels[step].info.bytes,
        )
        for step, found in sorted(times.items())
    )
    return MeasuredPlan(report, kernels, sum(launch.seconds for launch in launches))


def profile_text(measured: MeasuredPlan) -> str:
    """A row a kernel: median beside prediction, and the rates that it reached; then totals."""
    header = ("kernel", "line", "runs", "measured", "predicted", "ratio", "GFLOP/s", "GB/s")
    rows = [
        (k.name, k.line, str(k.runs), *_pair(k.seconds, k.time.seconds if k.time else None),
         *_rates(k.flops, k.bytes, k.seconds))
        for k in measured.kernels
    ]  # fmt: skip
    plan = measured.report.plan
    predicted = measured.report.seconds if plan.figures else None
    runs = max(k.runs for k in measured.kernels)
    rows.append(
        ("total", f"{plan.launches} launches", str(runs), *_pair(measured.seconds, predicted),
         *_rates(plan.flops, plan.bytes, measured.seconds))
    )  # fmt: skip
    widths = [max(len(r[c]) for r in (header, *rows)) for c in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(w) if c > 1 else cell.ljust(w)
            for c, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in (header, *rows)
    ]
    if plan.figures is not None:
        lines.append(
            f"measured: median of the runs; predicted for {plan.figures.name} "
            f"({plan.figures.origin})"
        )
    return "\n".join(lines)


def _pair(seconds: float, predicted: float | None) -> tuple[str, str, str]:
    if predicted is None:
        return duration(seconds), "", ""
    ratio = f"{seconds / predicted:.2f}" if predicted else ""
    return duration(seconds), duration(predicted), ratio


def _rates(flops: int, nbytes: int, seconds: float) -> tuple[str, str]:
    if not seconds:
        return "", ""
    return f"{flops / seconds / 1e9:,.1f}", f"{nbytes / seconds / 1e9:,.1f}"


def trace_of(profile: Profile) -> dict[str, Any]:
    """Plain data for chrome://tracing and ui.perfetto.dev: a bar a launch, memory as a counter."""
    reports: dict[int, tuple[int, PlanReport]] = {}
    events: list[dict[str, Any]] = []
    threads: dict[int, int] = {}
    for launch in sorted(profile.launches, key=lambda one: one.start):
        if id(launch.plan) not in reports:
            reports[id(launch.plan)] = len(reports), report_plan(launch.plan)
        thread = threads.setdefault(launch.thread, len(threads) + 1)
        events += _launch_events(launch, *reports[id(launch.plan)], thread)
    devices = sorted({str(launch.plan.device) for launch in profile.launches})
    name = f"tgrad on {', '.join(devices)}" if devices else "tgrad"
    heads = [_head("process_name", 0, name)]
    heads += [_head("thread_name", number, f"thread {number}") for number in threads.values()]
    return {"traceEvents": [*heads, *events], "displayTimeUnit": "ms"}


def _head(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": 1, "tid": thread, "args": {"name": name}}


def _launch_events(
    launch: Launch, number: int, report: PlanReport, thread: int
) -> list[dict[str, Any]]:
    kernel = report.kernels[launch.step]
    info, time, memory = kernel.info, kernel.time, report.memory[launch.step]
    place = {"pid": 1, "tid": thread, "ts": launch.start * _MICRO}
    arguments = {
        "plan": number,
        "step": launch.step,
        "line": info.line,
        "equations": list(kernel.equations),
        "domain": info.domain,
        "flops": info.flops,
        "bytes": info.bytes,
        "predicted_us": time.seconds * _MICRO if time else None,
    }
    return [
        {"ph": "X", "name": info.name, "cat": "kernel", "dur": launch.seconds * _MICRO,
         "args": arguments, **place},
        {"ph": "C", "name": "memory", "args": {"bytes": memory.held}, **place},
    ]  # fmt: skip
