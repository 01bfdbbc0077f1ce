"""Configurations of products of matrices and convolutions, with no search.

In: a Region whose space is a "dot", a Target. Out: a Config: b, the batch, by 1; tiles of m and n;
a loop over k, or one tile of it. Invariant: see heuristics.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.region import Axis, Dot, Load, Region, behind, extent_of
from tgrad.kernel.ir import Config, Role, TileAxis, count_programs
from tgrad.triton_gen.blocks import power_of_two, steps_of
from tgrad.triton_gen.dot_places import (
    DEEPEST,
    as_loaded,
    contracted,
    in_one_place,
    is_masked,
    is_masked_by_rows,
    is_one_window,
    is_windowed,
    unmasked,
)
from tgrad.triton_gen.emit_dot import MATRIX_TYPES, operand_type
from tgrad.triton_gen.epilogue import accumulators, half_the_columns, with_epilogue_parts
from tgrad.triton_gen.target import Target

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
LEAST_RUN = 32
"""Elements that lie together, of a tile whose rows may lie apart."""


@dataclass(frozen=True)
class _Product:
    """What a region multiplies.

    Attributes:
        m, n, k, batch: extents; k is that of the longest loop.
        dtype: of the operands, the wider one where products differ.
        sums: tiles of sums that a program keeps.
        is_matrix: whether tl.dot takes all products.
        is_turned: whether the transposed product has the rows that wgmma wants.
    """

    m: int
    n: int
    k: int
    batch: int
    dtype: DType
    sums: int
    is_matrix: bool
    is_turned: bool


@dataclass(frozen=True)
class _Tile:
    """Blocks of m, n and k, launch options, and whether addresses change within a step of k in more
    ways than along it."""

    blocks: tuple[int, int, int]
    warps: int = 4
    stages: int = 1
    windowed: bool = False


def choose_dot(region: Region, target: Target) -> Config:
    """Tile axes and launch options for products."""
    space, walks = region.space, contracted(region)
    product = _product_of(region, walks, target)
    tile = _tile_of(region, product, target)
    block_m, block_n, block_k = tile.blocks
    scatters = tile.windowed or min(product.n, product.k) < LEAST_RUN

    def lying(group: tuple[Axis, ...], block: int) -> tuple[Axis, ...]:
        return as_loaded(region, group) if scatters else in_one_place(region, group, block)

    inner = (g for g in walks if g != space.k)
    groups = (
        TileAxis("b", space.batch, 1, Role.GRID),
        TileAxis("m", lying(space.m, block_m), block_m, Role.GRID),
        *(_walked(f"j{i}", lying(g, block_k), block_k) for i, g in enumerate(inner)),
        _walked("k", lying(space.k, block_k), block_k),
        TileAxis("n", as_loaded(region, space.n), block_n, Role.GRID),
    )
    if product.is_turned:
        groups = (groups[0], *groups[:0:-1])
    first, last = (a for a in groups if a.name in ("m", "n"))
    axes, group = tuple(a for a in groups if a.covers), _group(first.steps, last.steps)
    config = Config(axes, tile.warps, tile.stages, group_m=group)
    config = with_epilogue_parts(region, config, target)
    return _shared(region, config, target) if target.has_wgmma else config


def _product_of(region: Region, walks: list[tuple[Axis, ...]], target: Target) -> _Product:
    space = region.space
    m, n, batch = (extent_of(g) for g in (space.m, space.n, space.batch))
    dots = [v for v in region.values if isinstance(v, Dot)]
    types = {operand_type(region.values[v.a].dtype, region.values[v.b].dtype) for v in dots}
    return _Product(
        m, n, max(map(extent_of, walks)), batch,
        dtype=max(types, key=lambda t: t.itemsize),
        # addresses for three loops take what registers another sum would
        sums=max(len(accumulators(region)), 2 if len(walks) > 2 else 1),
        is_matrix=1 not in (m, n) and all(MATRIX_TYPES.get(t) is dots[0].dtype for t in types),
        is_turned=target.has_wgmma and 1 < m <= LEAST_WGMMA // 2 < LEAST_WGMMA <= n,
    )  # fmt: skip


def _tile_of(region: Region, product: _Product, target: Target) -> _Tile:
    m, n, k, dtype = product.m, product.n, product.k, product.dtype
    if not product.is_matrix:
        return _Tile(_product_blocks(m, n, k, target))
    if target.is_interpreter:
        return _Tile((_matrix_block(m, 256), _matrix_block(n, 256), _matrix_block(k, 256, dtype)))
    windowed = is_windowed(region) or (not target.is_nvidia and is_masked(region))
    blocks = _matrix_blocks(product, windowed, target)
    within = _within_window(region, blocks, k) if windowed and target.has_wgmma else None
    if within is not None:
        windowed, blocks = False, within
    warps = _dot_warps(blocks, product.sums, windowed, target)
    if dtype.is_float8 and blocks[0] * blocks[1] >= SHARED_TILE // 2:
        warps = 8  # partial sums take as many registers as the sums
    stages = _stages(region, blocks, target)
    if blocks[0] > 128:  # tiles of 8-bit floats, by time on an H200
        stages = min(stages, 3)
    if target.has_wgmma and not windowed and is_masked(region):
        programs = product.batch * steps_of(m, blocks[0]) * steps_of(n, blocks[1])
        warps, stages = _image_options(region, blocks, programs, warps, stages, target)
    return _Tile(blocks, warps, stages, windowed)


def _shared(region: Region, config: Config, target: Target) -> Config:
    """The config for what a program does before and after its loop (H100, H200, 2026-11).

    Of a tile that leaves room for two programs on a multiprocessor so few stages that two are
    there, where there are more programs than multiprocessors and either a short loop, beside whose
    epilogue the other computes, or no more than two a multiprocessor. Of a larger tile with a short
    loop, half of it where the epilogue is long, else one program that walks. With long loops walks
    have not been measured since they copy all operands ahead (walks.py).
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
    is_plain = len(loops) == 1 and not is_masked(region) and not region.limits
    if tile > SHARED_TILE and steps <= WALKED and is_plain and programs > 2 * target.num_sms:
        return replace(config, programs=target.num_sms)
    return config


def _walked(name: str, axes: tuple[Axis, ...], block: int) -> TileAxis:
    """The tile axis of what dots contract: a loop, unless it is one tile."""
    role = Role.FULL if 0 < extent_of(axes) <= block else Role.LOOP
    return TileAxis(name, axes, block, role)


def _group(rows: int, columns: int) -> int:
    """Rows of tiles that run together: 8 or, so that all groups are equal, a little fewer."""
    if rows < 8 or columns < 4:
        return 1
    return next((g for g in range(8, 3, -1) if rows % g == 0), 8)


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


def _matrix_blocks(product: _Product, windowed: bool, target: Target) -> tuple[int, int, int]:
    """Of the tiles that fit, up to 128 x 256 for half types, that with which the grid takes least
    time: a large tile reads less, and many tiles leave less of the machine idle in the last wave.
    Columns of 8-bit floats, whose partial sums or conversions take registers too, are 128; 64 x 64
    where float32 has no matrix unit; columns for each of several sums are fewer."""
    m, n, k, dtype, sums = product.m, product.n, product.k, product.dtype, product.sums
    if product.is_turned:
        m, n = n, m
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
        programs = max(product.batch * steps_of(m, tile[0]) * steps_of(n, tile[1]), 1)
        useful = m * n * product.batch / (programs * prod(tile))
        busy = programs / (steps_of(programs, target.num_sms) * target.num_sms)
        return useful * busy * prod(tile) / (prod(tile) + SIDE * sum(tile))

    block_m, block_n = max(tiles, key=rate)
    # 8-bit floats that are multiplied as float16 are as deep as that
    itemsize = 2 if dtype.is_float8 and not target.has_float8 else dtype.itemsize
    deepest = 32 if itemsize == 4 or windowed else DEEPEST * 2 // itemsize
    if product.is_turned:
        block_m, block_n = block_n, block_m
    return block_m, block_n, _matrix_block(k, deepest, dtype)


def _halves(block: int, least: int) -> list[int]:
    """The block and its halves, down to the least."""
    return [block >> i for i in range(block.bit_length()) if block >> i >= least]


def _within_window(
    region: Region, blocks: tuple[int, int, int], k: int
) -> tuple[int, int, int] | None:
    """The tile or one of half its columns, and deeper, if it lies at one place of the window."""
    block_m, block_n, block_k = blocks
    for columns in (block_n, max(block_n // 2, LEAST_WGMMA)):
        if is_one_window(region, (block_m, columns, block_k)):
            return block_m, columns, _matrix_block(k, DEEPEST)
    return None


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
    stage = max(_stage_bytes(region, g, blocks) for g in contracted(region))
    return max(1, min(4, (target.shared_memory - epilogue) // stage))


def _image_options(
    region: Region, blocks: tuple[int, int, int], programs: int, warps: int, stages: int,
    target: Target,
) -> tuple[int, int]:  # fmt: skip
    """(num_warps, num_stages) of a convolution or its gradients, by time on an H200 (2026-11): so
    many that two programs share a multiprocessor."""
    tile = blocks[0] * blocks[1]
    if is_masked_by_rows(region) and tile <= SHARED_TILE:
        return (8 if tile == SHARED_TILE else 4), min(stages, 3)
    if (
        tile == SHARED_TILE
        and programs > target.num_sms
        and unmasked(region, region.space.k, blocks[2])
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
    for number in behind(region.values, [x for v in dots for x in (v.a, v.b)]):
        dims = set(region.dims[number])
        is_load = isinstance(region.values[number], Load)
        if is_load and dims & names and dims & (rows | columns):
            wide = blocks[0] if dims & rows else blocks[1]
            total += wide * blocks[2] * region.values[number].dtype.itemsize
    return max(total, 1)
