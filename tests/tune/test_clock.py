"""The clock of kernels on a CPU, with made-up times of threads."""

from __future__ import annotations

import sys

import pytest

from tgrad.autotuning import clock
from tgrad.device import Device
from tgrad.runtime.device import open_device

READINGS = [{1: 100, 2: 50}, {1: 2_000_000_100, 2: 1_000_000_050, 3: 500_000_000, 4: 3}]
"""Nanoseconds: two threads work on, one is new, one hardly ran."""


@pytest.mark.parametrize(("takers", "seconds"), [(0, 1.0), (3, 3.500000003 / 3 / 2)])
def test_the_busiest_thread_or_the_mean_of_those_that_take_programs(monkeypatch, takers, seconds):
    readings, launches = iter(READINGS), []
    monkeypatch.setattr(clock, "HAS_THREAD_CLOCKS", True)
    monkeypatch.setattr(clock, "_thread_times", lambda: next(readings))
    runtime = open_device(Device("cpu"))
    found = clock.launch_seconds(runtime, lambda: launches.append(1), 2, takers)
    assert found == pytest.approx(seconds) and len(launches) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="clocks of threads are Linux's")
def test_this_process_has_threads_with_clocks():
    assert max(clock._thread_times().values()) > 0


def test_without_clocks_of_threads_it_is_time_passed(monkeypatch):
    monkeypatch.setattr(clock, "HAS_THREAD_CLOCKS", False)
    ticks = iter([10.0, 13.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(ticks))
    assert clock.launch_seconds(open_device(Device("cpu")), lambda: None, 3) == 1.0
