"""A plan prepared so that replaying it costs no Python per step.

In: a plan's steps, compiled C kernels, and the runner that calls them. Out: `CpuCapture`, whose
`run` fills in the addresses that change and makes one call. Invariant: kernels run in the order of
the plan, each once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from tgrad.kernel.ir import Executable
from tgrad.runtime.cpu import HostMemory
from tgrad.runtime.plan import BufferRef, Plan

Runner = Callable[[object], None]
FEW = 8
"""Places that are written one by one: NumPy takes as long to begin."""


Many = list[tuple[int, np.ndarray, np.ndarray]]
"""Number of a buffer, its places in the table, and of which of its bytes."""


class Places:
    """Where addresses in buffers are written in the table: number of the buffer, place, byte of it;
    arrays of these for buffers of many places."""

    __slots__ = ("few", "many")

    def __init__(self, buffers: Sequence[Sequence[tuple[int, int]]]):
        self.few = [(n, *place) for n, places in enumerate(buffers)
                    if len(places) <= FEW for place in places]  # fmt: skip
        self.many: Many = [
            (n, np.array([at for at, _ in places], np.intp),
             np.array([start for _, start in places], np.uintp))
            for n, places in enumerate(buffers) if len(places) > FEW
        ]  # fmt: skip


class CpuCapture:
    """Address tables of a plan on host memory.

    `table` holds the slots of all steps, one after the other; inputs, outputs and temporaries are
    written into it by their positions. The addresses of inputs that do not move stay in it, so
    whoever binds them keeps their memories alive.

    Args:
        moving: numbers of the inputs whose memories each run is given; None for all.
    """

    is_whole = True
    """C functions cannot fail to start."""
    settled: frozenset[int] = frozenset()
    """Host memory changes hands: nothing is copied."""

    def __init__(
        self,
        plan: Plan,
        artifacts: Sequence[Executable],
        runner: Runner,
        moving: Sequence[int] | None = None,
    ):
        self.runner = runner
        flat = [window for step in plan.steps for window in step.windows]
        self.table = np.zeros(max(len(flat), 1), np.uintp)
        self.slot = memoryview(cast(Any, self.table))
        temps: list[tuple[int, int]] = []
        others: dict[BufferRef, list[tuple[int, int]]] = {}
        for at, (b, start) in enumerate(flat):
            if b.kind == "temp":
                temps.append((at, plan.temps[b.number].offset + start))
            else:
                others.setdefault(b, []).append((at, start))
        self.temps = np.array([at for at, _ in temps], np.intp)
        self.offsets = np.array([offset for _, offset in temps], np.uintp)
        inputs, outputs = (
            [others.get(BufferRef(kind, n), []) for n in range(len(specs))]
            for kind, specs in (("input", plan.inputs), ("output", plan.outputs))
        )
        moved = inputs if moving is None else [inputs[n] for n in moving]
        self.inputs, self.given = Places(inputs), Places([*moved, *outputs])
        self.arena = 0
        entries = [ctypes.cast(cast(Any, a.entry), ctypes.c_void_p).value
                   for a in artifacts]  # fmt: skip
        self.kernels = np.array(entries, np.uintp)
        starts = np.cumsum([0, *(len(s.buffers) for s in plan.steps)])[:-1]
        base = self.table.ctypes.data
        self.slots = np.array([base + 8 * int(s) for s in starts], np.uintp)
        self.count = np.array([len(plan.steps)], np.int_)
        self.launched = ctypes.c_long(0)
        tables = [a.ctypes.data for a in (self.count, self.kernels, self.slots)]
        self.arguments = np.array([*tables, ctypes.addressof(self.launched)], np.uintp)
        self.call = ctypes.c_void_p(self.arguments.ctypes.data)

    def bind(self, inputs: Sequence[HostMemory]) -> None:
        """Say where all inputs are."""
        for n, at, start in self.inputs.few:
            self.slot[at] = inputs[n].address + start
        self._write(self.inputs.many, inputs)

    def run(
        self,
        moved: Sequence[HostMemory],
        outputs: Sequence[HostMemory],
        arena: HostMemory | None,
    ) -> int:
        """Run all steps; see `Program`. The kernels that ran are counted by the runner."""
        memories, slot = (*moved, *outputs), self.slot
        for n, at, start in self.given.few:
            slot[at] = memories[n].address + start
        if self.given.many:
            self._write(self.given.many, memories)
        if arena is not None and arena.address != self.arena:
            self.table[self.temps] = self.offsets + np.uintp(arena.address)
            self.arena = arena.address
        self.launched.value = 0
        self.runner(self.call)
        return self.launched.value

    def _write(self, places: Many, memories: Sequence[HostMemory]) -> None:
        """The addresses of buffers of many places, into the table."""
        for n, at, starts in places:
            self.table[at] = starts + np.uintp(memories[n].address)
