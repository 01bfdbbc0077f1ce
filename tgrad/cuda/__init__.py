"""`torch.cuda`'s names: which GPUs are there, and how their memory is used.

In: nothing, or a device. Out: numbers and names. Invariant: torch, which owns the GPU's memory and
streams, is imported when one of these is called; without it no GPU is available.
Source: https://docs.pytorch.org/docs/stable/cuda.html
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tgrad import random
from tgrad.cuda import amp as amp
from tgrad.errors import DeviceError, UnsupportedError
from tgrad.random import Generator

__all__ = [
    "amp", "current_device", "device_count", "empty_cache", "get_device_capability",
    "get_device_name", "get_device_properties", "ipc_collect", "is_available", "is_bf16_supported",
    "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated",
    "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "set_device", "synchronize",
]  # fmt: skip

_TORCHS = frozenset(
    [
        "empty_cache", "get_device_capability", "get_device_name", "get_device_properties",
        "ipc_collect", "is_bf16_supported", "is_initialized", "max_memory_allocated",
        "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_reserved",
        "reset_peak_memory_stats", "synchronize",
    ]
)  # fmt: skip
"""Functions that are PyTorch's own: tgrad's memory is of its allocator, its kernels are on its
streams. `synchronize` waits for what runs; what nobody asked for yet is lazy, and does not run."""


def is_available() -> bool:
    """Whether there is a GPU, and the torch that sees it.

    >>> import tgrad
    >>> tgrad.cuda.is_available() == (tgrad.cuda.device_count() > 0)
    True
    """
    return find_spec("torch") is not None and bool(_torch().is_available())


def device_count() -> int:
    """How many GPUs there are."""
    return int(_torch().device_count()) if is_available() else 0


def current_device() -> int:
    """The GPU that the name "cuda" means: the first."""
    return 0


def set_device(device: Any) -> None:
    """Choose the GPU that the name "cuda" means; only the first.

    Raises:
        UnsupportedError: it is another: name it where tensors are made, as "cuda:1".
    """
    name = str(device)
    if name not in ("0", "cuda", "cuda:0"):
        raise UnsupportedError(
            f"set_device({device!r}).",
            f'Use tgrad.set_default_device("cuda:{name.rpartition(":")[2]}").',
        )


def manual_seed(seed: int) -> Generator:
    """`tgrad.manual_seed`: one generator serves every device."""
    return random.manual_seed(seed)


manual_seed_all = manual_seed


def _torch() -> Any:
    try:
        from torch import cuda
    except ModuleNotFoundError:
        raise DeviceError("tgrad.cuda needs torch.", "pip install tgrad[cuda]") from None
    return cuda


def __getattr__(name: str) -> Any:
    if name in _TORCHS:
        return getattr(_torch(), name)
    raise AttributeError(f"module 'tgrad.cuda' has no attribute {name!r}")
