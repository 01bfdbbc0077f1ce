"""Configurations of chains of dots (attention and its gradients), with no search.

In: a Region whose space is a "chain", a Target. Out: a Config. Invariant: inner and output axes lie
in one tile; blocks are powers of two of at least 16, which tl.dot needs.
"""

from __future__ import annotations

from dataclasses import replace

from tgrad.dtype import DType
from tgrad.fusion.region import Dot, Region, extent_of, whole_axes
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.kernel.lower import lower
from tgrad.triton_gen.blocks import power_of_two
from tgrad.triton_gen.emit_dot import operand_type
from tgrad.triton_gen.late_products import with_late_products
from tgrad.triton_gen.target import Target

LEAST = 16
LATE_ROWS, LATE_STAGES = 64, 3
"""Tiles of attention with heads of 65 to 128 whose second products run beside the exponentials of
the next step: 574 us beside 617, causal, 64 x 4096 x 128; with heads of 64, and in gradients, that
gains nothing (H200, 2026-11)."""


def _block(extent: int, most: int) -> int:
    return min(max(power_of_two(extent), LEAST), most)


def choose_chain(region: Region, target: Target) -> Config:
    """Tile axes and launch options for a chain."""
    space = region.space
    groups = whole_axes(region)
    wide = max(extent_of(g) for g in groups)
    last = [v for v in region.values if isinstance(v, Dot)]
    dtype = operand_type(*(region.values[x].dtype for x in (last[-1].a, last[-1].b)))
    most_m, most_k, warps, stages = _blocks(dtype, power_of_two(wide), len(last), target)
    if extent_of(space.m) <= LEAST and len(last) < 3 and not target.is_interpreter:
        most_m, most_k, warps, stages = _few_rows(dtype, wide, target)
    is_wide = len(last) > 3 and wide > 64
    if space.tests and not target.is_interpreter and (is_wide or not target.is_nvidia):
        most_k = min(most_k, 32)  # beside 64, bounds of the loop that are loaded spill
    axes = [
        TileAxis("b", space.batch, 1, Role.GRID),
        TileAxis("m", space.m, _block(extent_of(space.m), most_m), Role.GRID),
        TileAxis("k", space.k, _block(extent_of(space.k), most_k), Role.LOOP),
    ]
    for name, covers in zip(("n", "d", "e", "f"), groups):
        axes.append(TileAxis(name, covers, _block(extent_of(covers), 1 << 30), Role.FULL))
    config = Config(tuple(a for a in axes if a.covers), num_warps=warps, num_stages=stages)
    is_late = target.has_wgmma and len(last) == 2 and (most_m, stages) == (LATE_ROWS, LATE_STAGES)
    if is_late and wide > 64 and dtype.itemsize == 2:
        program = lower(region, config)
        config = replace(config, late_products=with_late_products(program) is not program)
    return config


def _few_rows(dtype: DType, wide: int, target: Target) -> tuple[int, int, int, int]:
    """The same for queries that fill no tile: what counts is that keys arrive early."""
    keys = 64 if dtype.itemsize * wide <= 256 else 32
    return LEAST, keys, 4, 3 if target.is_nvidia else 1


def _blocks(dtype: DType, wide: int, dots: int, target: Target) -> tuple[int, int, int, int]:
    """(block of m, block of k, num_warps, num_stages): two dots forward, three or four backward;
    what was found to spill nothing on sm_90 and gfx942."""
    if target.is_interpreter:
        return 64, 64, 4, 1
    backward = dots > 2
    if dtype.itemsize > 2:
        if wide > 64:
            return 16, 16, 8 if backward else 4, 1
        return 32, 32, 8 if backward and target.is_nvidia else 4, 1
    stages = 2 if target.is_nvidia else 1
    if wide > 128:
        return (16, 16, 8, 1) if backward else (64, 32, 8, stages)
    if wide > 64 and target.is_rdna:
        return (32 if dots > 3 else 64, 16, 8, 1) if backward else (64, 32, 8, 1)
    if target.has_wgmma:  # by time on an H200, causal, of 64 x 4096 x 64 and x 128 (2026-11)
        if wide > 64:
            return 64, 64, 4, 2 if backward else 3
        return 64, 64, 4, 2 if dots > 3 else 3
    if not backward:
        return 128, 64, 8, stages
    if wide > 64:
        return 64, 32 if target.is_nvidia else 16, 8, stages
    if target.is_nvidia:
        return 64, 64, 4, stages
    return 64, 32 if dots > 3 else 64, 8, stages
