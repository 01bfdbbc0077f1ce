"""Steps that run the same code on different buffers become one launch.

In: kernels in the order in which they run, and which results are written in place. Out: fewer
kernels, some with a table of members. Invariant: every value is computed from what it was computed
from before; temporaries alive at once grow by at most a given number of bytes.

    adamw(w0)            base(e)               base(e)
    base(e)              scatter(e)            scatter(e)
    adamw(w1)     =>     adamw(e)       =>     adamw(w0, w1, e)
    scatter(e)           adamw(w0)
    adamw(e)             adamw(w1)             one launch, its members' buffers in a table

Members move to the place of the last one, so none of their results may be needed, and none of their
inputs overwritten, before that; what only they read stays alive until then. Those that cannot wait
go to the place of the first, if what they read is there and what they write is free. Steps that
free no memory (an update in place, a sum) first sink to where they are needed, to be out of the
way.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

from tgrad.fusion.exchanges import awaited_by
from tgrad.fusion.inplace import home_of
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import Region, Table, extent_of
from tgrad.fusion.schedule import aligned
from tgrad.fusion.table import as_single, form_of, walks_whole_buffers
from tgrad.graph.node import Node

GROWTH = 1 / 64
"""How much more memory a plan may take for fewer launches, as a share of all that it takes."""


SLACK = 1 / 256
"""Share of the peak by which a step may keep more alive than it saves and still sink."""

MISSES = 8
"""Places in a row at which no launch could be shared, before the search for one form ends."""

_APART = 1 << 20
"""Between the places of launches that follow each other."""


@dataclass(frozen=True)
class Shared:
    """Kernels that share launches, or are next to each other so that they may.

    Attributes:
        fused: the kernels.
        grown: the most bytes more that were alive at once in any order that was taken on the way:
            had no more been to spare, the kernels would be the same.
    """

    fused: list[Fused]
    grown: int


def batch(
    fused: Sequence[Fused], replaces: Mapping[Node, Node], fixed: frozenset[Node], spare: int
) -> Shared:
    """Let equal steps share launches.

    Args:
        fused: kernels in the order in which they run.
        replaces: for results written in place, what they overwrite.
        fixed: nodes that are no temporaries: buffers of the caller, results.
        spare: how many bytes more may be alive at once than at the peak now.

    Returns:
        The kernels, fewer; or all as they were if no two can share.
    """
    launches, grown = _launches(fused, replaces, fixed, spare)
    if len(launches) == len(fused):
        return Shared(list(fused), grown)
    merged = [_merged(members) if len(members) > 1 else members[0] for members in launches]
    return Shared(merged, grown)


def gather(
    fused: Sequence[Fused], donated: Mapping[Node, Node], fixed: frozenset[Node], spare: int
) -> Shared:
    """The kernels in an order in which those that may share a launch are next to each other.

    Before results are written in place, more may share: what is in place afterwards heeds it.

    Args:
        donated: for results of the plan, the buffer of the caller that they may overwrite.
    """
    launches, grown = _launches(fused, donated, fixed, spare)
    return Shared([f for members in launches for f in members], grown)


def fewest_launches(fused: Sequence[Fused]) -> int:
    """How many launches there are if neither order nor memory keeps steps of one form apart."""
    return len(fused) - sum(len(members) - 1 for members in _by_form(fused))


def _launches(
    fused: Sequence[Fused], replaces: Mapping[Node, Node], fixed: frozenset[Node], spare: int
) -> tuple[list[tuple[Fused, ...]], int]:
    """The members of each launch, and what `Shared.grown` says."""
    forms = _by_form(fused)
    if not forms:
        return [(f,) for f in fused], 0
    given = _Order([_Launch.of(f, replaces) for f in fused], fixed)
    budget = _Budget(given.peak + spare, given.peak)
    order = _sink(given)
    if not budget.allows(order):
        order = given
    place = order.place
    # Consumers first: once they are one launch, their producers may go down to it.
    for members in sorted(forms, key=lambda m: -min(place[id(f)] for f in m)):
        order = _share(order, members, budget)
    first = given.place
    launches = [tuple(sorted(x.members, key=lambda f: first[id(f)])) for x in order.launches()]
    return launches, budget.taken - given.peak


@dataclass
class _Budget:
    """How many bytes of temporaries may be alive at once.

    Attributes:
        most: of them.
        taken: the most of any order that was allowed.
    """

    most: int
    taken: int

    def allows(self, order: _Order) -> bool:
        """Whether an order is within it."""
        if order.peak > self.most:
            return False
        self.taken = max(self.taken, order.peak)
        return True


@dataclass(frozen=True)
class _Launch:
    """Steps of one form that run together, mostly one, and the memory they read and write.

    Memory is named by the first node that lies in it.
    """

    members: tuple[Fused, ...]
    reads: frozenset[Node]
    writes: frozenset[Node]

    @staticmethod
    def of(fused: Fused, replaces: Mapping[Node, Node]) -> _Launch:
        reads, writes = (
            frozenset(home_of(n, replaces) for n in nodes)
            for nodes in (fused.inputs, fused.outputs)
        )
        return _Launch((fused,), reads, writes)

    @staticmethod
    def joined(launches: Sequence[_Launch]) -> _Launch:
        return _Launch(
            tuple(f for x in launches for f in x.members),
            frozenset().union(*(x.reads for x in launches)),
            frozenset().union(*(x.writes for x in launches)),
        )


class _Order:
    """Launches in an order that may run, and when each piece of memory is read and written.

    A launch has a place: a number, larger than those before it. Numbers are left free between
    places, so that what moves changes no other place.
    """

    def __init__(self, launches: Sequence[_Launch], fixed: frozenset[Node]):
        self.fixed = fixed
        self.launch_at = {number * _APART: x for number, x in enumerate(launches)}
        self.place = {id(f): at for at, x in self.launch_at.items() for f in x.members}
        self.touched: dict[Node, list[int]] = {}
        self.written: dict[Node, list[int]] = {}
        for at, x in self.launch_at.items():
            for n in x.reads | x.writes:
                self.touched.setdefault(n, []).append(at)
            for n in x.writes:
                self.written.setdefault(n, []).append(at)
        self.change = dict.fromkeys(self.launch_at, (0, 0))
        for n in self.touched:
            self._count(n, 1)

    def launches(self) -> list[_Launch]:
        return [self.launch_at[at] for at in sorted(self.launch_at)]

    def _count(self, n: Node, times: int) -> None:
        """Add to what is made at the first launch that touches memory, and freed after the last."""
        if n not in self.fixed:
            first, last = self.touched[n][0], self.touched[n][-1]
            made, freed = self.change[first]
            self.change[first] = made + times * aligned(n), freed
            made, freed = self.change[last]
            self.change[last] = made, freed + times * aligned(n)

    def with_launch(self, launch: _Launch, at: int) -> _Order:
        """The order with a launch at a free place, or at that of one of its members, in place of
        all launches of its members."""
        new = copy(self)
        new.__dict__.pop("peak", None)
        new.launch_at, new.place, new.change = (
            dict(self.launch_at),
            dict(self.place),
            dict(self.change),
        )
        new.touched, new.written = dict(self.touched), dict(self.written)
        gone = {self.place[id(f)] for f in launch.members}
        memory = launch.reads | launch.writes
        for n in memory:
            new._count(n, -1)
        for old in gone:
            del new.launch_at[old], new.change[old]
        new.launch_at[at], new.change[at] = launch, (0, 0)
        new.place.update((id(f), at) for f in launch.members)
        for table, used in ((new.touched, memory), (new.written, launch.writes)):
            for n in used:
                table[n] = sorted({at, *table[n]} - (gone - {at}))
        for n in memory:
            new._count(n, 1)
        return new

    def followers(self, at: int) -> Iterator[int]:
        """The launches that must stay behind the one at this place: they use what it writes, or
        write what it reads."""
        for n in self.launch_at[at].writes:
            yield from _after(self.touched[n], at)
        for n in self.launch_at[at].reads:
            yield from _after(self.written.get(n, []), at)

    def leaders(self, at: int) -> Iterator[int]:
        """The launches that must stay before the one at this place: they write what it reads, or
        use what it writes."""
        for n in self.launch_at[at].writes:
            yield from _before(self.touched[n], at)
        for n in self.launch_at[at].reads:
            yield from _before(self.written.get(n, []), at)

    @cached_property
    def peak(self) -> int:
        """Most bytes of temporaries that are alive at once."""
        held = most = 0
        for at in sorted(self.launch_at):
            made, freed = self.change[at]
            most = max(most, held + made)
            held += made - freed
        return most

    def may_pass(self, at: int, passed: set[int], slack: float) -> bool:
        """Whether a launch may run after those in `passed` for the memory's sake: whether it keeps
        alive no more than it saves, about."""
        launch = self.launch_at[at]
        kept = sum(
            aligned(n)
            for n in launch.reads - launch.writes - self.fixed
            if passed.issuperset(_after(self.touched[n], at))
        )
        made = launch.writes - self.fixed
        saved = sum(aligned(n) for n in made if self.touched[n][0] == at)
        return kept <= saved + slack


def _after(positions: list[int], position: int) -> list[int]:
    return positions[bisect_right(positions, position) :]


def _before(positions: list[int], position: int) -> list[int]:
    return positions[: bisect_left(positions, position)]


def _sink(order: _Order) -> _Order:
    """Launches move down to the first that must stay behind them, where memory allows it."""
    sunk: list[int] = []  # from the last one upwards
    for position in sorted(order.launch_at, reverse=True):
        goal = max((sunk.index(s) + 1 for s in set(order.followers(position))), default=0)
        if order.may_pass(position, set(sunk[goal:]), SLACK * order.peak):
            sunk.insert(goal, position)
        else:
            sunk.append(position)
    return _Order([order.launch_at[p] for p in reversed(sunk)], order.fixed)


def _by_form(fused: Sequence[Fused]) -> list[list[Fused]]:
    """Steps that run the same code, two or more together; of those that processes wait for, steps
    that one exchange waits for."""
    groups: dict[tuple[Region, int], list[Fused]] = defaultdict(list)
    for f, exchange in zip(fused, awaited_by(fused)):
        form = form_of(f.region)
        if form is not None:
            groups[form, exchange].append(f)
    for form, exchange in [key for key in groups if walks_whole_buffers(key[0])]:
        groups[form, exchange] += groups.pop((as_single(form), exchange), [])
    return [members for members in groups.values() if len(members) > 1]


def _share(order: _Order, members: Sequence[Fused], budget: _Budget) -> _Order:
    """Steps of one form in as few launches as their order and the memory allow."""
    left, misses = list(members), 0
    while len(left) > 1 and misses < MISSES:
        place = order.place
        left.sort(key=lambda f: place[id(f)])
        goal = place[id(left[-1])]
        ready = [f for f in left if min(order.followers(place[id(f)]), default=goal + 1) > goal]
        misses += 1
        while len(ready) > 1:
            shared = _shared(order, ready)
            if budget.allows(shared):
                order, misses = shared, 0
                break
            ready = ready[len(ready) // 2 :]
        done = set(map(id, ready))
        left = [f for f in left if id(f) not in done]
    return _hoist(order, members, budget)


def _hoist(order: _Order, members: Sequence[Fused], budget: _Budget) -> _Order:
    """Steps of one form that could not wait for the last run with the first, if all that they need
    is there: two buffers filled with zeros, each added to before the other is filled."""
    place = order.place
    alone = [f for f in members if len(order.launch_at[place[id(f)]].members) == 1]
    alone.sort(key=lambda f: place[id(f)])
    for _ in range(MISSES):
        if len(alone) < 2:
            break
        first = order.place[id(alone[0])]
        ready = [f for f in alone if max(order.leaders(order.place[id(f)]), default=-1) < first]
        while len(ready) > 1:
            launch = _Launch.joined([order.launch_at[order.place[id(f)]] for f in ready])
            shared = order.with_launch(launch, first)
            if budget.allows(shared):
                order = shared
                break
            ready = ready[: len(ready) // 2]
        done = set(map(id, ready))
        alone = [f for f in alone if id(f) not in done]
    return order


def _shared(order: _Order, members: Sequence[Fused]) -> _Order:
    """The members as one launch, at the place of the last one or where it sinks to."""
    at = max(order.place[id(f)] for f in members)
    launch = _Launch.joined([order.launch_at[order.place[id(f)]] for f in members])
    shared = order.with_launch(launch, at)
    places = sorted(shared.launch_at)
    here = bisect_left(places, at) + 1
    goal = bisect_left(places, min(shared.followers(at), default=places[-1] + 1))
    if goal == here or not shared.may_pass(at, set(places[here:goal]), SLACK * order.peak):
        return shared
    before, after = places[goal - 1], [*places, places[-1] + 2 * _APART][goal]
    if after - before < 2:
        moved = (*places[: here - 1], *places[here:goal], at, *places[goal:])
        return _Order([shared.launch_at[p] for p in moved], order.fixed)
    return shared.with_launch(launch, (before + after) // 2)


def _merged(members: Sequence[Fused]) -> Fused:
    """One launch for members of one form.

    a[i] *= s for i < 10;  b[i] *= s for i < 7
    becomes  x[i] *= s for 2 members, each with its own x; i of each: 10 7
    """
    count = len(members)
    largest = max(members, key=lambda f: extent_of(f.region.axes)).region
    lengths = tuple(extent_of(f.region.axes) for f in members)
    nodes = list(zip(*((*f.windows, *((n, 0) for n in f.outputs)) for f in members)))
    written = {s.slot for s in largest.stores}
    own = tuple(s for s, found in enumerate(nodes) if s in written or len(set(found)) > 1)
    table = Table(count, own, lengths if len(set(lengths)) > 1 else ())
    region = replace(
        largest, name=f"{largest.name}_x{count}", source=members[0].region.source, table=table
    )
    inputs = len(members[0].inputs)
    buffers = [found if s in own else found[:1] for s, found in enumerate(nodes)]
    return Fused(
        region,
        tuple(n for found in buffers[:inputs] for n, _ in found),
        tuple(n for found in buffers[inputs:] for n, _ in found),
        (f"{count} steps of one form share this launch", *members[0].reasons),
        tuple(start for found in buffers[:inputs] for _, start in found),
    )
