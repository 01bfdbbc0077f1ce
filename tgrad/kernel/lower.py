"""From a Region and a Config to a tile program.

In: a Region, a Config whose axes cover each region axis once. Out: a Kernel. Invariant: each value
is computed in the outermost scope where its loops are open (so invariants are hoisted), and
reductions that do not need each other share one pass over their axis. Chains of dots are
lower_chain.py's.

Example, softmax over j with LOOP j (three passes; with FULL j there is no loop at all):

    init m = -inf                      max over j
    loop j: m = maximum m, x[i, j]
    init s = 0                         sum over j needs m
    loop j: s = add s, exp(x[i, j] - m)
    loop j: out[i, j] = exp(x[i, j] - m) / s
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from tgrad.dtype import DType
from tgrad.errors import VerifyError
from tgrad.fusion import region as rg
from tgrad.graph.index import Bound, Index, Loaded, Var, constant, unflatten, var
from tgrad.graph.index import loaded as loaded_index
from tgrad.graph.op import REDUCE_COMBINE, Op, identity_of, is_expensive
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, TileAxis


def lower(region: rg.Region, config: ir.Config) -> ir.Kernel:
    """The tile program that computes `region` with the tiles of `config`.

    Raises:
        VerifyError: the config does not cover each axis of the region once.
    """
    if region.space.kind == "chain":
        from tgrad.kernel.lower_chain import ChainLowering

        return ChainLowering(region, config).run()
    return Lowering(region, config).run()


@dataclass
class Scope:
    """Statements of one loop body: which loops are open, which values are at hand, and the carries
    of scans, which start before the loop."""

    open: frozenset[str]
    tiles: dict[int, Tile]
    body: list[ir.Stmt] = field(default_factory=list)
    carries: list[ir.Stmt] = field(default_factory=list)


@dataclass(frozen=True)
class _Item:
    """Work for a scope: a store, or a step of a loop reduction (number of the value)."""

    store: rg.Store | None
    value: int
    loops: frozenset[str]
    carry: Tile | None = None


class Lowering:
    def __init__(self, region: rg.Region, config: ir.Config):
        self.region, self.config = region, config
        self.axis_of: dict[str, TileAxis] = {}
        for axis in config.axes:
            for covered in axis.covers:
                if covered.name in self.axis_of or covered not in region.axes:
                    raise VerifyError(f"{region.name}: bad tile axis {axis}.", source=region.source)
                self.axis_of[covered.name] = axis
        if len(self.axis_of) != len(region.axes):
            raise VerifyError(f"{region.name}: an axis without a tile axis.", source=region.source)
        self.order = {a.name: i for i, a in enumerate(config.axes)}
        self.index: dict[str, Index] = {}
        for axis in config.axes:
            shape = tuple(a.extent for a in axis.covers)
            for covered, e in zip(axis.covers, unflatten(var(axis.name, axis.extent), shape)):
                self.index[covered.name] = e
        self.loop_names = frozenset(a.name for a in config.axes if a.role is Role.LOOP)
        self.free = [self._tile_axes(d) for d in region.dims]
        self.count = 0

    # -- names and axes -------------------------------------------------------------------------

    def _tile_axes(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(self.axis_of[n].name for n in names)

    def _dims(self, axes: frozenset[str]) -> tuple[str, ...]:
        wide = (n for n in axes if self._axis(n).block > 1)
        return tuple(sorted(wide, key=self.order.__getitem__))

    def _axis(self, name: str) -> TileAxis:
        return self.config.axes[self.order[name]]

    def _tile(self, dtype: DType, axes: frozenset[str]) -> Tile:
        self.count += 1
        return Tile(self.count - 1, dtype, self._dims(axes))

    def _loops(self, value: int) -> frozenset[str]:
        return self.free[value] & self.loop_names

    def _reduced(self, value: rg.Reduce | rg.Dot) -> frozenset[str]:
        return self._tile_axes(value.axes)

    def _is_loop_reduction(self, number: int) -> bool:
        value = self.region.values[number]
        if not isinstance(value, (rg.Reduce, rg.Dot)):
            return False
        return bool(self._reduced(value) & self.loop_names)

    # -- the program ----------------------------------------------------------------------------

    def run(self) -> ir.Kernel:
        items = [_Item(s, s.value, self._store_loops(s)) for s in self.region.stores]
        scope = Scope(frozenset(), {})
        self._block(scope, items)
        return self._kernel(scope)

    def _kernel(self, scope: Scope) -> ir.Kernel:
        return ir.Kernel(
            self.region.name,
            self.region.slots,
            self.config.axes,
            tuple(scope.body),
            str(self.region),
            self.region.source,
            tuple(self._limit(x) for x in self.region.limits),
            self.region.table,
        )

    def _limit(self, limit: rg.AxisLimit) -> rg.AxisLimit:
        """The limit on the tile axis that covers the region's axis."""
        axis = self.axis_of[limit.axis]
        names = [a.name for a in axis.covers]
        after = prod(a.extent for a in axis.covers[names.index(limit.axis) + 1 :])
        return replace(limit, axis=axis.name, inner=limit.inner * after)

    def _store_loops(self, store: rg.Store) -> frozenset[str]:
        loops = self._tile_axes(rg.variables_of(store)) & self.loop_names
        for v in rg.operands_of(store):
            loops |= self._loops(v)
        return loops

    def _roots(self, item: _Item) -> tuple[int, ...]:
        if item.store is not None:
            return rg.operands_of(item.store)
        return rg.operands_of(self.region.values[item.value])

    def _needed(self, items: Sequence[_Item], have: dict[int, Tile]) -> list[int]:
        """Values that the items depend on and that are not at hand, in dependency order."""
        return self._with_operands([v for item in items for v in self._roots(item)], have)

    def _with_operands(self, values: Sequence[int], have: Container[int] = ()) -> list[int]:
        """See `region.behind`."""
        return rg.behind(self.region.values, values, have)

    def _block(self, scope: Scope, items: list[_Item]) -> None:
        """Emit everything that `items` need into the scope, passes in order of dependence."""
        needed = self._needed(items, scope.tiles)
        here = [v for v in needed if self._loops(v) <= scope.open]
        loop_reductions = {v for v in here if self._is_loop_reduction(v)}
        level: dict[int, int] = {}
        for v in needed:
            value = self.region.values[v]
            start = value.start if isinstance(value, rg.Dot) else -1
            before = (level.get(o, 0) for o in rg.operands_of(value) if o != start)
            level[v] = max(before, default=0) + (v in loop_reductions)
            level[v] = max(level[v], level.get(start, 0))
        pending = [(max((level.get(r, 0) for r in self._roots(i)), default=0), i) for i in items]
        last = max([p for p, _ in pending], default=0)
        pending = [(self._when(scope, p, i, level, loop_reductions, last), i) for p, i in pending]
        stashed: dict[int, Tile] = {}
        for now in range(last + 1):
            work = [i for p, i in pending if p == now]
            carries = [v for v in here if v in loop_reductions and level[v] == now + 1]
            asked = [*work, *(_Item(None, v, frozenset()) for v in carries)]
            roots = [v for item in asked for v in self._roots(item)]
            due = self._with_operands([*roots, *self._overwritten(work, here)], scope.tiles)
            for v in due:  # and no sooner: what is at hand during a loop takes registers
                if self._loops(v) <= scope.open and v not in loop_reductions:
                    self._value(scope, v)
            opened = [self._open_carry(scope, v) for v in carries]
            work += opened
            later = [i for p, i in pending if p > now]
            later += [_Item(None, v, frozenset()) for v in loop_reductions if level[v] > now + 1]
            self._passes(scope, work, later, stashed)
            for item in opened:
                self._close_carry(scope, item)

    def _when(
        self,
        scope: Scope,
        earliest: int,
        item: _Item,
        level: dict[int, int],
        loop_reductions: set[int],
        last: int,
    ) -> int:
        """The level of an item: a store that needs no loop of its own, of values that no later
        loop needs, comes last, so that neither they nor what they share with other results are
        kept in registers, or in memory, during the loops."""
        if item.store is None or item.loops - scope.open:
            return earliest
        loops = [v for v in loop_reductions if level[v] > earliest]
        roots = [o for v in loops for o in rg.operands_of(self.region.values[v])]
        early = {*self._with_operands(roots, scope.tiles), *scope.tiles}
        return earliest if early & set(self._roots(item)) else last

    def _overwritten(self, work: list[_Item], here: list[int]) -> list[int]:
        """The loads, for whatever comes later, of slots that the stores among `work` write."""
        written = {i.store.slot for i in work if i.store is not None}
        values = ((v, self.region.values[v]) for v in here)
        return [v for v, value in values if isinstance(value, rg.Load) and value.slot in written]

    def _open_carry(self, scope: Scope, number: int) -> _Item:
        value = self.region.values[number]
        assert isinstance(value, (rg.Reduce, rg.Dot))
        loops = scope.open | (self._reduced(value) & self.loop_names)
        if isinstance(value, rg.Dot) and value.start >= 0:
            carry = scope.tiles[number] = scope.tiles[value.start]
        elif isinstance(value, rg.Dot):
            carry = self._tile(value.dtype, self.free[number])
            scope.body.append(ir.Init(carry, identity_of(Op.ADD, value.dtype)))
            scope.tiles[number] = carry  # for a dot that is summed onto this one
        else:
            carry = self._tile(value.dtype, self.free[value.arg])
            scope.body.append(ir.Init(carry, identity_of(value.op, value.dtype)))
        return _Item(None, number, loops, carry)

    def _close_carry(self, scope: Scope, item: _Item) -> None:
        assert item.carry is not None
        value = self.region.values[item.value]
        result = item.carry
        if isinstance(value, rg.Reduce):
            result = self._reduce_within(scope, value, item.carry, item.value)
        scope.tiles[item.value] = result

    def _reduce_within(self, scope: Scope, value: rg.Reduce, arg: Tile, number: int) -> Tile:
        left = tuple(d for d in arg.dims if d in self._reduced(value))
        if not left:
            return arg
        out = self._tile(value.dtype, self.free[number])
        scope.body.append(ir.ReduceTile(out, value.op, arg, left))
        return out

    def _passes(
        self, scope: Scope, work: list[_Item], later: list[_Item], stashed: dict[int, Tile]
    ) -> None:
        """Emit items of one level: those of this scope, then one loop per first axis."""
        by_axis: dict[str, list[_Item]] = {}
        for item in work:
            deeper = item.loops - scope.open
            if deeper:
                by_axis.setdefault(min(deeper, key=self.order.__getitem__), []).append(item)
            else:
                self._step(scope, item)
        for axis in sorted(by_axis, key=self.order.__getitem__):
            inner = Scope(scope.open | {axis}, dict(scope.tiles))
            items = by_axis[axis]
            if all(i.loops <= inner.open for i in items):
                self._unstash(inner, items, stashed, axis)
                self._block(inner, items)
                done = {**scope.tiles, **{i.value: i.carry for i in work if i.carry is not None}}
                self._stash(inner, self._needed(later, done), stashed, axis)
            else:
                self._block(inner, items)
            start, stop = self._live_steps(scope, axis)
            scope.body += [*inner.carries, ir.Loop(axis, tuple(inner.body), start, stop)]

    # -- bounds of a loop -----------------------------------------------------------------------

    def _live_steps(self, scope: Scope, loop: str) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
        """Where a loop starts and stops: a bound  lo <= c*k + rest < hi  holds for some element
        of the program's tile only if it does for the largest, or smallest, rest."""
        start: list[Index] = []
        stop: list[Index] = []
        for bound in self.region.space.live:
            for v in self._with_operands(sorted(bound.index.loaded()), scope.tiles):
                self._value(scope, v)
            e = self._index(scope, bound.index)
            c = e.stride(loop)
            if not c:
                continue
            conditions = []
            if e.lo < bound.lo:
                conditions.append((e - bound.lo, c))
            if e.hi >= bound.hi:
                conditions.append((e * -1 + (bound.hi - 1), -c))
            for positive, step in conditions:  # step*k + rest >= 0
                rest = self._largest(scope, positive, loop)
                if step > 0:
                    start.append((rest // step) * -1)
                else:
                    stop.append(rest // -step + 1)
        return tuple(dict.fromkeys(start)), tuple(dict.fromkeys(stop))

    def _largest(self, scope: Scope, e: Index, loop: str) -> Index:
        """The expression without the loop's variable at its largest in the program's tile, over
        the first elements of grid axes."""
        result = constant(e.const)
        for atom, c in e.terms:
            if isinstance(atom, Var) and atom.name == loop:
                continue
            if isinstance(atom, Loaded):
                result = result + self._extreme(scope, atom, c > 0) * c
            elif not isinstance(atom, Var):
                result = result + (atom.hi if c > 0 else atom.lo) * c
            else:
                last = self._axis(atom.name).block - 1 if c > 0 else 0
                result = result + Index(((atom, c),), last * c)
        return result

    def _extreme(self, scope: Scope, atom: Loaded, is_most: bool) -> Index:
        """The largest or the smallest of a tile of integers."""
        (tile,) = {t for t in scope.tiles.values() if t.id == atom.value}
        if tile.dims:
            op, arg = Op.REDUCE_MAX if is_most else Op.REDUCE_MIN, tile
            tile = self._tile(arg.dtype, frozenset())
            scope.body.append(ir.ReduceTile(tile, op, arg, arg.dims))
        return loaded_index(tile.id, atom.lo, atom.hi)

    # -- what is kept between loops -------------------------------------------------------------

    def _unstash(
        self, inner: Scope, items: list[_Item], stashed: dict[int, Tile], axis: str
    ) -> None:
        for v in self._needed(items, inner.tiles):
            if v in stashed and self._loops(v) == inner.open:
                out = self._tile(stashed[v].dtype, self.free[v])
                inner.body.append(ir.Unstash(out, stashed[v], (axis,)))
                inner.tiles[v] = out

    def _stash(
        self, inner: Scope, later: Sequence[int], stashed: dict[int, Tile], axis: str
    ) -> None:
        """Keep expensive values of this pass that a later pass over the same axis needs."""
        if self._axis(axis).extent > self.config.stash_limit:
            return
        for v in later:
            value = self.region.values[v]
            if v in stashed or v not in inner.tiles or self._loops(v) != inner.open:
                continue
            if isinstance(value, rg.Compute) and is_expensive(value.op):
                stashed[v] = self._tile(value.dtype, self.free[v])
                inner.body.append(ir.Stash(stashed[v], inner.tiles[v], (axis,)))

    def _step(self, scope: Scope, item: _Item) -> None:
        """One item, all of whose loops are open: a store or one step of a reduction."""
        if item.store is not None:
            s = item.store
            index, mask = self._index(scope, s.index), self._mask(scope, s.mask)
            scope.body.append(ir.StoreTile(s.slot, index, mask, scope.tiles[s.value], s.combine))
            return
        value = self.region.values[item.value]
        assert item.carry is not None
        if isinstance(value, rg.Dot):
            self._dot(scope, value, item.carry)
        elif isinstance(value, rg.Reduce):
            arg = self._cast(scope, scope.tiles[value.arg], value.dtype)
            scope.body.append(ir.Accumulate(item.carry, REDUCE_COMBINE[value.op], arg))

    def _dot(self, scope: Scope, value: rg.Dot, carry: Tile) -> None:
        space = self.region.space
        contracted = self.region.pick(value.axes)
        m, n, k = (self._widest(group) for group in (space.m, space.n, contracted))
        scope.body.append(ir.DotTile(carry, scope.tiles[value.a], scope.tiles[value.b], m, n, k))

    def _widest(self, group: tuple[rg.Axis, ...]) -> str:
        """The tile axis of a dot's group with the widest block, the first of several."""
        axes = [self.axis_of[a.name] for a in group]
        return max(axes, key=lambda a: a.block).name

    # -- values ---------------------------------------------------------------------------------

    def _value(self, scope: Scope, number: int) -> None:
        value = self.region.values[number]
        if isinstance(value, rg.Reduce):
            arg = self._cast(scope, scope.tiles[value.arg], value.dtype)
            scope.tiles[number] = self._reduce_within(scope, value, arg, number)
            return
        if isinstance(value, rg.Dot):
            item = self._open_carry(scope, number)
            assert item.carry is not None
            self._dot(scope, value, item.carry)
            scope.tiles[number] = item.carry
            return
        if isinstance(value, rg.Scan):
            scope.tiles[number] = self._scan(scope, value, number)
            return
        out = self._tile(value.dtype, self.free[number])
        scope.tiles[number] = out
        scope.body.append(self._statement(scope, value, out))

    def _scan(self, scope: Scope, value: rg.Scan, number: int) -> Tile:
        (axis,) = self._tile_axes(value.axes)
        carry = None
        if axis in self.loop_names:
            carry = self._tile(value.dtype, self.free[number] - {axis})
            scope.carries.append(ir.Init(carry, identity_of(value.op, value.dtype)))
        out = self._tile(value.dtype, self.free[number])
        args = tuple(scope.tiles[a] for a in value.args)
        scope.body.append(ir.ScanTile(out, value.op, args, carry, axis))
        return out

    def _statement(self, scope: Scope, value: rg.Value, out: Tile) -> ir.Stmt:
        match value:
            case rg.Load():
                index, mask = self._index(scope, value.index), self._mask(scope, value.mask)
                return ir.LoadTile(out, value.slot, index, mask)
            case rg.Const():
                return ir.ConstTile(out, value.value)
            case rg.IndexValue():
                return ir.IndexTile(out, self._index(scope, value.index))
            case rg.Inside():
                return ir.InsideTile(out, self._mask(scope, value.mask))
            case rg.Compute():
                args = tuple(scope.tiles[a] for a in value.args)
                return ir.ComputeTile(out, value.op, args, value.word)
            case rg.Sort():
                (axis,) = self._tile_axes(value.axes)
                return ir.SortTile(out, scope.tiles[value.arg], axis, value.first)
            case _:
                raise AssertionError(value)

    def _cast(self, scope: Scope, tile: Tile, dtype: DType) -> Tile:
        return tile if tile.dtype is dtype else self._compute(scope, Op.CAST, dtype, tile)

    def _compute(self, scope: Scope, op: Op, dtype: DType, *args: Tile) -> Tile:
        """A tile that an elementwise op makes of others."""
        out = self._tile(dtype, frozenset(d for a in args for d in a.dims))
        scope.body.append(ir.ComputeTile(out, op, args))
        return out

    def _const(self, scope: Scope, value: int | float, dtype: DType) -> Tile:
        out = self._tile(dtype, frozenset())
        scope.body.append(ir.ConstTile(out, value))
        return out

    def _index(self, scope: Scope, e: Index) -> Index:
        def replace(atom: object) -> Index | None:
            if isinstance(atom, Loaded):
                return loaded_index(scope.tiles[atom.value].id, atom.lo, atom.hi)
            return self.index[atom.name]  # type: ignore[attr-defined]

        return e.rebuild(replace)

    def _mask(self, scope: Scope, mask: rg.Mask) -> rg.Mask:
        bounds = (Bound(self._index(scope, b.index), b.lo, b.hi) for b in mask)
        return tuple(b for b in bounds if not b.is_always)
