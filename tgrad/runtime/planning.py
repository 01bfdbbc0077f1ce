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
from typing import Any

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import VerifyError
from tgrad.kernel.ir import Artifact
from tgrad.runtime.plan import Plan

Listener = Callable[[Plan], None]


@dataclass(frozen=True, slots=True)
class Planning:
    """An open scope.

    Attributes:
        target: what plans are made for, such as "sm_90"; None for the program's own devices.
        on_run: called with each plan that would run now; it may raise to stop the program.
    """

    target: str | None
    on_run: Listener


_scopes: list[Planning] = []


@contextmanager
def planning(target: str | None = None, on_run: Listener = lambda plan: None) -> Iterator[None]:
    """Make plans and run none of them, in all threads, until the scope ends.

    Tensors made inside hold zeros where a kernel would have computed them, and are of no use later.

    >>> from tgrad.device import Device
    >>> with planning("sm_90"):
    ...     current_planning().target
    'sm_90'
    """
    _scopes.append(Planning(target, on_run))
    try:
        yield
    finally:
        _scopes.pop()


def current_planning() -> Planning | None:
    """The innermost open scope."""
    return _scopes[-1] if _scopes else None


class PlanningRuntime:
    """A device that is not there: memory is zeros on the host. See runtime/device.py."""

    def __init__(self, device: Device):
        self.device = device

    def allocate(self, nbytes: int) -> Any:
        """Zeros; the system gives pages when they are first written."""
        return np.zeros(max(nbytes, 1), np.uint8)

    def view(self, memory: Any, offset: int, nbytes: int) -> Any:
        """A part of some memory."""
        return memory[offset : offset + nbytes]

    def write(self, memory: Any, array: np.ndarray) -> None:
        """Copy an array's bytes to the start of a memory."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory[: data.size] = data

    def read(self, memory: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the memory's start as an array; zeros for memory made outside the scope."""
        size = int(np.prod(shape, dtype=np.int64))
        if not isinstance(memory, np.ndarray):
            return np.zeros(shape, dtype.numpy)
        return memory[: size * dtype.itemsize].copy().view(dtype.numpy).reshape(shape)

    def launch(self, artifact: Artifact, memories: Sequence[Any]) -> None:
        """Nothing is launched while planning.

        Raises:
            VerifyError: always.
        """
        raise VerifyError(f"{artifact.name} is launched while planning.")

    def synchronize(self) -> None:
        """Nothing is ever pending."""
