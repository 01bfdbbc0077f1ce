"""Configurations of convolutions, with no search.

In: a dot Region, the Machine. Out: the Config of a window program, or None where another dot is
quicker or the region has another form. Invariant: the choice depends on sizes and strides only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from tgrad.cpu_fallback.emit_window import plan_pixels
from tgrad.cpu_fallback.emit_window_weights import plan_weights
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import WindowProgram, match_window
from tgrad.fusion.region import Axis, Region
from tgrad.kernel.ir import Config, RegisterTile, Role, TileAxis
from tgrad.kernel.lower import lower

LEAST_K = 64
"""Multiply-adds of an output element below which turning it costs more than patches do."""

LEAST_ROWS = 4
"""Rows of a register tile below which most of its loads are of the vector operand."""

MOST_PADDING = 1.34
"""Multiply-adds done over those needed, at most."""


def window_config(region: Region, machine: Machine) -> Config | None:
    """The configuration of the first window program that fits the region and pays."""
    for config, program in window_programs(region):
        if _pays(program, machine):
            return with_tiles(config, program, machine)
    return None


def window_programs(region: Region) -> Iterator[tuple[Config, WindowProgram]]:
    """All window programs of a region, each with the configuration that makes it."""
    space = region.space
    sides = sorted((len(space.m), len(space.n)))
    if space.batch or len(space.k) != 3 or sides not in ([1, 2], [1, 3]):
        return
    for config, kind in _candidates(region):
        program = match_window(lower(region, config))
        if program is not None and program.kind == kind:
            yield config, program


def with_tiles(config: Config, program: WindowProgram, machine: Machine) -> Config:
    """The configuration with the registers and the band that the plan chooses."""
    if program.kind == "weights":
        weights = plan_weights(program, machine)
        return replace(config, registers=RegisterTile(program.v, weights.nv, weights.mr))
    pixels = plan_pixels(program, machine)
    registers = RegisterTile(program.v, pixels.nv, pixels.mr)
    return replace(config, registers=registers, band=pixels.band)


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
        panel = pixels.weights // pixels.out * pixels.nr * 4
        total = 4 * (pixels.weights + pixels.image + pixels.sums)
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
