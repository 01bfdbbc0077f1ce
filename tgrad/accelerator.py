"""`torch.accelerator`'s names: the GPU, whichever it is; here that is "cuda".

In: nothing, or a device. Out: numbers and devices. Invariant: each is the function of `tgrad.cuda`.
Source: https://docs.pytorch.org/docs/stable/accelerator.html
"""

from __future__ import annotations

from typing import Any

from tgrad import cuda
from tgrad.cuda import device_count as device_count
from tgrad.cuda import is_available as is_available
from tgrad.device import Device

current_device_index = current_device_idx = cuda.current_device
set_device_index = set_device_idx = cuda.set_device
device_index = cuda.device

_OF_CUDA = (
    "current_stream", "empty_cache", "max_memory_allocated", "max_memory_reserved",
    "memory_allocated", "memory_reserved", "memory_stats", "reset_accumulated_memory_stats",
    "reset_peak_memory_stats", "synchronize",
)  # fmt: skip


def current_accelerator(check_available: bool = False) -> Device | None:
    """The device "cuda" where there is a GPU, else None.

    Args:
        check_available: accepted; it is looked for in any case.

    >>> import tgrad
    >>> (tgrad.accelerator.current_accelerator() is None) == (not tgrad.cuda.is_available())
    True
    """
    return Device("cuda") if is_available() else None


def get_memory_info(device_index: Any = None) -> tuple[int, int]:
    """Bytes of the GPU's memory that are free, and all."""
    found: tuple[int, int] = cuda.mem_get_info(device_index)
    return found


def __getattr__(name: str) -> Any:
    if name in _OF_CUDA:
        return getattr(cuda, name)
    raise AttributeError(f"module 'tgrad.accelerator' has no attribute {name!r}")
