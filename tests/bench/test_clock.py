"""Clocks: what the device took, and what the host did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench import clock
from bench.results import Row, cell_of
from bench.tables import main_table, markdown
from tests.bench.test_compare import made


class Event:
    """Reads a device's clock when it is recorded: three milliseconds more each time."""

    now = 0.0

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        Event.now += 3.0
        self.at = Event.now

    def elapsed_time(self, after: Event) -> float:
        return after.at - self.at


class Cuda:
    """What a clock of a GPU needs of torch.cuda."""

    Event = Event

    def __init__(self) -> None:
        self.did: list[str] = []

    def synchronize(self) -> None:
        self.did.append("wait")

    def empty_cache(self) -> None:
        self.did.append("empty")

    def reset_peak_memory_stats(self) -> None:
        self.did.append("reset")

    def max_memory_reserved(self) -> int:
        return 1 << 30


def gpu_clock(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> clock.Clock:
    """A clock of that GPU."""
    monkeypatch.setattr(clock, "import_module", lambda name: type("Torch", (), {"cuda": cuda}))
    return clock.clock_of("cuda")


def test_a_gpu_is_timed_by_its_events_and_the_host_by_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda()
    readings = iter((0.0, 1.0, 5.0, 7.0))
    monkeypatch.setattr(clock, "perf_counter", readings.__next__)
    times = gpu_clock(cuda, monkeypatch).measure([lambda: None, lambda: None])
    assert times.seconds == pytest.approx([0.003, 0.003])
    assert times.host == [1.0, 2.0]
    assert cuda.did == ["wait", "wait"]


def test_the_memory_of_a_call_is_what_it_makes_the_allocator_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda()
    peak = gpu_clock(cuda, monkeypatch).peak(lambda: cuda.did.append("call"))
    assert peak == 1 << 30
    assert cuda.did == ["wait", "empty", "reset", "call", "wait"]
    assert clock.clock_of("cpu").peak(lambda: None) is None


def test_a_call_on_a_cpu_is_done_when_it_returns() -> None:
    times = clock.clock_of("cpu").measure([lambda: None] * 3)
    assert len(times.seconds) == 3 and times.host == times.seconds


def test_host_times_and_memory_of_steps_stand_below_the_table() -> None:
    cell = cell_of([0.01], 0.0, 1.0, [20e-6, 30e-6, 10e-6])
    assert cell.host == 20e-6
    cell = replace(cell, peak=2_500_000_000)
    rows = [Row("step_gpt2", "a step", 1, 1, 1, 0, {"tgrad": cell})]
    run = replace(made(), rows=rows)
    text = markdown(main_table(run))
    assert "- host time of a step: tgrad 20 µs\n- memory of a step: tgrad 2.50 GB\n" in text
