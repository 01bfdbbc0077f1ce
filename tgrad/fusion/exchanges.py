"""Kernels that read what processes exchange run after others, while it is on its way.

In: kernels in an order that may run, and which results are written in place. Out: the same kernels;
those that need an exchange wait as long as others have something to do. Invariant: whoever reads a
value comes after all who write it, whoever overwrites memory after all who read it, and exchanges
keep their order, which is that of the other processes.

    grad b; exchange b; step b; grad a; exchange a; step a
    becomes
    grad b; exchange b; grad a; exchange a; step b; step a
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tgrad.fusion.inplace import home_of
from tgrad.fusion.partition import Fused
from tgrad.graph.node import Node


def let_exchanges_run(fused: Sequence[Fused], replaces: Mapping[Node, Node]) -> list[Fused]:
    """The kernels in an order in which exchanges have company.

    Args:
        fused: kernels in the order in which they would run.
        replaces: for results written in place, what they overwrite.
    """
    exchanges = [i for i, f in enumerate(fused) if f.region.is_exchange]
    if not exchanges:
        return list(fused)
    first = _early(fused)
    before = _needed(fused, replaces)
    for earlier, later in pairwise(exchanges):
        before[later].add(earlier)
    after: dict[int, list[int]] = defaultdict(list)
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    waits = [len(needed) for needed in before]
    on_their_way: set[int] = set()
    ready = [(i not in first, i) for i, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    held_back: list[tuple[bool, int]] = []
    order: list[int] = []
    while ready or held_back:
        if ready:
            is_late, i = heapq.heappop(ready)
            if not fused[i].region.is_exchange and not before[i].isdisjoint(on_their_way):
                heapq.heappush(held_back, (is_late, i))
                continue
        else:
            _, i = heapq.heappop(held_back)
            last = max(before[i] & on_their_way)
            on_their_way = {n for n in on_their_way if n > last}
            ready, held_back = held_back, []  # some need nothing more
        order.append(i)
        if fused[i].region.is_exchange:
            on_their_way.add(i)
        for j in after[i]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, (j not in first, j))
    return [fused[i] for i in order]


def in_flight(fused: Sequence[Fused]) -> dict[Node, int]:
    """Operands of exchanges, and the position of the first kernel that needs what came: until then
    nobody may write to them."""
    ends: dict[Node, int] = {}
    for i, f in enumerate(fused):
        if f.region.is_exchange:
            (result,) = f.outputs
            users = (j for j in range(i + 1, len(fused)) if result in _read_by(fused[j]))
            ends[f.inputs[0]] = next(users, len(fused) - 1)
    return ends


def awaited_by(fused: Sequence[Fused]) -> list[int]:
    """For each kernel the position of the first exchange that needs what it computes; the number of
    kernels where none does."""
    found = [len(fused)] * len(fused)
    needed: dict[Node, int] = {}
    for i in reversed(range(len(fused))):
        f = fused[i]
        later = min((needed[n] for n in f.outputs if n in needed), default=len(fused))
        found[i] = i if f.region.is_exchange else later
        for n in _read_by(f):
            needed[n] = min(needed.get(n, len(fused)), found[i])
    return found


def _early(fused: Sequence[Fused]) -> set[int]:
    """Exchanges, and kernels that compute for them alone."""
    readers: dict[Node, list[Fused]] = defaultdict(list)
    for f in fused:
        for n in _read_by(f):
            readers[n].append(f)

    def is_early(f: Fused) -> bool:
        found = [reader for n in f.outputs for reader in readers[n]]
        return f.region.is_exchange or (
            bool(found) and all(reader.region.is_exchange for reader in found)
        )

    return {i for i, f in enumerate(fused) if is_early(f)}


def _read_by(f: Fused) -> Sequence[Node]:
    """What a kernel reads; that an exchange names the one before reads nothing."""
    return f.inputs if f.region.call is None else f.inputs[: f.region.call.reads]


def _needed(fused: Sequence[Fused], replaces: Mapping[Node, Node]) -> list[set[int]]:
    """For each kernel those before it that use the same memory, one of the two to write it."""
    writer: dict[Node, int] = {}
    readers: dict[Node, list[int]] = defaultdict(list)
    needed: list[set[int]] = []
    for i, f in enumerate(fused):
        found: set[int] = set()
        for n in {home_of(n, replaces) for n in _read_by(f)}:
            if n in writer:
                found.add(writer[n])
            readers[n].append(i)
        for n in {home_of(n, replaces) for n in f.outputs}:
            found.update(readers.pop(n, ()))
            if n in writer:
                found.add(writer[n])
            writer[n] = i
        found.discard(i)
        needed.append(found)
    return needed
