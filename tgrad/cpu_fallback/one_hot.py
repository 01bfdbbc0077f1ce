"""Sums that have one term: what a number picks along a row, without the row.

In: a Kernel. Out: a Kernel that computes the same. Invariant: exact, whatever the number is; a
loop that does more than such sums keeps the rest.

    init t0 = 0                              init t0 = 0
    loop j (1000):                           t5 = inside 0 <= t4 < 1000
      t1 = index j                           t6 = load x[1000*i + t4] if 0 <= t4 < 1000
      t2 = eq t1, t4                  =>     t7 = where t5, t6, 0
      t3 = where t2, load x[1000*i + j], 0   t0 = add t0, t7
      t0 = add t0, t3

Losses of classes are written so: where a kernel reads the row anyway, that is one comparison more.
Here it would be a loop for one load. (Loss with weights of 8x21x64x64 and its gradient, a core of
Zen 4: 2.0 to 0.7 ms; 2026-11.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.cpu_fallback.unroll import Unroller
from tgrad.graph.index import Bound, Var, loaded
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile, statements
from tgrad.kernel.statements import made_by, without_unread, writes_of

LEAST = 8
"""Elements of a row from which one load is quicker than all comparisons."""


@dataclass(frozen=True)
class _Pick:
    """A sum over a loop that has one term.

    Attributes:
        into: the statement that adds to its carry.
        number: the tile that says which element counts.
        value, zero: what is added there, and elsewhere.
        conditions: what else has to hold.
    """

    into: ir.Accumulate
    number: Tile
    value: Tile
    zero: Tile
    conditions: tuple[Tile, ...]


def pick_terms(kernel: ir.Kernel) -> ir.Kernel:
    """The kernel with loads instead of such sums, or itself."""
    if not any(isinstance(s, ir.Loop) for s in kernel.body):
        return kernel
    passes = _Picker(kernel)
    body = passes.body(kernel.body)
    if not passes.found:
        return kernel
    return dataclasses.replace(kernel, body=without_unread(body))


class _Picker:
    def __init__(self, kernel: ir.Kernel):
        self.kernel, self.unroller, self.found = kernel, Unroller(kernel), False
        every = list(statements(kernel.body))
        self.numbers = {s.out.id: s.value for s in every if isinstance(s, ir.ConstTile)}

    def body(self, stmts: Iterable[ir.Stmt]) -> list[ir.Stmt]:
        result: list[ir.Stmt] = []
        for s in stmts:
            if not isinstance(s, ir.Loop):
                result.append(s)
            elif any(isinstance(inner, ir.Loop) for inner in s.body):
                result.append(dataclasses.replace(s, body=tuple(self.body(s.body))))
            else:
                result += self.loop(s)
        return result

    def loop(self, loop: ir.Loop) -> list[ir.Stmt]:
        """What is left of the loop, and the picks."""
        axis = self.kernel.axis(loop.axis)
        is_whole = not (loop.start or loop.stop or loop.late or loop.needs)
        if axis.block > 1 or axis.extent < LEAST or not is_whole:
            return [loop]
        picks = [p for s in loop.body if (p := self.pick(s, loop)) is not None]
        if not picks:
            return [loop]
        self.found = True
        taken = {id(p.into) for p in picks}
        rest = without_unread([s for s in loop.body if id(s) not in taken])
        kept: list[ir.Stmt] = [dataclasses.replace(loop, body=rest)] if rest else []
        return kept + [s for p in picks for s in self.picked(p, loop, axis.extent)]

    def pick(self, s: ir.Stmt, loop: ir.Loop) -> _Pick | None:
        """The statement as a sum with one term."""
        made = {inner.out.id: inner for inner in loop.body if isinstance(inner, ir.Pure)}
        if not isinstance(s, ir.Accumulate) or s.op is not Op.ADD:
            return None
        where = made.get(s.value.id)
        if not isinstance(where, ir.ComputeTile) or where.op is not Op.WHERE:
            return None
        condition, value, zero = where.args
        if str(self.numbers.get(zero.id)) not in ("0", "0.0"):
            return None
        number, others, left = None, list[Tile](), [condition]
        while left:
            tile = left.pop()
            test = made.get(tile.id)
            if test is None:
                others.append(tile)
            elif not isinstance(test, ir.ComputeTile):
                return None
            elif test.op is Op.AND:
                left += test.args
            elif test.op is Op.EQ and number is None:
                number = _number_of(test, made, loop.axis)
            else:
                return None
        if number is None or self.varies(loop, [number, value, *others]):
            return None
        return _Pick(s, number, value, zero, tuple(others))

    @staticmethod
    def varies(loop: ir.Loop, tiles: Sequence[Tile]) -> bool:
        """Whether one of the tiles depends on what each step of the loop leaves or finds anew, such
        as values that an earlier loop kept for its steps."""
        pure = [s for s in loop.body if isinstance(s, ir.Pure)]
        found = {n for s in loop.body if not isinstance(s, ir.Pure) for n in writes_of(s)}
        ids = {t.id for t in tiles}
        return bool(found & (ids | {t.id for s in made_by(ids, pure) for t in ir.reads(s)}))

    def picked(self, pick: _Pick, loop: ir.Loop, extent: int) -> list[ir.Stmt]:
        """The statements that add the only term."""
        number, tiles = pick.number, self.unroller.tiles
        least, most = int(number.dtype.min), int(number.dtype.max)
        inside = Bound(loaded(number.id, least, most), 0, extent)
        place = {loop.axis: loaded(number.id, 0, extent - 1)}
        names: dict[int, Tile] = {}
        result: list[ir.Stmt] = []
        pure = [s for s in loop.body if isinstance(s, ir.Pure)]
        for s in made_by({pick.value.id}, pure):
            copy = self.unroller.copy(s, place, names, True)
            assert isinstance(s, ir.Pure) and isinstance(copy, ir.Pure)
            moved = any(loop.axis in e.variables() for e in ir.indices_of(s))
            if moved and isinstance(copy, ir.LoadTile):
                copy = dataclasses.replace(copy, mask=(*copy.mask, inside))
            dims = self.dims(copy.out, *ir.reads(copy), *([number] if moved else []))
            copy = dataclasses.replace(copy, out=dataclasses.replace(copy.out, dims=dims))
            names[s.out.id] = copy.out
            result.append(copy)
        condition = tiles.like(Tile(0, dt.bool_, number.dims))
        result.append(ir.InsideTile(condition, (inside,)))
        for other in pick.conditions:
            both = tiles.like(Tile(0, dt.bool_, self.dims(condition, other)))
            result.append(ir.ComputeTile(both, Op.AND, (condition, other)))
            condition = both
        value = names.get(pick.value.id, pick.value)
        term = tiles.like(dataclasses.replace(value, dims=self.dims(condition, value)))
        result.append(ir.ComputeTile(term, Op.WHERE, (condition, value, pick.zero)))
        return [*result, dataclasses.replace(pick.into, value=term)]

    def dims(self, *tiles: Tile) -> tuple[str, ...]:
        """Axes that any of the tiles has."""
        names = {d for t in tiles for d in t.dims}
        return tuple(a.name for a in self.kernel.axes if a.name in names)


def _number_of(equal: ir.ComputeTile, made: Mapping[int, ir.Pure], axis: str) -> Tile | None:
    """What the index along the axis is compared with, if that is the same for the whole row."""
    for index, number in (equal.args, equal.args[::-1]):
        test = made.get(index.id)
        if isinstance(test, ir.IndexTile) and number.id not in made and number.dtype.is_int:
            atom = test.index.atom
            return number if isinstance(atom, Var) and atom.name == axis else None
    return None
