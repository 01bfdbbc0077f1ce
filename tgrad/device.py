"""Names of devices. What a device can do is one file each in runtime/.

In: "cpu", "cuda:1", ... Out: a `Device`. Invariant: equal names are equal devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tgrad.errors import DeviceError

KINDS = ("cpu", "cuda", "interpret", "numpy")


@dataclass(frozen=True, slots=True)
class Device:
    """Where a tensor lives and its kernels run.

    Attributes:
        type: "cpu" (generated C), "cuda" (Triton), "interpret" (Triton's interpreter) or
            "numpy" (the graph interpreter, the oracle of the tests).
        index: which of several, 0 for the first.
    """

    type: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.type}:{self.index}" if self.type == "cuda" else self.type

    def __repr__(self) -> str:
        return f"device('{self}')"


def as_device(value: str | Device) -> Device:
    """A `Device` from its name.

    Raises:
        DeviceError: the name is not that of a device.

    >>> as_device("cuda:1")
    device('cuda:1')
    """
    if isinstance(value, Device):
        return value
    kind, _, index = str(value).partition(":")
    if kind not in KINDS or (index and not index.isdecimal()):
        raise DeviceError(f"{value!r} is not a device.", f"Use one of {', '.join(KINDS)}.")
    return _device(kind, int(index or 0))


@cache
def _device(kind: str, index: int) -> Device:
    """One object a device, which the keys of plans then compare by identity."""
    return Device(kind, index)
