"""Plans that an earlier process made: found by what decides them, and run as they are.

In: the key of a graph, and whatever else a plan depends on. Out: a plan whose kernels are loaded
and whose memory is laid out, without the passes; what explains it is made again when it is asked
for. Invariant: a kept plan is the plan that the passes would make now. See docs/decisions/0051.

Layout below <cache>/plans/: <key>.json, see runtime/kept.py.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from tgrad.backend import Backend, Binaries, capture_of
from tgrad.device import Device
from tgrad.errors import TgradError, VerifyError
from tgrad.graph.key import GraphKey, Sources
from tgrad.kernel.ir import Executable
from tgrad.runtime.kept import KeptPlan, kept_plan, read_kept, write_kept
from tgrad.runtime.plan import Compiled, KernelInfo, Plan
from tgrad.settings import Settings

PACKAGE = Path(__file__).parent
Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """Where a plan is kept.

    Attributes:
        key: of all that decides the plan.
        path: of its file.
        sources: the user's lines.
        device, backend, options: what it is for; the backend has binaries.
    """

    key: str
    path: Path
    sources: Sources
    device: Device
    backend: Backend
    options: Settings

    @property
    def binaries(self) -> Binaries:
        assert self.backend.binaries is not None
        return self.backend.binaries


def place_of(
    graph: GraphKey,
    more: Hashable,
    sources: Sources,
    device: Device,
    backend: Backend,
    options: Settings,
) -> Place | None:
    """Where the plan of a graph would be; None where plans are not kept.

    Args:
        graph: what is computed.
        more: what else the passes were given; equal things have equal texts.
        sources: see `Place`. Kernels are named after what was called there, and those of one line
            may share what is generated; which line it is does not matter.
    """
    stamp = _stamp()
    if not options.keep_plans or backend.binaries is None or not stamp:
        return None
    try:
        made_by = backend.binaries.key(options)
    except TgradError:  # no compiler: planning says so in its own words
        return None
    text = repr(
        (
            stamp, made_by, backend.name, backend.limits, backend.figures, device, graph.rows, more,
            sources.pattern(),
        )
    )  # fmt: skip
    if " at 0x" in text:  # something that no other process can have
        return None
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = options.cache_dir / "plans" / f"{key}.json"
    return Place(key, path, sources, device, backend, options)


@lru_cache(maxsize=1)
def _stamp() -> str:
    """What tgrad is made of, by size and time of each file, as Python knows its own bytecode to be
    out of date; "" where that cannot be told."""
    files = sorted(_files(PACKAGE))
    versions = (sys.version, np.__version__)
    return repr((str(PACKAGE), versions, files)) if files else ""


def _files(folder: Path | str) -> Iterator[tuple[str, int, int]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns


class Later(Sequence[Item], Generic[Item]):
    """So many items, which are made when the first is asked for."""

    def __init__(self, count: int, make: Callable[[], Sequence[Item]]):
        self._count, self._make = count, make
        self._items: Sequence[Item] | None = None
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Sequence[Item]:
        with self._lock:
            if self._items is None:
                self._items = self._make()
        return self._items[at]


def find(place: Place, again: Callable[[], Compiled], replay: str) -> Compiled | None:
    """The plan that is kept there, its kernels loaded; None where something is missing.

    Args:
        again: plans the same graph with the passes; what it says of the kernels is shown.
        replay: of the plan.
    """
    kept = read_kept(place.path, place.key, place.sources.lines)
    if kept is None:
        return None
    loaded = place.binaries.take(kept.binaries, place.options)
    if loaded is None:
        return None
    executables = tuple(loaded[n] for n in kept.executables)
    plan = Plan(
        place.device,
        Later(len(kept.steps), lambda: _kernels(kept, again())),
        kept.steps,
        kept.inputs,
        kept.outputs,
        kept.temps,
        kept.arena_bytes,
        lambda: executables,
        prepare=capture_of(place.device, place.options),
        replay=replay,
        target=place.backend.name,
        figures=place.backend.figures,
        labels=kept.labels,
    )
    return Compiled(plan, kept.leaves, kept.results)


def _kernels(kept: KeptPlan, again: Compiled) -> Sequence[KernelInfo]:
    if again.plan.steps != kept.steps:
        raise VerifyError("A plan that was kept is not the one that is made now.")
    return again.plan.kernels


def keep(place: Place, compiled: Compiled) -> Compiled:
    """The same plan, which is kept there as soon as its kernels are compiled."""
    plan = compiled.plan

    def compile_and_keep() -> tuple[Executable | None, ...]:
        executables = plan.compile()
        if all(e is not None for e in executables):
            _write(place, compiled, [e for e in executables if e is not None])
        return executables

    return replace(compiled, plan=replace(plan, compile=compile_and_keep))


def _write(place: Place, compiled: Compiled, executables: Sequence[Executable]) -> None:
    """Without space or permission nothing is kept: the next process plans again."""
    distinct = list({e.name: e for e in executables}.values())
    number = {e.name: n for n, e in enumerate(distinct)}
    binaries: Any = place.binaries.keep(distinct, place.options)
    if binaries is None:
        return
    kept = kept_plan(compiled, [number[e.name] for e in executables], binaries)
    with suppress(OSError, KeyError):
        write_kept(place.path, place.key, kept, place.sources.rows())
