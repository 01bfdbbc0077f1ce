"""What a device must do, and the devices of this process.

In: a Device. Out: its Runtime. Invariant: one Runtime a device; loading one imports what it needs
(torch for cuda, pyopencl for opencl) and nothing else does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import OutOfMemoryError
from tgrad.runtime.planning import PlanningRuntime, current_planning

if TYPE_CHECKING:
    from tgrad.kernel.ir import Executable


@dataclass(slots=True)
class Counters:
    """What a device has done so far in this process: launches, plans run, bytes asked for."""

    launches: int = 0
    plans: int = 0
    allocated_bytes: int = 0


class Runtime(Protocol):
    """One device. `Memory` is whatever the device calls a piece of its memory."""

    device: Device
    alignment: int
    """Bytes by which an input's first element must be divisible for kernels."""

    def allocate(self, nbytes: int) -> Any:
        """Uninitialised memory, aligned to 256 bytes, freed with its last reference."""

    def view(self, memory: Any, offset: int, nbytes: int) -> Any:
        """A part of some memory; keeps the whole alive."""

    def write(self, memory: Any, array: np.ndarray) -> None:
        """Copy a contiguous host array to the start of the memory."""

    def read(self, memory: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """Copy to a new host array; waits for the kernels that write it."""

    def copy(self, target: Any, source: Any) -> None:
        """Copy a memory to another of its size, after the kernels that write it."""

    def copy_box(
        self,
        target: Any,
        target_shape: tuple[int, ...],
        source: Any,
        source_shape: tuple[int, ...],
        itemsize: int,
    ) -> None:
        """Copy the elements that two row-major arrays have in common, as runtime/box.py."""

    def lend(self, memory: Any, dtype: DType, shape: tuple[int, ...]) -> Any:
        """An array over the memory, with no copy, that keeps it: NumPy's, read-only, or torch's."""

    def borrow(self, array: Any) -> Any:
        """Memory over a contiguous array of the device, with no copy; nobody writes to it in
        place."""

    def launch(self, artifact: Executable, memories: Sequence[Any]) -> None:
        """Start a compiled kernel on memories in the order of its slots."""

    def synchronize(self) -> None:
        """Wait until all launches are done."""


_CLASSES: dict[str, tuple[str, str]] = {
    "cpu": ("tgrad.runtime.cpu", "CpuRuntime"),
    "numpy": ("tgrad.runtime.cpu", "CpuRuntime"),
    "interpret": ("tgrad.runtime.interpret", "InterpretRuntime"),
    "cuda": ("tgrad.runtime.cuda", "CudaRuntime"),
    "opencl": ("tgrad.runtime.opencl", "OpenClRuntime"),
    "meta": ("tgrad.runtime.meta", "MetaRuntime"),
}

_open: dict[Device, Runtime] = {}
_counters: dict[Device, Counters] = {}
_arenas: dict[Device, tuple[int, Any]] = {}
_lock = threading.RLock()


def open_device(device: Device) -> Runtime:
    """The runtime of a device, opened on first use; while planning, one that runs nothing.

    Raises:
        DeviceError: the device is not there, or its packages are not installed.
    """
    if current_planning() is not None:
        return PlanningRuntime(device)
    runtime = _open.get(device)
    if runtime is not None:
        return runtime
    with _lock:
        if device not in _open:
            module, name = _CLASSES[device.type]
            make: Callable[[Device], Runtime] = getattr(import_module(module), name)
            _open[device] = make(device)
        return _open[device]


def open_devices() -> list[Device]:
    """Devices that this process has used."""
    return list(_open)


def counters(device: Device) -> Counters:
    """The device's counters; tests compare them with what plans predict."""
    found = _counters.get(device)
    return _counters.setdefault(device, Counters()) if found is None else found


def allocate(device: Device, nbytes: int) -> Any:
    """Memory of the device, counted.

    Raises:
        OutOfMemoryError: there is not enough.
    """
    try:
        memory = open_device(device).allocate(nbytes)
    except MemoryError as error:
        raise out_of_memory(device, nbytes) from error
    counters(device).allocated_bytes += nbytes
    return memory


def out_of_memory(device: Device, nbytes: int) -> OutOfMemoryError:
    """The error of a device that has not as much."""
    return OutOfMemoryError(
        f"{device} has no memory for {nbytes:,} more bytes.",
        "Use smaller batches, or tgrad.compile with memory_limit=, which computes values again "
        "instead of keeping them.",
    )


def arena(device: Device, nbytes: int) -> Any:
    """The device's arena, grown to at least `nbytes`. Plans run one after the other, so they
    share it, and its pages are touched once and kept."""
    size, memory = _arenas.get(device, (0, None))
    if size >= nbytes:
        return memory
    with _lock:
        size, memory = _arenas.get(device, (0, None))
        if size < nbytes:
            memory = None
            release_arena(device)
            memory = allocate(device, nbytes)
            _arenas[device] = (nbytes, memory)
        return memory


def release_arena(device: Device) -> None:
    """Give the arena's memory back; the next plan allocates what it needs."""
    with _lock:
        _arenas.pop(device, None)
