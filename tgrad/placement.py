"""A place in memory for each buffer of a step: in place, in the arena, within a limit.

In: kernels in the order in which they run. Out: the same with their buffers, in shared launches, in
an arena whose size is known. Invariant: what a kernel reads is there when it runs, and two values
that are alive together share no byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tgrad.errors import MemoryLimitError
from tgrad.fusion.batching import GROWTH, batch, fewest_launches, gather
from tgrad.fusion.exchanges import in_flight, let_exchanges_run
from tgrad.fusion.inplace import InPlace, home_of, reuse_inputs
from tgrad.fusion.partition import Fused
from tgrad.fusion.recompute import Budget, recompute_to_fit
from tgrad.fusion.region import Region
from tgrad.graph.node import Node
from tgrad.runtime.memory import Layout, Lifetime, peak_step, plan_memory
from tgrad.runtime.plan import BufferRef

_PACKINGS = 4
"""How often a memory limit is tightened because the arena has gaps."""
_NAMED_BUFFERS = 5


def unique_names(fused: Sequence[Fused]) -> list[Fused]:
    """Give kernels that differ different names; equal work keeps one name."""
    named: dict[str, Region] = {}
    result: list[Fused] = []
    for f in fused:
        region, count = f.region, 1
        while named.setdefault(region.name, region) != region:
            count += 1
            region = replace(region, name=f"{f.region.name}_{count}")
        result.append(f if region is f.region else replace(f, region=region))
    return result


@dataclass(frozen=True)
class Placed:
    """Kernels with a place for each of their buffers.

    Attributes:
        fused: the kernels, in order.
        replaces: for results written in place, the node whose memory they take.
        refs: the buffer of each node.
        temps: nodes in the arena.
        layout: where they are.
    """

    fused: list[Fused]
    replaces: Mapping[Node, Node]
    refs: Mapping[Node, BufferRef]
    temps: list[Node]
    lifetimes: list[Lifetime]
    layout: Layout


@dataclass(frozen=True)
class Given:
    """What the memory of a plan depends on beside its kernels.

    Attributes:
        donated: for results, the buffer that they may overwrite.
        fixed: nodes that are no temporaries.
        used, stored: buffers that are read, and results.
        shares_launches: whether kernels of one form may be one launch.
    """

    donated: Mapping[Node, Node]
    fixed: frozenset[Node]
    used: list[Node]
    stored: list[Node]
    shares_launches: bool = True

    def place(self, ordered: Sequence[Fused]) -> Placed:
        """In place where that is possible."""
        return _place(reuse_inputs(ordered, self.donated, self.fixed), self.used, self.stored)


def fit(
    ordered: list[Fused], given: Given, limit: int | None, seconds: Callable[[Fused], float]
) -> Placed:
    """Kernels with their memory; some run again, later, if all would not fit otherwise."""
    placed = given.place(ordered)
    if limit is None:
        return _with_company(_share_launches(ordered, placed, given, None), given, None)

    made = sum(n.nbytes for n in given.stored if n not in placed.replaces)
    room = allowed = limit - made - sum(n.nbytes for n in given.used)
    again = ordered
    for _ in range(_PACKINGS):
        if placed.layout.nbytes <= room:
            return _with_company(_share_launches(again, placed, given, room), given, room)
        budget = Budget(max(allowed, 0), seconds, given.fixed, given.donated)
        again = recompute_to_fit(ordered, budget)
        placed = given.place(again)
        allowed -= max(placed.layout.nbytes - room, 0)
    if placed.layout.nbytes <= room:
        return _with_company(_share_launches(again, placed, given, room), given, room)
    raise _does_not_fit(placed, limit, placed.layout.nbytes - room)


def _share_launches(ordered: list[Fused], placed: Placed, given: Given, room: int | None) -> Placed:
    """Kernels of one form in shared launches, as far as the plan's memory hardly grows and fits.

    Of the orders tried, that with the fewest launches: with members brought together before results
    are written in place, or after.
    """
    if not given.shares_launches:
        return placed
    donated, fixed, arena = given.donated, given.fixed, placed.layout.nbytes
    spare = _spare(placed, given)
    most = arena + spare if room is None else min(arena + spare, room)
    best, fewest = placed, fewest_launches(ordered)
    as_given, grown = reuse_inputs(ordered, donated, fixed), spare + 1
    for growth in (spare, spare // 2, spare // 4):
        if grown <= growth:  # what was tried took no more than this: it would come out the same
            continue
        gathered = gather(ordered, donated, fixed, growth)
        grown = gathered.grown
        for made in (reuse_inputs(gathered.fused, donated, fixed), as_given):
            shared = batch(made.fused, made.replaces, fixed, growth)
            grown = max(grown, shared.grown)
            if len(shared.fused) < len(best.fused):
                found = InPlace(tuple(shared.fused), made.replaces)
                tried = _place(found, given.used, given.stored)
                best = tried if tried.layout.nbytes <= most else best
            if len(best.fused) <= fewest:
                return best
    return best


def _with_company(placed: Placed, given: Given, room: int | None) -> Placed:
    """Kernels that run while processes exchange, if the plan's memory hardly grows and fits."""
    order = let_exchanges_run(placed.fused, placed.replaces)
    if order == placed.fused:
        return placed
    found = _place(InPlace(tuple(order), placed.replaces), given.used, given.stored)
    most = placed.layout.nbytes + _spare(placed, given)
    fits = found.layout.nbytes <= (most if room is None else min(most, room))
    return found if fits else placed


def _spare(placed: Placed, given: Given) -> int:
    """Bytes that a plan may take more for a better order: a small share of all that it takes."""
    results = sum(n.nbytes for n in given.stored if n not in placed.replaces)
    return round(GROWTH * (placed.layout.nbytes + results + sum(n.nbytes for n in given.used)))


def _does_not_fit(placed: Placed, limit: int, excess: int) -> MemoryLimitError:
    lifetimes = placed.lifetimes
    top = peak_step(lifetimes)
    alive = [n for n, t in zip(placed.temps, lifetimes) if t.first <= top <= t.last]
    alive.sort(key=lambda n: -n.nbytes)
    largest = "; ".join(
        f"{n.dtype.short}{list(n.shape)} of {n.source.label} at {n.source}, {n.nbytes:,} bytes"
        for n in alive[:_NAMED_BUFFERS]
    )
    return MemoryLimitError(
        f"the plan takes {limit + excess:,} bytes, {excess:,} more than its memory_limit of "
        f"{limit:,}; what can be computed again is not kept. Of its {len(placed.fused)} kernels, "
        f"{placed.fused[top].region.name} runs at the peak. The largest buffers alive there: "
        f"{largest or 'none'}.",
        "Use a smaller batch or a larger limit; parameters and optimizer state count too.",
    )


def _place(placed: InPlace, used: list[Node], stored: list[Node]) -> Placed:
    """The buffer of each node, and a layout of the arena."""
    fused, replaces = unique_names(placed.fused), placed.replaces

    def place(node: Node) -> Node:
        return home_of(node, replaces)

    made = [n for n in stored if n not in replaces]
    refs: dict[Node, BufferRef] = {n: BufferRef("input", i) for i, n in enumerate(used)}
    refs |= {n: BufferRef("output", i) for i, n in enumerate(made)}
    written = [n for n in dict.fromkeys(n for f in fused for n in f.outputs) if n not in refs]
    temps = [n for n in written if place(n) is n]
    refs |= {n: BufferRef("temp", i) for i, n in enumerate(temps)}
    refs |= {n: refs[place(n)] for n in written}
    touched: dict[Node, list[int]] = {n: [] for n in temps}
    for position, f in enumerate(fused):
        for n in (*f.inputs, *f.outputs):
            if place(n) in touched:
                touched[place(n)].append(position)
    for operand, end in in_flight(fused).items():
        if place(operand) in touched:
            touched[place(operand)].append(end)
    lifetimes = [Lifetime(n.nbytes, touched[n][0], max(touched[n])) for n in temps]
    return Placed(fused, replaces, refs, temps, lifetimes, plan_memory(lifetimes))
