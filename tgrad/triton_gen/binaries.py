"""The kernels of a plan that is kept, found again by another process.

In: executables, or plain data that describes them. Out: the data, or the executables. Invariant: a
kernel is found whole and of this Triton, or not at all; see kept.py, whose files the data names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tgrad.errors import DeviceError
from tgrad.kernel.ir import Executable, PointerTable
from tgrad.settings import Settings
from tgrad.triton_gen.compile import compiling, import_triton
from tgrad.triton_gen.kept import asks_to_compile, find, made_with, place_by_key
from tgrad.triton_gen.target import Target


def toolchain(target: Target) -> str:
    """What kernels depend on beside their sources.

    Raises:
        DeviceError: triton is not installed, or its settings want each kernel compiled.
    """
    import_triton()
    if asks_to_compile():
        raise DeviceError("Triton's settings want each kernel compiled again.")
    return repr((target, made_with(target)))


def keep(executables: Sequence[Executable], settings: Settings) -> dict[str, Any] | None:
    """Plain data by which `take` finds the kernels again; None where one is in no cache."""
    if not all(e.binary for e in executables):
        return None
    return {"kernels": [_described(e) for e in executables]}


def _described(e: Executable) -> list[Any]:
    table = None if e.pointers is None else [list(numbers) for numbers in astuple(e.pointers)]
    return [e.name, e.binary, Path(e.path).name, e.grid, e.needs_scratch, table]


def take(data: Mapping[str, Any], settings: Settings) -> list[Executable] | None:
    """The kernels that `keep` described; None where one is not intact."""
    cache_dir, found = settings.cache_dir, list[Executable]()
    with compiling(cache_dir):
        for name, binary, source, grid, needs_scratch, table in data["kernels"]:
            kernel = find(place_by_key(binary, cache_dir))
            if kernel is None:
                return None
            found.append(
                Executable(
                    name=name,
                    path=str(cache_dir / "triton" / source),
                    entry=kernel.entry,
                    grid=grid,
                    figures=kernel.figures,
                    pointers=None if table is None else PointerTable(*map(tuple, table)),
                    needs_scratch=needs_scratch,
                    binary=binary,
                )
            )
    return found
