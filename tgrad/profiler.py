"""`torch.profiler`'s names over tgrad's measurements.

In: a block of a program. Out: a row for each kernel that it launched and each name that it gave,
as a table or as a trace for Chrome and Perfetto. Invariant: each launch is measured by itself, so
plans are not replayed as one call meanwhile, and a step takes longer than without.
Source: https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator, ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.runtime.profile import Profile, profiling, trace_of
from tgrad.runtime.report.text import duration

__all__ = [
    "ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule",
    "supported_activities", "tensorboard_trace_handler",
]  # fmt: skip

_MICRO = 1e6


class ProfilerActivity(Enum):
    """What is measured; here always the kernels, wherever they run."""

    CPU = 0
    CUDA = 1


class ProfilerAction(Enum):
    """What a schedule asks for in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


_RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def supported_activities() -> set[ProfilerActivity]:
    """All of them."""
    return set(ProfilerActivity)


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0
) -> Callable[[int], ProfilerAction]:
    """Steps that are measured, for `profile`: after `skip_first`, cycles of `wait` and `warmup`
    steps that are not and `active` ones that are, `repeat` times, or for ever with 0.

    >>> plan = schedule(wait=1, warmup=0, active=2, repeat=1)
    >>> [plan(step).name for step in range(4)]
    ['NONE', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if active < 1 or min(wait, warmup, repeat, skip_first) < 0:
        raise OutOfRangeError("schedule: active is less than 1, or another number negative.")

    def action(step: int) -> ProfilerAction:
        cycle, place = divmod(step - skip_first, wait + warmup + active)
        if step < skip_first or (repeat and cycle >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        is_last = place == wait + warmup + active - 1
        return ProfilerAction.RECORD_AND_SAVE if is_last else ProfilerAction.RECORD

    return action


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[Any], None]:
    """For `on_trace_ready`: write each trace to a file of its own in that directory.

    Args:
        dir_name: the directory, which is made.
        worker_name: how the files begin; by default with the number of the process.
        use_gzip: only False.
    """
    refuse("tensorboard_trace_handler", use_gzip=use_gzip)
    start = f"worker_{os.getpid()}" if worker_name is None else worker_name

    def write(measured: profile) -> None:
        Path(dir_name).mkdir(parents=True, exist_ok=True)
        measured.export_chrome_trace(
            os.path.join(dir_name, f"{start}.{measured.step_num}.pt.trace.json")
        )

    return write


@dataclass(frozen=True)
class _Block:
    """A block that `record_function` has measured."""

    name: str
    start: float
    seconds: float


_open: list[profile] = []


class record_function(ContextDecorator):
    """A name for a block in what `profile` shows: the time that Python spends in it. tgrad computes
    when a value is read, so kernels that the block asks for may run after it.

    >>> with profile() as measured, record_function("nothing"):
    ...     pass
    >>> [row.key for row in measured.key_averages()]
    ['nothing']
    """

    def __init__(self, name: str, args: str | None = None):
        self.name = name
        self._starts: list[float] = []

    def __enter__(self) -> record_function:
        self._starts.append(perf_counter())
        return self

    def __exit__(self, *exc: object) -> None:
        start = self._starts.pop()
        for each in _open:
            each._note(self.name, start, perf_counter() - start)


@dataclass(frozen=True)
class Row:
    """A kernel, or a named block.

    Attributes:
        key: its name.
        count: how often it ran.
        self_cpu_time_total, self_device_time_total: microseconds in all, of which one is 0.
    """

    key: str
    count: int
    self_cpu_time_total: float
    self_device_time_total: float

    @property
    def cpu_time_total(self) -> float:
        """The same: no row is part of another."""
        return self.self_cpu_time_total

    @property
    def device_time_total(self) -> float:
        """The same."""
        return self.self_device_time_total

    cuda_time_total = self_cuda_time_total = device_time_total

    @property
    def cpu_time(self) -> float:
        """Microseconds of a run."""
        return self.self_cpu_time_total / self.count

    @property
    def device_time(self) -> float:
        """Microseconds of a run."""
        return self.self_device_time_total / self.count

    cuda_time = device_time


class Rows(list[Row]):
    """What ran."""

    def total_average(self) -> Row:
        """All rows as one."""
        return Row(
            "Total",
            sum(r.count for r in self),
            sum(r.self_cpu_time_total for r in self),
            sum(r.self_device_time_total for r in self),
        )

    def table(
        self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55
    ) -> str:
        """Text, the longest first.

        Args:
            sort_by: a name of numbers in the rows, such as "self_cpu_time_total" or "count"; left
                out, rows stand in the order in which they ran first.
            row_limit: rows that are shown; -1 for all.
            max_name_column_width: letters of a name that are shown.
        """
        rows = list(self)
        if sort_by is not None:
            if not isinstance(getattr(Row, sort_by, None), property) and sort_by not in (
                "count", "self_cpu_time_total", "self_device_time_total",
            ):  # fmt: skip
                raise UnsupportedError(
                    f"table of rows sorted by {sort_by!r}.",
                    "Use cpu_time_total, device_time_total, cpu_time, device_time or count.",
                )
            rows.sort(key=lambda r: -getattr(r, sort_by))
        shown = rows if row_limit < 0 else rows[:row_limit]
        whole = sum(r.cpu_time_total + r.device_time_total for r in self) or 1.0
        header = ("Name", "CPU total", "Device total", "% of all", "# of Calls", "Average")
        lines: list[tuple[str, ...]] = [header]
        lines += [_line(r, max_name_column_width, whole) for r in shown]
        widths = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                cell.rjust(w) if c else cell.ljust(w)
                for c, (cell, w) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        )


def _line(row: Row, width: int, whole: float) -> tuple[str, ...]:
    total = row.cpu_time_total + row.device_time_total
    times = (row.cpu_time_total, row.device_time_total)
    shown = (duration(t / _MICRO) if t else "" for t in times)
    part, average = f"{100 * total / whole:.1f}", duration(total / row.count / _MICRO)
    return row.key[:width], *shown, part, str(row.count), average


class profile:
    """Measure the kernels that a block launches.

    Args:
        activities: accepted; kernels are measured wherever they run.
        schedule: which steps are measured, see `schedule`; the program calls `step` after each.
        on_trace_ready: called with this object when steps that were measured are over.
        record_shapes, profile_memory, with_stack, with_flops, with_modules: accepted; traces have
            domains of kernels, bytes, lines of the program and FLOPs in any case.
        experimental_config, execution_trace_observer: not supported.
        acc_events: whether what earlier cycles of the schedule measured is kept.

    >>> import tgrad
    >>> with tgrad.profiler.profile() as measured:
    ...     y = (tgrad.ones(8).cumsum(0) * 2).tolist()
    >>> measured.key_averages().total_average().count > 0
    True
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
    ):
        refuse(
            "profile",
            experimental_config=experimental_config,
            execution_trace_observer=execution_trace_observer,
        )
        self.step_num = 0
        self._schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self._on_trace_ready, self._accumulates = on_trace_ready, acc_events
        self._scope: ExitStack | None = None
        self._measured: list[Profile] = []
        self._blocks: list[_Block] = []

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with the first step of the schedule."""
        if self._schedule(self.step_num) in _RECORDING:
            self._begin()

    def stop(self) -> None:
        """End; what was measured is ready."""
        if self._scope is not None:
            self._end()

    def step(self) -> None:
        """A step of the program is over."""
        if self._schedule(self.step_num) is ProfilerAction.RECORD_AND_SAVE:
            self._end()
        self.step_num += 1
        if self._schedule(self.step_num) in _RECORDING and self._scope is None:
            self._begin()

    def _begin(self) -> None:
        if not self._accumulates:
            self._measured, self._blocks = [], []
        self._scope = ExitStack()
        self._measured.append(self._scope.enter_context(profiling()))
        _open.append(self)
        self._began = perf_counter()

    def _end(self) -> None:
        assert self._scope is not None
        _open.remove(self)
        self._scope.close()
        self._scope = None
        if self._on_trace_ready is not None:
            self._on_trace_ready(self)

    def _note(self, name: str, start: float, seconds: float) -> None:
        self._blocks.append(_Block(name, start - self._began, seconds))

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> Rows:
        """A row for each kernel and each named block, in the order in which they ran first.

        Args:
            group_by_input_shape: accepted; kernels of other shapes are other kernels.
            group_by_stack_n: only 0; a trace names the lines.
        """
        refuse("key_averages", group_by_stack_n=group_by_stack_n or None)
        times: dict[str, list[tuple[float, float]]] = {}
        for block in self._blocks:
            times.setdefault(block.name, []).append((block.seconds, 0.0))
        for launch in (one for each in self._measured for one in each.launches):
            name = launch.plan.kernels[launch.step].name
            is_on_gpu = launch.plan.device.type == "cuda"
            pair = (0.0, launch.seconds) if is_on_gpu else (launch.seconds, 0.0)
            times.setdefault(name, []).append(pair)
        return Rows(
            Row(name, len(found), *(_MICRO * sum(t) for t in zip(*found)))
            for name, found in times.items()
        )

    def export_chrome_trace(self, path: str) -> None:
        """Write what was measured for chrome://tracing and ui.perfetto.dev."""
        events: list[dict[str, Any]] = []
        for each in self._measured:
            events += trace_of(each)["traceEvents"]
        events += [
            {"ph": "X", "name": b.name, "cat": "user_annotation", "pid": 1, "tid": 0,
             "ts": b.start * _MICRO, "dur": b.seconds * _MICRO}
            for b in self._blocks
        ]  # fmt: skip
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n")
