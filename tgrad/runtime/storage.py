"""Storage: the memory behind a realised tensor.

In: a device, dtype, shape. Out: an object with identity that a BUFFER node refers to. Invariant:
row-major and contiguous; never written after a graph has read it.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tgrad.device import ON_HOST, Device
from tgrad.dtype import DType
from tgrad.runtime.device import allocate, open_device
from tgrad.runtime.planning import current_planning

if TYPE_CHECKING:
    from tgrad.runtime.cuda import CudaRuntime

NOBODY = ()
"""Owner of memory that was borrowed."""
_serials = itertools.count()


class Storage:
    """Elements in the memory of a device. `serial` counts storages in the order they were made."""

    __slots__ = ("device", "dtype", "shape", "memory", "serial", "__weakref__")
    sizes: Any = None
    """Of the elements that exist, where a trace has symbolic sizes; None for all."""

    def __init__(self, device: Device, dtype: DType, shape: tuple[int, ...], memory: Any):
        self.device, self.dtype, self.shape, self.memory = device, dtype, shape, memory
        self.serial = next(_serials)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_at_hand(self) -> bool:
        """Whether there are values to be looked at that nobody has to wait for."""
        return self.device.type not in ("cuda", "meta")

    def copied_memory(self) -> Any:
        """New memory of the device with the same bytes."""
        memory = allocate(self.device, self.nbytes)
        open_device(self.device).copy(memory, self.memory)
        return memory

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        return open_device(self.device).read(self.memory, self.dtype, self.shape)


class _Borrowed(Storage):
    """A storage over somebody else's memory, which refers to itself and so counts as shared (see
    the runtimes' `borrow`). It goes with the storage if nobody has it by then: a loop over batches
    of PyTorch would keep them all until Python looks for cycles."""

    __slots__ = ()

    def __del__(self, count: Callable[[object], int] = sys.getrefcount) -> None:
        memory: Any = self.memory
        is_its_own = getattr(memory, "owner", NOBODY) is memory
        if is_its_own:
            memory.owner = NOBODY
            if count(memory) > 3:
                memory.owner = memory


def lent(storage: Storage) -> Any:
    """An array over a storage's memory, with no copy: NumPy's, read-only, or torch's on cuda."""
    return open_device(storage.device).lend(storage.memory, storage.dtype, storage.shape)


def borrowed(array: Any, dtype: DType, device: Device) -> Storage:
    """A storage over the memory of a contiguous array of the device."""
    return _Borrowed(device, dtype, tuple(array.shape), open_device(device).borrow(array))


def join_storages(parts: Sequence[tuple[Storage, tuple[int, ...]]], axis: int) -> Storage | None:
    """The elements of several storages, each in a shape, one after the other along an axis; None
    where the device's memory is neither the host's nor torch's."""
    first = parts[0][0]
    device, dtype = first.device, first.dtype
    if device.type in ON_HOST or current_planning() is not None:
        arrays = [storage.numpy().reshape(shape) for storage, shape in parts]
        return upload(np.concatenate(arrays, axis), dtype, device)
    if device.type != "cuda":
        return None
    tensors = [lent(storage).reshape(shape) for storage, shape in parts]
    size = sum(shape[axis] for _, shape in parts)
    shape = (*parts[0][1][:axis], size, *parts[0][1][axis + 1 :])
    made = unwritten(device, dtype, shape)
    cast("CudaRuntime", open_device(device)).join(lent(made), tensors, axis)
    return made


def unwritten(device: Device, dtype: DType, shape: tuple[int, ...]) -> Storage:
    """New memory, with any values."""
    return Storage(device, dtype, shape, allocate(device, math.prod(shape) * dtype.itemsize))


def upload(array: np.ndarray, dtype: DType, device: Device) -> Storage:
    """A copy of a host array in the memory of a device."""
    memory = allocate(device, array.nbytes)
    open_device(device).write(memory, array)
    return Storage(device, dtype, array.shape, memory)
