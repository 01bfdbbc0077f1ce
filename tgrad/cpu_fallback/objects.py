"""Shared objects of the cache: found, checked, loaded.

In: the cache directory. Out: functions of the objects in it, as ctypes sees them. Invariant: an
object is loaded once, and only if its size and digest are those that were written down; all that
are loaded know the number of threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tgrad.cache_files import make_folder
from tgrad.errors import UNKNOWN, CacheError
from tgrad.kernel.ir import Executable
from tgrad.settings import Settings
from tgrad.threads import get_num_threads, on_num_threads, set_num_threads


def digest_of(*parts: str) -> str:
    h = hashlib.sha256()
    for part in parts:
        h.update(part.encode())
        h.update(b"\0")
    return h.hexdigest()[:32]


class Cache:
    """The directory; see the docstring of compile.py."""

    def __init__(self, settings: Settings):
        self.root = settings.cache_dir / "c"
        self.objects, self.kernels = self.root / "objects", self.root / "kernels"
        self.sources = self.root / "source"

    def find(self, key: str) -> tuple[Path, str] | None:
        """The intact object that has the kernel, and its symbol."""
        try:
            entry = json.loads((self.kernels / f"{key}.json").read_text())
            path = self.objects / entry["object"]
            symbol, size, digest = entry["symbol"], entry["size"], entry["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_intact(str(path), size, digest):
            return None
        return path, symbol

    def make(self) -> None:
        """Create the directories.

        Raises:
            CacheError: they cannot be written.
        """
        try:
            for folder in (self.objects, self.kernels, self.sources):
                make_folder(folder)
        except OSError as error:
            raise self.refused(error) from error

    def refused(self, error: OSError) -> CacheError:
        return CacheError(
            f"The cache directory {self.root} cannot be written: {error.strerror or error}.",
            "Free some space there, or set TGRAD_CACHE_DIR to a directory that you can write to.",
            source=UNKNOWN,
        )


loaded: dict[str, ctypes.CDLL] = {}


def is_intact(path: str, size: int, digest: str) -> bool:
    """Whether the file is what was written; a truncated object would kill the process."""
    if path in loaded:
        return True
    try:
        data = Path(path).read_bytes()
    except OSError:
        return False
    return len(data) == size and hashlib.sha256(data).hexdigest() == digest


SPIN_COUNT = "4000"
"""Turns a thread waits at a barrier before it sleeps. On an idle machine fewer than libgomp's own
300,000 cost nothing (GPT step of 142 kernels, 2 cores, 2026-11: 12.4 ms against 15.2 ms). Where the
cores are shared, a thread spins away the time that the thread it waits for needs: the same step
took 0.1 s with 4,000 and 1.8 s with 300,000."""


@contextmanager
def _short_waits() -> Iterator[None]:
    """libgomp reads its settings when it is loaded; what the user set stands."""
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def load(path: Path, symbol: str) -> Any:
    library = loaded.get(str(path))
    if library is None:
        try:
            with _short_waits():
                library = ctypes.CDLL(str(path))
        except OSError as error:
            raise CacheError(
                f"The compiled kernels {path} cannot be loaded: {error}.",
                "Call again: what is missing is compiled again.",
                source=UNKNOWN,
            ) from error
        loaded[str(path)] = library
        _tell(library, get_num_threads())
    function = library[symbol]
    function.argtypes = [ctypes.c_void_p]
    function.restype = None
    return function


def _tell(library: ctypes.CDLL, count: int) -> None:
    """Set the number of threads; an object with no parallel kernel has no such variable."""
    with suppress(ValueError):
        ctypes.c_int.in_dll(library, "tg_threads").value = count


def _tell_all(count: int) -> None:
    for library in loaded.values():
        _tell(library, count)


on_num_threads(_tell_all)


def _run_alone() -> None:
    """In a forked process: OpenMP's threads stay behind, and a kernel would wait for them forever.
    As in the workers of PyTorch's loader, one thread remains."""
    if loaded:
        set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_alone)


# -- kernels of a plan that is kept ---------------------------------------------------------------


def keep(executables: Sequence[Executable], settings: Settings) -> dict[str, Any] | None:
    """Plain data by which `take` finds the kernels again; None where they are no longer there."""
    cache, objects = Cache(settings), {}
    for name in {e.binary for e in executables}:
        try:
            data = (cache.objects / name).read_bytes()
        except OSError:
            return None
        objects[name] = [len(data), hashlib.sha256(data).hexdigest()]
    kernels = [[e.name, e.binary, Path(e.path).name, e.grid] for e in executables]
    return {"objects": objects, "kernels": kernels}


def take(data: Mapping[str, Any], settings: Settings) -> list[Executable] | None:
    """The kernels that `keep` described; None where one is not intact."""
    cache = Cache(settings)
    for name, (size, digest) in data["objects"].items():
        if not is_intact(str(cache.objects / name), size, digest):
            return None
    try:
        return [
            Executable(
                name=name,
                path=str(cache.sources / source),
                entry=load(cache.objects / binary, name),
                grid=grid,
                binary=binary,
            )
            for name, binary, source, grid in data["kernels"]
        ]
    except (CacheError, AttributeError):  # deleted meanwhile; no such symbol
        return None
