"""Clocks: what the device took, and what the host did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench import clock
from bench.results import Cell, Limits, Row, cell_of
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
        self.cycles: list[int] = []

    def _sleep(self, cycles: int) -> None:
        self.did.append("spin")
        self.cycles.append(cycles)

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
    times = gpu_clock(cuda, monkeypatch).measure([lambda: None, lambda: None], is_loop=True)
    assert times.seconds == pytest.approx([0.003, 0.003])
    assert times.host == [1.0, 2.0]
    assert cuda.did == ["wait", "wait"]


def test_functions_are_launched_behind_a_spin_that_outlasts_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda()
    readings = iter(1e-4 * n for n in range(1000))
    monkeypatch.setattr(clock, "perf_counter", readings.__next__)
    device = gpu_clock(cuda, monkeypatch)
    calls = [lambda: cuda.did.append("call")] * (clock.BURST + 2)
    times = device.measure(calls)
    assert len(times.seconds) == len(times.host) == len(calls)
    assert times.host == pytest.approx([1e-4] * len(calls))
    whole = ["wait", "spin", *["call"] * clock.BURST, "wait"]
    assert cuda.did == [*whole, "wait", "spin", "call", "call", "wait"]
    before, learnt = cuda.cycles
    assert before == clock.CLOCK_RATE * clock.SPIN_MOST  # nothing known of the host: the longest
    assert learnt == pytest.approx(clock.CLOCK_RATE * (2 * 2 * 1e-4 + clock.SPIN_LEAST), abs=2)


def test_memory_goes_back_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    gpu_clock(cuda, monkeypatch).release()
    assert cuda.did == ["wait", "empty"]


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


def test_the_table_of_a_gpu_has_rates_and_host_times() -> None:
    cell = cell_of([0.001], 0.0, 1.0, [20e-6, 30e-6, 10e-6])
    assert cell.host == 20e-6
    peers = {"tgrad": replace(cell, peak=2_500_000_000), "torch": Cell(reason="no")}
    rows = [
        Row("copy", "a copy", 1, 3_000_000_000, 1, 0, peers),
        Row("step_gpt2", "a step", 500_000_000_000, 1, 1, 0, peers),
    ]
    limits = Limits(4e12, 1e15)
    run = replace(made(), kind="gpu", rows=rows, peers=["tgrad", "torch"], limits=limits)
    text = markdown(main_table(run))
    assert "| a copy | 1 ±0% | – | 0.75 | 75% | 3.00 TB/s | 20 / – | – | – |\n" in text
    assert "| a step | 1 ±0% | – | 0.5 | 50% | 500 TFLOP/s | 20 / – | – | – |\n" in text
    assert "- memory of a step: tgrad 2.50 GB\n" in text
