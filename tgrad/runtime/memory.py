"""The memory planner: an offset in one arena for every temporary of a plan.

In: sizes and lifetimes. Out: offsets and the arena's size. Invariant: buffers that are alive at
the same step do not overlap; offsets are multiples of 256 bytes; the size is known before anything
runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary: bytes, and the first and last step that touch it."""

    nbytes: int
    first: int
    last: int

    @property
    def aligned(self) -> int:
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of the temporaries, in the order they were given, and the arena's bytes."""

    offsets: tuple[int, ...]
    nbytes: int


def plan_memory(lifetimes: Sequence[Lifetime]) -> Layout:
    """Greedy by size: the largest first, each at the lowest offset that is free in its lifetime.

    >>> plan_memory([Lifetime(1000, 0, 1), Lifetime(500, 1, 2), Lifetime(900, 2, 3)])
    Layout(offsets=(0, 1024, 0), nbytes=1536)
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    order = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].aligned, i))
    for i in order:
        alive = [j for j in placed if lifetimes[j].overlaps(lifetimes[i])]
        offset = 0
        for j in sorted(alive, key=lambda j: offsets[j]):
            if offset + lifetimes[i].aligned <= offsets[j]:
                break
            offset = max(offset, offsets[j] + lifetimes[j].aligned)
        offsets[i] = offset
        placed.append(i)
    total = max((offsets[i] + lt.aligned for i, lt in enumerate(lifetimes)), default=0)
    return Layout(tuple(offsets), total)


def live_bytes(lifetimes: Sequence[Lifetime]) -> list[int]:
    """Bytes that are alive at each step, from the first step to the last that touches a buffer."""
    change = [0] * (max((lt.last for lt in lifetimes), default=-1) + 2)
    for lt in lifetimes:
        change[lt.first] += lt.aligned
        change[lt.last + 1] -= lt.aligned
    return list(accumulate(change))[:-1]


def lower_bound(lifetimes: Sequence[Lifetime]) -> int:
    """The largest sum of live bytes over all steps: no layout can be smaller."""
    return max(live_bytes(lifetimes), default=0)


def peak_step(lifetimes: Sequence[Lifetime]) -> int:
    """The first step at which that many bytes are alive; 0 if there are no buffers."""
    live = live_bytes(lifetimes)
    return live.index(max(live)) if live else 0
