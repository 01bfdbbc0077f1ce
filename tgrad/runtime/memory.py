"""The memory planner: an offset in one arena for every temporary of a plan.

In: sizes and lifetimes. Out: offsets and the arena's size. Invariant: buffers that are alive at
the same step do not overlap; offsets are multiples of 256 bytes; the size is known before anything
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

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
    """The smallest of several greedy layouts: in some order, each buffer at the lowest offset that
    is free in its lifetime.

    >>> plan_memory([Lifetime(1000, 0, 1), Lifetime(500, 1, 2), Lifetime(900, 2, 3)])
    Layout(offsets=(0, 1024, 0), nbytes=1536)
    """
    best, least = Layout((), -1), lower_bound(lifetimes)
    for first in _ORDERS:
        order = sorted(range(len(lifetimes)), key=lambda i: (first(lifetimes[i]), i))
        for _ in range(_PROMOTIONS):
            layout = _placed_in(order, lifetimes)
            if best.nbytes < 0 or layout.nbytes < best.nbytes:
                best = layout
            if best.nbytes == least:
                return best
            ends = [o + lt.aligned for o, lt in zip(layout.offsets, lifetimes)]
            order.sort(key=lambda i: ends[i] < layout.nbytes)  # those at the top come first
    return best


_PROMOTIONS = 2
"""How often the buffers that end at the top of a layout are placed before all others instead."""

_ORDERS: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
    lambda t: (-t.aligned,),
    lambda t: (t.first - t.last, -t.aligned),
    lambda t: ((t.first - t.last - 1) * t.aligned,),
    lambda t: (t.first, -t.last),
)
"""Which buffers are placed first: the large, the long-lived, those that take most of both, those
that are made first."""


def _placed_in(order: Sequence[int], lifetimes: Sequence[Lifetime]) -> Layout:
    count = len(lifetimes)
    firsts, lasts, starts, ends = np.zeros((4, count), np.int64)
    offsets = [0] * count
    for place, i in enumerate(order):
        lt, size = lifetimes[i], lifetimes[i].aligned
        alive = np.flatnonzero((firsts[:place] <= lt.last) & (lasts[:place] >= lt.first))
        alive = alive[np.argsort(starts[alive])]
        free = np.zeros(len(alive) + 1, np.int64)  # from where on all before are over
        np.maximum.accumulate(ends[alive], out=free[1:])
        gaps = np.flatnonzero(free[:-1] + size <= starts[alive])
        offset = offsets[i] = int(free[gaps[0] if len(gaps) else -1])
        firsts[place], lasts[place] = lt.first, lt.last
        starts[place], ends[place] = offset, offset + size
    return Layout(tuple(offsets), int(ends.max(initial=0)))


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
