"""Generated kernels run by Triton's interpreter, in a process that may also compile for GPUs.

In: a generated module in the "interpret" dialect. Out: a callable that takes addresses. Invariant:
TRITON_INTERPRET is not needed: while a kernel runs, the functions of Triton's own library stand in
interpretable form, and afterwards everything is as it was. One kernel at a time (compile.LOCK).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from tgrad.errors import DeviceError, Source
from tgrad.fusion.region import Slot
from tgrad.triton_gen.compile import LOCK, import_triton
from tgrad.triton_gen.op_table import POINTER_TYPES


class InterpretedKernel:
    """A kernel in Triton's interpreter.

    Calling it with one address per slot runs all programs and returns when they are done.
    """

    def __init__(
        self, name: str, module: ModuleType, slots: tuple[Slot, ...], grid: int, where: Source
    ):
        import_triton()
        from triton.runtime.interpreter import InterpretedFunction
        from triton.runtime.jit import JITFunction

        for key, value in list(module.__dict__.items()):
            if isinstance(value, JITFunction):
                setattr(module, key, InterpretedFunction(value.fn))
        self.name, self.grid, self.where = name, grid, where
        self.function = getattr(module, name)
        self.types = tuple(POINTER_TYPES[s.dtype.name] for s in slots)

    def __call__(self, addresses: Sequence[int]) -> None:
        """Run every program.

        Args:
            addresses: of the first byte of each slot, in order.

        Raises:
            DeviceError: the interpreter fails; its message is in the error.
        """
        if self.grid == 0:
            return
        with LOCK, _interpretable_library(), np.errstate(all="ignore"):
            arguments = [_pointer(a, kind) for a, kind in zip(addresses, self.types)]
            try:
                self.function[(self.grid,)](*arguments)
            except Exception as error:
                raise DeviceError(
                    f"Triton's interpreter fails on {self.name}: {error}",
                    "This is a defect of tgrad or of the installed triton: please report it.",
                    source=self.where,
                ) from error


def _pointer(address: int, kind: str) -> Any:
    """A scalar pointer as the interpreter represents one."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    pointer = tl.str_to_ty(kind, None)
    return tl.tensor(TensorHandle(np.array([address], dtype=np.uint64), pointer), pointer)


@contextmanager
def _interpretable_library() -> Iterator[None]:
    """Swap the jitted functions of triton.language (tl.sum, tl.max, ...) while inside."""
    import triton.language as tl
    from triton.language import standard
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    swapped: dict[int, Any] = {}
    changed: list[tuple[ModuleType, str, Any]] = []
    for module in (tl, standard):
        for key, value in list(module.__dict__.items()):
            if isinstance(value, JITFunction):
                if id(value) not in swapped:
                    swapped[id(value)] = _interpreted(InterpretedFunction, value)
                changed.append((module, key, value))
                setattr(module, key, swapped[id(value)])
    try:
        yield
    finally:
        for module, key, value in changed:
            setattr(module, key, value)


_INTERPRETED: dict[Any, Any] = {}


def _interpreted(kind: Any, function: Any) -> Any:
    if function.fn not in _INTERPRETED:
        _INTERPRETED[function.fn] = kind(function.fn)
    return _INTERPRETED[function.fn]
