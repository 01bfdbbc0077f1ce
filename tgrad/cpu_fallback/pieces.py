"""Kernels in pieces between which masks change, where most of what they compute is masked.

In: a Kernel. Out: Kernels that together compute the same, one after the other. Invariant: every
element is computed once, by the operations that computed it before, less those on zeros that masks
put there; a sum keeps one of its added zeros, for the sign of -0.0.

    grid x (0..512):                                   grid x (0..256):
      a = load in0[x] if x < 256                         a = load in0[x]
      b = tanh(load in1[x - 256] if x >= 256)            out[x] = a + 0
      out[x] = a + b                             =>    grid x (256..512):
                                                         b = tanh(load in1[x - 256])
                                                         out[x] = 0 + b

What autograd makes of slices is a sum of padded parts: of the gates of a recurrent cell four, of
the rows that a loop in Python has taken as many as there are. (32 rows of 32x512, a core of Zen 4:
4.4 to 0.2 ms; a masked load whose address is nowhere takes the processor 150 ns; 2026-11.) What it
makes of windows with a stride is masked in every other element: these are pieces too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from itertools import pairwise

from tgrad.cpu_fallback.code import is_scatter, work_of
from tgrad.cpu_fallback.unroll import Unroller
from tgrad.graph.index import Index, Mod, var
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile, TileAxis, statements
from tgrad.kernel.known import Known
from tgrad.kernel.statements import without_unread

MOST_PIECES, MOST_STATEMENTS = 40, 400
"""Pieces of a kernel, and statements of all of them."""

WORTHWHILE = 0.7
"""Work of all pieces over that of the whole, at most; a mask counts as much as its load."""

SINGLE = 8
"""What a masked load of elements that are not neighbours costs, in loads of a vector's lanes."""

MOST_STEPS = 4
"""Elements after which a mask repeats, at most."""

LEAST_LANES = 16
"""Elements that a piece has at least along an axis that fills vector lanes."""

_WHOLE = (ir.DotTile, ir.ScanTile, ir.SortTile, ir.Unstash)


def in_pieces(kernel: ir.Kernel) -> list[ir.Kernel]:
    """The kernel, or pieces of it where that saves work."""
    stmts = list(statements(kernel.body))
    is_plain = kernel.table is None and not kernel.limits
    if not is_plain or any(isinstance(s, _WHOLE) for s in stmts):
        return [kernel]
    if not any(isinstance(s, (ir.LoadTile, ir.InsideTile)) and s.mask for s in stmts):
        return [kernel]
    best, least = [kernel], WORTHWHILE * _cost([kernel])
    whole = _with_split_loops(kernel)
    if _cost([whole]) <= least:
        best, least = [whole], _cost([whole])
    has_loops = any(isinstance(s, ir.Loop) for s in stmts)
    scatters = any(isinstance(s, ir.StoreTile) and is_scatter(s) for s in stmts)
    for axis in () if has_loops or scatters else kernel.grid:
        cuts, step = _cuts(stmts, axis), _period(stmts, axis)
        choices = []
        if len(cuts) > 2:
            parts = (_piece(kernel, axis, *ends) for ends in pairwise(cuts))
            choices.append([piece for part in parts for piece in in_pieces(part)])
        if step > 1:
            every = (_every(kernel, axis, step, first) for first in range(step))
            choices.append([piece for part in every for piece in in_pieces(part)])
        for pieces in choices:
            size = sum(len(list(statements(p.body))) for p in pieces)
            if size <= MOST_STATEMENTS and _cost(pieces) < least:
                best, least = pieces, _cost(pieces)
    return best


def _cost(kernels: Iterable[ir.Kernel]) -> int:
    """Work, with masks, and what single loads cost instead of vectors."""

    def only(body: Iterable[ir.Stmt], counts: Callable[[ir.LoadTile], int]) -> tuple[ir.Stmt, ...]:
        kept: list[ir.Stmt] = []
        for s in body:
            if isinstance(s, ir.Loop):
                kept.append(dataclasses.replace(s, body=only(s.body, counts)))
            elif isinstance(s, ir.LoadTile) and s.mask:
                kept += [s] * counts(s)
        return tuple(kept)

    def cost(kernel: ir.Kernel) -> int:
        lanes = [a.name for a in kernel.grid if a.block > 1]
        masks = only(
            kernel.body, lambda s: SINGLE if any(_is_strided(s, lane) for lane in lanes) else 1
        )
        return work_of(kernel) + work_of(dataclasses.replace(kernel, body=masks))

    return sum(map(cost, kernels))


def _is_strided(stmt: ir.Stmt, lane: str) -> bool:
    """Whether it is a masked load that no compiler makes a vector: not of neighbours."""
    if not isinstance(stmt, ir.LoadTile) or lane not in stmt.out.dims:
        return False
    return bool(stmt.mask) and stmt.index.stride(lane) not in (0, 1)


def changes_along(stmts: Iterable[ir.Stmt], axis: TileAxis) -> set[int]:
    """The elements along an axis, the first left out, from which on a mask of this axis alone, or a
    comparison of its index with a number, is another than before."""
    found, indices, numbers = set[int](), dict[int, Index](), dict[int, int]()
    for s in stmts:
        for bound in getattr(s, "mask", ()) or ():
            found |= _passes(bound.index, axis, (bound.lo, bound.hi))
        match s:
            case ir.IndexTile() if not s.out.dtype.is_float:
                indices[s.out.id] = s.index
            case ir.ConstTile() if not s.out.dtype.is_float:
                numbers[s.out.id] = int(s.value)
            case ir.ComputeTile() if s.op in _COMPARISONS:
                (a, b), swapped = (t.id for t in s.args), s.args[0].id in numbers
                place, number = (b, a) if swapped else (a, b)
                if place in indices and number in numbers:
                    ends = (numbers[number] + after for after in _COMPARISONS[s.op][swapped])
                    found |= _passes(indices[place], axis, ends)
    return found


_COMPARISONS = {
    Op.LT: ((0,), (1,)),
    Op.LE: ((1,), (0,)),
    Op.EQ: ((0, 1), (0, 1)),
    Op.NE: ((0, 1), (0, 1)),
}
"""How far after a number the values of comparisons with it change: of what is on their left, and on
their right."""


def _passes(index: Index, axis: TileAxis, ends: Iterable[int]) -> set[int]:
    """The elements along an axis with which an index of it alone passes any of the ends."""
    step = index.stride(axis.name)
    if not step or index.variables() != {axis.name}:
        return set()
    if step > 0:
        found = {-(-(end - index.const) // step) for end in ends}
    else:
        found = {(index.const - end) // -step + 1 for end in ends}
    return {end for end in found if 0 < end < axis.extent}


def _cuts(stmts: Iterable[ir.Stmt], axis: TileAxis) -> list[int]:
    """Where masks of one axis change along it, its ends included; [] if that is too often."""
    found = {0, axis.extent} | changes_along(stmts, axis)
    if axis.block > 1:  # a piece is a loop of two lanes at least, though masks stay in it
        found = {end for end in found if 1 < end < axis.extent - 1} | {
            2 * (1 in found), axis.extent - 2 * (axis.extent - 1 in found), 0, axis.extent,
        }  # fmt: skip
    cuts = sorted(found)
    lanes = [b - a for a, b in pairwise(cuts)]
    strided = any(_is_strided(s, axis.name) for s in stmts)
    longest, shortest = max(lanes, default=0), min(lanes, default=0)
    is_short = (longest if strided else shortest) < LEAST_LANES or shortest < 2
    return [] if len(cuts) > MOST_PIECES + 1 or (axis.block > 1 and is_short) else cuts


def _period(stmts: Iterable[ir.Stmt], axis: TileAxis) -> int:
    """The steps of an axis after which a mask is as it was, where it tells these apart; 1 if none
    does, or the parts would be short."""
    for s in stmts:
        for bound in getattr(s, "mask", ()) or ():
            atom = bound.index.atom
            if isinstance(atom, Mod) and atom.base.stride(axis.name) in (1, -1):
                step, least = atom.divisor, LEAST_LANES if axis.block > 1 else 1
                if step <= MOST_STEPS and axis.extent >= step * least:
                    return step
    return 1


def part_of(axis: TileAxis, name: str, start: int, stop: int) -> tuple[TileAxis, Index]:
    """The axis of a piece, and the index of the whole axis's element."""
    covers = dataclasses.replace(axis.covers[-1], name=name, extent=stop - start)
    part = TileAxis(name, (covers,), min(axis.block, stop - start), axis.role)
    return part, var(name, stop - start) + start


def _piece(kernel: ir.Kernel, axis: TileAxis, start: int, stop: int) -> ir.Kernel:
    """The part of the kernel from one element of a grid axis to another."""
    return _with_part(kernel, axis, *part_of(axis, axis.name, start, stop))


def _every(kernel: ir.Kernel, axis: TileAxis, step: int, first: int) -> ir.Kernel:
    """Every so many elements of a grid axis, from the first on."""
    part, place = part_of(axis, axis.name, 0, -(-(axis.extent - first) // step))
    return _with_part(kernel, axis, part, place * step + first)


def _with_part(kernel: ir.Kernel, axis: TileAxis, part: TileAxis, place: Index) -> ir.Kernel:
    """The kernel with an axis that is a part of another, whose element is at `place`."""
    simpler = Simplifier(Unroller(kernel), {axis.name: place})
    axes = tuple(part if a.name == axis.name else a for a in kernel.axes)
    return dataclasses.replace(
        kernel, axes=axes, body=without_unread(simpler.body(kernel.body, False))
    )


def _with_split_loops(kernel: ir.Kernel) -> ir.Kernel:
    """The kernel with its outermost loops in pieces; loops of one axis may be cut elsewhere."""
    unroller, body, axes = Unroller(kernel), list[ir.Stmt](), list(kernel.axes)
    parts: dict[tuple[str, int, int], tuple[TileAxis, Index]] = {}
    for s in kernel.body:
        cuts: list[int] = []
        if isinstance(s, ir.Loop) and not s.start and not s.stop:
            axis = kernel.axis(s.axis)
            cuts = _cuts(statements(s.body), axis) if axis.block == 1 else []
        if len(cuts) < 3:
            body.append(s)
            continue
        for start, stop in pairwise(cuts):
            key = (axis.name, start, stop)
            if key not in parts:
                name = f"{axis.name}p{sum(of == axis.name for of, *_ in parts)}"
                parts[key] = part_of(axis, name, start, stop)
                axes.insert(axes.index(axis), parts[key][0])
            part, place = parts[key]
            simpler = Simplifier(unroller, {axis.name: place})
            assert isinstance(s, ir.Loop)
            body.append(ir.Loop(part.name, simpler.body(s.body, True)))
    if len(axes) == len(kernel.axes):
        return kernel
    return dataclasses.replace(kernel, axes=tuple(axes), body=without_unread(body))


class Simplifier:
    """Copies statements with an axis moved, and works out what is known then."""

    def __init__(self, unroller: Unroller, steps: dict[str, Index]):
        self.unroller, self.steps = unroller, steps
        self.names: dict[int, Tile] = {}
        self.known = Known()

    def body(self, stmts: Iterable[ir.Stmt], fresh: bool) -> tuple[ir.Stmt, ...]:
        """The statements that are left."""
        result: list[ir.Stmt] = []
        for s in stmts:
            if isinstance(s, ir.Loop):
                result.append(dataclasses.replace(s, body=self.body(s.body, fresh)))
                continue
            if isinstance(s, ir.Stash):  # nothing takes it out again
                continue
            copy = self.unroller.copy(s, self.steps, self.names, fresh)
            if isinstance(s, ir.Pure):
                assert isinstance(copy, ir.Pure)
                self._pure(s.out, copy, result)
            elif not any(b.is_never for b in getattr(copy, "mask", ())):
                result.append(copy)
        return tuple(result)

    def _pure(self, out: Tile, copy: ir.Stmt, result: list[ir.Stmt]) -> None:
        """A statement that makes a tile; `out` is its name before."""
        assert isinstance(copy, ir.Pure)
        value = self.known.value(copy)
        if value is not None:
            tile = dataclasses.replace(copy.out, dims=())
            self.names[out.id] = tile
            self.known.numbers[tile.id] = value
            result.append(ir.ConstTile(tile, value))
            return
        same = self.known.same(copy)
        if same is None:
            result.append(copy)
        else:
            self.names[out.id] = same
