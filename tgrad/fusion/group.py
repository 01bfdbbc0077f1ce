"""Groups of nodes that share a kernel, and which of many could take another in.

In: groups, as partition.py builds them. Out: for a group, others over its domain that read what it
reads. Invariant: groups whose kinds exclude each other are met once a kind and not once a pair, so
that a layer that many others read costs no more than they.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tgrad.fusion.builder import Built
from tgrad.fusion.legality import Refused
from tgrad.fusion.pointwise import Draft, Pointwise
from tgrad.fusion.region import Region
from tgrad.graph.node import Node


@dataclass(frozen=True, slots=True)
class Kind:
    """What keeps groups apart, whatever they read.

    Attributes:
        closed: why the group takes in none; "" if it may.
        dots: how many it has.
        reduces: whether it has reductions.
    """

    closed: str
    dots: int
    reduces: bool

    def refuse(self, other: Kind, most_dots: int) -> Refused | None:
        """Why a group of this kind cannot join one of the other, if it cannot.

        Args:
            most_dots: that one kernel may have.
        """
        if self.closed or other.closed:
            return Refused(self.closed or other.closed)
        dots = self.dots + other.dots
        if dots > max(most_dots, 1):
            return Refused("two dots in one kernel" if most_dots == 1 else f"{dots} dots")
        if dots and (self.reduces or other.reduces):
            return Refused("a reduction beside a dot needs a whole row of its result")
        return None


@dataclass
class Group:
    """Roots that share a kernel, producers first, and the region built from them.

    Attributes:
        pointwise: what several elementwise roots over one shape compute; None for others.
    """

    roots: list[Node]
    built: Built | Draft | None = None
    pointwise: Pointwise | None = None
    is_chain: bool = False
    reasons: list[str] = field(default_factory=list)
    kind: Kind | None = None

    @property
    def region(self) -> Region:
        """Of a group that is built."""
        assert isinstance(self.built, Built)
        return self.built.region

    @property
    def name(self) -> str:
        """Of its kernel."""
        return self.built.name if isinstance(self.built, Draft) else self.region.name

    def note(self, other: Group, reason: str) -> None:
        """Why it is not one with another group, in both."""
        self.reasons.append(f"not with {other.name}: {reason}")
        other.reasons.append(f"not with {self.name}: {reason}")


class Bucket:
    """Groups over one domain, and which of them read a value.

    Args:
        kind_of: the kind of a group as it is now.
        most_dots: that one kernel may have.
    """

    def __init__(self, kind_of: Callable[[Group], Kind], most_dots: int) -> None:
        self.kind_of, self.most_dots = kind_of, most_dots
        self.place: dict[int, int] = {}
        self.readers: dict[Node, _ByKind] = defaultdict(lambda: defaultdict(list))
        self.alone: _ByKind = defaultdict(list)

    def add(self, group: Group, is_alone: bool) -> None:
        self.place[id(group)] = len(self.place)
        if is_alone:
            self.alone[self.kind_of(group)].append(group)
        self.note_inputs(group)

    def note_inputs(self, group: Group) -> None:
        """Note what a group reads; again when it has taken in another."""
        assert group.built is not None
        kind = self.kind_of(group)
        for n in group.built.inputs:
            readers = self.readers[n][kind]
            if n.size > 1 and (not readers or readers[-1] is not group):
                readers.append(group)

    def near(self, group: Group, is_alone: bool) -> list[Group]:
        """Groups that share data with one, or are alone as it is, in the order they came."""
        assert group.built is not None
        found: dict[int, Group] = {}
        for n in group.built.inputs:
            found |= self._allowed(group, self.readers.get(n, {}).items())
        if is_alone:
            found |= self._allowed(group, self.alone.items())
        return sorted(found.values(), key=lambda g: self.place[id(g)])

    def _allowed(
        self, group: Group, others: Iterable[tuple[Kind, list[Group]]]
    ) -> dict[int, Group]:
        """Those that a group may join for their kind; why the others may not is noted once."""
        found: dict[int, Group] = {}
        for kind, groups in others:
            refused = self.kind_of(group).refuse(kind, self.most_dots)
            if refused is None:
                found.update((id(g), g) for g in groups)
            elif groups and self.kind_of(groups[-1]) == kind:
                group.note(groups[-1], refused.reason)
        return found


_ByKind = dict[Kind, list[Group]]
