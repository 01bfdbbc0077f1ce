"""Masks of indices and of loaded integers: where elements of a chain, of sums or of a dot add
nothing.

In: a Region. Out: one whose comparisons of indices are index expressions, and the conditions
outside of which every element of m x k adds nothing. Invariant: a condition is given only if
exp(-inf) = 0 or a zero factor proves it, for whatever the loads hold, and by no mask of indices
that leaves a row of a softmax without any key, which is NaN.

    %2 = le (index t), (index m)        becomes    %2 = inside 0 <= m - t
    %3 = where %2, %1, -inf
    %5 = exp (sub %3, %4)               live where 0 <= m - t

A condition is a bound, or a test of values: a boolean of rows or of columns alone, or whether an
integer of rows is at most (below) one of columns. Equal integers are two such tests.

    %2 = eq (load ids[m]), (load ids[t])           live where ids[m] <= ids[t] and the reverse
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from tgrad import dtype as dt
from tgrad.fusion import region as rg
from tgrad.fusion.axes import drop_dead, mask_with_numbers, with_numbers
from tgrad.fusion.region import Mask, Region
from tgrad.graph import index as ix
from tgrad.graph.index import Bound, Index
from tgrad.graph.op import Op

_INT32 = 2**31
_FAR = 2**30
"""Beyond every index that a loop of a chain takes."""

Condition = Bound | rg.Compute


def fold_comparisons(region: Region) -> Region:
    """Comparisons of integers that are index expressions, as `Inside`."""
    values = list(region.values)
    whole: dict[int, Index] = {}
    for number, v in enumerate(values):
        e = _affine(v, whole)
        if e is not None:
            whole[number] = e
        mask = _comparison(v, whole)
        if mask is not None:
            values[number] = rg.Inside(mask)
    return replace(region, values=tuple(values))


def _affine(v: rg.Value, whole: dict[int, Index]) -> Index | None:
    """The value as an index expression, if it is one."""
    if isinstance(v, rg.IndexValue) and v.dtype.is_int:
        return v.index
    if isinstance(v, rg.Const) and v.dtype.is_int and not isinstance(v.value, float):
        return ix.constant(int(v.value))
    if not isinstance(v, rg.Compute) or not v.dtype.is_int:
        return None
    if any(a not in whole for a in v.args):
        return None
    args = [whole[a] for a in v.args]
    result: Index | None = None
    if v.op is Op.ADD:
        result = args[0] + args[1]
    elif v.op is Op.SUB:
        result = args[0] - args[1]
    elif v.op is Op.NEG:
        result = args[0] * -1
    elif v.op is Op.CAST:
        result = args[0]
    elif v.op is Op.MUL and args[1].is_const:
        result = args[0] * args[1].const
    elif v.op is Op.FLOORDIV and args[1].is_const and args[1].const > 0:
        result = args[0] // args[1].const
    if result is None or result.lo < v.dtype.min or result.hi > v.dtype.max:
        return None
    return result


def _comparison(v: rg.Value, whole: dict[int, Index]) -> Mask | None:
    if not isinstance(v, rg.Compute) or v.op not in (Op.LE, Op.LT, Op.EQ):
        return None
    if any(a not in whole for a in v.args):
        return None
    difference = whole[v.args[1]] - whole[v.args[0]]
    if difference.is_const or max(-difference.lo, difference.hi) >= _INT32:
        return None
    if v.op is Op.EQ:
        return (Bound(difference, 0, 1),)
    return (_at_least(difference, int(v.op is Op.LT)),)


def _at_least(e: Index, least: int) -> Bound:
    return Bound(e, least, max(e.hi, least) + 1)


def with_known_integers(region: Region, mask: Mask) -> tuple[Region, Mask]:
    """The region with the integers that bounds compare with as int32 within [-_FAR, _FAR], and the
    bounds on those."""
    values = list(region.values)
    numbers = sorted({v for b in mask for v in b.index.loaded()})
    known = {number: _append_known(values, number) for number in numbers}
    return replace(region, values=tuple(values)), mask_with_numbers(mask, known)


def _append_known(values: list[rg.Value], number: int) -> int:
    """Append an integer as int32 within [-_FAR, _FAR]; its number."""
    dtype = values[number].dtype
    for op, limit in ((Op.MINIMUM, _FAR), (Op.MAXIMUM, -_FAR)):
        if dtype.min <= limit <= dtype.max:
            values.append(rg.Const(limit, dtype))
            values.append(rg.Compute(op, (number, len(values) - 1), dtype))
            number = len(values) - 1
    values.append(rg.Compute(Op.CAST, (number,), dt.int32))
    return len(values) - 1


def with_live_rows(region: Region) -> Region:
    """A region of sums of rows, with the bounds that integers of each row's own set, if any: what
    lies outside of them adds nothing.

        sum over r of (where lo[i] <= r < hi[i], x[r], 0)       live where 0 <= r - lo[i] and
                                                                           1 <= hi[i] - r
    """
    space = region.space
    sums = [v for v in region.values if isinstance(v, rg.AlongAxes)]
    row, rows = (frozenset(a.name for a in g) for g in (space.row, space.parallel))
    walked = {n for s in region.stores for n in rg.variables_of(s)}
    is_sum = all(isinstance(v, rg.Reduce) and v.op is Op.REDUCE_SUM for v in sums)
    if space.kind != "reduce" or space.outer or not is_sum or walked & row:
        return region
    uniform = frozenset(
        number
        for number, v in enumerate(region.values)
        if v.dtype.is_int and isinstance(v, rg.Load) and set(region.dims[number]) <= rows
    )
    args = tuple(v.arg for v in sums if isinstance(v, rg.Reduce))
    found = live_where(region, args, rows, row, uniform)
    bounds = (c for c in found if not isinstance(c, rg.Compute))
    mask = tuple(c for c in bounds if c.index.loaded() and c.index.variables() & row)
    if not mask:
        return region
    region, live = with_known_integers(region, mask)
    return replace(region, space=replace(space, live=live))


def with_live_dot(region: Region) -> Region:
    """A region of one dot, with the bounds that integers known before its loop set on what it
    contracts, where both operands are 0 outside of them. Operands that are loads between the bounds
    become loads with them.

        dot over t of (where lo[b] <= t < hi[b], x[t, m], 0), (the same of y[t, n])
                                                live where 0 <= t - lo[b] and 1 <= hi[b] - t
    """
    space = region.space
    own = [n for n, v in enumerate(region.values) if isinstance(v, rg.AlongAxes)]
    dot = region.values[own[0]] if len(own) == 1 else None
    if space.kind != "dot" or not isinstance(dot, rg.Dot):
        return region
    if any(e.loaded() for s in region.stores for e in rg.indices_of(s)):
        return region
    rows, columns = (frozenset(a.name for a in g) for g in (space.parallel, space.k))
    uniform = frozenset(
        number
        for number, v in enumerate(region.values[: own[0]])
        if v.dtype.is_int and set(region.dims[number]) <= rows
    )
    search = _Search(region, rows, columns, uniform)
    right = search.zero_unless(dot.b)
    found = [c for c in search.zero_unless(dot.a) if c in right]  # 0 times NaN would be NaN
    bounds = [c for c in found if isinstance(c, Bound)]
    live = [c for c in bounds if c.index.loaded() and c.index.variables() & columns]
    if not live:
        return region
    return _with_masked_loads(region, search, live)


def _with_masked_loads(region: Region, search: _Search, live: list[Bound]) -> Region:
    """The region with the bounds, on integers that cannot overflow, and with masks of loads in
    place of choices between a load and 0."""
    needed = {v for b in live for v in b.index.loaded()}
    values: list[rg.Value] = []
    number: dict[int, int] = {}
    known: dict[int, int] = {}
    for old, v in enumerate(region.values):
        masked = search.masked_load(v)
        if masked is not None and all(set(b.index.loaded()) <= needed for b in masked[1]):
            load, bounds = masked
            plain = with_numbers(load, number)
            assert isinstance(plain, rg.Load)
            more = mask_with_numbers(bounds, known)
            values.append(replace(plain, mask=(*plain.mask, *more)))
        else:
            values.append(with_numbers(v, number))
        number[old] = len(values) - 1
        if old in needed:
            known[old] = _append_known(values, len(values) - 1)
    stores = tuple(replace(s, value=number[s.value]) for s in region.stores)
    space = replace(region.space, live=mask_with_numbers(live, known))
    return drop_dead(replace(region, values=tuple(values), stores=stores, space=space))


def live_where(
    region: Region,
    results: tuple[int, ...],
    rows: frozenset[str],
    columns: frozenset[str],
    uniform: frozenset[int] = frozenset(),
) -> tuple[Condition, ...]:
    """What holds wherever an element of any of the values, each summed over k, is not 0.

    Args:
        region: with its comparisons of indices folded.
        results: numbers of the values.
        rows, columns: names of the axes m and k.
        uniform: numbers of integers that are known before the loop over k.
    """
    search = _Search(region, rows, columns, uniform)
    found: list[Condition] | None = None
    for v in results:
        mine = search.zero_unless(v)
        found = mine if found is None else [c for c in found if c in mine]
    return tuple(found or ())


class _Search:
    def __init__(
        self,
        region: Region,
        rows: frozenset[str],
        columns: frozenset[str],
        uniform: frozenset[int],
    ):
        self.values, self.uniform = region.values, uniform
        self.axes = [region.pick(names) for names in (rows, columns)]
        self.sides = [(bool(rows & set(d)), bool(columns & set(d))) for d in region.dims]
        """Of each value: whether it has rows, and whether it has columns."""
        self.is_simple: list[bool] = []
        """Of each value: whether no reduction, dot, scan or sort is behind it."""
        self.whole: dict[int, Index] = {}
        for number, v in enumerate(region.values):
            operands = rg.operands_of(v)
            alone = not isinstance(v, rg.AlongAxes) and all(self.is_simple[x] for x in operands)
            self.is_simple.append(alone)
            e = _affine(v, self.whole)
            if e is not None:
                self.whole[number] = e

    def is_constant(self, number: int, *wanted: float) -> bool:
        v = self.values[number]
        return isinstance(v, rg.Const) and any(v.value == w for w in wanted)

    def is_positive(self, number: int) -> bool:
        v = self.values[number]
        return isinstance(v, rg.Const) and v.value > 0

    def masked_load(self, v: rg.Value) -> tuple[rg.Load, list[Bound]] | None:
        """The load that the value is where all of these bounds hold, and else 0."""
        if (
            not isinstance(v, rg.Compute)
            or v.op is not Op.WHERE
            or not self.is_constant(v.args[2], 0)
        ):
            return None
        load, bounds = self.values[v.args[1]], self.exactly(v.args[0])
        return None if bounds is None or not isinstance(load, rg.Load) else (load, bounds)

    def exactly(self, number: int) -> list[Bound] | None:
        """The bounds that a condition is; None if it is more or less."""
        v = self.values[number]
        if isinstance(v, rg.Inside):
            return list(v.mask)
        if not isinstance(v, rg.Compute) or v.op not in (Op.AND, Op.LT, Op.LE):
            return None
        if v.op is Op.AND:
            parts = [self.exactly(a) for a in v.args]
            return None if None in parts else [b for part in parts for b in part or ()]
        return [c for c in self.comparison(v) if isinstance(c, Bound)] or None

    def zero_unless(self, number: int) -> list[Condition]:
        """Conditions outside of which the value is 0."""
        v = self.values[number]
        if not isinstance(v, rg.Compute):
            return []
        if v.op is Op.MUL:
            return _union(*(self.zero_unless(a) for a in v.args))
        if v.op in (Op.CAST, Op.NEG, Op.DIV):
            return self.zero_unless(v.args[0])
        if v.op in (Op.ADD, Op.SUB):
            left, right = (self.zero_unless(a) for a in v.args)
            return [c for c in left if c in right]
        if v.op is Op.WHERE:
            return self.where(v, self.zero_unless, 0.0)
        return self.minus_infinity_unless(v.args[0]) if v.op is Op.EXP else []

    def minus_infinity_unless(self, number: int) -> list[Condition]:
        """Conditions outside of which the value is -inf."""
        v = self.values[number]
        if not isinstance(v, rg.Compute):
            return []
        if v.op is Op.CAST:
            return self.minus_infinity_unless(v.args[0])
        if v.op is Op.SUB:
            found = self.minus_infinity_unless(v.args[0])
            return [] if self.leaves_none(found, v.args[1]) else found
        if v.op is Op.WHERE:
            return self.where(v, self.minus_infinity_unless, -math.inf)
        if v.op is Op.MUL and self.is_positive(v.args[1]):
            return self.minus_infinity_unless(v.args[0])
        return []

    def leaves_none(self, conditions: list[Condition], shift: int) -> bool:
        """Whether some row, of those that the shift has, lies outside of the conditions as a whole,
        by their indices alone. Its maximum is -inf then, and -inf less that NaN and not -inf: the
        softmax of a row without keys, in PyTorch too."""
        one, other = self.axes if self.sides[shift][0] else self.axes[::-1]
        is_known = rg.finite_maximum(self.values, shift) is not None or not any(self.sides[shift])
        if is_known or len(one) != 1 or len(other) != 1:
            return False
        bounds = [c for c in conditions if isinstance(c, Bound)]
        names, extents = (one[0].name, other[0].name), (one[0].extent, other[0].extent)
        first, end = ix.live_tiles(bounds, names, extents)
        return bool((first == end).any())

    def where(
        self, v: rg.Compute, inner: Callable[[int], list[Condition]], nothing: float
    ) -> list[Condition]:
        """Conditions of a choice between `inner`'s and `nothing`."""
        condition, x, y = v.args
        if self.is_constant(y, nothing):
            return _union(self.conditions(condition, True), inner(x))
        if self.is_constant(x, nothing):
            return _union(self.conditions(condition, False), inner(y))
        return []

    def conditions(self, number: int, truth: bool) -> list[Condition]:
        """What holds where the condition has the given truth."""
        v = self.values[number]
        if isinstance(v, rg.Inside):
            if truth:
                return list(v.mask)
            return _negated(v.mask[0]) if len(v.mask) == 1 else []
        if isinstance(v, rg.Compute):
            if v.op is Op.NOT:
                return self.conditions(v.args[0], not truth)
            if v.op is (Op.AND if truth else Op.OR):
                return _union(*(self.conditions(a, truth) for a in v.args))
            if v.op in (Op.LT, Op.LE) and truth and (bounds := self.comparison(v)):
                return bounds
        return self.tests(number, truth)

    def comparison(self, v: rg.Compute) -> list[Condition]:
        """The bound that a comparison of an index with an integer known before the loop is."""
        sides = [self.whole.get(x) for x in v.args]
        for at in (0, 1):
            if sides[at] is None and v.args[at] in self.uniform:
                sides[at] = ix.loaded(v.args[at], -_FAR, _FAR)
        low, high = sides
        if low is None or high is None:
            return []
        return [_at_least(high - low, int(v.op is Op.LT))]

    def tests(self, number: int, truth: bool) -> list[Condition]:
        """The condition as tests of values that have rows alone, or columns alone."""
        v = self.values[number]
        if not self.is_simple[number] or not any(self.sides[number]):
            return []
        if not all(self.sides[number]):
            return [rg.Compute(Op.CAST if truth else Op.NOT, (number,), dt.bool_)]
        if not isinstance(v, rg.Compute) or v.op not in (Op.LT, Op.LE, Op.EQ):
            return []
        if any(all(self.sides[a]) or not self.values[a].dtype.is_int for a in v.args):
            return []
        low, high = v.args
        if v.op is Op.EQ:
            pairs = ((low, high), (high, low)) if truth else ()
            return [rg.Compute(Op.LE, pair, dt.bool_) for pair in pairs]
        if truth:
            return [rg.Compute(v.op, v.args, dt.bool_)]
        return [rg.Compute(Op.LE if v.op is Op.LT else Op.LT, (high, low), dt.bool_)]


def _union(*parts: list[Condition]) -> list[Condition]:
    return list(dict.fromkeys(c for part in parts for c in part))


def _negated(b: Bound) -> list[Condition]:
    """The complement, where it is one interval."""
    if b.hi > b.index.hi:
        return [Bound(b.index, min(b.index.lo, b.lo - 1), b.lo)]
    if b.lo <= b.index.lo:
        return [_at_least(b.index, b.hi)]
    return []
