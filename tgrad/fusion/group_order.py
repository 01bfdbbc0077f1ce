"""An order of groups that stays one while groups join: whether two may join without a search of
the whole graph.

In: groups in an order that may run, and who reads whom. Out: whether a third group stands between
two. Invariant: a producer's place is before its consumer's. So all that can stand between two
groups has a place between theirs, and when two groups become one, only what lies between moves
(Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs", 2007).

    a  p  f  b        p is needed by b, f needs a; a and b join:
    p  ab  f
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

_Group = TypeVar("_Group")
_Edges = dict[int, set[int]]


class GroupOrder(Generic[_Group]):
    """Groups, by their identity, in an order that may run.

    Args:
        groups: in such an order.
        consumers: of a group, as groups; itself may be among them.
    """

    def __init__(
        self, groups: Sequence[_Group], consumers: Callable[[_Group], Iterable[_Group]]
    ) -> None:
        self.place = {id(g): i for i, g in enumerate(groups)}
        self._consumers: _Edges = {id(g): {id(c) for c in consumers(g)} - {id(g)} for g in groups}
        self._producers: _Edges = {id(g): set() for g in groups}
        for group, readers in self._consumers.items():
            for reader in readers:
                self._producers[reader].add(group)

    def has_path_around(self, a: _Group, b: _Group) -> bool:
        """Whether some third group uses one of the two and is used by the other."""
        first, last = sorted((id(a), id(b)), key=self.place.__getitem__)
        before = {i for i in self._producers[last] if self.place[i] > self.place[first]}
        if not before or not before.isdisjoint(self._consumers[first]):
            return bool(before)
        down = self._walk(first, self._consumers, last)
        up = self._walk(last, self._producers, first)
        # In turns: a value that everybody reads has many consumers, but none many producers.
        return any(met in (first, last) for met in chain.from_iterable(zip(down, up)))

    def with_path_around(self, group: _Group, others: Sequence[_Group]) -> set[int]:
        """Which of others, by identity, have a path around them and a group: one search for all."""
        ids = {id(g) for g in others}
        places = [self.place[i] for i in (id(group), *ids)]
        low, high = min(places), max(places)
        found: set[int] = set()
        for edges in (self._consumers, self._producers):
            stack = [i for i in edges[id(group)] if low <= self.place[i] <= high]
            seen = set(stack)
            while stack:
                following = edges[stack.pop()]
                found |= following & ids
                new = {i for i in following - seen if low <= self.place[i] <= high}
                seen |= new
                stack += new
        return found

    def join(self, a: _Group, b: _Group) -> None:
        """Let `a` stand for both from now on; there must be no path around.

        Raises:
            KeyError: one of them was joined to another before.
        """
        first, last = sorted((id(a), id(b)), key=self.place.__getitem__)
        low, high = self.place[first], self.place[last]
        up = self._walk(last, self._producers, first)
        down = self._walk(first, self._consumers, last)
        before, after = ([i for i in found if i is not None] for found in (up, down))
        del self.place[id(b)]
        order = [*self._in_order(before), id(a), *self._in_order(after)]
        free = sorted([low, high, *(self.place[i] for i in (*before, *after))])
        self.place.update(zip(order, free))
        for edges, back in (
            (self._consumers, self._producers),
            (self._producers, self._consumers),
        ):
            for near in edges.pop(id(b)):
                back[near].discard(id(b))
                if near != id(a):
                    back[near].add(id(a))
                    edges[id(a)].add(near)

    def _walk(self, start: int, edges: _Edges, end: int) -> Iterator[int | None]:
        """What lies between `start` and `end`, each once, and `end` where one of it leads there;
        None for each edge that leads to nothing new."""
        low, high = sorted((self.place[start], self.place[end]))
        seen = {start}
        stack = [start]
        while stack:
            group = stack.pop()
            for near in edges[group]:
                if near == end and group != start:
                    yield end
                elif near in seen or not low < self.place[near] < high:
                    yield None
                else:
                    seen.add(near)
                    stack.append(near)
                    yield near

    def _in_order(self, groups: list[int]) -> list[int]:
        return sorted(groups, key=self.place.__getitem__)
