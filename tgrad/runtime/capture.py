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

from tgrad.kernel.ir import Artifact
from tgrad.runtime.cpu import HostMemory
from tgrad.runtime.plan import Plan

Runner = Callable[[object], None]


class CpuCapture:
    """Address tables of a plan on host memory.

    `table` holds the slots of all steps, one after the other; inputs, outputs and temporaries are
    written into it by their positions.
    """

    def __init__(self, plan: Plan, artifacts: Sequence[Artifact], runner: Runner):
        self.runner = runner
        flat = [b for step in plan.steps for b in step.buffers]
        self.table = np.zeros(max(len(flat), 1), np.uintp)
        self.positions: dict[str, np.ndarray] = {}
        self.numbers: dict[str, np.ndarray] = {}
        for kind in ("input", "output", "temp"):
            where = [i for i, b in enumerate(flat) if b.kind == kind]
            self.positions[kind] = np.array(where, np.intp)
            self.numbers[kind] = np.array([flat[i].number for i in where], np.intp)
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

    def run(
        self,
        inputs: Sequence[HostMemory],
        outputs: Sequence[HostMemory],
        arena: HostMemory | None,
    ) -> int:
        """Run all steps.

        Args:
            inputs, outputs: memories of the plan's buffers, in order.
            arena: the temporaries lie at their offsets in it; None if there are none.

        Returns:
            The number of kernels that ran, counted by the runner.
        """
        self._fill("input", np.array([m.address for m in inputs], np.uintp))
        self._fill("output", np.array([m.address for m in outputs], np.uintp))
        if arena is not None and arena.address != self.arena:
            self._fill("temp", self.offsets + np.uintp(arena.address))
            self.arena = arena.address
        self.launched[0] = 0
        self.runner(self.call)
        return int(self.launched[0])

    def _fill(self, kind: str, addresses: np.ndarray) -> None:
        if self.positions[kind].size:
            self.table[self.positions[kind]] = addresses[self.numbers[kind]]
