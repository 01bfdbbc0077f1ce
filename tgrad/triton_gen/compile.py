"""From generated source to a compiled kernel, with or without a GPU.

In: source text, a Target. Out: Triton's CompiledKernel, or a function for Triton's interpreter.
Invariant: sources lie in the cache directory under a name that their content decides, written by
rename, so a killed run leaves nothing broken and deleting it is safe.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from tgrad.cache_files import write_whole
from tgrad.errors import CacheError, CompileError, DeviceError, Source
from tgrad.fusion.region import Slot
from tgrad.kernel.ir import Config
from tgrad.triton_gen.op_table import POINTER_TYPES
from tgrad.triton_gen.target import Target

LOCK = RLock()
"""Held while Triton's language module is in use: its interpreter replaces parts of it."""

_PARSE_ALONE = RLock()


def import_triton() -> Any:
    """The module triton.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        import triton
    except ImportError:
        raise DeviceError(
            "The devices cuda and interpret need triton, which is not installed.",
            "pip install tgrad[cuda]",
        ) from None
    return triton


def write_source(source: str, name: str, cache_dir: Path) -> Path:
    """Keep a generated module in the cache.

    Returns:
        Its path, `triton/<name>_<hash>.py` under the cache directory.

    Raises:
        CacheError: the directory cannot be written.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = cache_dir / "triton" / f"{name[:100]}_{digest}.py"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == source:
            return path
        write_whole(path, source.encode())
    except OSError as error:
        raise CacheError(
            f"The cache directory {cache_dir} cannot be written: {error.strerror or error}.",
            "Set TGRAD_CACHE_DIR to a directory that you may write to.",
        ) from None
    return path


def load_module(path: Path, source: str) -> ModuleType:
    """Execute a generated module (no bytecode file is written)."""
    module = ModuleType(f"tgrad_{path.stem}")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


@contextmanager
def compiling(cache_dir: Path) -> Iterator[None]:
    """No kernel is interpreted meanwhile, and Triton's own cache of compiled kernels lies inside
    ours, unless the user has placed it."""
    knobs = import_triton().knobs
    with LOCK, knobs.cache.scope():
        if not os.environ.get("TRITON_CACHE_DIR"):
            knobs.cache.dir = str(cache_dir / "triton" / "compiled")
        yield


_RETRIES = 4
"""How often a source is compiled again where others were parsed meanwhile."""


def _is_of_parsing_together(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is CPython's: before 3.13 it counts the depth
    of ast.parse for all threads together and gives up when two parse at once
    (python/cpython#106905)."""
    while error is not None and not isinstance(error, SystemError):
        error = error.__cause__ or error.__context__
    return error is not None


def signature_of(slots: tuple[Slot, ...]) -> dict[str, str]:
    """Triton's types of a kernel's arguments."""
    return {f"{s.name}_ptr": POINTER_TYPES[s.dtype.name] for s in slots}


def attributes_of(slots: tuple[Slot, ...], target: Target) -> dict[tuple[int], list[list[Any]]]:
    """What Triton may rely on in the arguments."""
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for at, slot in enumerate(slots):
        attributes[(at,)] = [["tt.divisibility", 16]]
        if target.backend == "hip" and slot.nbytes < 2**31:
            attributes[(at,)].append(["tt.pointer_range", 32])
    return attributes


def compile_source(
    name: str,
    source: str,
    slots: tuple[Slot, ...],
    config: Config,
    target: Target,
    path: Path,
    where: Source,
) -> Any:
    """Triton's CompiledKernel for a target; no GPU is needed.

    Raises:
        CompileError: Triton refuses the source; its message is in the error.
    """
    triton = import_triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(load_module(path, source), name)
    signature, attributes = signature_of(slots), attributes_of(slots, target)

    def compile_once() -> Any:
        return triton.compile(
            ASTSource(fn=function, signature=signature, constexprs={}, attrs=attributes),
            target=GPUTarget(target.backend, target.arch, target.warp_size),
            options={"num_warps": config.num_warps, "num_stages": config.num_stages},
        )

    try:
        for _ in range(_RETRIES):
            try:
                return compile_once()
            except Exception as error:
                if not _is_of_parsing_together(error):
                    raise
        with _PARSE_ALONE:
            return compile_once()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompileError(
            f"Triton does not compile {name} for {target.name}: {lines[-1]}",
            f"The source is in {path}.",
            source=where,
        ) from error
