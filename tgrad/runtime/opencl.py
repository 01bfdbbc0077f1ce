"""The device `opencl`: generated OpenCL C on whatever has a driver, through pyopencl.

In: sources of kernels. Out: results in buffers of the device. Invariant: everything runs in order,
on one queue a device. A memory is a buffer and an offset into it, and both are arguments of a
kernel: temporaries lie anywhere in the arena, whatever alignment the device asks of sub-buffers.

PoCL (pip install pocl-binary-distribution) is such a driver for processors.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import CompileError, DeviceError
from tgrad.kernel.ir import WORK_GROUP, Draft, Executable
from tgrad.runtime.box import Shape, copy_box

GROUPS_PER_UNIT = 4
"""Groups that a processor's core should have at least; a core runs a whole group."""

ROUNDED = "-cl-fp32-correctly-rounded-divide-sqrt"
"""Without it a quotient of floats may be off by two units in the last place."""
QUIET = "-w"

EXTENSIONS = {
    "cl_khr_fp64": (
        "computes in float64",
        "Use float32 without sin, cos, pow and cumsum, or the device cpu.",
    ),
    "cl_khr_int64_base_atomics": (
        "joins numbers of 64 bits with what is there",
        "Use a dtype of 32 bits, or the device cpu.",
    ),
}
"""What a program may ask for beyond OpenCL C 1.2: what for, and what to do without it."""

REMEDY = "pip install 'tgrad[opencl]' (with PoCL, for processors), or install your GPU's driver."


ProgramText = Callable[[Sequence[Draft]], str]


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Part of a buffer; keeps what it is a part of alive."""

    buffer: Any
    offset: int
    nbytes: int
    owner: Memory | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built kernel, and the bytes of an element of each of its slots."""

    function: Any
    itemsizes: tuple[int, ...]


def find_devices(cache: Path) -> list[Any]:
    """All devices of all platforms, GPUs first; `opencl:1` is the second.

    Args:
        cache: where PoCL keeps what it has compiled.

    Raises:
        DeviceError: pyopencl is not installed, or there is no device.
    """
    os.environ.setdefault("POCL_CACHE_DIR", str(cache / "opencl" / "pocl"))
    try:
        import pyopencl as cl
    except ImportError:
        raise DeviceError("The device opencl needs pyopencl.", REMEDY) from None
    try:
        found = [d for p in cl.get_platforms() for d in p.get_devices()]
    except cl.Error as error:
        raise DeviceError(f"pyopencl finds no platform: {error}.", REMEDY) from None
    if not found:
        raise DeviceError("pyopencl finds no device.", REMEDY)
    return sorted(found, key=lambda d: not d.type & cl.device_type.GPU)


class OpenClRuntime:
    """See runtime/device.py for the protocol."""

    alignment = 1

    def __init__(self, device: Device = Device("opencl")):
        from tgrad.settings import settings

        devices = find_devices(settings.cache_dir)
        if device.index >= len(devices):
            raise DeviceError(f"{device} is not there.", f"pyopencl finds {len(devices)} devices.")
        import pyopencl as cl
        import pyopencl.tools

        self.device, self.cl = device, cl
        self.opencl_device = devices[device.index]
        self.context = cl.Context([self.opencl_device])
        self.queue = cl.CommandQueue(self.context)
        self.pool = pyopencl.tools.MemoryPool(pyopencl.tools.ImmediateAllocator(self.queue))
        self.built: dict[str, Kernel] = {}
        self.is_processor = bool(self.opencl_device.type & cl.device_type.CPU)

    # -- memory ---------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> Memory:
        """Uninitialised memory, in whole words for atomics.

        Raises:
            MemoryError: there is not enough.
        """
        try:
            return Memory(self.pool.allocate(-(-max(nbytes, 1) // 8) * 8), 0, nbytes)
        except (self.cl.MemoryError, self.cl.LogicError) as error:
            raise MemoryError(str(error)) from error

    def view(self, memory: Memory, offset: int, nbytes: int) -> Memory:
        return Memory(memory.buffer, memory.offset + offset, nbytes, memory)

    def write(self, memory: Memory, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if data.size:
            self.cl.enqueue_copy(self.queue, memory.buffer, data, dst_offset=memory.offset)

    def read(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        data = np.empty(shape, dtype.numpy)
        if data.size:
            flat = data.reshape(-1).view(np.uint8)
            self.cl.enqueue_copy(self.queue, flat, memory.buffer, src_offset=memory.offset)
        return data

    def copy(self, target: Memory, source: Memory) -> None:
        if target.nbytes:
            self.cl.enqueue_copy(
                self.queue, target.buffer, source.buffer, byte_count=target.nbytes,
                src_offset=source.offset, dst_offset=target.offset,
            )  # fmt: skip

    def copy_box(
        self,
        target: Memory,
        target_shape: Shape,
        source: Memory,
        source_shape: Shape,
        itemsize: int,
    ) -> None:
        """Through the host: it happens when a size grows beyond its capacity."""
        arrays = []
        for memory, shape in ((target, target_shape), (source, source_shape)):
            data = np.empty(math.prod(shape) * itemsize, np.uint8)
            if data.size:
                self.cl.enqueue_copy(self.queue, data, memory.buffer, src_offset=memory.offset)
            arrays.append(data)
        copy_box(arrays[0], target_shape, arrays[1], source_shape, itemsize)
        self.write(target, arrays[0])

    def lend(self, memory: Memory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A read-only copy: the device's memory need not be the host's."""
        array = self.read(memory, dtype, shape)
        array.flags.writeable = False
        return array

    def borrow(self, array: np.ndarray) -> Memory:
        """A copy, for the same reason."""
        memory = self.allocate(array.nbytes)
        self.write(memory, array)
        return memory

    # -- kernels --------------------------------------------------------------------------------

    def build(self, drafts: Sequence[Draft], text_of: ProgramText, cache: Path) -> list[Kernel]:
        """Kernels from their sources, those that are new in one program.

        Args:
            drafts: kernels of one name have one source.
            text_of: the text of a program of kernels.
            cache: where what is built may be kept.

        Raises:
            CompileError: the driver refused a kernel.
            DeviceError: one needs an extension that the device has not.
        """
        keys = [text_of([d]) for d in drafts]
        missing = {key: d for key, d in zip(keys, drafts) if key not in self.built}
        for key, draft in missing.items():
            self._check_extensions(key, draft)
        if missing:
            program = self._program(list(missing.values()), text_of, cache)
            for key, draft in missing.items():
                function = getattr(program, draft.kernel.name)
                itemsizes = tuple(s.dtype.itemsize for s in draft.kernel.slots)
                function.set_scalar_arg_dtypes([None, np.int64] * len(itemsizes))
                self.built[key] = Kernel(function, itemsizes)
        return [self.built[key] for key in keys]

    def _check_extensions(self, text: str, draft: Draft) -> None:
        present = self.opencl_device.extensions.split()
        for extension, (what, hint) in EXTENSIONS.items():
            if extension in text and extension not in present:
                raise DeviceError(
                    f"Kernel {draft.kernel.name} {what}, which {self.opencl_device.name.strip()} "
                    f"has not ({extension}).",
                    hint,
                    draft.kernel.source,
                )

    def _program(self, drafts: Sequence[Draft], text_of: ProgramText, cache: Path) -> Any:
        """A built program; where the driver refuses it, kernels alone say which one it is."""
        precise = self.cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT
        has_it = self.opencl_device.single_fp_config & precise
        options = [QUIET, ROUNDED] if has_it else [QUIET]
        program = self.cl.Program(self.context, text_of(drafts))
        try:
            with warnings.catch_warnings():  # pyopencl's, of what a compiler says of sound programs
                warnings.simplefilter("ignore", self.cl.CompilerWarning)
                return program.build(options, cache_dir=str(cache / "opencl" / "binaries"))
        except self.cl.Error as error:
            if len(drafts) > 1:
                for draft in drafts:
                    self._program([draft], text_of, cache)
            lines = str(error).strip().splitlines()
            said = [line for line in lines if "error" in line] or lines
            text = "\n    ".join(said[:4])
            raise CompileError(
                f"The OpenCL driver refused kernel {drafts[0].kernel.name}:\n    {text}",
                "This is a defect of tgrad or of the driver: report it with the kernel's source.",
                drafts[0].kernel.source,
            ) from error

    def launch(self, artifact: Executable, memories: Sequence[Memory]) -> None:
        """Enqueue a kernel; does not wait."""
        if artifact.grid == 0:
            return
        kernel = cast(Kernel, artifact.entry)
        arguments: list[Any] = []
        for memory, itemsize in zip(memories, kernel.itemsizes):
            arguments += (memory.buffer, memory.offset // itemsize)
        group = self._group(artifact.grid)
        kernel.function(self.queue, (-(-artifact.grid // group) * group,), (group,), *arguments)

    def _group(self, grid: int) -> int:
        """Work-items of a group: on a processor few programs are shared by all cores."""
        device, group = self.opencl_device, WORK_GROUP
        least = GROUPS_PER_UNIT * device.max_compute_units if self.is_processor else 0
        while group > 1 and (group > device.max_work_group_size or grid < group * least):
            group //= 2
        return group

    def synchronize(self) -> None:
        self.queue.finish()
