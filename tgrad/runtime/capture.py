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
from tgrad.runtime.plan import Plan

Runner = Callable[[object], None]


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
        flat = [b for step in plan.steps for b in step.buffers]
        self.starts = np.array([s for step in plan.steps for _, s in step.windows], np.uintp)
        self.table = np.zeros(max(len(flat), 1), np.uintp)
        self.positions: dict[str, np.ndarray] = {}
        self.numbers: dict[str, np.ndarray] = {}
        for kind in ("input", "output", "temp"):
            where = [i for i, b in enumerate(flat) if b.kind == kind]
            self.positions[kind] = np.array(where, np.intp)
            self.numbers[kind] = np.array([flat[i].number for i in where], np.intp)
        places = range(len(plan.inputs)) if moving is None else moving
        rank = {number: n for n, number in enumerate(places)}
        where = [i for i, b in enumerate(flat) if b.kind == "input" and b.number in rank]
        self.positions["moved"] = np.array(where, np.intp)
        self.numbers["moved"] = np.array([rank[flat[i].number] for i in where], np.intp)
        self.offsets = np.array([b.offset for b in plan.temps], np.uintp)
        self.arena = 0
        entries = [ctypes.cast(cast(Any, a.entry), ctypes.c_void_p).value
                   for a in artifacts]  # fmt: skip
        self.kernels = np.array(entries, np.uintp)
        starts = np.cumsum([0, *(len(s.buffers) for s in plan.steps)])[:-1]
        base = self.table.ctypes.data
        self.slots = np.array([base + 8 * int(s) for s in starts], np.uintp)
        self.count = np.array([len(plan.steps)], np.int_)
        self.launched = np.zeros(1, np.int_)
        self.arguments = np.array(
            [a.ctypes.data for a in (self.count, self.kernels, self.slots, self.launched)],
            np.uintp,
        )
        self.call = ctypes.c_void_p(self.arguments.ctypes.data)

    def bind(self, inputs: Sequence[HostMemory]) -> None:
        """Say where all inputs are."""
        self._fill("input", inputs)

    def run(
        self,
        moved: Sequence[HostMemory],
        outputs: Sequence[HostMemory],
        arena: HostMemory | None,
    ) -> int:
        """Run all steps; see `Program`. The kernels that ran are counted by the runner."""
        self._fill("moved", moved)
        self._fill("output", outputs)
        if arena is not None and arena.address != self.arena:
            where = self.positions["temp"]
            addresses = (self.offsets + np.uintp(arena.address))[self.numbers["temp"]]
            self.table[where] = addresses + self.starts[where]
            self.arena = arena.address
        self.launched[0] = 0
        self.runner(self.call)
        return int(self.launched[0])

    def _fill(self, kind: str, memories: Sequence[HostMemory]) -> None:
        where = self.positions[kind]
        if where.size:
            addresses = np.array([m.address for m in memories], np.uintp)
            self.table[where] = addresses[self.numbers[kind]] + self.starts[where]
