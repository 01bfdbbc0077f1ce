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

BURST = 32
"""Calls behind one spin: what they launch must fit the device's queue of about a thousand, or the
host waits for the spin to end."""
CLOCK_RATE = 2e9
"""Cycles of a GPU in a second, at most: a slower one spins longer."""
SPIN_LEAST, SPIN_MOST = 50e-6, 0.05
"""Seconds of a spin."""


@dataclass(frozen=True)
class Times:
    """Of single calls.

    Attributes:
        seconds: that the device worked on each; in a loop, the seconds that each took there.
        host: seconds until each returned; on a GPU the work may begin after that.
    """

    seconds: list[float]
    host: list[float]


class Clock(Protocol):
    """Measures calls on one kind of device."""

    def measure(self, calls: Sequence[Call], is_loop: bool = False) -> Times:
        """Times of each call: what the device works, or what one takes in a loop, where the device
        waits for a host that is slower."""

    def wait(self) -> None:
        """Wait until the device has nothing to do."""

    def release(self) -> None:
        """Give memory that nothing uses back to the device, for other processes."""

    def peak(self, call: Call) -> int | None:
        """Bytes of the device that this process holds at most while it does a call; None where
        that is not known."""


class HostClock:
    """For calls that are done when they return."""

    def measure(self, calls: Sequence[Call], is_loop: bool = False) -> Times:
        seconds = []
        for call in calls:
            start = perf_counter()
            call()
            seconds.append(perf_counter() - start)
        return Times(seconds, seconds)

    def wait(self) -> None:
        """Nothing is pending."""

    def release(self) -> None:
        """It is the system's."""

    def peak(self, call: Call) -> None:
        """A process on a CPU shares its memory with its libraries; see `python -m bench memory`."""


class CudaClock:
    """Events on the current stream around each call.

    A call of microseconds takes the host longer to launch than the device to do, and events around
    it would measure the host. So calls are launched in bursts behind a kernel that spins until the
    host is done with the burst: between the events lies the device's work, back to back.
    """

    def __init__(self) -> None:
        self.cuda: Any = import_module("torch").cuda
        self.launching = 1e-3

    def measure(self, calls: Sequence[Call], is_loop: bool = False) -> Times:
        if is_loop:
            return self._timed(calls, 0)
        seconds: list[float] = []
        host: list[float] = []
        for start in range(0, len(calls), BURST):
            burst = calls[start : start + BURST]
            found = self._timed(burst, self._cycles(len(burst)))
            seconds += found.seconds
            host += found.host
            self.launching = sum(found.host) / len(burst)
        return Times(seconds, host)

    def _cycles(self, calls: int) -> int:
        """That the spin takes: twice what as many calls of the last burst took the host."""
        return int(CLOCK_RATE * min(2 * self.launching * calls + SPIN_LEAST, SPIN_MOST))

    def _timed(self, calls: Sequence[Call], spin: int) -> Times:
        pairs = [
            (self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True))
            for _ in calls
        ]
        self.wait()
        if spin:
            self.cuda._sleep(spin)
        host = []
        for call, (before, after) in zip(calls, pairs):
            before.record()
            start = perf_counter()
            call()
            host.append(perf_counter() - start)
            after.record()
        self.wait()
        return Times([before.elapsed_time(after) / 1e3 for before, after in pairs], host)

    def release(self) -> None:
        self.wait()
        self.cuda.empty_cache()

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
