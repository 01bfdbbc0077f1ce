"""Checks that a tile program is well formed.

In: a Kernel. Out: nothing, or a VerifyError that names the statement. Invariant: a kernel that
passes obeys the module docstring of kernel/ir.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tgrad.errors import VerifyError
from tgrad.graph.index import Index
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile


def verify_kernel(kernel: ir.Kernel) -> None:
    """Check single assignment, scopes, dims and loops.

    Raises:
        VerifyError: names the kernel and the statement.
    """
    order = {a.name: i for i, a in enumerate(kernel.axes)}
    if len(order) != len(kernel.axes):
        raise VerifyError(f"{kernel.name}: two axes of one name.", source=kernel.source)
    for a in kernel.axes:
        if a.block < 1 or (a.role is Role.FULL and a.block < a.extent):
            raise VerifyError(f"{kernel.name}: bad block of axis {a}.", source=kernel.source)
    if kernel.table is not None and kernel.table.lengths and len(kernel.axes) != 1:
        raise VerifyError(f"{kernel.name}: lengths of several axes.", source=kernel.source)
    _Checker(kernel, order).body(kernel.body, set(), set())


class _Checker:
    def __init__(self, kernel: ir.Kernel, order: dict[str, int]):
        self.kernel, self.order = kernel, order
        self.wide = {a.name for a in kernel.axes if a.block > 1}
        self.assigned: set[int] = set()
        self.dims: dict[int, tuple[str, ...]] = {}
        self.stashes: dict[int, tuple[str, ...]] = {}
        self.stored: set[int] = set()

    def fail(self, stmt: ir.Stmt, why: str) -> None:
        raise VerifyError(f"{self.kernel.name}: {why} in {stmt}.", source=self.kernel.source)

    def define(self, stmt: ir.Stmt, out: Tile, dims: Iterable[str], known: set[int]) -> None:
        if out.id in self.assigned:
            self.fail(stmt, f"{out} is assigned twice")
        if tuple(sorted(set(dims), key=self.order.__getitem__)) != out.dims:
            self.fail(stmt, f"{out} has dims {out.dims}, its operands give {sorted(set(dims))}")
        self.assigned.add(out.id)
        self.dims[out.id] = out.dims
        known.add(out.id)

    def index_dims(
        self, stmt: ir.Stmt, indices: Sequence[Index], known: set[int], open_loops: set[str]
    ) -> set[str]:
        names: set[str] = set()
        for e in indices:
            names |= e.variables()
            if not e.loaded() <= known:
                self.fail(stmt, "an index uses a tile that is not there")
        for n in names:
            if n not in self.order:
                self.fail(stmt, f"unknown axis {n}")
            if self.kernel.axis(n).role is Role.LOOP and n not in open_loops:
                self.fail(stmt, f"loop {n} is not open")
        loaded = {d for e in indices for v in e.loaded() for d in self.dims.get(v, ())}
        return (names & self.wide) | loaded

    def body(self, body: tuple[ir.Stmt, ...], known: set[int], open_loops: set[str]) -> None:
        known = set(known)
        for stmt in body:
            for tile in ir.reads(stmt):
                if tile.id not in known:
                    self.fail(stmt, f"{tile} is not in scope")
            self.statement(stmt, known, open_loops)

    def loop(self, stmt: ir.Loop, known: set[int], open_loops: set[str]) -> None:
        if self.kernel.axis(stmt.axis).role is not Role.LOOP or stmt.axis in open_loops:
            self.fail(stmt, f"bad loop over {stmt.axis}")
        for e in (*stmt.start, *stmt.stop, *(b.index for b in stmt.needs)):
            roles = {self.kernel.axis(n).role for n in e.variables() if n in self.order}
            unknown = [v for v in e.loaded() if v not in known or self.dims[v]]
            if unknown or roles - {Role.GRID} or not e.variables() <= set(self.order):
                self.fail(stmt, "a bound that is not known before the loop")
        self.body(stmt.body, known, open_loops | {stmt.axis})
        if not set(map(id, stmt.late)) <= set(map(id, stmt.body)):
            self.fail(stmt, "late statements that are none of the body")

    def statement(self, stmt: ir.Stmt, known: set[int], open_loops: set[str]) -> None:
        match stmt:
            case ir.Loop():
                self.loop(stmt, known, open_loops)
            case ir.LoadTile():
                if stmt.slot in self.stored:
                    self.fail(stmt, "a load of what the kernel has written over")
                parts = (stmt.index, *(b.index for b in stmt.mask))
                wide = self.index_dims(stmt, parts, known, open_loops)
                self.define(stmt, stmt.out, wide, known)
            case ir.IndexTile():
                wide = self.index_dims(stmt, (stmt.index,), known, open_loops)
                self.define(stmt, stmt.out, wide, known)
            case ir.InsideTile():
                parts = tuple(b.index for b in stmt.mask)
                wide = self.index_dims(stmt, parts, known, open_loops)
                if parts and not any(e.loaded() for e in parts):
                    self.define(stmt, stmt.out, wide, known)
                else:  # what always holds may have any axes
                    self.assigned.add(stmt.out.id)
                    known.add(stmt.out.id)
            case ir.ConstTile():
                self.define(stmt, stmt.out, (), known)
            case ir.Init():
                self.define(stmt, stmt.out, stmt.out.dims, known)
            case ir.ComputeTile():
                dims = {d for a in stmt.args for d in a.dims}
                self.define(stmt, stmt.out, dims, known)
            case ir.ReduceTile():
                self.define(stmt, stmt.out, set(stmt.arg.dims) - set(stmt.axes), known)
            case ir.ScanTile():
                dims = {d for a in stmt.args for d in a.dims} | ({stmt.axis} & self.wide)
                if stmt.carry is not None and set(stmt.carry.dims) != dims - {stmt.axis}:
                    self.fail(stmt, f"a carry over {stmt.carry.dims}")
                is_loop = self.kernel.axis(stmt.axis).role is Role.LOOP
                if (stmt.carry is not None) != is_loop:
                    self.fail(stmt, "a carry is for loops")
                self.define(stmt, stmt.out, dims, known)
            case ir.SortTile():
                if self.kernel.axis(stmt.axis).role is not Role.FULL:
                    self.fail(stmt, "a sort of part of a row")
                self.define(stmt, stmt.out, {*stmt.arg.dims, stmt.axis} & self.wide, known)
            case ir.Keep():
                if (stmt.carry.dtype, stmt.carry.dims) != (stmt.value.dtype, stmt.value.dims):
                    self.fail(stmt, "carry and value differ")
            case ir.Accumulate():
                same = stmt.carry.dtype is stmt.value.dtype
                if not same or not set(stmt.value.dims) <= set(stmt.carry.dims):
                    self.fail(stmt, "carry and value differ")
            case ir.AccumulateExp():
                carries = (stmt.largest, stmt.total)
                if any((t.dtype, t.dims) != (stmt.value.dtype, stmt.value.dims) for t in carries):
                    self.fail(stmt, "carries and value differ")
            case ir.JoinExp():
                left = set(stmt.largest.dims) - set(stmt.axes)
                self.define(stmt, stmt.out_largest, left, known)
                self.define(stmt, stmt.out_total, left, known)
            case ir.DotTile():
                if not set(stmt.a.dims) <= {stmt.m, stmt.k} | set(stmt.carry.dims):
                    self.fail(stmt, "bad first operand")
                if not set(stmt.b.dims) <= {stmt.n, stmt.k} | set(stmt.carry.dims):
                    self.fail(stmt, "bad second operand")
            case ir.Stash():
                self.stashes[stmt.out.id] = stmt.axes
                self.assigned.add(stmt.out.id)
            case ir.Unstash():
                if self.stashes.get(stmt.stash.id) != stmt.axes:
                    self.fail(stmt, "nothing stashed over these axes")
                self.define(stmt, stmt.out, stmt.stash.dims, known)
            case ir.StoreTile():
                parts = (stmt.index, *(b.index for b in stmt.mask))
                self.index_dims(stmt, parts, known, open_loops)
                self.stored.add(stmt.slot)
