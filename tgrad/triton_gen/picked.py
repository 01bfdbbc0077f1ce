"""The one element of a row that a sum picks, loaded by itself.

In: a Kernel. Out: a Kernel that computes the same. Invariant: an element is loaded only where the
index is within the row; beyond it the sum is 0, as before.

A cross entropy's target is picked by a comparison, which costs three instructions of each element:

    init t2 = 0                                     t3 = within 0 <= t0 < n;  t4 = where t3, t0, 0
    loop r: x = load in[i, r]                       x' = load in[i, t4]
            t2 = add t2, where(r == t0, x, 0)  =>   loop r: ...
    t9 = reduce_sum t2 over r                       t9 = where t3, x', 0
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tgrad import dtype as dt
from tgrad.graph.index import Index, Loaded, Var
from tgrad.graph.index import loaded as loaded_index
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel
from tgrad.kernel.statements import NewTiles, changed, made_by, without_unread
from tgrad.triton_gen.online import made_in

MOST_LOADS = 2
"""That each pick may add."""


def with_picked_loads(kernel: Kernel) -> Kernel:
    """The kernel with each such sum as a load; itself where there is none."""
    while (pick := _find(kernel)) is not None:
        kernel = replace(kernel, body=_with_load(kernel, pick))
    return kernel


@dataclass(frozen=True)
class _Pick:
    """A sum over a loop of where(place == wanted, x, 0).

    Attributes:
        total: what ends the sum.
        needed: the statements of the loop that make x, in order.
    """

    loop: ir.Loop
    step: ir.Accumulate
    total: ir.ReduceTile
    wanted: ir.Tile
    x: ir.Tile
    needed: tuple[ir.Stmt, ...]


def _find(kernel: Kernel) -> _Pick | None:
    totals = {s.arg.id: s for s in kernel.body if isinstance(s, ir.ReduceTile)}
    for loop in kernel.body:
        if not isinstance(loop, ir.Loop) or loop.start or loop.stop:
            continue
        for step in loop.body:
            if isinstance(step, ir.Accumulate) and step.carry.id in totals:
                pick = _pick(kernel, loop, step, totals[step.carry.id])
                if pick is not None:
                    return pick
    return None


def _pick(kernel: Kernel, loop: ir.Loop, step: ir.Accumulate, total: ir.ReduceTile) -> _Pick | None:
    made = made_in(loop)
    choice = made.get(step.value.id)
    if step.op is not Op.ADD or total.op is not Op.REDUCE_SUM or total.axes != (loop.axis,):
        return None
    if not isinstance(choice, ir.ComputeTile) or choice.op is not Op.WHERE:
        return None
    equal, x, other = choice.args
    consts = {s.out.id: s.value for s in ir.statements(kernel.body) if isinstance(s, ir.ConstTile)}
    condition = made.get(equal.id)
    if not isinstance(condition, ir.ComputeTile) or condition.op is not Op.EQ:
        return None
    places = [a for a in condition.args if _is_place(made.get(a.id), loop.axis)]
    wanted = [a for a in condition.args if a.id not in made.keys() | consts.keys()]
    is_zero = other.id in consts and consts[other.id] == 0
    if not is_zero or len(places) != 1 or len(wanted) != 1 or wanted[0].dtype is not dt.int64:
        return None
    needed = made_by([x.id], made.values())
    if sum(isinstance(s, ir.LoadTile) for s in needed) > MOST_LOADS:
        return None
    return _Pick(loop, step, total, wanted[0], x, needed)


def _is_place(stmt: ir.Pure | None, axis: str) -> bool:
    """Whether a statement gives each element its place along the axis."""
    atom = stmt.index.atom if isinstance(stmt, ir.IndexTile) else None
    return isinstance(atom, Var) and atom.name == axis


def _with_load(kernel: Kernel, pick: _Pick) -> tuple[ir.Stmt, ...]:
    """The body with the load before the loop, and the loop without the sum."""
    early = _Early(kernel, pick)
    found = early.picked()
    left = [s for s in pick.loop.body if s is not pick.step]
    loop = replace(pick.loop, body=without_unread(left))
    body: list[ir.Stmt] = []
    for old in kernel.body:
        if old is pick.loop:
            body += [*early.stmts, *([loop] if loop.body else [])]
        elif old is pick.total:
            body.append(found)
        elif not (isinstance(old, ir.Init) and old.out.id == pick.step.carry.id):
            body.append(old)
    return tuple(body)


class _Early:
    """The statements that load a picked element, for one place in each row."""

    def __init__(self, kernel: Kernel, pick: _Pick):
        self.kernel, self.pick, self.axis = kernel, pick, kernel.axis(pick.loop.axis)
        self.tiles = NewTiles(kernel)
        self.stmts: list[ir.Stmt] = []
        self.copies: dict[int, ir.Tile] = {}

    def picked(self) -> ir.ComputeTile:
        """Fill `stmts`; what ends the sum: the element, or 0 where there is none."""
        wanted, x = self.pick.wanted, self.pick.x
        zero, end = self._const(0, dt.int64), self._const(self.axis.extent, dt.int64)
        not_before = self._compute(Op.LE, dt.bool_, zero, wanted)
        not_after = self._compute(Op.LT, dt.bool_, wanted, end)
        inside = self._compute(Op.AND, dt.bool_, not_before, not_after)
        at = self._compute(Op.WHERE, dt.int64, inside, wanted, zero)
        self.place = loaded_index(at.id, 0, self.axis.extent - 1)
        for stmt in self.pick.needed:
            self._copy(stmt)
        none = self._const(0.0 if x.dtype.is_float else 0, x.dtype)
        return ir.ComputeTile(self.pick.total.out, Op.WHERE, (inside, self.copies[x.id], none))

    def _copy(self, stmt: ir.Stmt) -> None:
        """The statement at the place, without the axis of the row."""
        assert isinstance(stmt, ir.Pure)
        dims = tuple(d for d in stmt.out.dims if d != self.axis.name)
        self.copies[stmt.out.id] = self.tiles.like(replace(stmt.out, dims=dims))
        self.stmts.append(
            changed(stmt, lambda t: self.copies.get(t.id, t), lambda e: e.rebuild(self._leaf))
        )

    def _leaf(self, atom: object) -> Index | None:
        """What stands for an atom of an index at the place; None for itself."""
        if isinstance(atom, Var) and atom.name == self.axis.name:
            return self.place
        if isinstance(atom, Loaded) and atom.value in self.copies:
            return loaded_index(self.copies[atom.value].id, atom.lo, atom.hi)
        return None

    def _compute(self, op: Op, dtype: dt.DType, *args: ir.Tile) -> ir.Tile:
        dims = tuple(a.name for a in self.kernel.axes if any(a.name in t.dims for t in args))
        out = self.tiles.like(ir.Tile(0, dtype, dims))
        self.stmts.append(ir.ComputeTile(out, op, args))
        return out

    def _const(self, value: int | float, dtype: dt.DType) -> ir.Tile:
        out = self.tiles.like(ir.Tile(0, dtype, ()))
        self.stmts.append(ir.ConstTile(out, value))
        return out
