"""How the epilogue of a dot shares registers with the dot's accumulator.

In: a dot's Region and a Config of it. Out: the Config with `epilogue_parts`. Invariant: parts are
of 16 columns or more; on the interpreter, which has no registers, there is one.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tgrad.fusion.region import Dot, Region, behind, operands_of
from tgrad.kernel.ir import Config, Role
from tgrad.triton_gen.target import Target

LEAST_COLUMNS = 16
MOST_PARTS, LEAST_TILE = 8, 128
"""An epilogue that would need more parts beside a wide accumulator gets a tile of half the columns:
in 16 parts, gradients of GELU and SiLU with several results spilled beside 128 x 256 on sm_90; with
128 x 128 they take 149 and 222 registers (Triton 3.7.1, 2026-11)."""
REGISTERS = {32: 176, 64: 320}
"""Registers of a thread that tiles may take, by lanes of a warp; the rest hold addresses and
indices. Found by compiling for sm_90 and gfx942: with 192, epilogues beside 128 x 256 accumulators
spill."""


def with_epilogue_parts(region: Region, config: Config, target: Target) -> Config:
    """The config, its epilogue in so few parts that it fits beside the accumulator."""
    if target.is_interpreter:
        return config
    tile = [a.block for a in config.axes if a.role is Role.GRID]
    threads = config.num_warps * target.warp_size
    points = prod(tile) / threads
    words = points * len(accumulators(region))
    epilogue = points * epilogue_words(region)
    parts = 1
    while words + epilogue / parts > REGISTERS[target.warp_size]:
        if tile[-1] <= LEAST_COLUMNS * parts:
            break
        parts *= 2
    if parts > MOST_PARTS and tile[-1] > LEAST_TILE:
        return with_epilogue_parts(region, half_the_columns(config), target)
    return replace(config, epilogue_parts=parts)


def half_the_columns(config: Config) -> Config:
    """The config with half the columns a tile."""
    last = max(i for i, axis in enumerate(config.axes) if axis.role is Role.GRID)
    axes = list(config.axes)
    axes[last] = replace(axes[last], block=axes[last].block // 2)
    return replace(config, axes=tuple(axes))


def accumulators(region: Region) -> list[int]:
    """Numbers of the dots of a region whose sums take registers of their own."""
    return [n for n, v in enumerate(region.values) if isinstance(v, Dot) and v.start < 0]


def epilogue_words(region: Region) -> float:
    """Most registers that an element of a dot's tile takes at once in the epilogue, the products'
    own not counted."""
    dots = {n for n, v in enumerate(region.values) if isinstance(v, Dot)}
    read = [x for dot in dots for x in operands_of(region.values[dot])]
    operands = set(behind(region.values, read))
    last: dict[int, int] = {}
    for at, item in enumerate((*region.values, *region.stores)):
        if at not in operands and at not in dots:
            last |= dict.fromkeys(operands_of(item), at)
    result = {a.name for a in (*region.space.m, *region.space.n)}
    alive: dict[int, float] = {}
    most = 0.0
    for number, value in enumerate(region.values):
        if number in last and number not in operands and number not in dots:
            if len(result.intersection(region.dims[number])) > 1:
                alive[number] = max(value.dtype.itemsize / 4, 0.5)
        most = max(most, sum(alive.values()))
        alive = {n: w for n, w in alive.items() if last[n] > number}
    return most
