"""Short loops inside wide tiles, written out.

In: a Kernel. Out: a Kernel that computes the same, whose loops of a few steps are gone where a grid
axis fills the vector lanes. Invariant: statements of a step keep their order, and so do steps.

    init t0[x] = -inf                          init t0[x] = -inf
    loop i (2):                                t1[x] = load im[2*x]
      t1[x] = load im[2*x + i]          =>     t0 = maximum t0, t1
      t0 = maximum t0, t1                      t2[x] = load im[2*x + 1]
                                               t0 = maximum t0, t2

so that all steps share one vector loop and the carry stays in a register (2x2 max pooling of
512x32x24x24: 10.8 ms to 1.2 ms on one core of Zen 5, gcc 12).

`rows_together` writes out a few steps of a long loop whose carries are wide, so that each carry is
loaded and stored once for all of them.
"""

from __future__ import annotations

import dataclasses

from tgrad.graph.index import Atom, Index, Loaded, Var, constant, loaded, var
from tgrad.graph.op import OPS
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, statements
from tgrad.kernel.statements import NewTiles, changed

MAX_STEPS = 9
"""Longest loop that is written out."""

MAX_COPIES = 32
"""Most copies of one statement."""

ROWS = 8
"""Steps of a long loop that are written out together (vector times 1024x4096 matrix, a core of Zen
3: 1.63 ms with one, 1.25 ms with four, 0.96 ms with eight; 2026-11)."""

MAX_ROW_COST = 4
"""Arithmetic of a step, in elementary operations, beyond which its carries cost little."""


def unroll_short_loops(kernel: ir.Kernel) -> ir.Kernel:
    """The kernel with its short loops written out, or itself."""
    lanes = any(a.block > 1 and a.role is Role.GRID for a in kernel.axes)
    if not lanes or any(isinstance(s, ir.DotTile) for s in statements(kernel.body)):
        return kernel
    unroller = Unroller(kernel)
    body = unroller.body(kernel.body, {}, {}, 1)
    return dataclasses.replace(kernel, body=tuple(body))


def rows_together(kernel: ir.Kernel, loop: ir.Loop) -> tuple[ir.Stmt, ...] | None:
    """Statements of ROWS steps from the present one on; None where that gains nothing."""
    wide = [s for s in loop.body if isinstance(s, ir.Accumulate) and s.carry.dims]
    if not wide or not all(isinstance(s, (ir.Accumulate, ir.Pure)) for s in loop.body):
        return None
    cost = sum(OPS[s.op].cost for s in loop.body if isinstance(s, (ir.ComputeTile, ir.Accumulate)))
    axis = kernel.axis(loop.axis)
    if cost > MAX_ROW_COST or axis.extent < 4 * ROWS:
        return None
    unroller, copies = Unroller(kernel), []
    for row in range(ROWS):
        step = {loop.axis: var(loop.axis, axis.extent) + row}
        copies += unroller.body(loop.body, step, {}, 1)
    return tuple(copies)


class Unroller:
    def __init__(self, kernel: ir.Kernel):
        self.kernel = kernel
        self.tiles = NewTiles(kernel)

    def body(
        self,
        stmts: tuple[ir.Stmt, ...],
        steps: dict[str, Index],
        names: dict[int, Tile],
        copies: int,
    ) -> list[ir.Stmt]:
        """Statements with loop variables replaced by `steps` and tiles renamed by `names`."""
        result: list[ir.Stmt] = []
        for stmt in stmts:
            if not isinstance(stmt, ir.Loop):
                result.append(self.copy(stmt, steps, names, bool(steps)))
                continue
            axis = self.kernel.axis(stmt.axis)
            count = copies * axis.extent
            keeps = any(isinstance(s, (ir.Stash, ir.Unstash)) for s in statements(stmt.body))
            if axis.block > 1 or axis.extent > MAX_STEPS or count > MAX_COPIES or keeps:
                inner = self.body(stmt.body, steps, dict(names), copies)
                result.append(ir.Loop(stmt.axis, tuple(inner)))
                continue
            for step in range(axis.extent):
                result += self.body(
                    stmt.body, {**steps, stmt.axis: constant(step)}, dict(names), count
                )
        return result

    def copy(
        self, stmt: ir.Stmt, steps: dict[str, Index], names: dict[int, Tile], fresh: bool
    ) -> ir.Stmt:
        """A statement at other steps, its tiles renamed; what it makes is a new tile if `fresh`."""

        def leaf(atom: Atom) -> Index | None:
            if isinstance(atom, Var):
                return steps.get(atom.name)
            if isinstance(atom, Loaded) and atom.value in names:
                return loaded(names[atom.value].id, atom.lo, atom.hi)
            return None

        out = getattr(stmt, "out", None) if fresh else None
        if out is not None:
            names[out.id] = self.tiles.like(out)
        return changed(stmt, lambda t: names.get(t.id, t), lambda e: e.rebuild(leaf))
