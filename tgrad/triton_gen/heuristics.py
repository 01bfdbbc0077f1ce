"""A good configuration with no search.

In: a Region, a Target. Out: a Config that covers every axis of the region once. Invariant: blocks
are powers of two, tiles fit in registers and shared memory, and the choice depends on nothing but
the arguments.

What becomes of each kind of region:
    map, scatter   x: all axes flattened, GRID; a transpose keeps two axes apart (a square tile)
    reduce, scan   i: parallel axes, GRID; r: the row, FULL if it fits in registers and LOOP if not;
                   o: a second reduction around the rows, LOOP
    sort           i: parallel axes, GRID; r: the row, FULL
    dot            b: batch, GRID by 1; m, n: GRID; k: LOOP (FULL if it is one tile)
    chain          heuristics_chain.py
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, prod

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.region import Axis, Dot, Load, Region, extent_of, indices_of, operands_of
from tgrad.graph.index import Atom, Div, Index, Mod, Var, unflatten, var
from tgrad.kernel.ir import Config, Role, TileAxis, count_programs
from tgrad.triton_gen.emit_dot import MATRIX_TYPES, operand_type
from tgrad.triton_gen.epilogue import accumulators, half_the_columns, with_epilogue_parts
from tgrad.triton_gen.heuristics_chain import choose_chain, power_of_two
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
TRANSPOSE_BLOCK = 32
LEAST_WGMMA = 64
"""Rows of the smallest product of a group of 4 warps."""
SIDE = 90
"""Elements of a tile's product that take as long as an element of its sides. A grid of 64 x 128
reaches 0.66 of the rate of 128 x 256, one of 128 x 128 0.86 (H100, bfloat16, 2026-11)."""
SHORT_K = 512
"""Bytes of k below which a product moves more than it computes, as one with few rows or columns
does: small tiles, many at a time. With 256 columns of bfloat16 100352 x 512 takes 77 us in tiles of
128 x 128 and 94 in smaller ones (H200, 2026-11)."""
SHARED_TILE = 128 * 128
"""Tile of which two programs of 3 stages fit a multiprocessor: one computes while the other writes
its results or waits for a window of an image."""
SHORT_LOOP, WALKED = 24, 16
"""Steps over k that take about as long as an epilogue and the first loads; that a program may walk
beside tiles of 128 x 256."""
WALKING_PARTS = 4
"""Of the epilogue of a program that walks, at most."""
DEEPEST = 64
"""Block of k of products of half types."""


def choose_config(region: Region, target: Target) -> Config:
    """Tile axes and launch options for a region."""
    kind = region.space.kind
    if kind == "dot":
        return _dot(region, target)
    if kind == "chain":
        return choose_chain(region, target)
    if kind in ("reduce", "scan"):
        return _reduce(region, target)
    if kind == "sort":
        return _sort(region, target)
    return _map(region, target)


def _steps(extent: int, block: int) -> int:
    return -(-extent // block)


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
    while block > least and _members(region) * _steps(n, block) < 2 * target.num_sms:
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
        if min(load.extent, store.extent) >= 16:
            return store, load
    return None


def _transpose(region: Region, pair: tuple[Axis, Axis]) -> Config:
    rest = tuple(a for a in region.axes if a not in pair)
    axes = [TileAxis("x", rest, 1, Role.GRID)] if rest else []
    names = iter(("y", "z"))
    for axis in region.axes:
        if axis in pair:
            block = min(TRANSPOSE_BLOCK * (2 if axis == pair[0] else 1), power_of_two(axis.extent))
            axes.append(TileAxis(next(names), (axis,), block, Role.GRID))
    return Config(tuple(axes), num_warps=4, num_stages=1)


# -- reductions -------------------------------------------------------------------------------


def _reduce(region: Region, target: Target) -> Config:
    space = region.space
    parallel, row, outer = space.parallel, space.row, space.outer
    rows, length = extent_of(parallel), extent_of(row)
    column = _is_column(region)
    live = _row_loads(region)
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
        longest = FULL_ROW if live <= 2 else FULL_ROW // 2
        longest = min(longest, SCANNED_ROW) if region.space.kind == "scan" else longest
        is_lone = _is_lone_load(region, target) and length > longest
        block = LOOP_BLOCK if rows > 1 else 2 * LOOP_BLOCK
        if is_lone:
            block = 4 * LOOP_BLOCK if length > 2 * FULL_ROW else 2 * LOOP_BLOCK
        axis_r, tile = _row_axis(row, length, longest, block)
        per_program = min(max(TILE // tile, 1), power_of_two(rows))
        members = _members(region)
        while per_program > 1 and members * _steps(rows, per_program) < 2 * target.num_sms:
            per_program //= 2
        warps = _row_warps(per_program * tile, target)
        if is_lone:
            warps = tile // (16 * target.warp_size)
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
    while block > 32 and members * _steps(columns, block) < target.num_sms:
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
    while per_program > 1 and _steps(rows, per_program) < 2 * target.num_sms:
        per_program //= 2
    axes = [TileAxis("r", space.row, tile, Role.FULL)]
    if space.parallel:
        axes.insert(0, TileAxis("i", space.parallel, per_program, Role.GRID))
    return Config(tuple(axes), num_warps=_row_warps(4 * per_program * tile, target), num_stages=1)


# -- dots -------------------------------------------------------------------------------------


def _dot(region: Region, target: Target) -> Config:
    space = region.space
    m, n, batch = (extent_of(g) for g in (space.m, space.n, space.batch))
    walks = _contracted(region)
    k = max(map(extent_of, walks))
    dots = [v for v in region.values if isinstance(v, Dot)]
    types = {operand_type(region.values[v.a].dtype, region.values[v.b].dtype) for v in dots}
    dtype = max(types, key=lambda t: t.itemsize)
    # addresses for three loops take what registers another sum would
    sums = max(len(accumulators(region)), 2 if len(walks) > 2 else 1)
    # the transposed product has the rows that wgmma wants
    is_turned = target.has_wgmma and 1 < m <= LEAST_WGMMA // 2 < LEAST_WGMMA <= n
    if m == 1 or n == 1 or any(MATRIX_TYPES.get(t) is not dots[0].dtype for t in types):
        blocks = _product_blocks(m, n, k, target)
        warps, stages = 4, 1
    elif target.is_interpreter:
        blocks = _matrix_block(m, 256), _matrix_block(n, 256), _matrix_block(k, 256, dtype)
        warps, stages = 4, 1
    else:
        windowed = _is_windowed(region) or (not target.is_nvidia and _is_masked(region))
        if is_turned:
            block_n, block_m, block_k = _matrix_blocks(
                n, m, k, batch, dtype, windowed, target, sums
            )
            blocks = block_m, block_n, block_k
        else:
            blocks = _matrix_blocks(m, n, k, batch, dtype, windowed, target, sums)
        within = _within_window(region, blocks, k) if windowed and target.has_wgmma else None
        if within is not None:
            windowed, blocks = False, within
        warps = _dot_warps(blocks, sums, windowed, target)
        if dtype.is_float8 and blocks[0] * blocks[1] >= SHARED_TILE // 2:
            warps = 8  # partial sums take as many registers as the sums
        stages = _stages(region, blocks, target)
        if blocks[0] > 128:  # tiles of 8-bit floats, by time on an H200
            stages = min(stages, 3)
        if target.has_wgmma and not windowed and _is_masked(region):
            programs = batch * _steps(m, blocks[0]) * _steps(n, blocks[1])
            warps, stages = _image_options(region, blocks, programs, warps, stages, target)
    block_m, block_n, block_k = blocks
    inner = (g for g in walks if g != space.k)
    groups = (
        TileAxis("b", space.batch, 1, Role.GRID),
        TileAxis("m", _in_one_place(region, space.m, block_m), block_m, Role.GRID),
        *(
            _walked(f"j{i}", _in_one_place(region, g, block_k), block_k)
            for i, g in enumerate(inner)
        ),
        _walked("k", _in_one_place(region, space.k, block_k), block_k),
        TileAxis("n", _as_loaded(region, space.n), block_n, Role.GRID),
    )
    if is_turned:
        groups = (groups[0], *groups[:0:-1])
    first, last = (a for a in groups if a.name in ("m", "n"))
    config = Config(
        tuple(a for a in groups if a.covers), warps, stages, group_m=_group(first.steps, last.steps)
    )
    config = with_epilogue_parts(region, config, target)
    return _shared(region, config, target) if target.has_wgmma else config


def _shared(region: Region, config: Config, target: Target) -> Config:
    """The config for what a program does before and after its loop (H100, H200, 2026-11).

    Of a tile that leaves room for two programs on a multiprocessor so few stages that two are
    there, where there are more programs than multiprocessors and either a short loop, beside whose
    epilogue the other computes, or no more than two a multiprocessor. Of a larger tile with a short
    loop, half of it where the epilogue is long, else one program that walks: with long loops walks
    are slower (4096³: 2.7 times).
    """
    tile = prod(a.block for a in config.axes if a.role is Role.GRID)
    programs = count_programs(config.axes, None)
    loops = [a for a in config.axes if a.role is not Role.GRID]
    steps = prod(a.steps for a in loops)
    if tile > SHARED_TILE and steps <= SHORT_LOOP and config.epilogue_parts > WALKING_PARTS:
        return _shared(
            region, with_epilogue_parts(region, half_the_columns(config), target), target
        )
    is_pair = config.epilogue_parts > 1 and programs <= 2 * target.num_sms
    if tile == SHARED_TILE and programs > target.num_sms and (steps <= SHORT_LOOP or is_pair):
        return replace(config, num_stages=min(config.num_stages, 3))
    # a program that walks does not skip what nobody needs
    is_plain = len(loops) == 1 and not _is_masked(region) and not region.limits
    if tile > SHARED_TILE and steps <= WALKED and is_plain and programs > 2 * target.num_sms:
        return replace(config, programs=target.num_sms)
    return config


def _contracted(region: Region) -> list[tuple[Axis, ...]]:
    """The different groups of axes that a region's dots contract, in order."""
    names = dict.fromkeys(v.axes for v in region.values if isinstance(v, Dot))
    return [tuple(a for a in region.axes if a.name in group) for group in names]


def _walked(name: str, axes: tuple[Axis, ...], block: int) -> TileAxis:
    """The tile axis of what dots contract: a loop, unless it is one tile."""
    role = Role.FULL if 0 < extent_of(axes) <= block else Role.LOOP
    return TileAxis(name, axes, block, role)


def _group(rows: int, columns: int) -> int:
    """Rows of tiles that run together: 8 or, so that all groups are equal, a little fewer."""
    if rows < 8 or columns < 4:
        return 1
    return next((g for g in range(8, 3, -1) if rows % g == 0), 8)


def _as_loaded(region: Region, group: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axes in the order of a buffer that holds many neighbours along one of them, so that a
    tile's neighbours are neighbours in memory: (row, column, channel) of an image with channels
    last."""
    names = {a.name for a in group}
    loads = [v for v in region.values if isinstance(v, Load) and names <= v.index.variables()]
    if len(group) < 2 or not loads:
        return group

    def stride(load: Load, axis: Axis) -> float:
        return abs(load.index.stride(axis.name) or inf)

    def neighbours(load: Load) -> tuple[int, int]:
        along = max((a.extent for a in group if stride(load, a) == 1), default=1)
        return along, region.slots[load.slot].size

    best = max(loads, key=neighbours)
    return tuple(sorted(group, key=lambda a: stride(best, a), reverse=True))


def _in_one_place(region: Region, group: tuple[Axis, ...], block: int) -> tuple[Axis, ...]:
    """The axes as loaded, but those that no mask depends on behind the others where tiles fit them:
    a tile then is one pixel of many images, and its masks are numbers. The gradient of a 3x3
    window of 512 channels takes 65 us of 147 so, of 64 channels 143 of 177 (H200, 2026-11)."""
    loaded = _as_loaded(region, group)
    rest = _unmasked(region, loaded, block)
    return (*(a for a in loaded if a not in rest), *rest)


def _unmasked(region: Region, group: tuple[Axis, ...], block: int) -> tuple[Axis, ...]:
    """Of the axes those that no mask depends on, if tiles fit them."""
    masks = (v.mask for v in region.values if isinstance(v, Load))
    masked = {name for mask in masks for b in mask for name in b.index.variables()}
    free = tuple(a for a in group if a.name not in masked)
    return () if extent_of(free) % block else free


def _matrix_block(extent: int, most: int, dtype: DType | None = None) -> int:
    least = 32 if dtype is not None and dtype.itemsize == 1 else 16
    return min(max(power_of_two(extent), least), most)


def _product_blocks(m: int, n: int, k: int, target: Target) -> tuple[int, int, int]:
    """Tiles of a dot that tl.dot does not take: the product of the three fits in registers."""
    if m == 1 or n == 1:
        wide = min(power_of_two(max(m, n)), 32)
        deep = min(power_of_two(k), 4096 // max(wide, 1), 256)
        return (wide if m > 1 else 1), (wide if n > 1 else 1), deep
    side = 32 if target.is_interpreter else 16
    return min(power_of_two(m), side), min(power_of_two(n), side), min(power_of_two(k), 16)


def _matrix_blocks(
    m: int, n: int, k: int, batch: int, dtype: DType, windowed: bool, target: Target, sums: int
) -> tuple[int, int, int]:
    """Of the tiles that fit, up to 128 x 256 for half types, that with which the grid takes least
    time: a large tile reads less, and many tiles leave less of the machine idle in the last wave.
    Columns of 8-bit floats, whose partial sums or conversions take registers too, are 128; 64 x 64
    where float32 has no matrix unit; columns for each of several sums are fewer."""
    no_unit = dtype is dt.float32 and target.is_nvidia and target.input_precision == "ieee"
    is_wide = dtype.is_float8 and target.has_wgmma  # half as many bytes: twice the rows
    block_m = _matrix_block(m, 64 if no_unit else 256 if is_wide else 128)
    block_n = _matrix_block(n, 64 if no_unit or dtype.itemsize > 2 else 256)
    if not target.is_nvidia or dtype.is_float8:
        block_n = min(block_n, 128)
    most = min(target.columns, 128) if dtype.is_float8 else target.columns
    while sums > 1 and sums * block_n > most and block_n > 16:
        block_n //= 2
    if target.has_wgmma and (k * dtype.itemsize < SHORT_K or min(m, n) < LEAST_WGMMA):
        block_m, block_n = min(block_m, 64), min(block_n, 128)
    least_m = min(block_m, LEAST_WGMMA if target.has_wgmma else 32)
    rows, columns = _halves(block_m, least_m), _halves(block_n, min(block_n, 16))
    tiles = [(x, y) for x in rows for y in columns]

    def rate(tile: tuple[int, int]) -> float:
        programs = max(batch * _steps(m, tile[0]) * _steps(n, tile[1]), 1)
        useful = m * n * batch / (programs * prod(tile))
        busy = programs / (_steps(programs, target.num_sms) * target.num_sms)
        return useful * busy * prod(tile) / (prod(tile) + SIDE * sum(tile))

    block_m, block_n = max(tiles, key=rate)
    # 8-bit floats that are multiplied as float16 are as deep as that
    itemsize = 2 if dtype.is_float8 and not target.has_float8 else dtype.itemsize
    deepest = 32 if itemsize == 4 or windowed else DEEPEST * 2 // itemsize
    return block_m, block_n, _matrix_block(k, deepest, dtype)


def _halves(block: int, least: int) -> list[int]:
    """The block and its halves, down to the least."""
    return [block >> i for i in range(block.bit_length()) if block >> i >= least]


def _is_windowed(region: Region) -> bool:
    """Whether a load's address needs divisions of what changes within a tile of k (convolution with
    few channels): such tiles cost many registers."""
    flat = _along_tiles(region)
    indices = (e for v in region.values if isinstance(v, Load) for e in indices_of(v))
    found = (atom for e in indices for atom in e.substitute(flat).atoms())
    return any(isinstance(a, (Div, Mod)) and not _is_by_tiles(a) for a in found)


def _along_tiles(region: Region) -> dict[str, Index]:
    """Each axis of a dot's region as parts of the axes b, m, n and k of its tiles."""
    space, flat = region.space, dict[str, Index]()
    for name, group in (("b", space.batch), ("m", space.m), ("n", space.n), ("k", space.k)):
        group = _as_loaded(region, group)
        shape = tuple(a.extent for a in group)
        parts = unflatten(var(name, extent_of(group)), shape)
        flat |= {a.name: e for a, e in zip(group, parts)}
    return flat


def _within_window(
    region: Region, blocks: tuple[int, int, int], k: int
) -> tuple[int, int, int] | None:
    """The tile or one of half its columns, and deeper, if it lies at one place of the window."""
    block_m, block_n, block_k = blocks
    for columns in (block_n, max(block_n // 2, LEAST_WGMMA)):
        if _is_one_window(region, (block_m, columns, block_k)):
            return block_m, columns, _matrix_block(k, DEEPEST)
    return None


def _is_one_window(region: Region, blocks: tuple[int, int, int]) -> bool:
    """Whether each mask differs along one axis of a tile alone, as where a tile of a weight's
    gradient lies at one place of the window: then masks take few registers."""
    flat, sizes = _along_tiles(region), dict(zip("mnk", blocks))
    masks = (v.mask for v in region.values if isinstance(v, Load))
    for bound in (x for mask in masks for x in mask):
        terms = bound.index.substitute(flat).terms
        axes = {name for atom, _ in terms for name in _within_tile(atom, sizes)}
        if len(axes - {"b"}) > 1:
            return False
    return True


def _within_tile(atom: Atom, sizes: dict[str, int]) -> frozenset[str]:
    """The axes of a tile along which a part of an index differs."""
    if isinstance(atom, (Div, Mod)):
        axis = atom.base.atom
        size = sizes.get(axis.name) if isinstance(axis, Var) else None
        if isinstance(atom, Div) and size is not None and atom.divisor % size == 0:
            return frozenset()
        return frozenset().union(*(_within_tile(a, sizes) for a, _ in atom.base.terms))
    return frozenset({atom.name}) if isinstance(atom, Var) else frozenset({"m", "n"})


def _is_masked(region: Region) -> bool:
    """Whether some of what a product reads is not there: the masks cost AMD scalar registers."""
    return any(isinstance(v, Load) and v.mask for v in region.values)


def _is_masked_by_rows(region: Region) -> bool:
    """Whether what a product reads has masks, and none that differs along a tile of k."""
    masks = [v.mask for v in region.values if isinstance(v, Load) and v.mask]
    last = {_as_loaded(region, group)[-1].name for group in _contracted(region) if group}
    return bool(masks) and all(last.isdisjoint(b.index.variables()) for m in masks for b in m)


def _is_by_tiles(atom: Div | Mod) -> bool:
    """Whether the division is one of k by whole tiles, or of what k has no part in."""
    inner = atom.base
    while isinstance(inner.atom, (Div, Mod)):
        atom, inner = inner.atom, inner.atom.base
    return inner.variables() <= {"b", "m", "n"} or (
        isinstance(inner.atom, Var) and atom.divisor % DEEPEST == 0
    )


def _dot_warps(blocks: tuple[int, int, int], sums: int, windowed: bool, target: Target) -> int:
    block_m, block_n, block_k = blocks[0], blocks[1] * sums, blocks[2]
    if windowed and (block_m + block_n) * block_k > 128 * 32:
        is_narrow = target.warp_size == 64 and block_n < 128
        return 8 if block_m >= 128 and not is_narrow else 4
    if block_m * block_n >= 16384:
        return 8
    if block_m * block_n <= 1024 and not (target.has_wgmma and max(block_m, block_n) >= 64):
        return 2
    return 4


def _stages(region: Region, blocks: tuple[int, int, int], target: Target) -> int:
    """As many stages as shared memory holds, up to 4; 2 on AMD, one of them in registers."""
    if not target.is_nvidia:
        return 2
    epilogue = 16 * 1024
    stage = max(_stage_bytes(region, g, blocks) for g in _contracted(region))
    return max(1, min(4, (target.shared_memory - epilogue) // stage))


def _image_options(
    region: Region, blocks: tuple[int, int, int], programs: int, warps: int, stages: int,
    target: Target,
) -> tuple[int, int]:  # fmt: skip
    """(num_warps, num_stages) of a convolution or its gradients, by time on an H200 (2026-11): so
    many that two programs share a multiprocessor."""
    tile = blocks[0] * blocks[1]
    if _is_masked_by_rows(region) and tile <= SHARED_TILE:
        return (8 if tile == SHARED_TILE else 4), min(stages, 3)
    if (
        tile == SHARED_TILE
        and programs > target.num_sms
        and _unmasked(region, region.space.k, blocks[2])
    ):
        return 4, min(stages, 3)
    return warps, stages


def _stage_bytes(region: Region, contracted: tuple[Axis, ...], blocks: tuple[int, int, int]) -> int:
    """Shared memory for one step of the loop over what dots contract: all tiles that are loaded for
    operands, each once."""
    names, rows = {a.name for a in contracted}, {a.name for a in region.space.m}
    columns = {a.name for a in region.space.n}
    dots = (v for v in region.values if isinstance(v, Dot) and set(v.axes) == names)
    total = 0
    for number in _loaded_for({x for v in dots for x in (v.a, v.b)}, region):
        dims = set(region.dims[number])
        if dims & names and dims & (rows | columns):
            wide = blocks[0] if dims & rows else blocks[1]
            total += wide * blocks[2] * region.values[number].dtype.itemsize
    return max(total, 1)


def _loaded_for(numbers: set[int], region: Region) -> set[int]:
    """The loads that values are computed from."""
    found, seen, stack = set(), set(numbers), list(numbers)
    while stack:
        number = stack.pop()
        if isinstance(region.values[number], Load):
            found.add(number)
        new = set(operands_of(region.values[number])) - seen
        seen |= new
        stack += new
    return found
