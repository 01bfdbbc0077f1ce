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

from tgrad.fusion.partition import Fused
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.node import Node


def let_exchanges_run(fused: Sequence[Fused], replaces: Mapping[Node, Node]) -> list[Fused]:
    """The kernels in an order in which exchanges have company.

    Args:
        fused: kernels in the order in which they would run.
        replaces: for results written in place, what they overwrite.
    """
    exchanges = [i for i, f in enumerate(fused) if is_exchange(f)]
    if not exchanges:
        return list(fused)
    before = _needed(fused, replaces)
    for earlier, later in pairwise(exchanges):
        before[later].add(earlier)
    after: dict[int, list[int]] = defaultdict(list)
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    waits = [len(needed) for needed in before]
    on_their_way: set[int] = set()
    ready = [i for i, count in enumerate(waits) if not count]
    held_back: list[int] = []
    order: list[int] = []
    while ready or held_back:
        if ready:
            i = heapq.heappop(ready)
            if not is_exchange(fused[i]) and not before[i].isdisjoint(on_their_way):
                heapq.heappush(held_back, i)
                continue
        else:
            i = heapq.heappop(held_back)
            last = max(before[i] & on_their_way)
            on_their_way = {n for n in on_their_way if n > last}
            ready, held_back = held_back, []  # some need nothing more
        order.append(i)
        if is_exchange(fused[i]):
            on_their_way.add(i)
        for j in after[i]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, j)
    return [fused[i] for i in order]


def is_exchange(fused: Fused) -> bool:
    """Whether the step is a call in which processes exchange a tensor."""
    return isinstance(fused.region.call, CollectiveCall)


def _needed(fused: Sequence[Fused], replaces: Mapping[Node, Node]) -> list[set[int]]:
    """For each kernel those before it that use the same memory, one of the two to write it."""

    def place(node: Node) -> Node:
        while node in replaces:
            node = replaces[node]
        return node

    writer: dict[Node, int] = {}
    readers: dict[Node, list[int]] = defaultdict(list)
    needed: list[set[int]] = []
    for i, f in enumerate(fused):
        found: set[int] = set()
        call = f.region.call
        read = f.inputs if call is None else f.inputs[: call.reads]
        for n in set(map(place, read)):
            if n in writer:
                found.add(writer[n])
            readers[n].append(i)
        for n in set(map(place, f.outputs)):
            found.update(readers.pop(n, ()))
            if n in writer:
                found.add(writer[n])
            writer[n] = i
        found.discard(i)
        needed.append(found)
    return needed
