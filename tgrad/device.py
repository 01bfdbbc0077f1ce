"""Names of devices, and which one is meant where none is named. What a device can do is one file
each in runtime/.

In: "cpu", "cuda:1", ... Out: a `Device`. Invariant: equal names are one object, so that tables of
devices and keys of plans compare by identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tgrad.errors import DeviceError
from tgrad.modes import process, thread
from tgrad.settings import settings

KINDS = ("cpu", "cuda", "opencl", "interpret", "numpy", "meta")
INDEXED = ("cuda", "opencl")
"""Of these a machine may have several."""
ON_HOST = ("cpu", "interpret", "numpy")
"""Devices whose memory is the host's."""
GPU_ALIGNMENT = 16
"""Kernels on `cuda` are compiled for addresses that this divides."""


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Device:
    """Where a tensor lives and its kernels run.

    Attributes:
        type: "cpu" (generated C), "cuda" (Triton), "opencl" (generated OpenCL C, through pyopencl),
            "interpret" (Triton's interpreter), "numpy" (the graph interpreter, the oracle of the
            tests) or "meta" (shapes and dtypes with no values, for models that are given them).
        index: which of several, 0 for the first; "cuda:1" and "opencl:1" say it in the name. "cuda"
            alone is the GPU that `choose_gpu` said, at first the first.

    Raises:
        DeviceError: there is no such type.

    In a `with` it is where tensors are made that name no device.

    >>> import tgrad
    >>> with tgrad.device("numpy"):
    ...     tgrad.ones(2).device
    device('numpy')
    """

    type: str
    index: int

    def __new__(cls, type: str, index: int | None = None) -> Device:
        kind, _, number = type.partition(":")
        if kind not in KINDS or (number and not number.isdecimal()):
            raise DeviceError(f"{type!r} is not a device.", f"Use one of {', '.join(KINDS)}.")
        if not number:
            number = str((process.gpu if kind == "cuda" else 0) if index is None else index)
        place = kind, int(number)
        if place not in _devices:
            made = object.__new__(cls)
            object.__setattr__(made, "type", kind)
            object.__setattr__(made, "index", place[1])
            _devices.setdefault(place, made)
        return _devices[place]

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (self.type, self.index)

    def __str__(self) -> str:
        return f"{self.type}:{self.index}" if self.type in INDEXED else self.type

    def __repr__(self) -> str:
        return f"device('{self}')"

    def __enter__(self) -> Device:
        thread.devices = (*thread.devices, self)
        return self

    def __exit__(self, *exc: object) -> None:
        thread.devices = thread.devices[:-1]


_devices: dict[tuple[str, int], Device] = {}


def as_device(value: str | Device) -> Device:
    """A `Device` from its name.

    Raises:
        DeviceError: the name is not that of a device.

    >>> as_device("cuda:1")
    device('cuda:1')
    """
    if isinstance(value, Device):
        return value
    return Device(value) if value == "cuda" else _device(str(value))


@cache
def _device(name: str) -> Device:
    """The device of a name as it writes itself: "cpu" for "cpu:1"."""
    made = Device(name)
    return made if str(made) == name else _device(str(made))


def choose_gpu(index: int) -> None:
    """Let the name "cuda" mean this GPU from now on, also where it names the default device."""
    former = Device("cuda", process.gpu)
    if get_default_device() is former and not thread.devices:
        process.device = Device("cuda", index)
    process.gpu = index


def set_default_device(device: str | Device | None) -> None:
    """Make tensors there, from now on, that name no device.

    Args:
        device: None for that of TGRAD_DEVICE, which is "cpu" where it is not set.

    Raises:
        DeviceError: the name is not that of a device.

    >>> import tgrad
    >>> tgrad.set_default_device("numpy")
    >>> tgrad.zeros(1).device
    device('numpy')
    >>> tgrad.set_default_device(None)
    """
    process.device = None if device is None else as_device(device)


def get_default_device() -> Device:
    """Where tensors are made that name no device: that of the innermost `with`, else what
    `set_default_device` said, else TGRAD_DEVICE."""
    found: Device | None = thread.devices[-1] if thread.devices else process.device
    if found is None:
        found = process.device = _device(settings.device)
    return found
