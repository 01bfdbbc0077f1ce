"""The device `cuda`: compiled Triton kernels on NVIDIA and, through ROCm's torch, AMD GPUs.

In: artifacts whose entry is Triton's CompiledKernel. Out: results in memory of torch's caching
allocator. Invariant: everything runs on torch's current stream of the device; no kernel is launched
through Triton's slow path (kernel.run takes 3 to 5 us, a JITFunction call about 12).
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tgrad.device import GPU_ALIGNMENT, Device
from tgrad.dtype import DType
from tgrad.errors import DeviceError
from tgrad.kernel.ir import Executable

KEPT_TABLES = 16
"""Of one batch's launch, each for other addresses."""
_DEVICE_TO_DEVICE = 3
"""CUDA's number of that kind of copy."""
_WORDS = (4, 8)
"""Bytes of the numbers of the host that a launch carries."""
Memory = Any
"""A one-dimensional torch.uint8 tensor on the device."""
Start = Callable[[Sequence[int], int], None]
"""Enqueues a kernel: addresses of its buffers, number of the stream."""
Copy = Callable[[int, int, int, int], object]
"""Enqueues a copy: addresses of target and source, bytes, number of the stream."""


def _torch() -> Any:
    """The module torch, with a GPU in sight.

    Raises:
        DeviceError: torch is missing or sees no GPU.
    """
    try:
        import torch
    except ImportError:
        raise DeviceError(
            "The device cuda needs torch and triton.", "pip install tgrad[cuda]"
        ) from None
    if not torch.cuda.is_available():
        raise DeviceError(
            "torch sees no GPU.",
            "Use the device cpu, or run `tgrad doctor` to see what is missing.",
        )
    return torch


def _checked(status: int) -> None:
    """What CUDA says of a copy.

    Raises:
        DeviceError: it failed.
    """
    if status:
        raise DeviceError(
            f"A copy on the GPU failed with CUDA's error {status}.",
            "An earlier kernel may have failed; run with CUDA_LAUNCH_BLOCKING=1 to see which.",
        )


class CudaRuntime:
    """See runtime/device.py for the protocol."""

    alignment = GPU_ALIGNMENT

    def __init__(self, device: Device = Device("cuda")):
        self.torch = _torch()
        count = self.torch.cuda.device_count()
        if device.index >= count:
            raise DeviceError(f"{device} is not there.", f"torch sees {count} GPUs.")
        self.device = device
        self.torch_device = self.torch.device("cuda", device.index)

    def allocate(self, nbytes: int) -> Memory:
        """Uninitialised memory, aligned to 512 bytes by torch's allocator.

        Raises:
            MemoryError: there is not enough.
        """
        try:
            return self.torch.empty(nbytes, dtype=self.torch.uint8, device=self.torch_device)
        except self.torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error

    def view(self, memory: Memory, offset: int, nbytes: int) -> Memory:
        """Part of a memory, sharing its bytes."""
        return memory[offset : offset + nbytes]

    def write(self, memory: Memory, array: np.ndarray) -> None:
        """Copy an array's bytes to the start of a memory, after what is pending on the stream. A
        number goes along with a launch; the host waits for the copy of anything else."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if array.size == 1 and data.size in _WORDS:
            word = memory[: data.size].view(getattr(self.torch, f"int{8 * data.size}"))
            word.fill_(int.from_bytes(data.tobytes(), sys.byteorder, signed=True))
            return
        if not data.flags.writeable:
            data = data.copy()
        memory[: data.size].copy_(self.torch.from_numpy(data))

    def read(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the memory's start as an array; waits for what is pending."""
        count = int(np.prod(shape, dtype=np.int64))
        host = memory[: count * dtype.itemsize].cpu().numpy()
        return host.view(dtype.numpy).reshape(shape)

    def copy(self, target: Memory, source: Memory) -> None:
        """Copy a memory to another of its size, on torch's current stream; they may be tensors of
        any contiguous shape."""
        byte = self.torch.uint8
        target.reshape(-1).view(byte).copy_(source.reshape(-1).view(byte))

    def copier(self) -> Copy | None:
        """Copies by CUDA's runtime library itself, past torch's dispatcher; None where torch has
        not loaded that library, as with ROCm."""
        major = (self.torch.version.cuda or "").partition(".")[0]
        try:
            copy = ctypes.CDLL(f"libcudart.so.{major}").cudaMemcpyAsync
        except (OSError, AttributeError):
            return None
        word = ctypes.c_uint64
        copy.argtypes = word, word, ctypes.c_size_t, ctypes.c_int, word
        copy.restype = _checked

        def enqueue(target: int, source: int, nbytes: int, stream: int) -> None:
            copy(target, source, nbytes, _DEVICE_TO_DEVICE, stream)

        return enqueue

    def copy_box(
        self,
        target: Memory,
        target_shape: tuple[int, ...],
        source: Memory,
        source_shape: tuple[int, ...],
        itemsize: int,
    ) -> None:
        """Copy the elements that two arrays have in common, on torch's current stream."""
        box = tuple(slice(min(m, n)) for m, n in zip(target_shape, source_shape))
        dtype = getattr(self.torch, f"int{8 * itemsize}")
        arrays = [
            memory[: math.prod(shape) * itemsize].view(dtype).view(shape)
            for memory, shape in ((target, target_shape), (source, source_shape))
        ]
        arrays[0][box].copy_(arrays[1][box])

    def join(self, target: Any, arrays: Sequence[Any], axis: int) -> None:
        """Copy torch tensors, one after the other along an axis, to one of their size and dtype, on
        torch's current stream."""
        byte = self.torch.uint8  # torch does not join all its dtypes
        self.torch.cat([a.view(byte) for a in arrays], axis, out=target.view(byte))

    def lend(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> Any:
        """A torch tensor over the memory."""
        kind = getattr(self.torch, dtype.name)
        return memory[: math.prod(shape) * dtype.itemsize].view(kind).view(shape)

    def borrow(self, array: Any) -> Memory:
        """Memory over a torch tensor; the copy of it that it keeps counts as another owner."""
        memory = array.reshape(-1).view(self.torch.uint8)
        memory.owner = memory
        return memory

    def launch(self, artifact: Executable, memories: Sequence[Memory]) -> None:
        """Enqueue a kernel on torch's current stream; does not wait."""
        with self.torch.cuda.device(self.device.index):
            self.starter(artifact)([m.data_ptr() for m in memories], self.stream())

    def stream(self) -> int:
        """torch's current stream of the device, as the driver's number."""
        number: int = self.torch._C._cuda_getCurrentRawStream(self.device.index)
        return number

    def is_current(self) -> bool:
        """Whether the device is the current one of this thread."""
        current: int = self.torch._C._cuda_getDevice()
        return current == self.device.index

    def starter(self, artifact: Executable) -> Start:
        """What enqueues a kernel on a stream, its buffers at given addresses, while the device is
        the current one, as it must be now: the binary is loaded into it."""
        if artifact.grid == 0:
            return lambda addresses, stream: None
        kernel: Any = artifact.entry
        run, grid = kernel.run, artifact.grid
        function, metadata = kernel.function, kernel.packed_metadata
        is_plain = artifact.pointers is None and not artifact.needs_scratch

        def start(addresses: Sequence[int], stream: int) -> None:
            if not is_plain:
                if artifact.needs_scratch:
                    self._lend_scratch()
                addresses = self.arguments(artifact, addresses)
            # No launch metadata and hooks: profilers that want them use Triton's own path.
            run(grid, 1, 1, stream, function, metadata, None, None, None, *addresses)

        return start

    def _lend_scratch(self) -> None:
        """Let a launch of this thread have global memory for its tensor descriptors; torch's
        allocator takes it back in the stream's order."""
        import triton

        def scratch(size: int, alignment: int, stream: int | None) -> Memory:
            return self.torch.empty(size, dtype=self.torch.int8, device=self.torch_device)

        triton.set_allocator(scratch)

    def arguments(self, artifact: Executable, addresses: Sequence[int]) -> Sequence[int]:
        """Addresses that a launch passes: of its buffers, or of a batch's shared ones and of its
        table. Tables are kept with the kernel by what they hold: results of a function lie at a few
        addresses in turn, and then nothing is copied."""
        if artifact.pointers is None:
            return addresses
        contents = artifact.pointers.contents(addresses)
        tables = artifact.kept
        table = tables.pop(contents, None)
        if table is None:
            table = self._table(contents)
            if len(tables) >= KEPT_TABLES:
                del tables[next(iter(tables))]  # used the longest ago; torch frees in stream order
        tables[contents] = table
        shared = [addresses[n] for n in artifact.pointers.shared]
        return [*shared, table.data_ptr()]

    def _table(self, contents: Sequence[int]) -> Memory:
        """Numbers on the device, put there in the stream's order. Of pageable memory torch's copy
        would make the host wait for all that is pending; of pinned memory a graph would keep a copy
        from an address that others get.

        Raises:
            RuntimeError: the stream is captured.
        """
        if self.torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a batch of a graph has buffers that it did not have before")
        host = self.pinned(contents)
        return host.to(self.torch_device, non_blocking=True)

    def pinned(self, contents: Sequence[int]) -> Memory:
        """Numbers in memory of the host that the device reads by itself."""
        return self.torch.tensor(contents, dtype=self.torch.int64, pin_memory=True)

    def synchronize(self) -> None:
        """Wait for everything on the current stream."""
        self.torch.cuda.current_stream(self.device.index).synchronize()
