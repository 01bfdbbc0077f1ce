"""Which launches of a plan may run side by side.

In: the bytes that each launch reads and writes. Out: a turn for each: its stream, and the launches
of other streams that it begins after. Invariant: of two launches of which one writes bytes that the
other reads or writes, the later one in the plan begins after the other has ended.

A plan is an order in which everything is right; most of it need not be kept. The gradient of a
weight is needed by nobody but its update, and a grid of 144 tiles on 132 multiprocessors leaves
most of them idle while its last 12 are computed: what else is ready fills them. Bytes are compared
where they lie, so that memory which a plan uses again orders its users as well as data does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Access:
    """Bytes `start` to `stop` that a launch reads or, `is_write`, writes (and may read)."""

    start: int
    stop: int
    is_write: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a launch runs: the number of its stream, and the launches of other streams that have to
    end before it begins; those of its own do so by themselves."""

    stream: int
    waits: tuple[int, ...]


def take_turns(launches: Sequence[Sequence[Access]], streams: int) -> list[Turn]:
    """A turn for each launch.

    Args:
        launches: what each reads and writes.
        streams: how many there are.

    >>> read, write = Access(0, 8, False), Access(0, 8, True)
    >>> take_turns([[write], [read], [read], [write]], 2)
    [Turn(stream=0, waits=()), Turn(stream=0, waits=()), Turn(stream=1, waits=(0,)), \
Turn(stream=1, waits=(1,))]
    """
    turns: list[Turn] = []
    before: list[int] = []
    """Of each launch those that end before it, as bits."""
    last: list[int | None] = [None] * streams
    for number, needed in enumerate(_needed(launches)):
        stream = _stream_for(needed, last, before)
        behind = last[stream]
        covered = 0 if behind is None else before[behind] | 1 << behind
        waits = []
        for other in sorted(needed, reverse=True):
            if not covered >> other & 1:
                waits.append(other)
                covered |= before[other] | 1 << other
        turns.append(Turn(stream, tuple(waits)))
        before.append(covered)
        last[stream] = number
    return turns


def _stream_for(needed: set[int], last: list[int | None], before: list[int]) -> int:
    """The stream of a launch: behind one that it needs, else behind one that has to end before it
    or an unused one, so that it waits for nothing more, else behind the oldest."""
    candidates = [(n, s) for s, n in enumerate(last) if n in needed and n is not None]
    if candidates:
        return max(candidates)[1]
    earlier = 0
    for number in needed:
        earlier |= before[number]
    free = [s for s, n in enumerate(last) if n is None or earlier >> n & 1]
    return free[0] if free else min((n, s) for s, n in enumerate(last) if n is not None)[1]


def _needed(launches: Sequence[Sequence[Access]]) -> Iterator[set[int]]:
    """For each launch those before it that use the same bytes, one of the two to write them."""
    count = sum(map(len, launches))
    starts, stops, numbers = (np.zeros(count, np.int64) for _ in range(3))
    writes = np.zeros(count, bool)
    known = 0
    """Accesses so far."""
    for number, accesses in enumerate(launches):
        found: set[int] = set()
        for a in accesses:
            meets = (starts[:known] < a.stop) & (stops[:known] > a.start)
            if not a.is_write:
                meets &= writes[:known]
            found.update(numbers[:known][meets].tolist())
        for a in accesses:
            starts[known], stops[known], numbers[known] = a.start, a.stop, number
            writes[known] = a.is_write
            known += 1
        yield found
