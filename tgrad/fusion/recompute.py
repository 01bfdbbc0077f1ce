"""Values computed again instead of kept, until a plan fits into its memory.

In: kernels in order, and the bytes that may be held at once. Out: the same kernels with some of
them a second time, later. Invariant: every result is what it was; what is held falls at the peak
and passes it nowhere else; a kernel runs again only where what it reads can be had.

    a = f(x); b = g(a); ...; d = h(b, a)
    becomes
    a = f(x); b = g(a); ...; a' = f(x); d = h(b, a')

At the peak, of the values that are kept for later, the one goes that saves the most bytes for the
time that computing it again takes (greedy; Chen et al., Training Deep Nets with Sublinear Memory
Cost, arXiv 1604.06174, choose segments instead).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

from tgrad.fusion.partition import Fused
from tgrad.fusion.schedule import Schedule, aligned
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op

REASON = "computed again to hold less memory"


@dataclass(frozen=True)
class Budget:
    """What recomputation may do.

    Attributes:
        nbytes: temporaries that may be held at once.
        seconds: predicted time of a kernel.
        fixed: nodes that hold no memory of the arena: buffers of the caller, results.
        donated: for results, the buffer of the caller that they may overwrite.
    """

    nbytes: int
    seconds: Callable[[Fused], float]
    fixed: frozenset[Node]
    donated: Mapping[Node, Node]


def recompute_to_fit(fused: Sequence[Fused], budget: Budget) -> list[Fused]:
    """The kernels, with some repeated, so that at most `budget.nbytes` are held if that is found.

    Args:
        fused: kernels in order.
        budget: the limit, and what it depends on.
    """
    schedule = _Schedule(list(fused), budget, {})
    while schedule.peak > budget.nbytes:
        better = schedule.with_less()
        if better is None:
            break
        schedule = better
    return schedule.steps


class _Schedule(Schedule):
    """A schedule under a budget.

    `base` names, for the values of repeated kernels, the value that they repeat.
    """

    def __init__(self, steps: list[Fused], budget: Budget, base: Mapping[Node, Node]):
        super().__init__(steps, budget.fixed, budget.donated)
        self.budget, self.base = budget, base

    @property
    def height(self) -> tuple[int, int]:
        """The peak, and at how many steps it is reached: each schedule's is below the last one's,
        so that there is an end."""
        return self.peak, self.held.count(self.peak)

    def with_less(self) -> _Schedule | None:
        """A schedule that holds less at the peak; None if no value can be given up there."""
        top = self.held.index(self.peak)
        found: list[tuple[float, int, _Chain]] = []
        for n, life, uses in self.idle():
            chain = _Chain(self, top, uses[0])
            if chain.add(n):
                found.append((aligned(n) / chain.seconds, -life.first, chain))
        for *_, chain in sorted(found, key=lambda f: f[:2], reverse=True):
            better = chain.apply()
            if better.height < self.height:
                return better
        return None


class _Chain:
    """Kernels to run again before step `at`, for a value that is given up at step `top`.

    A kernel that was to run again later anyway runs now instead.
    """

    def __init__(self, schedule: _Schedule, top: int, at: int):
        self.schedule, self.top, self.at = schedule, top, at
        self.again: dict[int, None] = {}
        self.dropped: set[int] = set()
        self.seconds = 1e-9

    def add(self, value: Node) -> bool:
        """Plan to compute a value again, and before it what that needs; False if that fails."""
        schedule = self.schedule
        life = schedule.lives.get(value)
        if life is None:  # a buffer of the caller that has been overwritten
            return False
        fused = schedule.steps[life.first]
        if life.first in self.again:
            return True
        if len(life.writers) != 1 or any(s.role == "inout" for s in fused.region.slots):
            return False
        if fused.region.is_exchange:  # the others would have to call it too
            return False
        if any(n in schedule.budget.fixed for n in fused.outputs):
            return False
        later = self._later_repeat(value)
        if later is None:
            self.seconds += schedule.budget.seconds(fused)
        else:
            self.dropped.add(later)
        ready = all(self._is_at_hand(n) or self.add(n) for n in fused.inputs)
        self.again[life.first] = None
        return ready

    def _later_repeat(self, value: Node) -> int | None:
        """The step after `at` that computes the same value again."""
        base = self.schedule.base
        wanted = base.get(value, value)
        for n, origin in base.items():
            if origin is wanted and self.schedule.lives[n].first > self.at:
                return self.schedule.lives[n].first
        return None

    def _is_at_hand(self, value: Node) -> bool:
        """Whether a kernel at `at` may read the value, and no more is held at the peak."""
        if value in self.schedule.budget.fixed:
            return self.schedule.overwritten.get(value, self.at) >= self.at
        life = self.schedule.lives[value]
        return life.first < self.at and life.last >= self.top

    def apply(self) -> _Schedule:
        """The steps with the chain before step `at`; later readers take the new values."""
        schedule, steps = self.schedule, self.schedule.steps
        base = dict(schedule.base)
        table: dict[Node, Node] = {}
        taken = set(schedule.lives)
        for i in self.again:
            for n in steps[i].outputs:
                table[n] = another(n, taken)
                taken.add(table[n])
                base[table[n]] = base.get(n, n)
        new = {base[n]: n for n in table.values()}
        for i in self.dropped:
            for n in steps[i].outputs:
                table[n] = new[base.pop(n)]

        def renamed(f: Fused) -> Fused:
            return replace(f, inputs=tuple(table.get(n, n) for n in f.inputs))

        chain = [
            replace(
                renamed(steps[i]),
                outputs=tuple(table[n] for n in steps[i].outputs),
                reasons=tuple(dict.fromkeys((*steps[i].reasons, REASON))),
            )
            for i in self.again
        ]
        kept = [f for i, f in enumerate(steps) if i >= self.at and i not in self.dropped]
        return _Schedule([*steps[: self.at], *chain, *map(renamed, kept)], schedule.budget, base)


def another(value: Node, taken: Container[Node]) -> Node:
    """A node of its own for the same value: a reshape to the shape that it has."""
    with source_scope(value.source):
        copy = make(Op.RESHAPE, value, shape=value.shape)
        while copy in taken:
            copy = make(Op.RESHAPE, copy, shape=value.shape)
    return copy
