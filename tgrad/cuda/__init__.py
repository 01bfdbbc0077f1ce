"""`torch.cuda`'s names: which GPUs are there, how their memory is used, when work is done.

In: nothing, or a device. Out: numbers and names. Invariant: torch, which owns the GPU's memory and
streams, is imported when one of these is called; without it no GPU is available.
Source: https://docs.pytorch.org/docs/stable/cuda.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tgrad import places, random
from tgrad.cuda import amp as amp
from tgrad.cuda.streams import Stream, set_stream, stream
from tgrad.device import as_device, choose_gpu
from tgrad.errors import DeviceError, OutOfMemoryError
from tgrad.modes import process
from tgrad.module_paths import module_below
from tgrad.random import Generator
from tgrad.tensor import Tensor

_TORCHS = frozenset(
    [
        "Event", "can_device_access_peer", "clock_rate", "current_stream", "default_stream",
        "device_memory_used", "empty_cache", "get_arch_list", "get_device_capability",
        "get_device_name", "get_device_properties", "get_per_process_memory_fraction", "init",
        "ipc_collect", "is_bf16_supported", "is_current_stream_capturing", "is_initialized",
        "is_tf32_supported", "list_gpu_processes", "max_memory_allocated", "max_memory_cached",
        "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_cached",
        "memory_reserved", "memory_snapshot", "memory_stats", "memory_summary", "memory_usage",
        "nvtx", "power_draw", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
        "reset_max_memory_cached", "reset_peak_memory_stats", "set_per_process_memory_fraction",
        "synchronize", "temperature", "utilization",
    ]
)  # fmt: skip
"""Names that are PyTorch's own: tgrad's memory is of its allocator, its kernels are on its current
stream. `synchronize` and events see what was launched; what nobody asked for yet is lazy, and was
not."""

__all__ = [
    "OutOfMemoryError", "Stream", "amp", "current_device", "device", "device_count",
    "get_rng_state", "get_rng_state_all", "initial_seed", "is_available", "manual_seed",
    "manual_seed_all", "seed", "seed_all", "set_device", "set_rng_state", "set_rng_state_all",
    "set_stream", "stream",
    *sorted(_TORCHS),
]  # fmt: skip

_ABSENT = {
    "CUDAGraph": "a compiled function is one CUDA graph.",
    "ExternalStream": "plans run one after the other, on the current stream.",
    "graph": "a compiled function is one CUDA graph.",
    "make_graphed_callables": "use tgrad.compile: a plan is one CUDA graph.",
}
"""Names of PyTorch's that are out of scope, and why."""


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
    """The number of the GPU that the name "cuda" means."""
    return process.gpu


def set_device(device: Any) -> None:
    """Choose the GPU that the name "cuda" means, in tgrad and in torch.

    Args:
        device: its number, or "cuda:1" or a Device.

    Raises:
        DeviceError: it is no GPU.
    """
    found = as_device(f"cuda:{device}" if isinstance(device, int) else str(device))
    if found.type != "cuda":
        raise DeviceError(f"set_device({device!r}): it is no GPU.", "Give a number, or cuda:1.")
    if is_available():
        _torch().set_device(found.index)
    choose_gpu(found.index)


@contextmanager
def device(device: Any) -> Iterator[None]:
    """Inside, the name "cuda" means this GPU.

    Raises:
        DeviceError: it is no GPU.

    >>> import tgrad
    >>> with tgrad.cuda.device(1):
    ...     tgrad.device("cuda")
    device('cuda:1')
    """
    former = current_device()
    set_device(device)
    try:
        yield
    finally:
        set_device(former)


def manual_seed(seed: int) -> Generator:
    """`tgrad.manual_seed`: one generator serves every device."""
    return random.manual_seed(seed)


manual_seed_all = manual_seed
seed = seed_all = random.seed
initial_seed = random.initial_seed


def get_rng_state(device: Any = "cuda") -> Tensor:
    """`tgrad.get_rng_state`.

    Args:
        device: accepted; one generator serves all devices.
    """
    return random.get_rng_state()


def get_rng_state_all() -> list[Tensor]:
    """That state once for each GPU."""
    return [random.get_rng_state() for _ in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Continue the one generator where `get_rng_state` was called; `device` as there."""
    random.set_rng_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """The same for what `get_rng_state_all` returned, of whose states the last one counts."""
    for state in new_states:
        random.set_rng_state(state)


def _torch() -> Any:
    try:
        from torch import cuda
    except ModuleNotFoundError:
        raise DeviceError("tgrad.cuda needs torch.", "pip install tgrad[cuda]") from None
    return cuda


def __getattr__(name: str) -> Any:
    if name in _TORCHS:
        return getattr(_torch(), name)
    if name.endswith("Tensor") and hasattr(places, name):
        return places.constructor(name, getattr(places, name).dtype, "cuda")
    if name in _ABSENT:
        raise AttributeError(f"tgrad.cuda has no {name}: {_ABSENT[name]}")
    return module_below(__name__, name)
