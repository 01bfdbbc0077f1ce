"""Clocks: seconds of single calls, on a CPU and on a GPU, and the memory of one.

In: calls. Out: `Times` of each. Invariant: nothing else happens between the two readings of a call;
its result is freed inside, as in a user's loop.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any, Protocol

Call = Callable[[], Any]


@dataclass(frozen=True)
class Times:
    """Of single calls.

    Attributes:
        seconds: that the device worked on each.
        host: seconds until each returned; on a GPU the work may begin after that.
    """

    seconds: list[float]
    host: list[float]


class Clock(Protocol):
    """Measures calls on one kind of device."""

    def measure(self, calls: Sequence[Call]) -> Times:
        """Times of each call."""

    def wait(self) -> None:
        """Wait until the device has nothing to do."""

    def peak(self, call: Call) -> int | None:
        """Bytes of the device that this process holds at most while it does a call; None where
        that is not known."""


class HostClock:
    """For calls that are done when they return."""

    def measure(self, calls: Sequence[Call]) -> Times:
        seconds = []
        for call in calls:
            start = perf_counter()
            call()
            seconds.append(perf_counter() - start)
        return Times(seconds, seconds)

    def wait(self) -> None:
        """Nothing is pending."""

    def peak(self, call: Call) -> None:
        """A process on a CPU shares its memory with its libraries; see `python -m bench memory`."""


class CudaClock:
    """Events on the current stream around each call. The queue is filled before it is waited for,
    so host time counts only where it exceeds the device's."""

    def __init__(self) -> None:
        self.cuda: Any = import_module("torch").cuda

    def measure(self, calls: Sequence[Call]) -> Times:
        pairs = [
            (self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True))
            for _ in calls
        ]
        self.wait()
        host = []
        for call, (before, after) in zip(calls, pairs):
            before.record()
            start = perf_counter()
            call()
            host.append(perf_counter() - start)
            after.record()
        self.wait()
        return Times([before.elapsed_time(after) / 1e3 for before, after in pairs], host)

    def wait(self) -> None:
        self.cuda.synchronize()

    def peak(self, call: Call) -> int:
        """What PyTorch's allocator, tgrad's too, has from the driver: a captured graph keeps its
        memory between calls, where the allocator counts it as free."""
        gc.collect()
        self.wait()
        self.cuda.empty_cache()
        self.cuda.reset_peak_memory_stats()
        call()
        self.wait()
        return int(self.cuda.max_memory_reserved())


def measure_gpu(clock: Clock) -> dict[str, Any]:
    """Bytes/s of a copy of 1 GiB and FLOP/s of a bfloat16 product of 8192³, the best of some; and
    the GPU's name."""
    torch: Any = import_module("torch")
    source = torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copies = clock.measure([lambda: target.copy_(source)] * 10).seconds
    size = 8192
    a = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    products = clock.measure([lambda: a @ a] * 10).seconds
    return {
        "copy": 2 * source.nbytes / min(copies),
        "matmul": 2 * size**3 / min(products),
        "name": torch.cuda.get_device_name(),
    }


def clock_of(device: str) -> Clock:
    """The clock of a device by name."""
    return CudaClock() if device.startswith("cuda") else HostClock()
