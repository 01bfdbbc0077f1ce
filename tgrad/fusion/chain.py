"""Chains of dots and row reductions in one kernel, found by algebra.

In: a draft Region whose last dots and row reductions run over one set of axes k. Out: a Region that
one loop over tiles of k computes, or Refused. Invariant: it computes what the draft does. A sum or
dot over k depends on a maximum r over k only through exp(x - r), so a value that has r so far is
made one that has r' by a factor, exp(r - r'): it *rescales*. Factors that k does not change stand
behind the sum, by linearity.

    s[m k] = dot(a[m d], b[k d])                    first dots, over `inner` axes
    r[m] = max_k s                                  row statistics
    l[m] = Σ_k exp(s - r)
    o[m n] = Σ_k (exp(s - r) / l) v[k n]     =>     o = (Σ_k exp(s - r) v[k n]) / l

A gradient's kernel has no statistics: it loads them. With its rows m it owns either side of s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tgrad.fusion import region as rg
from tgrad.fusion.axes import DotAxes, drop_dead, with_numbers
from tgrad.fusion.chain_algebra import simplify_chain
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.legality import Refused
from tgrad.fusion.live import (
    Condition,
    fold_comparisons,
    live_where,
    with_known_integers,
)
from tgrad.fusion.region import Region, Space, extent_of, whole_axes
from tgrad.graph.op import Op


def settle_chain(region: Region, dots: tuple[DotAxes, ...], limits: Limits) -> Region | Refused:
    """The chain in the form of the module, with its space.

    Args:
        region: a draft.
        dots: axes of its last dots.
        limits: of the device.
    """
    if len(region.slots) > limits.slots or len(region.values) > limits.values:
        return Refused("a chain of more buffers or values than one kernel may have")
    if not dots or any(d != dots[0] for d in dots):
        return Refused("dots over different domains in one chain")
    region = fold_comparisons(region)
    space = _classify(region, dots[0])
    if isinstance(space, Refused):
        return space
    settled = _Settling(region, space).run()
    if isinstance(settled, Refused):
        return settled
    settled = simplify_chain(drop_dead(settled), space)
    settled = _with_live(settled, space, _live(settled, space))
    groups = whole_axes(settled)
    contractions = [v for v in settled.values if isinstance(v, rg.Dot)]
    itemsize = max(settled.values[x].dtype.itemsize for v in contractions for x in (v.a, v.b))
    most = limits.chain_bytes if len(contractions) < 4 else limits.pair_bytes
    widest = max(extent_of(g) for g in groups)
    if widest * itemsize > most:
        return Refused(f"{widest} elements a row do not fit on chip in a chain")
    whole = [a for group in groups for a in group]
    if len(set(whole)) < len(whole):
        return Refused("dots of a chain over axes that overlap in part")
    return settled


def _classify(region: Region, axes: DotAxes) -> Space | Refused:
    batch, m, n, k = (frozenset(g) for g in axes.groups)
    if not n or not k:
        return Refused("a chain without columns or keys is a reduction")
    inner: set[str] = set()
    dims = region.dims
    for number, v in enumerate(region.values):
        have = set(dims[number])
        if isinstance(v, rg.AlongAxes) and not isinstance(v, (rg.Reduce, rg.Dot)):
            return Refused("a scan or a sort in a chain")
        if isinstance(v, rg.Reduce):
            if set(v.axes) != k or not have <= batch | m:
                return Refused("a reduction in a chain that is no statistic of its rows")
        elif isinstance(v, rg.Dot) and set(v.axes) != k:
            sides = [set(dims[x]) & (m | k) for x in (v.a, v.b)]
            if set(v.axes) & (batch | m | k) or not have <= batch | m | k:
                return Refused("a dot in a chain over an axis of its own result")
            if any(len([x for x in sides if x & g]) > 1 for g in (m, k)) or any(
                x & m and x & k for x in sides
            ):
                return Refused("a first dot of a chain that does not join its rows and columns")
            inner |= set(v.axes)
        elif have & m and have & k and have & (n | inner):
            return Refused("a value in a chain that has rows, columns and an inner axis")
    outside = {a.name for a in region.axes} - (batch | m | n | k | inner)
    if outside:
        return Refused(f"a chain that is broadcast along {sorted(outside)}")
    for store in region.stores:
        names = rg.variables_of(store)
        if names not in (batch | m, batch | m | n) or store.mask or store.index.loaded():
            return Refused("a result of a chain that has another domain than its rows")
        if set(dims[store.value]) & k:
            return Refused("a result of a chain that has its columns")
    pick = region.pick
    return Space(
        "chain",
        (*pick(batch), *pick(m)),
        batch=pick(batch),
        m=pick(m),
        n=pick(n),
        k=pick(k),
        inner=pick(inner),
    )


@dataclass(frozen=True)
class _Peeled:
    """A value without the factors that k does not change: value = part * / factors."""

    part: int
    factors: tuple[tuple[Op, int], ...] = ()


class _Settling(rg.Values):
    """Moves factors behind sums; checks that what remains rescales."""

    def __init__(self, region: Region, space: Space):
        super().__init__()
        self.region = region
        self.k = {a.name for a in space.k}
        self.new: list[int] = []
        """Number of each old value."""
        self.statistics: list[frozenset[int]] = []
        """Row statistics that each new value depends on, by number."""

    def emit(self, value: rg.Value) -> int:
        number = super().emit(value)
        if number == len(self.statistics):
            found = frozenset[int]().union(*(self.statistics[x] for x in rg.operands_of(value)))
            is_carried = isinstance(value, (rg.Reduce, rg.Dot)) and set(value.axes) == self.k
            self.statistics.append(found | {number} if is_carried else found)
        return number

    def run(self) -> Region | Refused:
        for v in self.region.values:
            made = self.value(v)
            if isinstance(made, Refused):
                return made
            self.new.append(made)
        stores = tuple(replace(s, value=self.new[s.value]) for s in self.region.stores)
        return replace(self.region, values=tuple(self.values), stores=stores)

    def value(self, v: rg.Value) -> int | Refused:
        if any(e.loaded() for e in rg.indices_of(v)):
            v = with_numbers(v, dict(enumerate(self.new)))
        if isinstance(v, rg.Compute):
            return self.emit(replace(v, args=tuple(self.new[a] for a in v.args)))
        if isinstance(v, rg.Reduce):
            arg = self.new[v.arg]
            if not self.statistics[arg]:
                return self.emit(replace(v, arg=arg))
            if v.op is not Op.REDUCE_SUM:
                return Refused(f"{v.op} of a value that needs another statistic of its row")
            return self.summed(replace(v, arg=arg), "arg")
        if isinstance(v, rg.Dot):
            dot = replace(v, a=self.new[v.a], b=self.new[v.b])
            depends = [s for s in ("a", "b") if self.statistics[getattr(dot, s)]]
            if len(depends) == 2 or (depends and set(v.axes) != self.k):
                return Refused("a dot of two values that need statistics of their rows")
            return self.summed(dot, depends[0]) if depends else self.emit(dot)
        return self.emit(v)

    def summed(self, v: rg.Reduce | rg.Dot, side: str) -> int | Refused:
        """The sum of what is left of an operand, then the factors."""
        peeled = self.peel(getattr(v, side))
        if isinstance(peeled, Refused):
            return peeled
        number = self.emit(replace(v, **{side: peeled.part}))  # type: ignore[arg-type]
        for op, factor in peeled.factors:
            if self.values[factor].dtype is not v.dtype:
                factor = self.emit(rg.Compute(Op.CAST, (factor,), v.dtype))
            number = self.emit(rg.Compute(op, (number, factor), v.dtype))
        return number

    def peel(self, number: int) -> _Peeled | Refused:
        """The value as a part that rescales, times factors that k does not change."""
        if not self.statistics[number]:
            return _Peeled(number)
        v = self.values[number]
        if isinstance(v, rg.Compute):
            if v.op is Op.EXP and self.is_shifted(v.args[0]):
                return _Peeled(number)
            if v.op in (Op.MUL, Op.DIV):
                return self.peel_product(v)
            if v.op in (Op.CAST, Op.NEG):
                return self.peel_at(v, 0)
            if v.op is Op.WHERE and not self.statistics[v.args[0]]:
                zero = [self.is_zero(a) for a in v.args]
                if zero[1] or zero[2]:
                    return self.peel_at(v, 1 if zero[2] else 2)
            return Refused(f"{v.op} of a row's statistic does not rescale")
        return Refused("a statistic of a row that does not rescale")

    def peel_product(self, v: rg.Compute) -> _Peeled | Refused:
        left, right = v.args
        for side, factor in ((0, right), (1, left)):
            if side and v.op is Op.DIV:
                break
            if self.statistics[factor] and not self.dims[factor] & self.k:
                peeled = self.peel(v.args[side])
                if isinstance(peeled, Refused):
                    return peeled
                return _Peeled(peeled.part, (*peeled.factors, (v.op, factor)))
            if not self.statistics[factor]:
                return self.peel_at(v, side)
        return Refused("a product of two values that need statistics of their rows")

    def peel_at(self, v: rg.Compute, at: int) -> _Peeled | Refused:
        """Peel one argument and put the op back around what is left."""
        peeled = self.peel(v.args[at])
        if isinstance(peeled, Refused):
            return peeled
        args = (*v.args[:at], peeled.part, *v.args[at + 1 :])
        return _Peeled(self.emit(replace(v, args=args)), peeled.factors)

    def is_zero(self, number: int) -> bool:
        v = self.values[number]
        return isinstance(v, rg.Const) and v.value == 0

    def is_shifted(self, number: int) -> bool:
        """Whether the value is x - r, for r a maximum over k (0 where it is -inf, at most)."""
        v = self.values[number]
        if not isinstance(v, rg.Compute) or v.op is not Op.SUB or self.statistics[v.args[0]]:
            return False
        finite = rg.finite_maximum(self.values, v.args[1])
        shift = self.values[v.args[1] if finite is None else finite]
        return isinstance(shift, rg.Reduce) and shift.op is Op.REDUCE_MAX


def _live(region: Region, space: Space) -> tuple[Condition, ...]:
    """What holds wherever something is added to any sum over k."""
    rows, k = (frozenset(a.name for a in g) for g in (space.m, space.k))
    summed: list[int] = []
    for v in region.values:
        if isinstance(v, rg.Dot) and set(v.axes) == k:
            columns = {a.name for a in space.n}
            summed.append(v.b if set(region.dims[v.a]) & columns else v.a)
        elif isinstance(v, rg.Reduce) and v.op is Op.REDUCE_SUM:
            summed.append(v.arg)
    batch = {a.name for a in space.batch}
    uniform = frozenset(
        number
        for number, v in enumerate(region.values)
        if v.dtype.is_int and set(region.dims[number]) <= batch
    )
    return live_where(region, tuple(summed), rows, k, uniform)


def _with_live(region: Region, space: Space, conditions: tuple[Condition, ...]) -> Region:
    """The region with what it may skip: bounds of columns, and tests; a bound of rows is one."""
    rows, k = (frozenset(a.name for a in g) for g in (space.m, space.k))
    bounds = tuple(c for c in conditions if not isinstance(c, rg.Compute))
    tests = tuple(c for c in conditions if isinstance(c, rg.Compute))
    mask = tuple(b for b in bounds if b.index.variables() & (rows | k))
    region, mask = with_known_integers(region, mask)
    live = tuple(b for b in mask if b.index.variables() & k)
    of_rows = tuple(rg.Inside((b,)) for b in mask if not b.index.variables() & k)
    return replace(region, space=replace(space, live=live, tests=(*of_rows, *tests)))
