"""Configurations of chains of dots, with no search.

In: a chain Region, the Machine. Out: a Config. Invariant: the choice depends on sizes, masks and
the width of vectors only.

Large tiles cost less for each point; small ones leave out more of a mask. With causal attention of
64 rows, tiles of 16x16 go through 0.63 of the points that one of 64x64 does.
"""

from __future__ import annotations

from tgrad.cpu_fallback.dot_heuristics import joint_name
from tgrad.cpu_fallback.target import Machine
from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.graph.index import live_tiles
from tgrad.kernel.ir import Config, Role, TileAxis

SIDES = {64: 1.0, 32: 1.0, 16: 1.08}
"""Rows, and columns, of a tile, with the time of a point over that in tiles of 64. Two cores of Zen
3, forward and both backward kernels, causal, tiles of 32 over tiles of 16: 1.06 to 1.16 of the time
for 64 rows, 0.99 to 1.04 for 128, 0.95 to 0.97 for 256, 0.91 to 0.98 for 1024. Without a mask tiles
of 32 took 0.92 to 1.08 of the time of tiles of 64 (2026-11)."""

LEAST_VECTORS = 2
"""Vector registers that a tile's row fills, at least: fewer were not measured."""


def chain_side(region: Region, machine: Machine) -> int:
    """The side of tiles whose live points take least."""
    least = LEAST_VECTORS * machine.lanes(4)
    sides = [side for side in SIDES if side >= least]
    return min(sides, key=lambda side: chain_points(region, side, side), default=max(SIDES))


def chain_config(region: Region, block_m: int, block_k: int) -> Config:
    """Tiles [k, m] whose rows fill vector registers; what first dots contract, and n, whole."""
    space = region.space
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
    for covers, name, role, most in (
        (space.k, "k", Role.LOOP, block_k),
        (space.m, "m", Role.GRID, block_m),
    ):
        block = min(most, rg.extent_of(covers))
        axes.append(TileAxis(joint_name(region, covers, name), covers, block, role))
    for number, covers in enumerate(rg.whole_axes(region)):
        name = joint_name(region, covers, f"n{number}")
        axes.append(TileAxis(name, covers, rg.extent_of(covers), Role.FULL))
    return Config(tuple(axes))


def chain_points(region: Region, block_m: int, block_k: int) -> float:
    """Live points, weighed with what one takes in tiles of this size."""
    side = min(SIDES, key=lambda s: abs(s - min(block_m, block_k)))
    return live_points(region, block_m, block_k) * SIDES[side]


def live_points(region: Region, block_m: int, block_k: int) -> float:
    """Points of a chain's m x k in tiles that its masks do not empty: what its loops go through."""
    m, k = region.space.m, region.space.k
    extents = rg.extent_of(m), rg.extent_of(k)
    blocks = max(1, min(block_m, extents[0])), max(1, min(block_k, extents[1]))
    is_plane = len(m) == len(k) == 1
    names = (m[0].name, k[0].name) if is_plane else ("", "")
    first, end = live_tiles(region.space.live if is_plane else (), names, extents, blocks)
    return float((end - first).sum()) * blocks[0] * blocks[1]
