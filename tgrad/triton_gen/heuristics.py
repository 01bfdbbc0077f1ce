"""A good configuration with no search.

In: a Region, a Target. Out: a Config that covers every axis of the region once. Invariant: blocks
are powers of two, tiles fit in registers and shared memory, and the choice depends on nothing but
the arguments.

What becomes of each kind of region:
    map, scatter   x: all axes flattened, GRID; a transpose keeps two axes apart (a square tile)
    reduce, scan   i: parallel axes, GRID; r: the row, FULL if it fits in registers and LOOP if not;
                   o: a second reduction around the rows, LOOP
    sort           i: parallel axes, GRID; r: the row, FULL
    dot, chain     heuristics_dot.py, heuristics_chain.py
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tgrad.fusion.region import Axis, Load, Region, extent_of
from tgrad.graph.index import Index
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.triton_gen.blocks import power_of_two, steps_of
from tgrad.triton_gen.heuristics_chain import choose_chain
from tgrad.triton_gen.heuristics_dot import choose_dot
from tgrad.triton_gen.target import Target

FULL_ROW = 16384
"""Longest row, in elements, that one program keeps in registers."""
SCANNED_ROW = 8192
"""The same, where it is scanned."""
SORTED_ROW = 4096
"""Most elements that one program sorts, fusion's limit too: 64 registers of a thread on sm_90."""
LOOP_BLOCK = 4096
TILE = 4096
"""Elements of a tile that 4 to 8 warps handle with wide loads and no spills."""
COPIED = 1 << 15
"""Elements of a step of a reduction's loop that are copied ahead, at most."""
WINDOW, WINDOWS = 32, 1024
"""Longest column that is walked element by element, and columns of a program: windows of pooling,
whose elements are as wide apart as rows of an image."""
LIVE_BLOCK, LIVE_ROWS = 8, 256
"""Elements that a step takes of rows of which each has a run alone, and rows of a program."""
INTERPRETER_TILE = 1 << 17
TRANSPOSE_BLOCK, TRANSPOSE_TILE = 32, 2048
"""Elements of a turned tile along the axis that a load reads along, where both axes are long, and
of the tile."""
LEAST_TURNED = 8
"""Length of an axis along which a transposed tile is worth it: the places of a 3x3 window."""


def choose_config(region: Region, target: Target) -> Config:
    """Tile axes and launch options for a region."""
    kind = region.space.kind
    if kind == "dot":
        return choose_dot(region, target)
    if kind == "chain":
        return choose_chain(region, target)
    if kind in ("reduce", "scan"):
        return _reduce(region, target)
    if kind == "sort":
        return _sort(region, target)
    return _map(region, target)


def _members(region: Region) -> int:
    """How many of its like are in the launch."""
    return 1 if region.table is None else region.table.members


def _widest(region: Region) -> int:
    return max((s.dtype.itemsize for s in region.slots if s.size > 1), default=4)


# -- elementwise ------------------------------------------------------------------------------


def _map(region: Region, target: Target) -> Config:
    axes = region.axes
    if not axes:
        return Config((), num_warps=1, num_stages=1)
    pair = _transposed(region)
    if pair is not None and not target.is_interpreter:
        return _transpose(region, pair)
    n = extent_of(axes)
    if target.is_interpreter:
        block = min(power_of_two(n), INTERPRETER_TILE)
        return Config((TileAxis("x", axes, block, Role.GRID),), num_warps=4, num_stages=1)
    lanes = max(16 // _widest(region), 1)
    block = 1024
    least = target.warp_size * lanes  # a warp's widest access
    while block > least and _members(region) * steps_of(n, block) < 2 * target.num_sms:
        block //= 2
    block = min(block, max(power_of_two(n), 32))
    warps = min(max(block // (target.warp_size * lanes * 2), 1), 4)
    return Config((TileAxis("x", axes, block, Role.GRID),), num_warps=warps, num_stages=1)


def _contiguous_axis(region: Region, index: Index) -> Axis | None:
    """The axis along which neighbouring elements are neighbours in memory."""
    for axis in reversed(region.axes):
        if axis.extent > 1 and index.stride(axis.name) in (1, -1):
            return axis
    return None


def _transposed(region: Region) -> tuple[Axis, Axis] | None:
    """The contiguous axes of the stores and of a load, where they differ and both are long."""
    along = {_contiguous_axis(region, s.index) for s in region.stores}
    if len(along) != 1 or None in along:
        return None
    (store,) = along
    assert store is not None
    for value in region.values:
        if not isinstance(value, Load) or region.slots[value.slot].size < 4096:
            continue
        load = _contiguous_axis(region, value.index)
        if load is None or load == store or value.index.stride(store.name) in (0, None):
            continue
        if min(load.extent, store.extent) >= LEAST_TURNED:
            return store, load
    return None


def _transpose(region: Region, pair: tuple[Axis, Axis]) -> Config:
    return Config(tuple(_turned_axes(region.axes, pair)), num_warps=4, num_stages=1)


def _turned_axes(axes: tuple[Axis, ...], pair: tuple[Axis, Axis]) -> list[TileAxis]:
    """A tile over the axes that a store writes along and that a load reads along."""
    store, load = pair
    written = min(2 * TRANSPOSE_BLOCK, power_of_two(store.extent))
    read = min(TRANSPOSE_TILE // written, power_of_two(load.extent))
    blocks = {load: read, store: min(TRANSPOSE_TILE // read, power_of_two(store.extent))}
    rest = tuple(a for a in axes if a not in pair)
    found = [TileAxis("x", rest, 1, Role.GRID)] if rest else []
    names = iter(("y", "z"))
    turned = (a for a in axes if a in pair)
    return found + [TileAxis(next(names), (a,), blocks[a], Role.GRID) for a in turned]


# -- reductions -------------------------------------------------------------------------------


def _reduce(region: Region, target: Target) -> Config:
    space = region.space
    parallel, row, outer = space.parallel, space.row, space.outer
    rows, length = extent_of(parallel), extent_of(row)
    column = _is_column(region)
    is_plain = space.kind == "reduce" and not outer and len(space.live) < 2
    pair = _transposed(region) if column and is_plain and not target.is_interpreter else None
    if pair is not None and set(pair) <= set(parallel):
        return _turned_columns(region, pair, target)
    if len(space.live) > 1:  # from a first to a last element of each row, which leave out most
        tile = min(LIVE_BLOCK, power_of_two(length))
        axis_r = TileAxis("r", row, tile, Role.LOOP)
        per_program, warps = min(LIVE_ROWS, power_of_two(rows)), 4
    elif target.is_interpreter:
        axis_r, tile = _row_axis(row, length, INTERPRETER_TILE // 2, INTERPRETER_TILE // 8)
        per_program = min(max(INTERPRETER_TILE // tile, 1), power_of_two(rows))
        warps = 4
    elif column and not target.is_rdna and _is_window(rows, length, target):
        axis_r, tile = TileAxis("r", row, 1, Role.LOOP), 1
        per_program, warps = WINDOWS, 4
    elif column:
        per_program, block = _column_blocks(rows, length, target, _members(region))
        if outer and target.is_nvidia and 16 < length <= block:
            block //= 2  # Triton 3.7 fails on some sums of whole columns inside a loop
        role = Role.FULL if 0 < length <= block else Role.LOOP
        axis_r, tile = TileAxis("r", row, block, role), block
        warps = 8 if target.is_rdna else min(max(per_program * tile // 1024, 4), 8)
    else:
        axis_r, tile, per_program, warps = _whole_rows(region, target)
    stages = 1 if column or outer or target.is_interpreter else _row_stages(region, axis_r, target)
    axes = [axis_r] if row else []
    if outer:
        per_program = per_program if column else 1
        budget = (INTERPRETER_TILE if target.is_interpreter else TILE) // (tile * per_program)
        block_o = min(max(budget, 1), power_of_two(extent_of(outer)))
        axes.insert(0, TileAxis("o", outer, block_o, Role.LOOP))
        points = block_o * tile * per_program
        if column or not target.is_nvidia:
            warps = max(warps, _row_warps(points, target))
        else:  # 32 elements a thread are in flight at once
            warps = _row_warps(points // 2, target)
        if not parallel:
            warps = max(warps, 8)
    if parallel:
        axes.append(TileAxis("i", parallel, per_program, Role.GRID))
    return Config(_in_order(region, axes), num_warps=warps, num_stages=stages)


def _turned_columns(region: Region, pair: tuple[Axis, Axis], target: Target) -> Config:
    """Sums of columns, read along one axis and written along another."""
    row, axes = region.space.row, _turned_axes(region.space.parallel, pair)
    at = next(i for i, a in enumerate(axes) if a.covers == (pair[1],))
    while axes[at].block > TRANSPOSE_BLOCK and (
        _members(region) * prod(a.steps for a in axes) < target.num_sms
    ):
        axes[at] = replace(axes[at], block=axes[at].block // 2)
    length = extent_of(row)
    block = min(TILE // prod(a.block for a in axes), power_of_two(length))
    role = Role.FULL if 0 < length <= block else Role.LOOP
    axes.append(TileAxis("r", row, block, role))
    return Config(_in_order(region, axes), num_warps=4, num_stages=1)


def _whole_rows(region: Region, target: Target) -> tuple[TileAxis, int, int, int]:
    """The axis of rows that lie together, elements of a step along it, rows of a program, warps."""
    rows, length = extent_of(region.space.parallel), extent_of(region.space.row)
    longest = FULL_ROW if _row_loads(region) <= 2 else FULL_ROW // 2
    longest = min(longest, SCANNED_ROW) if region.space.kind == "scan" else longest
    is_lone = _is_lone_load(region, target) and length > longest
    block = LOOP_BLOCK if rows > 1 else 2 * LOOP_BLOCK
    if is_lone:
        block = 4 * LOOP_BLOCK if length > 2 * FULL_ROW else 2 * LOOP_BLOCK
    axis, tile = _row_axis(region.space.row, length, longest, block)
    per_program, members = min(max(TILE // tile, 1), power_of_two(rows)), _members(region)
    while per_program > 1 and members * steps_of(rows, per_program) < 2 * target.num_sms:
        per_program //= 2
    warps = tile // (16 * target.warp_size) if is_lone else _row_warps(per_program * tile, target)
    return axis, tile, per_program, warps


def _is_window(rows: int, length: int, target: Target) -> bool:
    """Whether columns are so short and many as the windows of pooling."""
    return 1 < length <= WINDOW and rows >= 2 * target.num_sms * WINDOWS


def _is_lone_load(region: Region, target: Target) -> bool:
    """Whether one load of half types is all that many long rows are read by.

    Then a thread takes 16 elements a step with 32 registers (sm_90), so that a multiprocessor's
    programs load 64 KB at once, of all 8 MB where 4.2 TB/s and 700 ns ask for 3. Of rows beyond
    32768 elements it has two at a time: 26 MB of 50304 each stay in the L2 cache between the first
    and the last pass. Cross entropy of 8192 such rows, forward and backward, on an H200: 490 us;
    with steps of 8192 by 16 warps 593, of 4096 by 8 warps 638 (2026-11).
    """
    row = {a.name for a in region.space.row}
    loads = [v for v in region.values if isinstance(v, Load) and v.index.variables() & row]
    is_half = all(v.dtype.itemsize == 2 for v in loads)
    is_many = extent_of(region.space.parallel) >= 4 * target.num_sms
    is_lone = region.space.kind == "reduce" and len(loads) == 1 and is_half
    return target.is_nvidia and is_lone and is_many


def _row_stages(region: Region, axis: TileAxis, target: Target) -> int:
    """Two where a row of half types is read in several steps: the next part is copied to shared
    memory while this one is reduced. Not where rows begin at any address, which are copied element
    by element: softmax's gradient of 50257 floats then spills; nor for floats, where a second stage
    takes 35 registers (sm_90)."""
    row = {a.name for a in region.space.row}
    loads = [v for v in region.values if isinstance(v, Load) and v.index.variables() & row]
    widths = {v.dtype.itemsize for v in loads}
    is_long = axis.role is Role.LOOP and axis.steps > 2 and region.space.kind == "reduce"
    if not target.is_nvidia or not is_long or not loads or max(widths) > 2:
        return 1
    if axis.block > LOOP_BLOCK:  # enough is loaded at once
        return 1
    is_aligned = all(axis.extent * width % 16 == 0 for width in widths)
    return 2 if is_aligned and len(loads) * axis.block <= COPIED else 1


def _row_axis(row: tuple[Axis, ...], length: int, longest: int, block: int) -> tuple[TileAxis, int]:
    """The row in one tile if it fits, else in steps; and the tile's elements along it."""
    padded = power_of_two(length)
    if length > 0 and padded <= longest:
        return TileAxis("r", row, padded, Role.FULL), padded
    block = min(block, padded)
    return TileAxis("r", row, block, Role.LOOP), block


def _row_warps(elements: int, target: Target) -> int:
    """Warps so that a thread has about 16 elements of a tile; at most 1024 threads."""
    most = 1024 // target.warp_size
    return max(1, min(power_of_two(elements // (target.warp_size * 16)), most, 16))


def _column_blocks(columns: int, length: int, target: Target, members: int) -> tuple[int, int]:
    """Columns and rows of the tile of a reduction whose contiguous axis is kept."""
    block = min(128, power_of_two(columns))
    while block > 32 and members * steps_of(columns, block) < target.num_sms:
        block //= 2
    tile = 2 * TILE if target.is_nvidia else TILE
    return block, min(tile // block, power_of_two(length))


def _is_column(region: Region) -> bool:
    """Whether most loaded elements are contiguous along a parallel axis."""
    parallel = {a.name for a in region.space.parallel}
    votes = 0
    for value in region.values:
        if isinstance(value, Load):
            axis = _contiguous_axis(region, value.index)
            touched = prod(region.extent(n) for n in value.index.variables())
            if axis is not None:
                votes += touched if axis.name in parallel else -touched
    return votes > 0


def _row_loads(region: Region) -> int:
    """Loads that have a row axis: tiles that may be live together."""
    row = {a.name for a in region.space.row}
    return sum(isinstance(v, Load) and bool(v.index.variables() & row) for v in region.values)


def _in_order(region: Region, axes: list[TileAxis]) -> tuple[TileAxis, ...]:
    """Tile axes in the order of the region's axes."""
    order = {a.name: at for at, a in enumerate(region.axes)}
    return tuple(sorted(axes, key=lambda t: order[t.covers[0].name]))


# -- sorts ------------------------------------------------------------------------------------


def _sort(region: Region, target: Target) -> Config:
    """Rows of up to SORTED_ROW elements; short ones share a program."""
    space = region.space
    rows, tile = extent_of(space.parallel), power_of_two(extent_of(space.row))
    per_program = min(max(SORTED_ROW // 4 // tile, 1), power_of_two(rows))
    while per_program > 1 and steps_of(rows, per_program) < 2 * target.num_sms:
        per_program //= 2
    axes = [TileAxis("r", space.row, tile, Role.FULL)]
    if space.parallel:
        axes.insert(0, TileAxis("i", space.parallel, per_program, Role.GRID))
    return Config(tuple(axes), num_warps=_row_warps(4 * per_program * tile, target), num_stages=1)
