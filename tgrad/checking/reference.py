"""What a launch should make of its inputs: its region, computed on the host.

In: the regions of a plan, what a launch's buffers held before it. Out: what they should hold after
it, or why that is not known. Invariant: kernels of GPUs are judged by generated C, which shares the
region with them and nothing else; the CPU's own by the NumPy interpreter, where they are small.
Nothing is computed in place, so that who writes over what another one still reads is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tgrad.backend import backend_by_name
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Load, Region
from tgrad.kernel.ir import Executable
from tgrad.runtime.cpu import CpuRuntime
from tgrad.runtime.plan import Plan
from tgrad.settings import settings

MOST_POINTS = 1 << 24
"""Of an iteration domain that NumPy computes: it makes an array of all of them for each value."""


@dataclass(frozen=True)
class Apart:
    """A region that reads from slots of their own what it writes over.

    Attributes:
        region: those slots are its last ones.
        copied: the buffers that theirs are copies of.
    """

    region: Region
    copied: tuple[int, ...]


def apart(region: Region) -> Apart:
    """
    out0[i] = out0[i] * 2   ->   out0[i] = read0[i] * 2
    """
    table = region.table
    own = () if table is None else table.own
    counts = [1 if table is None or n not in own else table.members
              for n in range(len(region.slots))]  # fmt: skip
    moved: dict[int, int] = {}
    for store in region.stores:
        is_read = any(isinstance(v, Load) and v.slot == store.slot for v in region.values)
        if store.combine == "set" and is_read and region.slots[store.slot].role == "inout":
            moved.setdefault(store.slot, len(region.slots) + len(moved))
    if not moved:
        return Apart(region, ())
    reads = tuple(replace(region.slots[n], name=f"read{i}", role="in") for i, n in enumerate(moved))
    made = replace(
        region,
        slots=(*region.slots, *reads),
        values=tuple(
            replace(v, slot=moved.get(v.slot, v.slot)) if isinstance(v, Load) else v
            for v in region.values
        ),
        table=table and replace(table, own=(*own, *(moved[n] for n in moved if n in own))),
    )
    copied = (b for n in moved for b in range(sum(counts[:n]), sum(counts[: n + 1])))
    return Apart(made, tuple(copied))


class Reference:
    """How the kernels of one plan are computed a second time."""

    def __init__(self, plan: Plan):
        self.runtime = CpuRuntime(Device("cpu"))
        self.kernels: dict[Region, Executable] = {}
        if plan.device.type != "cpu":
            regions = dict.fromkeys(k.region for k in plan.kernels if k.region.call is None)
            self.kernels = compiled([apart(r).region for r in regions])

    def run(self, region: Region, before: Sequence[np.ndarray]) -> list[np.ndarray] | str:
        """What a launch's buffers should hold after it; or why nobody knows.

        Args:
            before: what each of `region.buffers` holds, as a flat array.
        """
        given = apart(region)
        artifact = self.kernels.get(given.region)
        if artifact is not None:
            return self._run_c(artifact, given, before)
        points = prod(a.extent for a in region.axes)
        if region.call is None and points > MOST_POINTS:
            return f"{points:,} points are too many for NumPy"
        try:
            return evaluate_region(region, before)
        except MemoryError:
            return "NumPy has not enough memory"

    def _run_c(
        self, artifact: Executable, given: Apart, before: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        arrays = [*before, *(before[n] for n in given.copied)]
        memories = [self.runtime.allocate(a.nbytes) for a in arrays]
        for memory, array in zip(memories, arrays):
            self.runtime.write(memory, array)
        self.runtime.launch(artifact, memories)
        return [
            array if slot.role == "in" else self.runtime.read(memory, slot.dtype, array.shape)
            for slot, memory, array in zip(given.region.buffers, memories, before)
        ]


def compiled(regions: Sequence[Region]) -> dict[Region, Executable]:
    """C for all that the generator takes, compiled in one go where that is possible."""
    generate = backend_by_name("cpu").generate

    def made(some: Sequence[Region]) -> dict[Region, Executable]:
        _, compile_all = generate(some, settings, [None] * len(some))
        return dict(zip(some, compile_all()))

    try:
        return made(regions)
    except TgradError:
        found: dict[Region, Executable] = {}
        for region in regions:
            try:
                found |= made([region])
            except TgradError:
                continue  # NumPy's, or nobody's
        return found
