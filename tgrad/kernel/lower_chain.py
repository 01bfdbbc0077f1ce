"""Chains of dots and row reductions as one loop with carried statistics.

In: a Region whose space is a "chain", a Config. Out: a Kernel. Invariant: what a statistic r has
scaled so far is rescaled before r moves, so that after each step every carry is what the elements
walked so far give.

    init r = -inf; init l = 0; init o = 0
    loop k from .. to ..:                        only tiles that a mask leaves something of
      s += dot q, k over d                       first dots
      x = where mask, s, -inf
      new = maximum r, (reduce_max x over k)
      f = exp((r - new) c); e = exp((x - new) c)     new = 0 for as long as all is -inf
      l = mul l, f;  l = add l, (reduce_sum e over k)
      o = mul o, f;  o += dot e, v over k
      r = maximum r, (reduce_max x over k)
    out = o / l

Tests of loaded values are made before, in a loop of wide steps over the columns alone: the main
loop goes from the first column that passes for some row of the tile to the last. Which rows there
are is told by their least and greatest integer; equal document ids, in rows m and columns k:

    low = reduce_min ids[m]; high = reduce_max ids[m]
    loop k2:                                     the columns again
      here = low <= ids[k2] & ids[k2] <= high
      first = minimum first, (reduce_min (where here, k2, extent))
      last = maximum last, (reduce_max (where here, k2 + 1, 0))
    loop k from first to last: ..
"""

from __future__ import annotations

import math
from dataclasses import replace

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion import region as rg
from tgrad.graph.index import Index, loaded, var
from tgrad.graph.op import REDUCE_COMBINE, Op, identity_of
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile, TileAxis
from tgrad.kernel.lower import Lowering, Scope

_TESTED = 1024
"""Columns that a step of the loop of tests looks at."""


class ChainLowering(Lowering):
    def __init__(self, region: rg.Region, config: ir.Config):
        super().__init__(region, config)
        self.k = frozenset(a.name for a in region.space.k)
        self.loop = self.axis_of[region.space.k[0].name]
        self.tests = region.space.tests if self.loop.steps > 1 else ()
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
        known += [v for test in self.tests for v in rg.operands_of(test)]
        needed = self._with_operands([*carried, *known])
        for v in needed:
            if not self._loops(v) and not self.depends[v]:
                self._value(scope, v)
        for v in carried:
            self._open(scope, v)
        inner = Scope(frozenset({self.loop.name}), dict(scope.tiles))
        for v in needed:
            if v not in inner.tiles:
                self._in_loop(inner, v)
        start, stop = self._live_steps(scope, self.loop.name)
        if self.tests:
            first, last = _Tests(self, scope).bounds()
            start, stop = (*start, *first), (*stop, *last)
        scope.body.append(ir.Loop(self.loop.name, tuple(inner.body), start, stop))
        scope.tiles.update(self.carries)
        for v in self._with_operands([s.value for s in self.region.stores]):
            if v not in scope.tiles and not self._loops(v):
                self._value(scope, v)
        for s in self.region.stores:
            index, mask = self._index(scope, s.index), self._mask(scope, s.mask)
            scope.body.append(ir.StoreTile(s.slot, index, mask, scope.tiles[s.value]))
        kernel = self._kernel(scope)
        if not any(isinstance(s, ir.Loop) and s.axis == "column" for s in scope.body):
            return kernel
        return replace(kernel, axes=(*kernel.axes, _tested_axis(self.loop)))

    def next_number(self) -> int:
        """Of a tile that the loop of tests makes."""
        self.count += 1
        return self.count - 1

    def _open(self, scope: Scope, number: int) -> None:
        value = self.region.values[number]
        carry = self._tile(value.dtype, self.free[number])
        op = value.op if isinstance(value, rg.Reduce) else Op.ADD
        scope.body.append(ir.Init(carry, identity_of(op, value.dtype)))
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
        arg = self._cast(scope, scope.tiles[value.arg], value.dtype)
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
        """The maximum after this step, 0 while it is -inf, and the factor exp(c (old - new))."""
        carry = self.carries[number]
        dtype = carry.dtype
        new = self._compute(scope, Op.MAXIMUM, dtype, carry, part)
        lowest = self._const(scope, -math.inf, dtype)
        is_low = self._compute(scope, Op.EQ, dt.bool_, new, lowest)
        base = self._compute(scope, Op.WHERE, dtype, is_low, self._const(scope, 0.0, dtype), new)
        scope.tiles[number] = base
        exponent = self._compute(scope, Op.SUB, dtype, carry, base)
        scale = rg.exponent_scale(self.region.values, number)
        if scale is not None:
            exponent = self._compute(scope, Op.MUL, dtype, exponent, scope.tiles[scale])
        self.factors[number] = self._compute(scope, Op.EXP, dtype, exponent)

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


def _tested_axis(loop: TileAxis) -> TileAxis:
    """The columns of a chain once more, for its tests."""
    most = max(loop.block, _TESTED)
    return replace(loop, name="column", block=min(most, 1 << (loop.extent - 1).bit_length()))


class _Tests(Lowering):
    """The loop of tests, over an axis of its own that covers the columns of the chain."""

    def __init__(self, chain: ChainLowering, before: Scope):
        self.axis = _tested_axis(chain.loop)
        axes = tuple(self.axis if a is chain.loop else a for a in chain.config.axes)
        super().__init__(chain.region, replace(chain.config, axes=axes))
        self.chain, self.before = chain, before
        self.inner = Scope(frozenset({self.axis.name}), dict(before.tiles))

    def _tile(self, dtype: DType, axes: frozenset[str]) -> Tile:
        return Tile(self.chain.next_number(), dtype, self._dims(axes))

    def bounds(self) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
        """Where the loop of the chain starts and stops, at most."""
        extent = self.axis.extent
        rows = [self._any_row(t) for t in self.chain.tests if not self._has_columns(t)]
        columns = [self._columns(t) for t in self.chain.tests if self._has_columns(t)]
        if not columns:
            scope = self.before
            here = self._every(scope, rows)
            stop = self._choose(scope, here, self._const(scope, extent, dt.int32), 0)
            return (), (loaded(stop.id, 0, extent),)
        here = self._every(self.inner, [*rows, *columns])
        place = var(self.axis.name, extent)
        first = self._extremum(here, place, Op.REDUCE_MIN, extent)
        last = self._extremum(here, place + 1, Op.REDUCE_MAX, 0)
        self.before.body.append(ir.Loop(self.axis.name, tuple(self.inner.body)))
        return (loaded(first.id, 0, extent),), (loaded(last.id, 0, extent),)

    # -- tests ----------------------------------------------------------------------------------

    def _has_columns(self, test: rg.Inside | rg.Compute) -> bool:
        return any(self._loops(v) for v in rg.operands_of(test))

    def _any_row(self, test: rg.Inside | rg.Compute) -> Tile:
        """Whether a test without columns holds for some row of the tile."""
        if isinstance(test, rg.Compute):
            (number,) = test.args
            tile = self._test(self.before, test, self.before.tiles[number])
            return self._whole(self.before, tile, Op.REDUCE_MAX)
        axes = self._tile_axes(rg.variables_of(test)).union(
            *(self.free[v] for v in rg.operands_of(test))
        )
        out = self._tile(dt.bool_, axes)
        self.before.body.append(self._statement(self.before, test, out))
        return self._whole(self.before, out, Op.REDUCE_MAX)

    def _columns(self, test: rg.Inside | rg.Compute) -> Tile:
        """For each column, whether the test may hold for some row of the tile."""
        assert isinstance(test, rg.Compute)
        args = []
        for number, extremum in zip(test.args, (Op.REDUCE_MIN, Op.REDUCE_MAX)):
            if not self._loops(number):  # a row is low enough if the lowest is
                args.append(self._whole(self.before, self.before.tiles[number], extremum))
                continue
            for v in self._with_operands([number], self.inner.tiles):
                self._value(self.inner, v)
            args.append(self.inner.tiles[number])
        return self._test(self.inner, test, *args)

    def _test(self, scope: Scope, test: rg.Compute, *args: Tile) -> Tile:
        if test.op is Op.CAST:
            return args[0]
        return self._compute(scope, test.op, dt.bool_, *args)

    def _every(self, scope: Scope, tiles: list[Tile]) -> Tile:
        result = tiles[0]
        for tile in tiles[1:]:
            result = self._compute(scope, Op.AND, dt.bool_, result, tile)
        return result

    # -- statements -----------------------------------------------------------------------------

    def _choose(self, scope: Scope, here: Tile, number: Tile, other: int) -> Tile:
        none = self._const(scope, other, dt.int32)
        return self._compute(scope, Op.WHERE, dt.int32, here, number, none)

    def _whole(self, scope: Scope, tile: Tile, op: Op) -> Tile:
        """One number for a tile of all rows, or of columns."""
        if not tile.dims:
            return tile
        out = self._tile(tile.dtype, frozenset())
        scope.body.append(ir.ReduceTile(out, op, tile, tile.dims))
        return out

    def _extremum(self, here: Tile, place: Index, op: Op, none: int) -> Tile:
        """The least or greatest place of a column that passes."""
        number = self._tile(dt.int32, frozenset({self.axis.name}))
        self.inner.body.append(ir.IndexTile(number, place))
        chosen = self._choose(self.inner, here, number, none)
        carry = self._tile(dt.int32, frozenset())
        self.before.body.append(ir.Init(carry, none))
        part = self._whole(self.inner, chosen, op)
        self.inner.body.append(ir.Accumulate(carry, REDUCE_COMBINE[op], part))
        return carry
