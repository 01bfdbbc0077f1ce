"""Generated kernels run by Triton's interpreter, in a process that may also compile for GPUs.

In: a generated module in the "interpret" dialect. Out: a callable that takes addresses. Invariant:
TRITON_INTERPRET is not needed: while a kernel runs, the functions of Triton's own library stand in
interpretable form, and afterwards everything is as it was. One kernel at a time (compile.LOCK).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
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
        from triton.runtime.jit import JITFunction

        for key, value in list(module.__dict__.items()):
            if isinstance(value, JITFunction):
                setattr(module, key, _function_type()(value.fn))
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
        with LOCK, _interpretable_language(), np.errstate(all="ignore"):
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


@cache
def _function_type() -> Any:
    """Triton's InterpretedFunction, except that calling one from a kernel prepares the language
    once a launch and not at every call (2 ms each)."""
    from triton.runtime.interpreter import InterpretedFunction

    class Function(InterpretedFunction):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            scope = id(self.fn.__globals__)
            if scope in _prepared:
                return self.rewrite()(*args, **kwargs)
            _prepared.add(scope)
            return super().__call__(*args, **kwargs)

    return Function


_prepared: set[int] = set()
_interpreted: dict[Any, Any] = {}


@contextmanager
def _interpretable_language() -> Iterator[None]:
    """Swap the jitted functions of triton.language (tl.sum, tl.max, ...) while inside, and undo
    on the way out all that the interpreter does to the language."""
    import triton.language as tl
    from triton.language import core, math, standard
    from triton.runtime.interpreter import InterpreterBuilder, interpreter_builder
    from triton.runtime.jit import JITFunction

    places = (
        InterpreterBuilder,
        tl,
        core,
        math,
        standard,
        core.tensor,
        core.dtype,
        core.tensor_descriptor_base,
    )
    before = [(place, dict(vars(place))) for place in places]
    options = interpreter_builder.options
    for module in (tl, standard):
        for key, value in list(vars(module).items()):
            if isinstance(value, JITFunction):
                if value.fn not in _interpreted:
                    _interpreted[value.fn] = _function_type()(value.fn)
                setattr(module, key, _interpreted[value.fn])
    _prepared.clear()
    InterpreterBuilder.create_splat = _create_splat
    # Whether integers overflow is computed in int64 for every sum and product, a third of the time,
    # and asserted where `debug` is set alone.
    interpreter_builder.options = replace(options, sanitize_overflow=options.debug)
    try:
        yield
    finally:
        interpreter_builder.options = options
        for place, old in before:
            _restore(place, old)


def _create_splat(builder: Any, type_: Any, scalar: Any) -> Any:
    """A block of one scalar. In Triton's own, the result of comparing two scalars has the type of
    the scalars, so that a block of it would be of that type too."""
    from triton.runtime.interpreter import TensorHandle

    value = scalar.data.reshape(-1)[0]
    return TensorHandle(np.full(type_.shape, value, scalar.data.dtype), type_.scalar)


def _restore(place: Any, old: dict[str, Any]) -> None:
    """Put changed attributes back. What was added to a module stays: the interpreter's names in
    the globals of rewritten functions, which these need the next time."""
    now = dict(vars(place))
    if not isinstance(place, ModuleType):
        for key in now.keys() - old.keys():
            delattr(place, key)
    for key, value in old.items():
        if now.get(key) is not value:
            setattr(place, key, value)
