"""The largest of a row and the sum of exp(x - largest) in one pass over the row.

In: a Kernel. Out: a Kernel that computes the same and walks such a row once less. Invariant: rows
with NaN, +inf, or nothing but -inf give what two passes give.

    init t1 = -inf                              init t1 = -inf;  init t4 = 0
    loop r: x = load; t1 = maximum t1, x        loop r: x = load; t1, t4 += exp x
    t2 = reduce_max t1 over r             =>    t2, t5 = join exp t1, t4 over r
    init t4 = 0
    loop r: x = load; t4 = add t4, exp(x - t2)
    t5 = reduce_sum t4 over r

Each lane keeps the largest of what it has seen, and scales its sum when that grows (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tgrad.dtype import float32
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel


def with_online_sums(kernel: Kernel) -> Kernel:
    """The kernel with each such pair of loops in one; itself where there is none."""
    body = kernel.body
    while (pair := _find(body)) is not None:
        body = _joined(body, pair)
    return kernel if body is kernel.body else replace(kernel, body=body)


@dataclass(frozen=True)
class _Pair:
    """A reduction to the largest, and the sum that waits for it.

    Attributes:
        first, second: the loops.
        largest: the step of the first loop.
        reduced: what ends it.
        start, total: what begins and ends the sum.
    """

    first: ir.Loop
    largest: ir.Accumulate
    reduced: ir.ReduceTile
    start: ir.Init
    second: ir.Loop
    total: ir.ReduceTile


def _find(body: tuple[ir.Stmt, ...]) -> _Pair | None:
    loops = [s for s in body if isinstance(s, ir.Loop)]
    reductions = {s.arg.id: s for s in body if isinstance(s, ir.ReduceTile)}
    inits = {s.out.id: s for s in body if isinstance(s, ir.Init)}
    for at, first in enumerate(loops):
        for step in first.body:
            if not isinstance(step, ir.Accumulate) or step.op is not Op.MAXIMUM:
                continue
            reduced = reductions.get(step.carry.id)
            if reduced is None or not _is_row(step, reduced, first.axis):
                continue
            for second in loops[at + 1 :]:
                carry = _exp_sum(first, step.value, reduced.out, second)
                if carry is not None and carry.id in reductions:
                    total = reductions[carry.id]
                    return _Pair(first, step, reduced, inits[carry.id], second, total)
    return None


def _is_row(step: ir.Accumulate, reduced: ir.ReduceTile, axis: str) -> bool:
    """Whether it is one row of a program that is reduced, to one number."""
    is_float = step.carry.dtype is float32 is reduced.out.dtype
    return is_float and step.value.dims == step.carry.dims == reduced.axes == (axis,)


def _exp_sum(first: ir.Loop, x: ir.Tile, largest: ir.Tile, second: ir.Loop) -> ir.Tile | None:
    """The carry of a loop that does nothing but add exp(x - largest) to it; None of another."""
    made = made_in(second)
    steps = [s for s in second.body if not isinstance(s, ir.Pure)]
    same = first.axis == second.axis and (first.start, first.stop) == (second.start, second.stop)
    step = steps[0] if len(steps) == 1 else None
    if not same or not isinstance(step, ir.Accumulate):
        return None
    exp = made.get(step.value.id)
    if step.op is not Op.ADD or not isinstance(exp, ir.ComputeTile) or exp.op is not Op.EXP:
        return None
    difference = made.get(exp.args[0].id)
    if not isinstance(difference, ir.ComputeTile) or difference.op is not Op.SUB:
        return None
    other, subtracted = difference.args
    is_same = _meaning(other, made) == _meaning(x, made_in(first))
    return step.carry if subtracted == largest and is_same else None


def made_in(loop: ir.Loop) -> dict[int, ir.Pure]:
    """The statements of a loop's body that make a tile of others, by its number."""
    return {s.out.id: s for s in loop.body if isinstance(s, ir.Pure)}


def _meaning(tile: ir.Tile, made: Mapping[int, ir.Pure]) -> object:
    """What a tile is computed from; equal for tiles of two loops that hold the same."""
    stmt = made.get(tile.id)
    if stmt is None:
        return tile
    if isinstance(stmt, ir.ComputeTile):
        return stmt.op, stmt.word, stmt.out.dtype, tuple(_meaning(a, made) for a in stmt.args)
    indices = [stmt.index] if isinstance(stmt, (ir.LoadTile, ir.IndexTile)) else []
    masks = stmt.mask if isinstance(stmt, (ir.LoadTile, ir.InsideTile)) else ()
    loaded = {v for e in (*indices, *(b.index for b in masks)) for v in e.loaded()}
    if loaded & made.keys():
        return stmt  # of its own loop alone
    return replace(stmt, out=replace(tile, id=-1))


def _joined(body: tuple[ir.Stmt, ...], pair: _Pair) -> tuple[ir.Stmt, ...]:
    largest, total = pair.largest.carry, pair.start.out
    step = ir.AccumulateExp(largest, total, pair.largest.value)
    loop = replace(
        pair.first, body=tuple(step if s is pair.largest else s for s in pair.first.body)
    )
    join = ir.JoinExp(pair.reduced.out, pair.total.out, largest, total, pair.reduced.axes)
    changed: list[ir.Stmt] = []
    for stmt in body:
        if stmt is pair.first:
            changed += [pair.start, loop]
        elif stmt is pair.reduced:
            changed.append(join)
        elif stmt not in (pair.start, pair.second, pair.total):
            changed.append(stmt)
    return tuple(changed)
