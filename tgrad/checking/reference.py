"""What a launch should make of its inputs: its region, computed on the host.

In: the regions of a plan, what a launch's buffers held before it. Out: what they should hold after
it, or why that is not known. Invariant: kernels of GPUs are judged by generated C, which shares the
region with them and nothing else; the CPU's own by the NumPy interpreter, where they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tgrad.backend import backend_by_name
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact
from tgrad.runtime.cpu import CpuRuntime
from tgrad.runtime.plan import Plan
from tgrad.settings import settings

MOST_POINTS = 1 << 24
"""Of an iteration domain that NumPy computes: it makes an array of all of them for each value."""


class Reference:
    """How the kernels of one plan are computed a second time."""

    def __init__(self, plan: Plan):
        self.runtime = CpuRuntime(Device("cpu"))
        regions = list(dict.fromkeys(k.region for k in plan.kernels if k.region.library is None))
        self.kernels: dict[Region, Artifact] = {}
        if plan.device.type != "cpu":
            self.kernels = _compiled(regions)

    def run(self, region: Region, before: Sequence[np.ndarray]) -> list[np.ndarray] | str:
        """What a launch's buffers should hold after it; or why nobody knows.

        Args:
            before: what each of `region.buffers` holds, as a flat array.
        """
        artifact = self.kernels.get(region)
        if artifact is not None:
            return self._run_c(artifact, region, before)
        points = prod(a.extent for a in region.axes)
        if region.library is None and points > MOST_POINTS:
            return f"{points:,} points are too many for NumPy"
        try:
            return evaluate_region(region, before)
        except MemoryError:
            return "NumPy has not enough memory"

    def _run_c(
        self, artifact: Artifact, region: Region, before: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        memories = [self.runtime.allocate(a.nbytes) for a in before]
        for memory, array in zip(memories, before):
            self.runtime.write(memory, array)
        self.runtime.launch(artifact, memories)
        return [
            array if slot.role == "in" else self.runtime.read(memory, slot.dtype, array.shape)
            for slot, memory, array in zip(region.buffers, memories, before)
        ]


def _compiled(regions: Sequence[Region]) -> dict[Region, Artifact]:
    """C for all that the generator takes, compiled in one go where that is possible."""
    generate = backend_by_name("cpu").generate

    def made(some: Sequence[Region]) -> dict[Region, Artifact]:
        _, compile_all = generate(some, settings, [None] * len(some))
        return dict(zip(some, compile_all()))

    try:
        return made(regions)
    except TgradError:
        found: dict[Region, Artifact] = {}
        for region in regions:
            try:
                found |= made([region])
            except TgradError:
                continue  # NumPy's, or nobody's
        return found
