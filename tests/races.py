"""Kernels of a GPU in Triton's interpreter, and who of their programs touches which bytes.

In: a block that runs plans on the device interpret. Out: conflicts: bytes that one program of a
launch writes while another one reads or writes them, which on a GPU run side by side. Invariant:
the accesses are those of the generated source, masks included; atomic additions among themselves
are no conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tgrad import backend, pipeline, triton_gen
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, Executable
from tgrad.runtime import execute
from tgrad.runtime.cpu import HostMemory
from tgrad.runtime.interpret import InterpretRuntime
from tgrad.settings import Settings

READ, WRITE, ADD = range(3)


@dataclass
class Accesses:
    """What the programs of one launch touched: kind, program, first bytes of the elements."""

    found: list[tuple[int, int, np.ndarray]] = field(default_factory=list)

    def add(self, kind: int, program: int, pointers: np.ndarray, mask: np.ndarray) -> None:
        touched = np.unique(np.broadcast_to(pointers, mask.shape)[mask.astype(bool)])
        if touched.size:
            self.found.append((kind, program, touched))

    def of(self, *kinds: int) -> tuple[np.ndarray, np.ndarray]:
        """Addresses, sorted, and the program of each."""
        some = [(p, a) for kind, p, a in self.found if kind in kinds]
        if not some:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        addresses = np.concatenate([a for _, a in some])
        programs = np.concatenate([np.full(a.size, p) for p, a in some])
        order = np.argsort(addresses, kind="stable")
        return addresses[order], programs[order]

    def conflicts(self) -> np.ndarray:
        """Addresses that one program writes and another one touches."""
        written, writers = self.of(WRITE)
        twice = (written[1:] == written[:-1]) & (writers[1:] != writers[:-1])
        touched, who = self.of(READ, ADD)
        at = np.searchsorted(written, touched)
        at[at == written.size] = 0
        if not written.size:
            return self._added_and_read()
        others = (written[at] == touched) & (writers[at] != who)
        return np.unique(np.concatenate([written[1:][twice], touched[others],
                                         self._added_and_read()]))  # fmt: skip

    def _added_and_read(self) -> np.ndarray:
        return np.intersect1d(self.of(ADD)[0], self.of(READ)[0])


@dataclass
class Races:
    """Launches so far, and what is wrong with them."""

    launches: int = 0
    conflicts: list[str] = field(default_factory=list)


def _has_any(memory: HostMemory, addresses: np.ndarray) -> bool:
    start, end = memory.address, memory.address + memory.block.nbytes
    return bool(((addresses >= start) & (addresses < end)).any())


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[Races]:
    """Look at all launches of the interpreter inside."""
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    races, accesses = Races(), Accesses()
    load, store, add = (
        Builder.create_masked_load,
        Builder.create_masked_store,
        Builder.create_atomic_rmw,
    )

    def noted_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        accesses.add(READ, self.grid_idx[0], pointers.data, mask.data)
        return load(self, pointers, mask, *rest)

    def noted_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        accesses.add(WRITE, self.grid_idx[0], pointers.data, mask.data)
        return store(self, pointers, value, mask, *rest)

    def noted_add(self: Any, op: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        accesses.add(ADD, self.grid_idx[0], pointers.data, mask.data)
        return add(self, op, pointers, value, mask, *rest)

    launch = InterpretRuntime.launch

    def noted_launch(
        self: InterpretRuntime, artifact: Executable, memories: Sequence[HostMemory]
    ) -> None:
        accesses.found.clear()
        launch(self, artifact, memories)
        races.launches += 1
        where = accesses.conflicts()
        if where.size:
            slots = [n for n, m in enumerate(memories) if _has_any(m, where)]
            races.conflicts.append(f"{artifact.name}: {where.size} elements of buffers {slots}")

    with patch.context() as patched:
        patched.setattr(Builder, "create_masked_load", noted_load)
        patched.setattr(Builder, "create_masked_store", noted_store)
        patched.setattr(Builder, "create_atomic_rmw", noted_add)
        patched.setattr(InterpretRuntime, "launch", noted_launch)
        yield races


@contextmanager
def gpu_in_interpreter(
    patch: pytest.MonkeyPatch, multiprocessors: int = 4, **changes: Any
) -> Iterator[None]:
    """Plans and configurations on the device interpret are those of a small sm_90.

    Args:
        multiprocessors: so few that small shapes have more tiles than these.
        changes: made to the configurations of dots.
    """
    target = replace(triton_gen.target_by_name("sm_90"), num_sms=multiprocessors)
    made = backend._triton(target)

    def configured(region: Region) -> Config:
        config = triton_gen.choose_config(region, target)
        return replace(config, **changes) if region.space.kind == "dot" else config

    def generate(
        regions: Sequence[Region], options: Settings, configs: Sequence[Config | None]
    ) -> Any:
        drafts = triton_gen.draft([(r, configured(r)) for r in regions], triton_gen.INTERPRET)
        return drafts, lambda: tuple(
            triton_gen.compile_drafts(drafts, options, triton_gen.INTERPRET)
        )

    used = replace(made, name="interpret", generate=generate)
    with patch.context() as patched:
        patched.setattr(pipeline, "backend_of", lambda device: used)
        pipeline._plans.clear()
        yield
    pipeline._plans.clear()


@contextmanager
def poisoned(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory that a plan has not written yet holds NaN, at each run."""
    arena, allocate = execute.arena, execute.allocate

    def filled(memory: HostMemory) -> HostMemory:
        memory.block[:] = 0xFF
        return memory

    with patch.context() as patched:
        patched.setattr(execute, "arena", lambda *args: filled(arena(*args)))
        patched.setattr(execute, "allocate", lambda *args: filled(allocate(*args)))
        yield
