"""The device `interpret`: generated Triton, run by Triton's interpreter on the CPU.

In: artifacts whose entry takes addresses. Out: results in host memory, as of the device "cpu".
Invariant: launches are synchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from tgrad.device import Device
from tgrad.kernel.ir import Executable
from tgrad.runtime.cpu import CpuRuntime, HostMemory


class InterpretRuntime(CpuRuntime):
    """See runtime/device.py for the protocol."""

    def __init__(self, device: Device = Device("interpret")):
        super().__init__(device)

    def borrow(self, array: np.ndarray) -> HostMemory:
        """A copy: the interpreter writes wherever Triton would."""
        memory = self.allocate(array.nbytes)
        self.write(memory, array)
        return memory

    def launch(self, artifact: Executable, memories: Sequence[HostMemory]) -> None:
        """Run a kernel on one memory per slot."""
        run = cast(Callable[[list[int]], None], artifact.entry)
        addresses = [m.address for m in memories]
        if artifact.pointers is None:
            run(addresses)
            return
        table = np.array(artifact.pointers.contents(addresses), np.int64)
        run([*(addresses[n] for n in artifact.pointers.shared), table.ctypes.data])
