"""The device "cpu": generated C on host memory (and the memory of the device "numpy").

In: compiled C functions. Out: results in NumPy memory. Invariant: memory is 256-byte aligned; freed
memory is kept by size and reused, because fresh pages cost more than most kernels.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.runtime.box import Shape, copy_box

if TYPE_CHECKING:
    from tgrad.kernel.ir import Executable

ALIGNMENT = 256
KEPT_BYTES = 1 << 30
"""Freed bytes that are kept for reuse."""


class _Pool:
    """Freed blocks with their addresses, which NumPy takes long to say, by size."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[tuple[np.ndarray, int]]] = defaultdict(list)
        self.kept = 0

    def take(self, nbytes: int) -> tuple[np.ndarray, int]:
        blocks = self.blocks.get(nbytes)
        if blocks:
            self.kept -= nbytes
            return blocks.pop()
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        address: int = raw.ctypes.data
        shift = -address % ALIGNMENT
        return raw[shift : shift + nbytes], address + shift

    def give(self, block: np.ndarray, address: int) -> None:
        nbytes = block.nbytes
        if self.kept + nbytes <= KEPT_BYTES:
            self.kept += nbytes
            self.blocks[nbytes].append((block, address))


_pool = _Pool()


class HostMemory:
    """A block of host memory; goes back to the pool with its last reference."""

    __slots__ = ("block", "address", "owner")

    def __init__(self, block: np.ndarray, address: int, owner: HostMemory | None):
        self.block, self.address, self.owner = block, address, owner

    def __del__(self) -> None:
        if self.owner is None and _pool is not None:
            _pool.give(self.block, self.address)


class BorrowedMemory(HostMemory):
    """Memory of somebody else's array. It refers to itself, so that it always counts as shared and
    no plan overwrites it, and so that the pool does not get it."""

    __slots__ = ()

    def __init__(self, block: np.ndarray):
        super().__init__(block, block.ctypes.data, self)


class Lease:
    """What a lent array stands on: it keeps the memory from being used again."""

    def __init__(self, memory: HostMemory, dtype: DType, shape: Shape):
        self.memory = memory
        self.__array_interface__ = {
            "data": (memory.address, True),
            "typestr": np.dtype(dtype.numpy).str,
            "shape": tuple(shape),
            "version": 3,
        }


class CpuRuntime:
    """Host memory and C functions `void kernel(char *const *slots)`."""

    alignment = 1

    def __init__(self, device: Device):
        self.device = device

    def allocate(self, nbytes: int) -> HostMemory:
        return HostMemory(*_pool.take(nbytes or 1), None)

    def view(self, memory: HostMemory, offset: int, nbytes: int) -> HostMemory:
        return HostMemory(memory.block[offset : offset + nbytes], memory.address + offset, memory)

    def write(self, memory: HostMemory, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory.block[: data.nbytes] = data

    def read(self, memory: HostMemory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        size = 1
        for n in shape:
            size *= n
        data = memory.block[: size * dtype.itemsize].copy()
        return data.view(dtype.numpy).reshape(shape)

    def copy(self, target: HostMemory, source: HostMemory) -> None:
        target.block[:] = source.block

    def copy_box(
        self,
        target: HostMemory,
        target_shape: Shape,
        source: HostMemory,
        source_shape: Shape,
        itemsize: int,
    ) -> None:
        copy_box(target.block, target_shape, source.block, source_shape, itemsize)

    def lend(self, memory: HostMemory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(Lease(memory, dtype, shape))

    def borrow(self, array: np.ndarray) -> HostMemory:
        return BorrowedMemory(array.reshape(-1).view(np.uint8))

    def launch(self, artifact: Executable, memories: Sequence[HostMemory]) -> None:
        entry = cast(Callable[[object], None], artifact.entry)
        entry((ctypes.c_void_p * len(memories))(*[m.address for m in memories]))

    def synchronize(self) -> None:
        """Nothing to wait for: launches return when they are done."""
