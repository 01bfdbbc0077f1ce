"""How long a kernel takes, on a machine that does other things too.

In: a function that launches a kernel. Out: seconds of a launch. Invariant: on an idle machine it is
the time that passes.

On a CPU the clock is the processor time of the busiest thread. While another program has the core
that a thread needs, time passes and the thread's own clock stands still. So what else the machine
does is left out, as far as caches and memory are not shared with it (product of 1024x1024 matrices
on two cores that five other programs used, lower quartiles of 20 launches: 8.2 to 11.5 ms passed,
4.14 to 4.15 ms of processor time; Zen 5, 2026-11). Waiting for a slower thread is counted, as that
thread's time. Threads must sleep while they wait (GOMP_SPINCOUNT=0): spinning takes processor time,
the more the busier the machine (a kernel of 59 us: 150 us with 4,000 turns). Where threads take
programs as they get free, one that lacks a core leaves its part to the others; there the mean
counts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from tgrad.runtime.device import Runtime

_THREAD_CLOCK = 6
"""Linux's number of the clock of a thread: nanoseconds on a core; with the complement of the
thread's number above the lowest three bits. See clock_getcpuclockid(3)."""

HAS_THREAD_CLOCKS = sys.platform == "linux" and os.path.isdir("/proc/self/task")


def launch_seconds(
    runtime: Runtime, launch: Callable[[], Any], runs: int, takers: int = 0
) -> float:
    """Seconds of one of `runs` launches, the mean.

    Args:
        takers: how many threads take programs as they get free; 0 where each has its part.
    """
    if runtime.device.type == "cpu" and HAS_THREAD_CLOCKS:
        times = _times_of_threads(launch, runs)
        return sum(times) / takers if takers else max(times)
    runtime.synchronize()
    begin = time.perf_counter()
    for _ in range(runs):
        launch()
    runtime.synchronize()
    return (time.perf_counter() - begin) / runs


def _times_of_threads(launch: Callable[[], Any], runs: int) -> list[float]:
    """Seconds that each thread had a core, of one launch."""
    before = _thread_times()
    for _ in range(runs):
        launch()
    after = _thread_times()
    return [(after[t] - before.get(t, 0)) / runs / 1e9 for t in after]


def _thread_times() -> dict[int, int]:
    """Nanoseconds that each thread of this process has had a core."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc/self/task"):
        thread = int(name)
        try:
            found[thread] = time.clock_gettime_ns((~thread << 3) | _THREAD_CLOCK)
        except OSError:  # it ended meanwhile
            continue
    return found
