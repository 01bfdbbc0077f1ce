"""Exchanges of a plan, on their way while other steps run.

In: a plan that launches step by step. Out: which exchanges must have ended before each step.
Invariant: nobody reads what comes, or writes to what goes, before the exchange has ended; all have
when the plan has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.fusion.region import Region
from tgrad.graph.collective import CollectiveCall
from tgrad.runtime.collective import Finish, start_collective
from tgrad.runtime.device import Runtime
from tgrad.runtime.plan import Plan, Step

Extent = tuple[str, int, int]
"""A buffer, and the bytes of it from one to another; of the arena the buffer is ""."""


class Exchanges:
    """Those of one run.

    Attributes:
        awaited: of the plan.
        on_their_way: by the number of the step that started it, what waits for it.
        is_watched: whether somebody measures each step: then they end where they start.
    """

    def __init__(self, plan: Plan, is_watched: bool):
        self.awaited, self.is_watched = plan.awaited, is_watched
        self.on_their_way: dict[int, Finish] = {}

    def start(self, number: int, region: Region, runtime: Runtime, memories: Sequence[Any]) -> None:
        """Start the exchange of a step."""
        assert isinstance(region.call, CollectiveCall)
        finish = start_collective(region.call, region.source, runtime, memories)
        if self.is_watched:
            finish()
        else:
            self.on_their_way[number] = finish

    def end_before(self, number: int) -> None:
        """Wait for the exchanges that a step needs; the number of steps stands for the end."""
        for other in self.awaited.get(number, ()):
            if other in self.on_their_way:
                self.on_their_way.pop(other)()


def awaited_before(plan: Plan) -> dict[int, list[int]]:
    """The exchanges that must have ended before each step: it reads what comes, or writes to what
    goes; the number of steps stands for the end of the plan."""
    found: dict[int, list[int]] = {}
    for i, step in enumerate(plan.steps):
        if step.spans or not plan.kernels[step.kernel].region.is_exchange:
            continue
        own = [_extent(plan, step, 0), _extent(plan, step, len(step.buffers) - 1)]
        later = range(i + 1, len(plan.steps))
        met = (j for j in later if _meets(plan, plan.steps[j], own))
        found.setdefault(next(met, len(plan.steps)), []).append(i)
    return found


def _extent(plan: Plan, step: Step, slot: int) -> Extent:
    ref = step.buffers[slot]
    if ref.kind == "temp":
        temp = plan.temps[ref.number]
        return "", temp.offset, temp.offset + temp.nbytes
    return f"{ref.kind} {ref.number}", 0, 1


def _meets(plan: Plan, step: Step, own: Sequence[Extent]) -> bool:
    """Whether a step touches bytes. That an exchange names the one before touches nothing."""
    is_call = not step.spans and plan.kernels[step.kernel].region.is_exchange
    slots = {0, len(step.buffers) - 1} if is_call else range(len(step.buffers))
    extents = [_extent(plan, step, n) for n in slots]
    return any(a == b and i < m and k < j for a, i, j in own for b, k, m in extents)
