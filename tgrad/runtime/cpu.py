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
    """Freed blocks with their addresses, which NumPy takes long to say, by size; and the bytes of
    all of them."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[tuple[np.ndarray, int]]] = defaultdict(list)
        self.kept = 0


_pool = _Pool()


class HostMemory:
    """A block of host memory; goes back to the pool with its last reference."""

    __slots__ = ("block", "address", "owner")

    def __init__(self, block: np.ndarray, address: int, owner: HostMemory | None):
        self.block, self.address, self.owner = block, address, owner

    def __del__(self) -> None:
        if self.owner is None and _pool is not None:
            nbytes = self.block.nbytes
            if _pool.kept + nbytes <= KEPT_BYTES:
                _pool.kept += nbytes
                _pool.blocks[nbytes].append((self.block, self.address))


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
        nbytes = nbytes or 1
        blocks = _pool.blocks.get(nbytes)
        if blocks:
            block, address = blocks.pop()
            _pool.kept -= nbytes
            return HostMemory(block, address, None)
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        place: int = raw.ctypes.data
        shift = -place % ALIGNMENT
        return HostMemory(raw[shift : shift + nbytes], place + shift, None)

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
