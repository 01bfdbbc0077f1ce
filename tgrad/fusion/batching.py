"""Steps that run the same code on different buffers become one launch.

In: kernels in the order in which they run, and which results are written in place. Out: fewer
kernels, some with a table of members. Invariant: every value is computed from what it was computed
from before; temporaries alive at once grow by at most a given share of what they were at the peak.

    adamw(w0)            base(e)               base(e)
    base(e)              scatter(e)            scatter(e)
    adamw(w1)     =>     adamw(e)       =>     adamw(w0, w1, e)
    scatter(e)           adamw(w0)
    adamw(e)             adamw(w1)             one launch, its members' buffers in a table

Members move to the place of the last one, so none of their results may be needed, and none of their
inputs overwritten, before that; what only they read stays alive until then. Steps that free no
memory (an update in place, a sum) first sink to where they are needed, to be out of the way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from tgrad.fusion.partition import Fused
from tgrad.fusion.region import Region, Table, extent_of
from tgrad.fusion.table import as_single, form_of, walks_whole_buffers
from tgrad.graph.node import Node

GROWTH = 1 / 64
"""How much more than the peak of before may be alive at once, for fewer launches."""

_GRAIN = 256

SLACK = 4096
"""Bytes by which a step's inputs may exceed its results and it still sinks."""


def batch(
    fused: Sequence[Fused], replaces: Mapping[Node, Node], fixed: frozenset[Node], growth: float
) -> Sequence[Fused]:
    """Let equal steps share launches.

    Args:
        fused: kernels in the order in which they run.
        replaces: for results written in place, what they overwrite.
        fixed: nodes that are no temporaries: buffers of the caller, results.
        growth: how much more may be alive at once than at the peak now, as a share of that.

    Returns:
        The kernels, fewer; or all as they were if there are no two of one form.
    """
    if not _by_form(fused):
        return fused
    given = _Order(tuple(fused), replaces, fixed)
    budget = round(given.peak() * (1 + growth))
    order = _sink(given)
    if order.peak() > budget:
        order = given
    place = {id(f): position for position, f in enumerate(order.steps)}
    for members in sorted(_by_form(order.steps), key=lambda m: -place[id(m[0])]):
        order = _batch_alike(order, members, budget)  # consumers first: they leave room
    return order.steps


class _Order:
    """Steps in an order that may run, and the memory that each reads and writes."""

    def __init__(
        self, steps: tuple[Fused, ...], replaces: Mapping[Node, Node], fixed: frozenset[Node]
    ):
        self.steps, self.replaces, self.fixed = steps, replaces, fixed
        self.reads = [frozenset(map(self.place, f.inputs)) for f in steps]
        self.writes = [frozenset(map(self.place, f.outputs)) for f in steps]
        self.touched: dict[Node, list[int]] = defaultdict(list)
        self.written: dict[Node, list[int]] = defaultdict(list)
        for position, (reads, writes) in enumerate(zip(self.reads, self.writes)):
            for n in reads | writes:
                self.touched[n].append(position)
            for n in writes:
                self.written[n].append(position)

    def place(self, node: Node) -> Node:
        """The node whose memory this one is written into; itself as a rule."""
        while node in self.replaces:
            node = self.replaces[node]
        return node

    def with_steps(self, steps: Sequence[Fused]) -> _Order:
        return _Order(tuple(steps), self.replaces, self.fixed)

    def followers(self, position: int) -> Iterator[int]:
        """The steps that must stay behind the one at `position`: they use what it writes, or write
        what it reads."""
        for n in self.writes[position]:
            yield from _after(self.touched[n], position)
        for n in self.reads[position]:
            yield from _after(self.written[n], position)

    def peak(self) -> int:
        """Most bytes of temporaries that are alive at one step."""
        change = [0] * (len(self.steps) + 1)
        for n, positions in self.touched.items():
            if n not in self.fixed:
                change[positions[0]] += _aligned(n)
                change[positions[-1] + 1] -= _aligned(n)
        return max(accumulate(change), default=0)


def _aligned(value: Node) -> int:
    return -(-value.nbytes // _GRAIN) * _GRAIN


def _after(positions: list[int], position: int) -> list[int]:
    return positions[bisect_right(positions, position) :]


def _sink(order: _Order) -> _Order:
    """Steps move down to the first that must stay behind them, where that keeps alive no more
    bytes than it saves."""
    sunk: list[int] = []  # from the last step upwards
    for position in reversed(range(len(order.steps))):
        goal = max((sunk.index(s) + 1 for s in order.followers(position)), default=0)
        passed = set(sunk[goal:])
        if _may_pass(order, position, passed):
            sunk.insert(goal, position)
        else:
            sunk.append(position)
    return order.with_steps([order.steps[p] for p in reversed(sunk)])


def _may_pass(order: _Order, position: int, passed: set[int]) -> bool:
    """Whether a step may run after those in `passed` for the memory's sake."""
    return _kept_alive(order, position, passed) <= _made_later(order, position) + SLACK


def _kept_alive(order: _Order, position: int, passed: set[int]) -> int:
    """Bytes that live longer if a step runs after those in `passed`."""
    return sum(
        _aligned(n)
        for n in order.reads[position] - order.writes[position] - order.fixed
        if passed.issuperset(_after(order.touched[n], position))
    )


def _made_later(order: _Order, position: int) -> int:
    """Bytes that a step is the first to write."""
    made = order.writes[position] - order.fixed
    return sum(_aligned(n) for n in made if order.touched[n][0] == position)


def _by_form(steps: Sequence[Fused]) -> list[list[Fused]]:
    """Steps that run the same code, two or more together."""
    groups: dict[Region, list[Fused]] = defaultdict(list)
    for f in steps:
        form = form_of(f.region)
        if form is not None:
            groups[form].append(f)
    for form in [f for f in groups if walks_whole_buffers(f)]:
        groups[form] += groups.pop(as_single(form), [])
    return [members for members in groups.values() if len(members) > 1]


def _batch_alike(order: _Order, members: Sequence[Fused], budget: int) -> _Order:
    """Steps of one form in as few launches as their order and the memory allow."""
    left = list(members)
    while len(left) > 1:
        place = {id(f): position for position, f in enumerate(order.steps)}
        left.sort(key=lambda f: place[id(f)])
        goal = place[id(left[-1])]
        ready = [f for f in left if min(order.followers(place[id(f)]), default=goal + 1) > goal]
        while len(ready) > 1:
            merged = _merged_order(order, ready)
            if merged.peak() <= budget:
                order = merged
                break
            ready = ready[len(ready) // 2 :]
        done = set(map(id, ready))
        left = [f for f in left if id(f) not in done]
    return order


def _merged_order(order: _Order, members: Sequence[Fused]) -> _Order:
    """The members as one launch, at the place of the last one or where it sinks to."""
    inside, last = set(map(id, members)), members[-1]
    steps = [f for f in order.steps if id(f) not in inside or f is last]
    at = next(i for i, f in enumerate(steps) if f is last)
    steps[at] = _merged(members)
    merged = order.with_steps(steps)
    goal = min(merged.followers(at), default=len(steps))
    if not _may_pass(merged, at, set(range(at + 1, goal))):
        return merged
    return merged.with_steps([*steps[:at], *steps[at + 1 : goal], steps[at], *steps[goal:]])


def _merged(members: Sequence[Fused]) -> Fused:
    """One launch for members of one form.

    a[i] *= s for i < 10;  b[i] *= s for i < 7
    becomes  x[i] *= s for 2 members, each with its own x; i of each: 10 7
    """
    count = len(members)
    largest = max(members, key=lambda f: extent_of(f.region.axes)).region
    lengths = tuple(extent_of(f.region.axes) for f in members)
    nodes = list(zip(*((*f.inputs, *f.outputs) for f in members)))
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
        tuple(n for found in buffers[:inputs] for n in found),
        tuple(n for found in buffers[inputs:] for n in found),
        (f"{count} steps of one form share this launch", *members[0].reasons),
    )
