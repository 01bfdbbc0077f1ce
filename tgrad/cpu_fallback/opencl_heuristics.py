"""Configurations of OpenCL kernels.

In: a Region. Out: a Config. Invariant: each axis of the region is covered once; reduced axes are
loops, all others the grid; the elements of a work-item's tiles fit its registers, and its source,
in which each is a variable, stays short. One configuration serves all devices.

    map          one element a work-item; a square of eight by eight where rows become columns
    row          steps of eight elements, each with a carry of its own, which do not wait
    column       up to sixteen columns a work-item
    dot          up to eight rows by eight columns of the result
"""

from __future__ import annotations

from math import prod

from tgrad.cpu_fallback.dot_heuristics import joint_name
from tgrad.cpu_fallback.heuristics import LoopAxes, LoopTiles, sort_config
from tgrad.fusion import region as rg
from tgrad.fusion.region import Axis, Region
from tgrad.kernel.ir import Config, Role, TileAxis

DOT_SIDE = 8
"""Rows, and columns, of a dot's result that a work-item has at most: each operand is loaded once
for eight products (512x512 by 512x512 with PoCL on 2 cores of Zen 3: 8x8 30 GFLOP/s, 8x16 24, 4x4
14; 2026-11)."""

PROGRAMS = 256
"""Work-items that are worth smaller tiles."""

ROW_STEP = 8
COLUMNS = 16
"""A line of a cache (sums of 4096 columns of 4096 with PoCL on 2 cores of Zen 3: 16 ms, with 8
columns 28 ms, with 4 55 ms; 2026-11)."""
SQUARES = (8, 4)

MOST_COPIES = 256
"""Variables of a work-item's source, about: values of the region times lanes."""


def choose_opencl_config(region: Region) -> Config:
    """A configuration for any device."""
    if region.space.kind == "sort":
        return sort_config(region)
    if region.space.kind == "dot":
        return _dot_config(region)
    axes = LoopAxes(region)
    return axes.config(_loop_tiles(region, axes))


def _loop_tiles(region: Region, axes: LoopAxes) -> LoopTiles:
    limited = {x.axis for x in region.limits}
    walked = {n for v in region.values if isinstance(v, rg.Scan) for n in v.axes}
    most = MOST_COPIES // max(1, len(region.values))
    if not axes.lanes or most < 2:
        return LoopTiles(stash=0)
    vector = axes.lanes[0][1]
    if {a.name for a in vector.covers} & (limited | walked):
        return LoopTiles(stash=0)
    if vector.role is Role.LOOP:
        block = min(ROW_STEP, most) if vector.extent >= 2 * ROW_STEP else 1
        return LoopTiles(vector.name, block, stash=0)
    if axes.has_loops:
        columns = min(COLUMNS, most, prod(a.extent for a in axes.grid) // PROGRAMS)
        return LoopTiles(vector.name, _divisor(vector.extent, columns), stash=0)
    other = axes.other_axis(vector)
    square = next((side for side in SQUARES if side**2 <= most), 1)
    if other is None or square == 1 or {a.name for a in other.covers} & limited:
        return LoopTiles(stash=0)
    sides = (_divisor(axis.extent, square) for axis in (vector, other))
    return LoopTiles(vector.name, next(sides), other.name, next(sides), stash=0)


def _divisor(extent: int, most: int) -> int:
    """The largest block that leaves no lanes over."""
    return next(b for b in range(max(1, min(most, extent)), 0, -1) if extent % b == 0)


def _dot_config(region: Region) -> Config:
    space = region.space
    rows, columns = DOT_SIDE, DOT_SIDE
    while rows * columns > 1 and not _is_good(region, rows, columns):
        rows, columns = (rows // 2, columns) if rows >= columns else (rows, columns // 2)
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
    for covers, name, role, block in (
        (space.m, "m", Role.GRID, _side(region, space.m, rows)),
        (space.k, "k", Role.LOOP, 1),
        (space.n, "n", Role.GRID, _side(region, space.n, columns)),
    ):
        axes.append(TileAxis(joint_name(region, covers, name), covers, block, role))
    return Config(tuple(axes))


def _is_good(region: Region, rows: int, columns: int) -> bool:
    """Whether tiles of so many rows and columns make enough programs of not too much source."""
    space = region.space
    m, n = _side(region, space.m, rows), _side(region, space.n, columns)
    programs = rg.extent_of(space.batch)
    programs *= -(-rg.extent_of(space.m) // m) * -(-rg.extent_of(space.n) // n)
    in_rows, in_columns = ({a.name for a in covers} for covers in (space.m, space.n))
    copies = sum(
        (1 if in_rows.isdisjoint(dims) else m) * (1 if in_columns.isdisjoint(dims) else n)
        for dims in region.dims
    )
    return programs >= PROGRAMS and copies <= MOST_COPIES


def _side(region: Region, covers: tuple[Axis, ...], most: int) -> int:
    """Elements of a tile along m or n: as many as divide it, if that is half of the most or more;
    one where parts of the axis may not be needed."""
    if {x.axis for x in region.limits} & {a.name for a in covers}:
        return 1
    extent = max(1, rg.extent_of(covers))
    whole = _divisor(extent, most)
    return whole if 2 * whole > most else min(most, extent)
