"""The order of a scope's statements, and which of them share a loop nest.

In: statements of one scope. Out: Groups in an order that keeps every dependence. Invariant: a
statement is in one group; groups of loops, dots and reductions hold one statement.

Values move down to the last place before their first use across a loop (so that an epilogue's loads
join the epilogue), and within a stretch without loops smaller statements come first: scalars, then
those over one axis, then whole tiles. So what remains for a tile is as few nests as possible:

    t0[m n] = load r            t1[n] = load b
    t1[n] = load b              loop k: acc += ...
    loop k: acc += ...    =>    t0[m n] = load r           } one nest
    t2[m n] = add acc, t1       t2[m n] = add acc, t1      }
    t3[m n] = add t2, t0        t3[m n] = add t2, t0       }

A load that is contiguous along another axis than the stretch's stores gets a nest of its own, so a
transposition reads and writes whole cache lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tgrad.cpu_fallback.code import loops_of, slots_of
from tgrad.cpu_fallback.emit_index import run_along
from tgrad.kernel import ir
from tgrad.kernel.statements import reads_of, writes_of

_ALONE = (ir.Loop, ir.DotTile, ir.ReduceTile, ir.SortTile)
_MOVABLE = ir.Pure | ir.Init


@dataclass
class Group:
    """Statements that share a loop nest (or stand alone: scalars, loops, dots).

    Attributes:
        dims: tile axes of the nest.
        stmts: in order.
        inner: the axis of the innermost loop, if memory decides it.
    """

    dims: tuple[str, ...]
    stmts: list[ir.Stmt] = field(default_factory=list)
    inner: str | None = None


def schedule(kernel: ir.Kernel, stmts: Sequence[ir.Stmt]) -> list[Group]:
    """Statements of one scope in groups."""
    before = _dependences(stmts)
    stretch = _stretches(stmts, before)
    dims = [loops_of(kernel, s) for s in stmts]
    wanted = [contiguous_axis(s, d) for s, d in zip(stmts, dims)]
    result: list[Group] = []
    for number in sorted(set(stretch)):
        members = [i for i, n in enumerate(stretch) if n == number]
        plain = [i for i in members if not isinstance(stmts[i], _ALONE)]
        result += _groups(stmts, plain, before, dims, wanted)
        result += [Group((), [stmts[i]]) for i in members if isinstance(stmts[i], _ALONE)]
    return result


def _dependences(stmts: Sequence[ir.Stmt]) -> list[set[int]]:
    """For each statement those that must come before it, by number."""
    writer: dict[tuple[str, int], int] = {}
    readers: dict[tuple[str, int], list[int]] = {}
    result: list[set[int]] = []
    for number, stmt in enumerate(stmts):
        loads, stores = slots_of(stmt)
        reads = {("tile", t) for t in reads_of(stmt)} | {("slot", s) for s in loads}
        writes = {("tile", t) for t in writes_of(stmt)} | {("slot", s) for s in stores}
        found: set[int] = set()
        for key in reads | writes:
            if key in writer:
                found.add(writer[key])
        for key in writes:
            found.update(readers.get(key, ()))
        for key in reads:
            readers.setdefault(key, []).append(number)
        for key in writes:
            writer[key] = number
            readers[key] = []
        found.discard(number)
        result.append(found)
    return result


def _stretches(stmts: Sequence[ir.Stmt], before: list[set[int]]) -> list[int]:
    """The stretch each statement goes to; statement k that stands alone ends stretch k's."""
    result: list[int] = []
    count = 0
    for stmt in stmts:
        result.append(count)
        count += isinstance(stmt, _ALONE)
    users: list[list[int]] = [[] for _ in stmts]
    for number, needed in enumerate(before):
        for other in needed:
            users[other].append(number)
    for number in range(len(stmts) - 1, -1, -1):
        if isinstance(stmts[number], _MOVABLE) and users[number]:
            result[number] = min(result[u] for u in users[number])
    return result


def _groups(
    stmts: Sequence[ir.Stmt],
    members: list[int],
    before: list[set[int]],
    dims: list[tuple[str, ...]],
    wanted: list[str | None],
) -> list[Group]:
    """Groups of one stretch: the smallest tiles that are ready first."""
    inner: dict[tuple[str, ...], str] = {}
    for kind in (ir.StoreTile, ir.LoadTile):
        for i in members:
            axis = wanted[i]
            if axis is not None and isinstance(stmts[i], kind):
                inner.setdefault(dims[i], axis)
    left = list(members)
    result: list[Group] = []
    while left:
        waiting = set(left)
        ready = [i for i in left if not before[i] & waiting]
        turned = [i for i in ready if wanted[i] is not None and wanted[i] != inner[dims[i]]]
        small = min(ready, key=lambda i: len(dims[i]))
        first = turned[0] if turned and len(dims[small]) == len(dims[turned[0]]) else small
        group = Group(dims[first])
        axis = wanted[first] if first in turned else inner.get(dims[first])
        group.inner = axis
        for i in list(left):
            fits = wanted[i] is None or wanted[i] == axis
            if first in turned:
                fits = wanted[i] == axis
            if dims[i] == group.dims and fits and not before[i] & waiting:
                group.stmts.append(stmts[i])
                left.remove(i)
                waiting.discard(i)
        result.append(group)
    return result


def contiguous_axis(stmt: ir.Stmt, dims: tuple[str, ...]) -> str | None:
    """The tile axis along which a load or store is contiguous, if it has several."""
    if len(dims) < 2 or not isinstance(stmt, (ir.LoadTile, ir.StoreTile)):
        return None
    for d in reversed(dims):
        run = run_along(stmt.index, d)
        if run is not None and abs(run.step) == 1:
            return d
    return None
