"""Configurations with no search.

In: a Region and the Machine. Out: a Config. Invariant: each axis of the region is covered once;
reduced axes become loops, all others the grid; the choice depends on sizes and strides only.

Neighbouring axes that every address treats as one are merged. Then one axis is chosen to fill
vector registers: an innermost loop over a row that lies contiguous in memory, or a grid axis with
a wide block (columns, elementwise work). A transposition gets two wide axes. A dot's tiles are
those of least estimated time over the cores, for caches of the machine's sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tgrad.cpu_fallback.chain_heuristics import chain_config, chain_side
from tgrad.cpu_fallback.code import FEW_PROGRAMS, distinct_axes
from tgrad.cpu_fallback.dot_heuristics import STASH_LIMIT, dot_config, dot_tiles
from tgrad.cpu_fallback.emit_index import run_along
from tgrad.cpu_fallback.plane_plan import (
    FEW_TAPS,
    LEAST_STEPS,
    MOST_TAPS,
    is_worth_planes,
    match_plane,
)
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_heuristics import window_config
from tgrad.fusion import region as rg
from tgrad.fusion.region import Axis, Region
from tgrad.graph.index import Div, Index, Mod, var
from tgrad.graph.op import Op
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.kernel.lower import lower

MAP_BLOCK = 16384
"""Elements of the vector axis that a program of elementwise work owns."""

WHOLE_ROW = 4096
"""Columns that one program reduces together, if there are no more: threads share the rows, and read
them whole (two cores of Zen 3, beside programs of 512 columns: sum of 4096x4096 3.4 against 4.8 ms,
softmax along 2048x4096 11 against 20 ms; 2026-11)."""

COLUMN_BLOCK = 2048
"""Columns of a program where there are more; their carries stay in the first-level cache."""

SHORT_ROW = 32
"""Elements of a row from which its reductions fill vector lanes well. Of shorter ones lanes go
across rows: the end of a reduction in lanes takes as long as dozens of elements (a million elements
in rows of 10, one core with AVX-512: maxima 3.7 against 0.2 ms, softmax 6.7 against 1.0; rows of 24
3.2 and 0.3, 5.5 and 1.0; rows of 32 0.6 and 0.4, 1.3 and 3.4; 2026-11)."""

SHORT_ROWS_BYTES = 16384
"""Of the short rows of one program: half of the first-level cache."""

COLUMNS_ROUND = 64
"""Columns of a program are a multiple of these, if it has not all."""

TRANSPOSE_BLOCK = 64
"""Side of the square that a transposing program turns in cache: four cache lines of each row
(4096x4096, a core of Zen 5: 10.8 ms, with two lines 15.5 ms; 2026-11)."""


def choose_config(region: Region, machine: Machine) -> Config:
    """A good configuration for the region on the machine."""
    if region.space.kind == "dot":
        window = window_config(region, machine)
        return window or dot_config(region, dot_tiles(region, machine))
    if region.space.kind == "sort":
        return sort_config(region)
    if region.space.kind == "chain":
        side = chain_side(region, machine)
        return chain_config(region, side, side)
    axes = LoopAxes(region)
    return _plane_config(region, axes) or axes.config(loop_tiles(region, axes, machine))


def _plane_config(region: Region, axes: LoopAxes) -> Config | None:
    """For a sum over windows: of many taps lanes along the axis that walks, whatever is between its
    neighbours in memory, since each is read once, into a plane (gradient of the image of a 7x7
    depthwise convolution behind a layer norm, channels last, 4x40x32x32: 4.4 ms, so 0.6; 2026-11);
    for the gradient of taps none, since the plane's emitter has its own."""
    sums = [v for v in region.values if isinstance(v, rg.Reduce) and v.op is Op.REDUCE_SUM]
    if len(sums) != 1 or len(axes.merged) < 4:
        return None
    product = region.values[sums[0].arg]
    if not isinstance(product, rg.Compute) or product.op is not Op.MUL:
        return None
    tiles = [LoopTiles()]
    if rg.extent_of(region.space.row) <= MOST_TAPS * MOST_TAPS:
        wide = [m for m in reversed(axes.grid) if m.extent >= LEAST_STEPS]
        tiles += [LoopTiles(m.name, m.extent) for m in wide]
    for config in map(axes.config, tiles):
        program = match_plane(lower(region, config))
        if program is None or not is_worth_planes(program):
            continue
        if program.kind == "taps" or program.y.taps * program.x.taps > FEW_TAPS:
            return config
    return None


def sort_config(region: Region) -> Config:
    """A row a program, all of it in memory of the program's own."""
    row = region.space.row
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in region.space.parallel]
    return Config((*axes, TileAxis(row[-1].name, row, rg.extent_of(row), Role.FULL)))


# -- maps, reductions, scatters -----------------------------------------------------------------


@dataclass
class _Merged:
    """A tile axis to be: the region axes it covers and what happens to it."""

    covers: tuple[Axis, ...]
    role: Role
    depth: int

    @property
    def name(self) -> str:
        return self.covers[-1].name

    @property
    def extent(self) -> int:
        return rg.extent_of(self.covers)


@dataclass(frozen=True)
class _Access:
    """One load or store: its index over merged axes and how often it happens."""

    index: Index
    weight: int
    is_scatter: bool


@dataclass(frozen=True)
class LoopTiles:
    """What is chosen for a region without dots.

    Attributes:
        vector: name of the axis in vector lanes, "" for none.
        block: elements of it that a program owns, if it is a grid axis.
        other: name of a second wide axis, "" for none.
        other_block: elements of that.
        stash: elements of a row that may be kept between two passes.
    """

    vector: str = ""
    block: int = 1
    other: str = ""
    other_block: int = 1
    stash: int = STASH_LIMIT


class LoopAxes:
    """The axes that loops run over, with what is needed to choose among them.

    Attributes:
        merged: tile axes to be, in the region's order.
        grid: those that programs share.
        lanes: those that may fill vector lanes, the cheapest first, each with its cost.
    """

    def __init__(self, region: Region):
        self.merged = _merge_axes(region)
        self.accesses = _accesses(region, self.merged)
        self.grid = [m for m in self.merged if m.role is Role.GRID]
        unsafe = {
            m.name
            for a in self.accesses
            if a.is_scatter
            for m in self.merged
            if m.name not in distinct_axes(a.index)
        }
        rows = [m for m in self.merged if m.depth == 2]
        usable = [m for m in (*self.grid, *rows) if m.name not in unsafe and m.extent > 1]
        costs = [(_cost(self.accesses, m), m) for m in usable]
        self.lanes = sorted(costs, key=lambda pair: pair[0])

    @property
    def has_loops(self) -> bool:
        return len(self.grid) != len(self.merged)

    def other_axis(self, vector: _Merged) -> _Merged | None:
        """The axis that a transposition along `vector` reads or writes along."""
        return None if self.has_loops else _transposed_axis(vector, self.grid, self.accesses)

    def cost(self, vector: _Merged | None, is_turned: bool) -> float:
        """Estimated cycles with an axis in vector lanes or none, and if turned the other one as
        well."""
        other = self.other_axis(vector) if vector is not None and is_turned else None
        return _cost(self.accesses, *(axis for axis in (vector, other) if axis is not None))

    def config(self, tiles: LoopTiles) -> Config:
        """The configuration with these tiles."""
        blocks = {tiles.vector: tiles.block, tiles.other: tiles.other_block}
        ordered = sorted(
            self.merged, key=lambda m: (m.depth, m.depth > 0 and m.name == tiles.vector)
        )
        axes = tuple(
            TileAxis(m.name, m.covers, min(blocks.get(m.name, 1), max(m.extent, 1)), m.role)
            for m in ordered
        )
        return Config(axes, stash_limit=tiles.stash)


def loop_tiles(region: Region, axes: LoopAxes, machine: Machine) -> LoopTiles:
    """Lanes along the axis that memory likes best; none where a scatter writes no neighbours along
    it (columns of 1024x1024 picked by 512 indices, backward: 5.9 to 0.24 ms; 2026-11)."""
    if not axes.lanes:
        return LoopTiles()
    vector = axes.lanes[0][1]
    if any(a.is_scatter and a.index.stride(vector.name) != 1 for a in axes.accesses):
        return LoopTiles()
    across = _across_short_rows(region, axes, vector, machine)
    if across is not None:
        return across
    if vector.role is not Role.GRID:
        return LoopTiles(vector.name)
    block = _vector_block(region, vector, axes.grid, axes.has_loops, machine)
    stash = STASH_LIMIT // max(1, block)
    other = axes.other_axis(vector)
    if other is None:
        return LoopTiles(vector.name, block, stash=stash)
    sides = (min(axis.extent, TRANSPOSE_BLOCK) for axis in (vector, other))
    return LoopTiles(vector.name, next(sides), other.name, next(sides), stash)


def _across_short_rows(
    region: Region, axes: LoopAxes, vector: _Merged, machine: Machine
) -> LoopTiles | None:
    """Lanes across rows that are too short for lanes of their own, as many as the cache holds; not
    for sums of whole vectors, which end soon."""
    if vector.role is Role.GRID or vector.extent >= SHORT_ROW or region.space.kind != "reduce":
        return None
    ops = {v.op for v in region.values if isinstance(v, rg.Reduce)}
    if ops <= {Op.REDUCE_SUM} and vector.extent % machine.lanes(4) == 0:
        return None
    wide = (m for _, m in axes.lanes if m.role is Role.GRID and m.extent >= SHORT_ROW)
    across = next(wide, None)
    if across is None or region.space.outer:
        return None
    nbytes = vector.extent * max(s.dtype.itemsize for s in region.slots)
    block = 1 << (SHORT_ROWS_BYTES // nbytes).bit_length() - 1
    return LoopTiles(across.name, min(block, across.extent), stash=STASH_LIMIT // block)


def _depth(axis: Axis, region: Region) -> int:
    if axis in region.space.row:
        return 2
    return 1 if axis in region.space.outer else 0


def _merge_axes(region: Region) -> list[_Merged]:
    """Region axes, neighbours joined where no address needs them apart."""
    indices = {e for thing in (*region.values, *region.stores) for e in rg.indices_of(thing)}
    result: list[_Merged] = []
    for axis in region.axes:
        depth = _depth(axis, region)
        role = Role.LOOP if depth else Role.GRID
        last = result[-1] if result else None
        if depth and last is not None and last.depth == depth and _walks(region, axis):
            last.covers = (*last.covers, axis)
            continue
        if last is not None and last.depth == depth and _reduced_alike(region, last, axis):
            joined = _join(indices, last, axis)
            if joined is not None:
                indices = joined
                last.covers = (*last.covers, axis)
                continue
        result.append(_Merged((axis,), role, depth))
    return result


def _walks(region: Region, axis: Axis) -> bool:
    """Whether a scan or sort walks the axis: then the whole row is one tile axis."""
    return any(isinstance(v, (rg.Scan, rg.Sort)) and axis.name in v.axes for v in region.values)


def _reduced_alike(region: Region, merged: _Merged, axis: Axis) -> bool:
    """Whether each reduction takes both or neither."""
    for value in region.values:
        if isinstance(value, (rg.Reduce, rg.Dot)):
            if (axis.name in value.axes) != (merged.name in value.axes):
                return False
    return True


def _join(indices: set[Index], merged: _Merged, axis: Axis) -> set[Index] | None:
    """The indices over the joint axis (named like the inner one); None if one would divide."""
    if merged.extent == 0 or axis.extent == 0:
        return None
    whole = var(axis.name, merged.extent * axis.extent)
    values = {merged.name: whole // axis.extent, axis.name: whole % axis.extent}
    result = set()
    for e in indices:
        if merged.name not in e.variables() and axis.name not in e.variables():
            result.add(e)
            continue
        new = e.substitute(values)
        for atom in new.atoms():
            if isinstance(atom, (Div, Mod)) and axis.name in atom.base.variables():
                return None
        result.add(new)
    return result


def _accesses(region: Region, merged: Sequence[_Merged]) -> list[_Access]:
    values: dict[str, Index] = {}
    for m in merged:
        flat = var(m.name, m.extent)
        for axis in reversed(m.covers):
            values[axis.name] = flat % max(1, axis.extent) if axis is not m.covers[0] else flat
            flat = flat // max(1, axis.extent)
    extents = {a.name: a.extent for a in region.axes}
    result: list[_Access] = []
    for v, value in enumerate(region.values):
        if isinstance(value, rg.Load):
            weight = prod(max(1, extents[name]) for name in region.dims[v])
            result.append(_Access(value.index.substitute(values), weight, False))
    for store in region.stores:
        weight = prod(max(1, extents[name]) for name in rg.variables_of(store))
        scatter = store.combine != "set" or bool(store.index.loaded())
        result.append(_Access(store.index.substitute(values), weight, scatter))
    return result


def _cost(accesses: Sequence[_Access], *axes: _Merged) -> float:
    """Estimated cycles of all loads and stores with one of these axes in vector lanes, each access
    along the one that it likes best."""
    return sum(a.weight * min((_share(axis, a) for axis in axes), default=1.0) for a in accesses)


def _share(axis: _Merged, access: _Access) -> float:
    """Cycles of an element of an access along an axis."""
    run = run_along(access.index, axis.name)
    if run is None:
        share = 1.0
    elif run.step in (0, 1):
        share = 0.06 if run.period == 0 else 0.06 + 1 / run.period
    else:
        share = 0.15 if abs(run.step) <= 4 else 1.0
    return share + 1.0 / max(1, axis.extent)


def _vector_block(
    region: Region, axis: _Merged, grid: Sequence[_Merged], has_loops: bool, machine: Machine
) -> int:
    others = 1 if region.table is None else region.table.members
    for m in grid:
        others *= m.extent if m is not axis else 1
    if has_loops:
        return min(axis.extent, _column_block(region, axis.extent, others, machine.cores))
    block = MAP_BLOCK
    while block > 1024 and others * -(-axis.extent // block) < 8 * machine.cores:
        block //= 2
    return min(axis.extent, block)


def _column_block(region: Region, extent: int, others: int, cores: int) -> int:
    """Columns of a program. Threads share the rows of few programs, but not those of a scan."""
    programs = 1 if extent <= WHOLE_ROW else -(-extent // COLUMN_BLOCK)
    is_walked = any(isinstance(v, rg.Scan) for v in region.values)
    if is_walked or others * programs >= FEW_PROGRAMS:
        programs = max(programs, -(-cores // max(1, others)))
    if programs == 1:
        return extent
    return -(-extent // (programs * COLUMNS_ROUND)) * COLUMNS_ROUND


def _transposed_axis(
    vector: _Merged, grid: Sequence[_Merged], accesses: Sequence[_Access]
) -> _Merged | None:
    """An axis along which another big access is contiguous while the vector axis strides it."""
    for a in accesses:
        run = run_along(a.index, vector.name)
        if run is None or abs(run.step) <= 4:
            continue
        for m in grid:
            other = run_along(a.index, m.name)
            if m is not vector and other is not None and abs(other.step) == 1 and m.extent >= 8:
                return m
    return None
