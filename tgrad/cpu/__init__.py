"""`torch.cpu`'s names, so that programs may treat the CPU as they treat GPUs.

In: nothing. Out: one device. Invariant: there is one CPU, and it is there.
Source: https://docs.pytorch.org/docs/stable/cpu.html
"""

from __future__ import annotations

from typing import Any

from tgrad.cpu import amp as amp
from tgrad.errors import DeviceError


def is_available() -> bool:
    """Yes."""
    return True


def is_initialized() -> bool:
    """Yes."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """ "cpu"."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing: there is one.

    Raises:
        DeviceError: it is another device.
    """
    if str(device) not in ("cpu", "cpu:0", "0"):
        raise DeviceError(f"cpu.set_device({device!r}).", 'Use tgrad.set_default_device("cuda").')


def synchronize(device: Any = None) -> None:
    """Nothing: kernels of the CPU are done when their call returns."""
