"""Configurations of convolutions, with no search.

In: a dot Region, the Machine. Out: the Config of a window program, or None where another dot is
quicker or the region has another form. Invariant: the choice depends on sizes and strides only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from tgrad.cpu_fallback.code import round_up
from tgrad.cpu_fallback.emit_window import plan_pixels
from tgrad.cpu_fallback.emit_window_weights import count_chunks, plan_weights, rows_of_task
from tgrad.cpu_fallback.emit_winograd import plan_winograd
from tgrad.cpu_fallback.emit_winograd_weights import plan_winograd_weights
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import WindowProgram, match_window
from tgrad.cpu_fallback.winograd import PAIRS
from tgrad.fusion.region import Axis, Region
from tgrad.kernel.ir import Config, RegisterTile, Role, TileAxis
from tgrad.kernel.lower import lower

LEAST_K = 64
"""Multiply-adds of an output element below which turning it costs more than patches do."""

LEAST_ROWS = 4
"""Rows of a register tile below which most of its loads are of the vector operand."""

MOST_PADDING = 1.34
"""Multiply-adds done over those needed, at most."""

MOST_WEIGHTS = 4
"""Second-level caches that the transformed weights of a convolution fill at most."""

WORTHWHILE = 0.8
"""Operations over those of the plain sum, at most, for minimal filtering."""

ABOUT_EQUAL = 1.1
"""Operations of fewer points, which round less, over the least, at most."""

TRANSFORM = (5.0, 3.0)
"""Vector operations that it takes to transform a vector of the image, and of the result, for each
product of points (64x32x24x24 to 32 channels, 5x5, a core of Zen 4: 170 and 93 cycles for 36;
2026-11)."""

JOIN = 35.0
"""Vector operations that it takes to write a vector of a chunk's sums and to add it to those of the
other chunks (8 images of 128 channels, 7x7, two cores of Zen 4: 1.7 and 1.0 ms; 2026-11)."""

SCALAR = 3.0
"""Operations that it takes to collect a number of the weights."""


def window_config(region: Region, machine: Machine) -> Config | None:
    """The configuration of the first window program that fits the region and pays."""
    for config, program in window_programs(region, machine):
        points = _fewest_operations(program, machine)
        if points:
            return with_tiles(replace(config, winograd=points), program, machine)
        if _pays(program, machine):
            return with_tiles(config, program, machine)
    return None


def window_programs(region: Region, machine: Machine) -> Iterator[tuple[Config, WindowProgram]]:
    """All window programs of a region, each with the configuration that makes it."""
    space = region.space
    sides = sorted((len(space.m), len(space.n)))
    if space.batch or len(space.k) != 3 or sides not in ([1, 2], [1, 3]):
        return
    for config, kind in _candidates(region):
        program = match_window(lower(region, config), machine)
        if program is not None and program.kind == kind:
            yield config, program


def with_tiles(config: Config, program: WindowProgram, machine: Machine) -> Config:
    """The configuration with the registers and the band that the plan chooses."""
    v = program.v
    if config.winograd:
        plan_tiles = plan_winograd if program.kind == "pixels" else plan_winograd_weights
        tiles = plan_tiles(program, machine, config)
        band = tiles.cut.tiles[0] * tiles.cut.results[0]
        return replace(config, registers=RegisterTile(v, tiles.nv, tiles.mr), band=band)
    if program.kind == "weights":
        weights = plan_weights(program, machine)
        return replace(config, registers=RegisterTile(v, weights.nv, weights.mr))
    pixels = plan_pixels(program, machine)
    return replace(config, registers=RegisterTile(v, pixels.nv, pixels.mr), band=pixels.band)


def _candidates(region: Region) -> Iterator[tuple[Config, str]]:
    """Each way to see pixels, taps and channels in the axes, with what it should be."""
    space = region.space
    side, lone = (space.m, space.n) if len(space.m) > 1 else (space.n, space.m)
    channel, *taps = space.k
    yield _config(region, side[-1], lone[0], (*taps, channel)), "pixels"
    for row in (side[0], side[-1]):
        yield _config(region, row, lone[0], space.k), "weights"


def _config(region: Region, row: Axis, vector: Axis, loops: tuple[Axis, ...]) -> Config:
    """Wide: the row axis, the vector axis and the last loop; every other axis in steps of one."""
    wide = {row.name, vector.name, loops[-1].name}

    def axis(a: Axis, role: Role) -> TileAxis:
        return TileAxis(a.name, (a,), a.extent if a.name in wide else 1, role)

    space = region.space
    return Config(
        tuple(
            axis(a, role)
            for group, role in ((space.m, Role.GRID), (loops, Role.LOOP), (space.n, Role.GRID))
            for a in group
        )
    )


def _pays(program: WindowProgram, machine: Machine) -> bool:
    """Whether what is packed stays in cache and little is computed in vain."""
    kernel = program.dot.kernel

    def extent(*names: str) -> int:
        return prod(kernel.axis(n).extent for n in names)

    if program.kind == "pixels":
        pixels = plan_pixels(program, machine)
        padding = pixels.out / extent(program.v)
        packed = 4 // program.together
        panel = pixels.weights // pixels.out * pixels.nr * packed
        total = packed * (pixels.weights + pixels.image) + 4 * pixels.sums
        return (
            pixels.taps * pixels.channels >= LEAST_K
            and pixels.taps <= extent(program.y.step, program.x.step)
            and padding <= MOST_PADDING
            and panel <= machine.l2 * 3 // 4
            and total <= 4 * machine.l2
        )
    weights = plan_weights(program, machine)
    return (
        extent(program.y.tap, program.x.tap) <= weights.pixels
        and weights.rows >= LEAST_ROWS
        and weights.out <= MOST_PADDING * extent(program.v)
        and 4 * weights.sums <= machine.l2
        and 4 * weights.out * weights.pixels <= machine.l2 // 2
    )


# -- minimal filtering ---------------------------------------------------------------------------


def winograd_points(program: WindowProgram, machine: Machine) -> list[int]:
    """The numbers of points with which a convolution can be computed by minimal filtering."""
    kernel, y, x = program.dot.kernel, program.y, program.x
    channels = kernel.axis(_channel(program)).extent
    steps = (y.stride, y.dilation, x.stride, x.dilation)
    if steps != (1, 1, 1, 1) or channels % machine.lanes(4) or program.words is not None:
        return []
    if program.kind == "weights" and program.units != (y.tap, x.tap):
        return []
    taps = [kernel.axis(n).extent for n in (y.tap, x.tap)]
    out = round_up(kernel.axis(program.v).extent, machine.lanes(4))
    return [
        points
        for points in PAIRS
        if all(1 < t < points for t in taps)
        and 4 * points**2 * channels * out <= MOST_WEIGHTS * machine.l2
    ]


def _channel(program: WindowProgram) -> str:
    """The axis of the image's channels."""
    return program.k if program.kind == "pixels" else program.r


def _fewest_operations(program: WindowProgram, machine: Machine) -> int:
    """The number of points that pays, the fewest of about equal ones; 0 where none does."""
    costs = {n: winograd_operations(program, n, machine) for n in winograd_points(program, machine)}
    least = min(costs.values(), default=0.0)
    if not costs or least > WORTHWHILE * _plain_operations(program, machine):
        return 0
    return min(n for n, cost in costs.items() if cost <= ABOUT_EQUAL * least)


def _plain_operations(program: WindowProgram, machine: Machine) -> float:
    """Vector operations of the plain sum; taps above and below the image cost nothing."""
    kernel, y = program.dot.kernel, program.y
    rows, taps = kernel.axis(y.step).extent, kernel.axis(y.tap).extent
    inside = sum(y.lo <= r + t + y.origin < y.hi for r in range(rows) for t in range(taps))
    names = {a.name for a in kernel.axes} - {program.v, y.step, y.tap}
    products = inside * prod(kernel.axis(n).extent for n in names) * _vectors(program, machine)
    taps = prod(kernel.axis(way.tap).extent for way in (y, program.x))
    return products + _join_operations(program, taps, machine)


def _join_operations(program: WindowProgram, sums: int, machine: Machine) -> float:
    """Vector operations for the parts of a gradient of the weights, so many sums for each pair of
    channels."""
    if program.kind == "pixels":
        return 0.0
    out, lanes = _vectors(program, machine), machine.lanes(4)
    chunks = count_chunks(program, out * lanes, _blocks(program, sums, machine), machine)
    return JOIN * chunks * sums * program.dot.kernel.axis(program.r).extent * out


def _blocks(program: WindowProgram, sums: int, machine: Machine) -> int:
    """Tasks that share the rows of a gradient of the weights."""
    rows = program.dot.kernel.axis(program.r).extent
    return rows // rows_of_task(rows, sums * _vectors(program, machine) * machine.lanes(4), machine)


def _vectors(program: WindowProgram, machine: Machine) -> int:
    """Vectors of the result's channels."""
    return -(-program.dot.kernel.axis(program.v).extent // machine.lanes(4))


def winograd_operations(program: WindowProgram, points: int, machine: Machine) -> float:
    """Vector operations with so many points along each direction.

    Products of a tile are what the plain sum would take for `points` results of one tap; besides,
    each vector of the image is transformed and each of the results; threads transform the weights,
    or join their parts of them.
    """
    kernel, y, x = program.dot.kernel, program.y, program.x
    channels, out = kernel.axis(_channel(program)).extent, _vectors(program, machine)
    tiles, taps = 1, 1
    for dim in (y, x):
        tap = kernel.axis(dim.tap).extent
        tiles *= -(-kernel.axis(dim.step).extent // (points + 1 - tap))
        taps *= tap
    known = {y.step, y.tap, x.step, x.tap, _channel(program), program.v}
    tiles *= prod(a.extent for a in kernel.axes if a.name not in known)
    image = TRANSFORM[0] * channels / machine.lanes(4)
    weights = channels * out * (SCALAR * machine.lanes(4) * taps + TRANSFORM[0] * points**2)
    is_forward = program.kind == "pixels"
    results = TRANSFORM[1] * out * (1 if is_forward else _blocks(program, points**2, machine))
    return tiles * points**2 * (channels * out + image + results) + (
        machine.cores * weights if is_forward else _join_operations(program, points**2, machine)
    )
