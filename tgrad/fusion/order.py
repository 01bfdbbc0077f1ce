"""The order of kernels that holds the least memory.

In: kernels in an order that may run. Out: the same kernels, in the order of several that needs the
least memory at its peak. Invariant: whoever reads a value comes after all who write it, and whoever
may overwrite a buffer of the caller comes after all others who read it.

    x -> a -> b -> dw_b (frees a) -> dw_a        instead of        x -> a -> b -> dw_a -> dw_b
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tgrad.fusion.partition import Fused
from tgrad.graph.node import Node


def order_for_memory(
    fused: Sequence[Fused], donated: Mapping[Node, Node], fixed: frozenset[Node]
) -> list[Fused]:
    """The kernels in an order that holds little memory.

    Args:
        fused: kernels in an order that may run.
        donated: for results of the plan, the buffer of the caller that they may overwrite.
        fixed: nodes that hold no memory of the plan's arena: buffers of the caller, results.
    """
    graph = _Dependencies(fused, donated, fixed)
    orders = [list(range(len(fused)))]
    for prefers_small in (False, True):
        found = graph.greedy(prefers_small)
        if len(found) == len(fused):
            orders.append(found)
    best = min(orders, key=lambda order: graph.peak(order) + graph.copied(order))
    return [fused[i] for i in best]


class _Dependencies:
    """Which kernel must precede which, and the values that each one writes and reads."""

    def __init__(
        self, fused: Sequence[Fused], donated: Mapping[Node, Node], fixed: frozenset[Node]
    ):
        self.after: list[set[int]] = [set() for _ in fused]
        self.writes = [[n for n in f.outputs if n not in fixed] for f in fused]
        self.reads = [[n for n in f.inputs if n not in fixed] for f in fused]
        writers: dict[Node, list[int]] = defaultdict(list)
        readers: dict[Node, list[int]] = defaultdict(list)
        for i, f in enumerate(fused):
            for n in f.outputs:
                writers[n].append(i)
            for n in f.inputs:
                readers[n].append(i)
        for n, steps in writers.items():
            for earlier, later in pairwise(steps):
                self.after[earlier].add(later)
            for reader in readers[n]:
                self.after[steps[-1]].add(reader)
        self.overwrites = [
            (writers[result][0], buffer, readers[buffer])
            for result, buffer in donated.items()
            if result in writers
        ]
        for writer, _, others in self.overwrites:
            reachable = self._reachable(writer)
            for reader in others:
                if reader not in reachable:
                    self.after[reader].add(writer)
        self.users = {n: len({*writers[n], *readers[n]}) for n in (*writers, *readers)}

    def _reachable(self, start: int) -> set[int]:
        seen, stack = {start}, [start]
        while stack:
            for later in self.after[stack.pop()]:
                if later not in seen:
                    seen.add(later)
                    stack.append(later)
        return seen

    def greedy(self, prefers_small: bool) -> list[int]:
        """Take the ready kernel that adds least to what is held; of equals, the first given.

        Args:
            prefers_small: judge kernels that add memory by what they write, and not by what they
                add in all.

        Returns:
            Positions; fewer than there are kernels if they wait for each other.
        """
        waits = [0] * len(self.after)
        for users in self.after:
            for i in users:
                waits[i] += 1
        left = dict(self.users)
        held: set[Node] = set()
        waiting_readers: dict[Node, list[int]] = defaultdict(list)
        for i, (read, written) in enumerate(zip(self.reads, self.writes)):
            for n in {*read, *written}:
                waiting_readers[n].append(i)

        def added(i: int) -> int:
            new = sum(n.nbytes for n in self.writes[i] if n not in held)
            freed = sum(n.nbytes for n in {*self.reads[i], *self.writes[i]} if left[n] == 1)
            return new if prefers_small and new > freed else new - freed

        ready = [(added(i), i) for i, count in enumerate(waits) if not count]
        heapq.heapify(ready)
        order: list[int] = []
        done = [False] * len(waits)
        while ready:
            cost, i = heapq.heappop(ready)
            if done[i] or cost != added(i):
                continue
            done[i] = True
            order.append(i)
            held.update(self.writes[i])
            changed: set[int] = set()
            for n in {*self.reads[i], *self.writes[i]}:
                left[n] -= 1
                if left[n] <= 1:
                    changed.update(waiting_readers[n])
            for user in self.after[i]:
                waits[user] -= 1
                changed.add(user)
            for j in changed:
                if not done[j] and not waits[j]:
                    heapq.heappush(ready, (added(j), j))
        return order

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes that are held at once."""
        left = dict(self.users)
        held: set[Node] = set()
        now = most = 0
        for i in order:
            for n in self.writes[i]:
                if n not in held:
                    held.add(n)
                    now += n.nbytes
            most = max(most, now)
            for n in {*self.reads[i], *self.writes[i]}:
                left[n] -= 1
                if not left[n]:
                    now -= n.nbytes
        return most

    def copied(self, order: Sequence[int]) -> int:
        """Bytes of the caller's buffers that cannot be overwritten, as they are read later."""
        place = {i: position for position, i in enumerate(order)}
        return sum(
            buffer.nbytes
            for writer, buffer, readers in self.overwrites
            if any(place[r] > place[writer] for r in readers)
        )
