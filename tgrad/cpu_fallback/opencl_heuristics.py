"""Configurations of OpenCL kernels.

In: a Region. Out: a Config. Invariant: each axis of the region is covered once; reduced axes are
loops of single steps, all others the grid; a tile's elements fit the registers of a work-item.
"""

from __future__ import annotations

from tgrad.cpu_fallback.dot_heuristics import joint_name
from tgrad.cpu_fallback.heuristics import LoopAxes, LoopTiles, sort_config
from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, Role, TileAxis

DOT_BLOCK = 4
"""Rows, and columns, of a dot's result that a work-item has: each operand is loaded once for four
products."""


def choose_opencl_config(region: Region) -> Config:
    """A configuration for any device."""
    if region.space.kind == "sort":
        return sort_config(region)
    if region.space.kind == "dot":
        return _dot_config(region)
    return LoopAxes(region).config(LoopTiles(stash=0))


def _dot_config(region: Region) -> Config:
    space = region.space
    limited = {x.axis for x in region.limits}
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
    for covers, name, role in ((space.m, "m", Role.GRID), (space.k, "k", Role.LOOP),
                               (space.n, "n", Role.GRID)):  # fmt: skip
        extent = rg.extent_of(covers)
        is_whole = role is Role.LOOP or limited & {a.name for a in covers}
        block = 1 if is_whole else max(1, min(DOT_BLOCK, extent))
        axes.append(TileAxis(joint_name(region, covers, name), covers, block, role))
    return Config(tuple(axes))
