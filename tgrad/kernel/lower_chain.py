"""Chains of dots and row reductions as one loop with carried statistics.

In: a Region whose space is a "chain", a Config. Out: a Kernel. Invariant: what a statistic r has
scaled so far is rescaled before r moves, so that after each step every carry is what the elements
walked so far give.

    init r = -inf; init l = 0; init o = 0
    loop k from .. to ..:                        only tiles that a mask leaves something of
      s += dot q, k over d                       first dots
      x = where mask, s, -inf
      new = maximum r, (reduce_max x over k)
      c = exp(r - new); e = exp(x - new)         new = 0 for as long as all is -inf
      l = mul l, c;  l = add l, (reduce_sum e over k)
      o = mul o, c;  o += dot e, v over k
      r = maximum r, (reduce_max x over k)
    out = o / l
"""

from __future__ import annotations

import math

from tgrad import dtype as dt
from tgrad.fusion import region as rg
from tgrad.graph.index import Index, Loaded, Var, constant
from tgrad.graph.op import REDUCE_COMBINE, Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile
from tgrad.kernel.lower import Lowering, Scope, identity_of


class ChainLowering(Lowering):
    def __init__(self, region: rg.Region, config: ir.Config):
        super().__init__(region, config)
        self.k = frozenset(a.name for a in region.space.k)
        self.loop = self.axis_of[region.space.k[0].name]
        self.carries: dict[int, Tile] = {}
        self.factors: dict[int, Tile] = {}
        """By maximum: what rescales sums that depend on it, in the present step."""
        self.depends = self._dependences()

    def _is_carried(self, number: int) -> bool:
        value = self.region.values[number]
        return isinstance(value, (rg.Reduce, rg.Dot)) and set(value.axes) == self.k

    def _dependences(self) -> list[frozenset[int]]:
        """Reductions over k that each value depends on, by number."""
        result: list[frozenset[int]] = []
        for number, value in enumerate(self.region.values):
            found: frozenset[int] = frozenset()
            for x in rg.operands_of(value):
                found |= result[x]
            result.append(found | {number} if self._is_carried(number) else found)
        return result

    # -- the program ----------------------------------------------------------------------------

    def run(self) -> ir.Kernel:
        scope = Scope(frozenset(), {})
        carried = [v for v in range(len(self.region.values)) if self._is_carried(v)]
        known = [v for b in self.region.space.live for v in b.index.loaded()]
        needed = self._behind([*carried, *known])
        for v in needed:
            if not self._loops(v) and not self.depends[v]:
                self._value(scope, v)
        for v in carried:
            self._open(scope, v)
        inner = Scope(frozenset({self.loop.name}), dict(scope.tiles))
        for v in needed:
            if v not in inner.tiles:
                self._in_loop(inner, v)
        start, stop = self._bounds(scope)
        scope.body.append(ir.Loop(self.loop.name, tuple(inner.body), start, stop))
        scope.tiles.update(self.carries)
        for v in self._behind([s.value for s in self.region.stores]):
            if v not in scope.tiles and not self._loops(v):
                self._value(scope, v)
        for s in self.region.stores:
            index, mask = self._index(scope, s.index), self._mask(scope, s.mask)
            scope.body.append(ir.StoreTile(s.slot, index, mask, scope.tiles[s.value]))
        return self._kernel(scope)

    def _behind(self, numbers: list[int]) -> list[int]:
        """The values and all that they are computed from, in dependency order."""
        seen: set[int] = set()
        stack = list(numbers)
        while stack:
            v = stack.pop()
            if v not in seen:
                seen.add(v)
                stack.extend(rg.operands_of(self.region.values[v]))
        return sorted(seen)

    def _open(self, scope: Scope, number: int) -> None:
        value = self.region.values[number]
        carry = self._tile(value.dtype, self.free[number])
        zero: bool | int | float = 0.0 if value.dtype.is_float else 0
        if isinstance(value, rg.Reduce):
            zero = identity_of(value.op, value.dtype)
        scope.body.append(ir.Init(carry, zero))
        self.carries[number] = carry

    # -- one step -------------------------------------------------------------------------------

    def _in_loop(self, scope: Scope, number: int) -> None:
        if self._is_carried(number):
            self._update(scope, number)
        elif self.depends[number] and not self._loops(number):
            maxima = [r for r in self.depends[number] if r in self.factors]
            if len(maxima) == 1:  # the maximum so far, in the form that is subtracted
                scope.tiles[number] = scope.tiles[maxima[0]]
        else:
            self._value(scope, number)

    def _update(self, scope: Scope, number: int) -> None:
        """Add the present tile to a carry."""
        value, carry = self.region.values[number], self.carries[number]
        if isinstance(value, rg.Dot):
            self._rescale(scope, number)
            self._dot(scope, value, carry)
            return
        assert isinstance(value, rg.Reduce)
        arg = self._cast(scope, scope.tiles[value.arg], value.dtype, self.free[value.arg])
        part = self._reduce_within(scope, value, arg, number)
        if value.op is Op.REDUCE_MAX and self._scales(number):
            self._move(scope, number, part)
        else:
            self._rescale(scope, number)
        scope.body.append(ir.Accumulate(carry, REDUCE_COMBINE[value.op], part))

    def _scales(self, maximum: int) -> bool:
        """Whether another carry depends on the maximum."""
        return any(maximum in self.depends[v] for v in self.carries if v != maximum)

    def _move(self, scope: Scope, number: int, part: Tile) -> None:
        """The maximum after this step, 0 while it is -inf, and the factor exp(old - new)."""
        carry = self.carries[number]
        axes = self.free[number]

        def compute(op: Op, *args: Tile, dtype: dt.DType = carry.dtype) -> Tile:
            out = self._tile(dtype, axes)
            scope.body.append(ir.ComputeTile(out, op, args))
            return out

        def const(value: float) -> Tile:
            out = self._tile(carry.dtype, frozenset())
            scope.body.append(ir.ConstTile(out, value))
            return out

        new = compute(Op.MAXIMUM, carry, part)
        is_low = compute(Op.EQ, new, const(-math.inf), dtype=dt.bool_)
        base = compute(Op.WHERE, is_low, const(0.0), new)
        scope.tiles[number] = base
        self.factors[number] = compute(Op.EXP, compute(Op.SUB, carry, base))

    def _rescale(self, scope: Scope, number: int) -> None:
        for maximum, factor in self.factors.items():
            if maximum in self.depends[number]:
                scope.body.append(ir.Accumulate(self.carries[number], Op.MUL, factor))

    def _dot(self, scope: Scope, value: rg.Dot, carry: Tile) -> None:
        (k,) = self._reduced(value)
        space = self.region.space
        groups = (space.m or space.batch, space.k, space.n)  # one row is none of its own
        m, loop, n = (self.axis_of[group[0].name].name for group in groups)
        result = (m, n) if k == loop else (m, loop)
        left = [x for x in result if x in self.free[value.a]]
        right = [x for x in result if x in self.free[value.b]]
        if left == [result[1]] or right == [result[0]]:
            result = (result[1], result[0])
        a, b = scope.tiles[value.a], scope.tiles[value.b]
        scope.body.append(ir.DotTile(carry, a, b, *result, k))

    # -- bounds of the loop ---------------------------------------------------------------------

    def _bounds(self, scope: Scope) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
        """Where the loop starts and stops: a bound  lo <= c*k + rest < hi  holds for some element
        of the program's tile only if it does for the largest, or smallest, rest."""
        start: list[Index] = []
        stop: list[Index] = []
        for bound in self.region.space.live:
            e = self._index(scope, bound.index)
            c = e.stride(self.loop.name)
            if not c:
                continue
            conditions = []
            if e.lo < bound.lo:
                conditions.append((e - bound.lo, c))
            if e.hi >= bound.hi:
                conditions.append((e * -1 + (bound.hi - 1), -c))
            for positive, step in conditions:  # step*k + rest >= 0
                rest = self._largest(positive)
                if step > 0:
                    start.append((rest // step) * -1)
                else:
                    stop.append(rest // -step + 1)
        return tuple(dict.fromkeys(start)), tuple(dict.fromkeys(stop))

    def _largest(self, e: Index) -> Index:
        """The expression without the loop's variable at its largest in the program's tile, over
        the first elements of grid axes."""
        result = constant(e.const)
        for atom, c in e.terms:
            if isinstance(atom, Var) and atom.name == self.loop.name:
                continue
            if isinstance(atom, Loaded):  # the same for the whole tile
                result = result + Index(((atom, c),), 0)
                continue
            if not isinstance(atom, Var):
                result = result + (atom.hi if c > 0 else atom.lo) * c
                continue
            last = self._axis(atom.name).block - 1 if c > 0 else 0
            result = result + Index(((atom, c),), last * c)
        return result
