"""The device `interpret`: generated Triton, run by Triton's interpreter on the CPU.

In: artifacts whose entry takes addresses. Out: results in NumPy memory. Invariant: memory is a
one-dimensional uint8 array aligned to 256 bytes; a view shares it; launches are synchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.kernel.ir import Executable
from tgrad.runtime.box import Shape, copy_box

ALIGNMENT = 256

Memory = np.ndarray


class InterpretRuntime:
    """See runtime/device.py for the protocol."""

    alignment = 1

    def __init__(self, device: Device = Device("interpret")):
        self.device = device

    def allocate(self, nbytes: int) -> Memory:
        """Uninitialised memory."""
        raw = np.empty(nbytes + ALIGNMENT, dtype=np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes]

    def view(self, memory: Memory, offset: int, nbytes: int) -> Memory:
        """Part of a memory, sharing its bytes."""
        return memory[offset : offset + nbytes]

    def write(self, memory: Memory, array: np.ndarray) -> None:
        """Copy an array's bytes to the start of a memory."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory[: data.size] = data

    def read(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the memory's start as an array."""
        count = int(np.prod(shape, dtype=np.int64))
        return memory[: count * dtype.itemsize].copy().view(dtype.numpy).reshape(shape)

    def copy(self, target: Memory, source: Memory) -> None:
        """Copy a memory to another of its size."""
        target[:] = source

    def copy_box(
        self,
        target: Memory,
        target_shape: Shape,
        source: Memory,
        source_shape: Shape,
        itemsize: int,
    ) -> None:
        """Copy the elements that two arrays have in common."""
        copy_box(target, target_shape, source, source_shape, itemsize)

    def lend(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A read-only array over the memory."""
        count = int(np.prod(shape, dtype=np.int64))
        array = memory[: count * dtype.itemsize].view(dtype.numpy).reshape(shape)
        array.flags.writeable = False
        return array

    def borrow(self, array: np.ndarray) -> Memory:
        """A copy: the interpreter writes wherever Triton would."""
        memory = self.allocate(array.nbytes)
        self.write(memory, array)
        return memory

    def launch(self, artifact: Executable, memories: Sequence[Memory]) -> None:
        """Run a kernel on one memory per slot."""
        run = cast(Callable[[list[int]], None], artifact.entry)
        addresses = [m.ctypes.data for m in memories]
        if artifact.pointers is None:
            run(addresses)
            return
        table = np.array(artifact.pointers.contents(addresses), np.int64)
        run([*(addresses[n] for n in artifact.pointers.shared), table.ctypes.data])

    def synchronize(self) -> None:
        """Nothing is ever pending."""
