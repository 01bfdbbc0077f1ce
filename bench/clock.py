"""Clocks: seconds of single calls, on a CPU and on a GPU.

In: calls. Out: seconds of each. Invariant: nothing else happens between the two readings of a call;
its result is freed inside, as in a user's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any, Protocol

Call = Callable[[], Any]


class Clock(Protocol):
    """Measures calls on one kind of device."""

    def measure(self, calls: Sequence[Call]) -> list[float]:
        """Seconds of each call."""

    def wait(self) -> None:
        """Wait until the device has nothing to do."""


class HostClock:
    """For calls that are done when they return."""

    def measure(self, calls: Sequence[Call]) -> list[float]:
        seconds = []
        for call in calls:
            start = perf_counter()
            call()
            seconds.append(perf_counter() - start)
        return seconds

    def wait(self) -> None:
        """Nothing is pending."""


class CudaClock:
    """Events on the current stream around each call. The queue is filled before it is waited for,
    so host time counts only where it exceeds the device's."""

    def __init__(self) -> None:
        self.cuda: Any = import_module("torch").cuda

    def measure(self, calls: Sequence[Call]) -> list[float]:
        pairs = [
            (self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True))
            for _ in calls
        ]
        self.wait()
        for call, (before, after) in zip(calls, pairs):
            before.record()
            call()
            after.record()
        self.wait()
        return [before.elapsed_time(after) / 1e3 for before, after in pairs]

    def wait(self) -> None:
        self.cuda.synchronize()


def clock_of(device: str) -> Clock:
    """The clock of a device by name."""
    return CudaClock() if device.startswith("cuda") else HostClock()
