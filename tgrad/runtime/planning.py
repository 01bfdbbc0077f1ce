"""Planning without running: plans are made, kernels are not launched, values are zeros.

In: the name of a target, or None for the devices that the program names. Out: while the scope is
open, every device is `PlanningRuntime`. Invariant: nothing is compiled and no kernel runs; memory
is host memory that costs no pages until it is written, so a program for a large GPU can be planned
on a small machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad.dtype import DType
from tgrad.errors import VerifyError
from tgrad.runtime.cpu import ALIGNMENT, CpuRuntime, HostMemory

if TYPE_CHECKING:
    from tgrad.kernel.ir import Executable
    from tgrad.runtime.plan import Plan

Listener = Callable[["Plan"], None]


@dataclass(frozen=True, slots=True)
class Planning:
    """An open scope.

    Attributes:
        target: what plans are made for, such as "sm_90"; None for the program's own devices.
        on_run: called with each plan that would run now; it may raise to stop the program.
    """

    target: str | None
    on_run: Listener


scopes: list[Planning] = []
"""Those that are open, the innermost last."""


@contextmanager
def planning(target: str | None = None, on_run: Listener = lambda plan: None) -> Iterator[None]:
    """Make plans and run none of them, in all threads, until the scope ends.

    Tensors made inside hold zeros where a kernel would have computed them; those on "cpu" and
    "numpy" outlive the scope, those on other devices do not.

    >>> from tgrad.device import Device
    >>> with planning("sm_90"):
    ...     current_planning().target
    'sm_90'
    """
    scopes.append(Planning(target, on_run))
    try:
        yield
    finally:
        scopes.pop()


def current_planning() -> Planning | None:
    """The innermost open scope."""
    return scopes[-1] if scopes else None


class PlanningRuntime(CpuRuntime):
    """A device that is not there: memory is zeros on the host. See runtime/device.py."""

    def allocate(self, nbytes: int) -> HostMemory:
        """Zeros; the system gives pages when they are first written."""
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        shift = -raw.ctypes.data % ALIGNMENT
        block = raw[shift : shift + max(nbytes, 1)]
        return HostMemory(block, block.ctypes.data, None)

    def write(self, memory: HostMemory, array: np.ndarray) -> None:
        """Copy an array's bytes to the start of a memory; zeros over zeros take no pages."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        place = memory.block[: data.size]
        if data.any() or place.any():
            place[:] = data

    def read(self, memory: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the memory's start as an array; zeros for a GPU's from outside the scope."""
        is_there = isinstance(memory, HostMemory)
        return super().read(memory, dtype, shape) if is_there else np.zeros(shape, dtype.numpy)

    def copy(self, target: Any, source: Any) -> None:
        """Copy a memory to another of its size; a GPU's from outside the scope counts as zeros."""
        if isinstance(source, HostMemory):
            self.write(target, source.block)

    def copy_box(
        self,
        target: Any,
        target_shape: tuple[int, ...],
        source: Any,
        source_shape: tuple[int, ...],
        itemsize: int,
    ) -> None:
        """Nothing is read while planning: zeros stay zeros."""

    def lend(self, memory: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Zeros."""
        return np.zeros(shape, dtype.numpy)

    def borrow(self, array: Any) -> Any:
        return None

    def launch(self, artifact: Executable, memories: Sequence[Any]) -> None:
        """Nothing is launched while planning.

        Raises:
            VerifyError: always.
        """
        raise VerifyError(f"{artifact.name} is launched while planning.")
