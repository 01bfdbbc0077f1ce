"""The device "meta": shapes and dtypes with no memory.

In: sizes. Out: memory that is none. Invariant: no kernel is compiled or started, and whoever asks
for values hears what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError

if TYPE_CHECKING:
    from tgrad.kernel.ir import Executable


class NoMemory:
    """In place of memory; one for each storage, so that who shares one can be told."""

    __slots__ = ()


def no_values() -> NoReturn:
    """
    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(
        "a tensor on the device meta has no values.",
        "Give a module memory with module.to_empty(device=...) and then values, by "
        "load_state_dict or reset_parameters; or use load_state_dict(..., assign=True).",
    )


class MetaRuntime:
    """A device that keeps nothing. See runtime/device.py."""

    alignment = 1

    def __init__(self, device: Device):
        self.device = device

    def allocate(self, nbytes: int) -> NoMemory:
        return NoMemory()

    def view(self, memory: NoMemory, offset: int, nbytes: int) -> NoMemory:
        return NoMemory()

    def write(self, memory: NoMemory, array: np.ndarray) -> None:
        pass

    def read(self, memory: NoMemory, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        no_values()

    def copy(self, target: NoMemory, source: NoMemory) -> None:
        pass

    def copy_box(
        self,
        target: NoMemory,
        target_shape: tuple[int, ...],
        source: NoMemory,
        source_shape: tuple[int, ...],
        itemsize: int,
    ) -> None:
        pass

    def lend(self, memory: NoMemory, dtype: DType, shape: tuple[int, ...]) -> Any:
        no_values()

    def borrow(self, array: Any) -> NoMemory:
        return NoMemory()

    def launch(self, artifact: Executable, memories: Sequence[Any]) -> None:
        no_values()

    def synchronize(self) -> None:
        pass
