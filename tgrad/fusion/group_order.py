"""An order of groups that stays one while groups join: whether two may join without a search of
the whole graph.

In: who reads whom, as functions, and the groups in an order that may run. Out: whether a third
group stands between two. Invariant: a producer's place is before its consumer's. So all that can
stand between two groups has a place between theirs, and when two groups become one, only what lies
between moves (Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs",
2007).

    a  p  f  b        p is needed by b, f needs a; a and b join:
    p  ab  f
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

_Group = TypeVar("_Group")


class GroupOrder(Generic[_Group]):
    """Groups, by their identity, in an order that may run.

    Args:
        groups: in such an order.
        producers, consumers: of a group, as groups; itself may be among them.
    """

    def __init__(
        self,
        groups: Sequence[_Group],
        producers: Callable[[_Group], Iterable[_Group]],
        consumers: Callable[[_Group], Iterable[_Group]],
    ):
        self.place = {id(g): i for i, g in enumerate(groups)}
        self.producers, self.consumers = producers, consumers

    def has_path_around(self, a: _Group, b: _Group) -> bool:
        """Whether some third group uses one of the two and is used by the other."""
        first, last = self._sorted(a, b)
        low, high = self.place[id(first)], self.place[id(last)]
        down = self._walk(first, self.consumers, last, lambda at: at < high)
        up = self._walk(last, self.producers, first, lambda at: low < at)
        # In turns: a value that everybody reads has many consumers, but none many producers.
        return any(met is last or met is first for met in chain.from_iterable(zip(down, up)))

    def join(self, a: _Group, b: _Group) -> None:
        """Make room for `a` to stand for both; call it before they are joined, with no path around.

        Raises:
            KeyError: one of them was joined to another before.
        """
        first, last = self._sorted(a, b)
        low, high = self.place[id(first)], self.place[id(last)]
        up = self._walk(last, self.producers, first, lambda at: low < at)
        down = self._walk(first, self.consumers, last, lambda at: at < high)
        before, after = ([id(g) for g in found if g is not None] for found in (up, down))
        del self.place[id(b)]
        order = [*self._in_order(before), id(a), *self._in_order(after)]
        free = sorted([low, high, *(self.place[g] for g in (*before, *after))])
        self.place.update(zip(order, free))

    def _sorted(self, a: _Group, b: _Group) -> tuple[_Group, _Group]:
        return (a, b) if self.place[id(a)] < self.place[id(b)] else (b, a)

    def _walk(
        self,
        start: _Group,
        following: Callable[[_Group], Iterable[_Group]],
        end: _Group,
        is_between: Callable[[int], bool],
    ) -> Iterator[_Group | None]:
        """Groups between `start` and `end`, each once, and `end` where one of them leads to it;
        None for each edge that leads to nothing new."""
        seen = {id(start)}
        stack = [start]
        while stack:
            group = stack.pop()
            for near in following(group):
                if near is end and group is not start:
                    yield end
                elif id(near) in seen or not is_between(self.place[id(near)]):
                    yield None
                else:
                    seen.add(id(near))
                    stack.append(near)
                    yield near

    def _in_order(self, groups: list[int]) -> list[int]:
        return sorted(groups, key=self.place.__getitem__)
