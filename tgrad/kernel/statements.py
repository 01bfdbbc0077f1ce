"""Dependences of statements, and copies of them: what passes over tile programs share.

In: statements of a tile program. Out: numbers of the tiles that they read and make; other
statements. Invariant: pure; statements keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace

from tgrad.graph.index import Bound, Index
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel, Tile


def reads_of(stmt: ir.Stmt) -> set[int]:
    """Numbers of the tiles that the statement reads, in loops, their bounds and indices too."""
    if isinstance(stmt, ir.Loop):
        bounds = {v for e in (*stmt.start, *stmt.stop) for v in e.loaded()}
        return bounds.union(*map(reads_of, stmt.body))
    own = {stmt.stash.id} if isinstance(stmt, ir.Unstash) else set[int]()
    return own | ir.read_numbers(stmt)


def writes_of(stmt: ir.Stmt) -> set[int]:
    """Numbers of the tiles that the statement defines or updates."""
    match stmt:
        case ir.Loop():
            return {v for inner in stmt.body for v in writes_of(inner)}
        case ir.Accumulate() | ir.Keep() | ir.DotTile():
            return {stmt.carry.id}
        case ir.ScanTile() if stmt.carry is not None:
            return {stmt.out.id, stmt.carry.id}
        case ir.AccumulateExp():
            return {stmt.largest.id, stmt.total.id}
        case ir.JoinExp():
            return {stmt.out_largest.id, stmt.out_total.id}
        case ir.StoreTile():
            return set()
        case _:
            return {stmt.out.id}


def made_by(tiles: Iterable[int], stmts: Iterable[ir.Stmt]) -> tuple[ir.Stmt, ...]:
    """Those of the statements that make the tiles, and what these are made of."""
    needed, found = set(tiles), list[ir.Stmt]()
    for stmt in reversed(list(stmts)):
        if writes_of(stmt) & needed:
            needed |= reads_of(stmt)
            found.append(stmt)
    return tuple(reversed(found))


def without_unread(stmts: Sequence[ir.Stmt], read: set[int] | None = None) -> tuple[ir.Stmt, ...]:
    """The statements less those that make what no later one of them reads.

    Args:
        read: numbers of tiles that are read after them; what they read is added.
    """
    read, kept = set() if read is None else read, list[ir.Stmt]()
    for stmt in reversed(stmts):
        if isinstance(stmt, ir.Loop):
            read |= {v for e in (*stmt.start, *stmt.stop) for v in e.loaded()}
            stmt = replace(stmt, body=without_unread(stmt.body, read))
        elif isinstance(stmt, ir.Pure) and stmt.out.id not in read:
            continue
        else:
            read |= reads_of(stmt)
        kept.append(stmt)
    return tuple(reversed(kept))


def changed(
    stmt: ir.Stmt, tile: Callable[[Tile], Tile], index: Callable[[Index], Index]
) -> ir.Stmt:
    """A statement, which is no loop, on other tiles and at other indices; bounds that then always
    hold are left out."""
    changes: dict[str, object] = {}
    for field in fields(stmt):
        value = getattr(stmt, field.name)
        if isinstance(value, Tile):
            changes[field.name] = tile(value)
        elif isinstance(value, Index):
            changes[field.name] = index(value)
        elif field.name == "args":
            changes["args"] = tuple(map(tile, value))
        elif field.name == "mask":
            bounds = (Bound(index(b.index), b.lo, b.hi) for b in value)
            changes["mask"] = tuple(b for b in bounds if not b.is_always)
    return replace(stmt, **changes)  # type: ignore[arg-type]


class NewTiles:
    """Tiles whose numbers a kernel does not have."""

    def __init__(self, kernel: Kernel):
        flat = list(ir.statements(kernel.body))
        self.next = 1 + max((n for s in flat for n in writes_of(s) | reads_of(s)), default=0)

    def like(self, tile: Tile) -> Tile:
        """One more of its dtype and axes."""
        self.next += 1
        return replace(tile, id=self.next - 1)
