"""A watcher that computes each launch a second time.

In: launches of plans, with the memories of their buffers. Out: what is wrong with each. Invariant:
the program goes on as if nobody had looked: a launch that is repeated finds what it found before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tgrad.checking.compare import Difference, difference, units_of
from tgrad.checking.reference import Reference
from tgrad.fusion.region import Region
from tgrad.runtime.device import Runtime, open_device
from tgrad.runtime.plan import KernelInfo, Plan
from tgrad.runtime.watch import watching


@dataclass(frozen=True)
class Checked:
    """A launch that was looked at.

    Attributes:
        plan, step: which one; the plan by its number, in the order of first launches.
        kernel: what ran.
        path: of its generated source.
        differences: of what it wrote from what it should have written.
        changed: arguments that it only reads and that hold something else now.
        unsteady: results that are not the same bits when it runs again: a race.
        unknown: why nobody knows what it should have written; "" where it is known.
    """

    plan: int
    step: int
    kernel: KernelInfo
    path: str
    differences: tuple[Difference, ...] = ()
    changed: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def is_right(self) -> bool:
        return not (self.differences or self.changed or self.unsteady)


@dataclass
class _Seen:
    """A plan that ran."""

    plan: Plan
    number: int
    reference: Reference
    runs: int = 0
    checked: set[Region] = field(default_factory=set)


class Checker:
    """A watcher that checks.

    Args:
        runs: how often a plan is checked; later runs are launched and not looked at.
        every: check all launches of a plan, not each different kernel once.
        repeat: how often a kernel runs on the same inputs, which must not change its results.
        after: called after each run of a plan, with it and how often it has run.

    Attributes:
        launches: what was checked so far.
    """

    def __init__(
        self,
        runs: int = 1,
        every: bool = False,
        repeat: int = 2,
        after: Callable[[Plan, int], None] | None = None,
    ):
        self.runs, self.every, self.repeat, self.after = runs, every, repeat, after
        self.launches: list[Checked] = []
        self._seen: dict[int, _Seen] = {}

    def watch(
        self, plan: Plan, step: int, memories: Sequence[Any], launch: Callable[[], None]
    ) -> None:
        """Launch and check; see runtime/watch.py."""
        seen = self._seen.get(id(plan))
        if seen is None:
            seen = self._seen[id(plan)] = _Seen(plan, len(self._seen), Reference(plan))
        seen.runs += step == 0
        region = plan.kernels[step].region
        if seen.runs > self.runs or (region in seen.checked and not self.every):
            launch()
        else:
            self.launches.append(self._check(seen, step, memories, launch))
            seen.checked.add(region)
        if self.after is not None and step == plan.launches - 1:
            self.after(plan, seen.runs)

    def _check(
        self, seen: _Seen, step: int, memories: Sequence[Any], launch: Callable[[], None]
    ) -> Checked:
        plan, kernel = seen.plan, seen.plan.kernels[step]
        region, runtime = kernel.region, open_device(plan.device)
        artifact = plan.artifacts[step]
        before = _read(runtime, region, memories)
        launch()
        after = _read(runtime, region, memories)
        unsteady = self._unsteady(runtime, region, memories, launch, before, after)
        want = seen.reference.run(region, before)
        return Checked(
            plan=seen.number,
            step=step,
            kernel=kernel,
            path="" if artifact is None else artifact.path,
            differences=() if isinstance(want, str) else tuple(_differ(region, after, want)),
            changed=tuple(
                slot.name
                for slot, x, y in zip(region.buffers, before, after)
                if slot.role == "in" and not _are_equal(x, y)
            ),
            unsteady=unsteady,
            unknown=want if isinstance(want, str) else "",
        )

    def _unsteady(
        self,
        runtime: Runtime,
        region: Region,
        memories: Sequence[Any],
        launch: Callable[[], None],
        before: Sequence[np.ndarray],
        after: Sequence[np.ndarray],
    ) -> tuple[str, ...]:
        """Results that differ when the kernel runs again. Where it adds to memory, the order of
        additions may."""
        if region.call is not None or any(s.combine != "set" for s in region.stores):
            return ()
        found: dict[str, None] = {}
        for _ in range(1, self.repeat):
            for slot, memory, array in zip(region.buffers, memories, before):
                if slot.role != "in":
                    runtime.write(memory, array)
            launch()
            again = _read(runtime, region, memories)
            found |= {
                slot.name: None
                for slot, x, y in zip(region.buffers, after, again)
                if slot.role != "in" and not _are_equal(x, y)
            }
        return tuple(found)


def _read(runtime: Runtime, region: Region, memories: Sequence[Any]) -> list[np.ndarray]:
    return [runtime.read(m, s.dtype, (s.size,)) for s, m in zip(region.buffers, memories)]


def _are_equal(x: np.ndarray, y: np.ndarray) -> bool:
    return np.array_equal(x.view(np.uint8), y.view(np.uint8))


def _differ(
    region: Region, have: Sequence[np.ndarray], want: Sequence[np.ndarray]
) -> Iterator[Difference]:
    units = units_of(region)
    numbers = {slot.name: n for n, slot in enumerate(region.slots)}
    for slot, x, y in zip(region.buffers, have, want):
        if slot.role != "in":
            found = difference(slot, x, y, units.get(numbers[slot.name], 0.0))
            if found is not None:
                yield found


@contextmanager
def checking(runs: int = 1, every: bool = False, repeat: int = 2) -> Iterator[Checker]:
    """Check launches of all threads until the scope ends; arguments as of `Checker`."""
    checker = Checker(runs, every, repeat)
    with watching(checker):
        yield checker
