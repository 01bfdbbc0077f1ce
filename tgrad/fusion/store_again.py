"""Values stored a second time, late, by a kernel that reads what they are made of.

In: kernels in order. Out: as many kernels, some with one result more. Invariant: every result is
what it was; less is held at the peak; no launch is added, and the predicted time of all kernels
grows by at most `SLOWER`.

    h, g = linear(x);  y = linear(g);  ...;  dh = gelu_backward(dy, h);      dw = linear(dh', g)
    becomes
    h, g = linear(x);  y = linear(g);  ...;  dh, g' = gelu_backward(dy, h);  dw = linear(dh', g')

Between the two, g is not held. Its host has h in registers, and mostly what g costs as well: the
error function is part of GELU and of its gradient. So what is held is saved for one store, while
computing g in a kernel of its own costs a launch, a load and a store (fusion/recompute.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tgrad.fusion import region as rg
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.legality import Refused
from tgrad.fusion.partition import INLINE_NODES, Fused, is_computed_once
from tgrad.fusion.recompute import another
from tgrad.fusion.schedule import Life, Schedule
from tgrad.fusion.structure import RegionBuilder
from tgrad.fusion.verify import verify_region
from tgrad.graph.node import Node
from tgrad.graph.op import MOVEMENT, Op, is_elementwise

SLOWER = 0.01
"""Share of the predicted time that second stores may add to a plan."""

WORTH = 1 / 256
"""Share of the peak that a value has at least to be looked at."""

REASON = "stores {} again, to hold less memory"


def store_again(
    fused: Sequence[Fused],
    donated: Mapping[Node, Node],
    fixed: frozenset[Node],
    limits: Limits,
    seconds: Callable[[Fused], float],
) -> list[Fused]:
    """The kernels in an order that holds less, with second stores of values.

    Args:
        fused: kernels in order, each value written once; results are not in place yet.
        donated: for results of the plan, the buffer of the caller that they may overwrite.
        fixed: nodes that hold no memory of the arena: buffers of the caller, results.
        limits: of the device.
        seconds: predicted time of a kernel.
    """
    search = _Search(RegionBuilder(limits), seconds, SLOWER * sum(map(seconds, fused)))
    schedule = Schedule(fused, fixed, donated)
    while schedule.peak and (better := search.with_less(schedule)) is not None:
        schedule = better
    return schedule.steps


@dataclass(frozen=True)
class _Idle:
    """A value that is held and not used at the peak, and the readers after it.

    Attributes:
        made_of: stored nodes that it is computed from, element by element.
        large: those of them that are as large, about.
    """

    value: Node
    uses: tuple[int, ...]
    made_of: frozenset[Node]
    large: frozenset[Node]


class _Search:
    def __init__(self, builder: RegionBuilder, seconds: Callable[[Fused], float], allowed: float):
        self.builder, self.seconds, self.allowed = builder, seconds, allowed
        self.hopeless: set[Node] = set()

    def with_less(self, schedule: Schedule) -> Schedule | None:
        """A schedule that holds less at its peak, or as much for fewer steps."""
        for idle in self._candidates(schedule):
            for host in _hosts(schedule, idle):
                better = self._hosted(schedule, idle, host)
                if better is not None:
                    return better
            self.hopeless.add(idle.value)
        return None

    def _candidates(self, schedule: Schedule) -> Iterator[_Idle]:
        """The largest first; of equals, that which is held longest."""
        found = [
            (n, life, uses)
            for n, life, uses in schedule.idle()
            if n not in self.hopeless and n.nbytes > WORTH * schedule.peak
        ]
        for n, life, uses in sorted(found, key=lambda f: (-f[0].nbytes, f[1].first)):
            made_of = _made_of(n, life, schedule)
            if made_of is None:
                self.hopeless.add(n)
                continue
            large = frozenset(x for x in made_of if 4 * x.size >= n.size)
            yield _Idle(n, tuple(uses), made_of, large)

    def _hosted(self, schedule: Schedule, idle: _Idle, host: int) -> Schedule | None:
        steps = schedule.steps
        again = another(idle.value, schedule.lives)
        widened = self._widened(steps[host], idle, again)
        if widened is None:
            return None
        slower = self.seconds(widened) - self.seconds(steps[host])
        order = _after_host(schedule, idle.uses, host)
        if slower > self.allowed or order is None:
            return None
        table = {idle.value: again}

        def renamed(i: int) -> Fused:
            if i not in idle.uses:
                return widened if i == host else steps[i]
            return replace(steps[i], inputs=tuple(table.get(n, n) for n in steps[i].inputs))

        better = Schedule([renamed(i) for i in order], schedule.fixed, schedule.donated)
        if _extent(better) >= _extent(schedule):
            return None
        self.allowed -= max(slower, 0.0)
        return better

    def _widened(self, host: Fused, idle: _Idle, again: Node) -> Fused | None:
        """The host with a store more; None if one kernel cannot do both, or would load more."""
        leaves = {*host.inputs, *idle.made_of}
        group = [*_computed_once(host), again]
        built = self.builder.build(host.region.name, group, [*host.outputs, again], leaves)
        if isinstance(built, Refused) or built.region.space.kind != host.region.space.kind:
            return None
        before, after = _loads(host.region, host.inputs), _loads(built.region, built.inputs)
        if any(len(after[n]) > len(before[n]) for n in idle.large):
            return None
        verify_region(built.region)
        label = REASON.format(idle.value.source.label or idle.value.op)
        return Fused(built.region, built.inputs, built.outputs, (*host.reasons, label))


def _extent(schedule: Schedule) -> tuple[int, int]:
    """The peak, and how many steps reach it."""
    return schedule.peak, schedule.held.count(schedule.peak)


def _made_of(value: Node, life: Life, schedule: Schedule) -> frozenset[Node] | None:
    """The stored nodes that a value is computed from, element by element; None if there is more
    to computing it."""
    if len(life.writers) != 1 or value.op is Op.SCATTER:
        return None
    found: set[Node] = set()
    seen: set[Node] = {value}
    stack = [value]
    while stack:
        n = stack.pop()
        is_stored = n is not value and (n in schedule.lives or n in schedule.fixed)
        if is_stored or n.op is Op.BUFFER:
            found.add(n)
            continue
        if not (is_elementwise(n.op) or n.op in MOVEMENT or n.op in (Op.CONST, Op.IOTA)):
            return None
        new = [x for x in n.inputs if x not in seen]
        seen.update(new)
        stack += new
        if len(seen) > INLINE_NODES:
            return None
    return frozenset(found)


def _hosts(schedule: Schedule, idle: _Idle) -> Iterator[int]:
    """Steps after the peak that read all that is large of what the value is made of, and could
    read the rest."""
    top = schedule.held.index(schedule.peak)
    for i, f in enumerate(schedule.steps[top + 1 :], top + 1):
        if not idle.large or not idle.large <= set(f.inputs) or idle.value in f.inputs:
            continue
        if f.region.space.kind not in ("map", "reduce", "dot"):
            continue
        if all(_is_at_hand(schedule, n, i) for n in idle.made_of):
            yield i


def _is_at_hand(schedule: Schedule, value: Node, at: int) -> bool:
    life = schedule.lives.get(value)
    if life is not None:
        return len(life.writers) == 1 and life.first < at
    return schedule.overwritten.get(value, at) >= at


def _after_host(schedule: Schedule, uses: Sequence[int], host: int) -> list[int] | None:
    """The order with readers of the value behind the host; None if one of them must run before."""
    early = [i for i in uses if i < host]
    if any(not _may_follow(schedule, i, host) for i in early):
        return None
    steps = range(len(schedule.steps))
    before = [i for i in steps[: host + 1] if i not in early]
    return [*before, *early, *steps[host + 1 :]]


def _may_follow(schedule: Schedule, step: int, host: int) -> bool:
    """Whether a step may run after all between it and the host."""
    moved = schedule.steps[step]
    mine, read = set(moved.outputs), set(moved.inputs)
    for f in schedule.steps[step + 1 : host + 1]:
        overwritten = {schedule.donated.get(n, n) for n in f.outputs}
        if not mine.isdisjoint((*f.inputs, *f.outputs)) or not read.isdisjoint(overwritten):
            return False
    return True


def _computed_once(host: Fused) -> list[Node]:
    """What a kernel stores or computes once, producers first."""
    order: list[Node] = []
    seen = set(host.inputs) - set(host.outputs)
    stack = [(n, False) for n in reversed(host.outputs)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += ((x, False) for x in reversed(node.inputs))
    stored = set(host.outputs)
    return [n for n in order if n in stored or is_computed_once(n)]


def _loads(region: rg.Region, inputs: Sequence[Node]) -> dict[Node, set[object]]:
    """Where a kernel reads each of its inputs."""
    found: dict[Node, set[object]] = {n: set() for n in inputs}
    for v in region.values:
        if isinstance(v, rg.Load):
            found[inputs[v.slot]].add((v.index, v.mask))
    return found
