"""Configurations of dots that pack their operands, with no search.

In: a dot Region, the Machine. Out: tiles, and the Config that has them. Invariant: the choice
depends on sizes and strides only; tiles are those of least estimated time over the cores, for
caches of the machine's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.cpu_fallback.code import round_up
from tgrad.cpu_fallback.dot_plan import (
    STATIONARY_BYTES,
    DotPlan,
    DotProgram,
    carry_dtype,
    match_dot,
    plan_dot,
)
from tgrad.cpu_fallback.target import Machine
from tgrad.fusion import region as rg
from tgrad.fusion.region import Axis, Region
from tgrad.kernel.ir import Config, RegisterTile, Role, TileAxis
from tgrad.kernel.lower import lower

STASH_LIMIT = 16384
"""Elements of a row that may be kept on a thread's stack between two passes."""

LINE = 64
"""Bytes of a cache line."""

LEAST_K, MOST_K = 128, 384
"""Elements of the longest chunk of k: what register tiles keep in the first-level cache."""

LIMITED_BLOCK = 48
"""Elements of a dot's tile along an axis of which a part may not be needed: tiles are skipped as a
whole."""


@dataclass(frozen=True)
class DotTiles:
    """What is chosen for a dot that packs its operands.

    Attributes:
        registers: None where the dot has another form than dot_plan.py knows.
        m, k, n: blocks, in elements.
    """

    registers: RegisterTile | None
    m: int
    k: int
    n: int


def dot_config(region: Region, tiles: DotTiles) -> Config:
    """The configuration with these tiles."""
    space = region.space
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
    groups = [("m", Role.GRID, space.m), ("k", Role.LOOP, space.k), ("n", Role.GRID, space.n)]
    walks = dict.fromkeys(v.axes for v in region.values if isinstance(v, rg.Dot))
    others = [region.pick(names) for names in walks]
    groups[1:1] = [(f"j{i}", Role.LOOP, g) for i, g in enumerate(others) if g != space.k]
    for name, role, covers in groups:
        most = getattr(tiles, "k" if role is Role.LOOP else name)
        block = min(most, max(1, rg.extent_of(covers)))
        axes.append(TileAxis(joint_name(region, covers, name), covers, block, role))
    return Config(tuple(axes), stash_limit=STASH_LIMIT, registers=tiles.registers)


def match_region(region: Region) -> DotProgram | None:
    """The region as a dot that packs its operands, with provisional tiles."""
    guess = DotTiles(None, 128, k_block(rg.extent_of(region.space.k)), 128)
    return match_dot(lower(region, dot_config(region, guess)))


def dot_tiles(region: Region, machine: Machine) -> DotTiles:
    """The tiles of least estimated time."""
    program = match_region(region)
    if program is None:
        return DotTiles(None, 32, k_block(rg.extent_of(region.space.k)), 32)
    plan = plan_dot(program, machine)
    space = region.space
    v, r = ("n", "m") if plan.v == program.dot.n else ("m", "n")
    work = dot_work(region, program, plan)
    kc = k_block(work.k, _most_k(work, plan, machine) * plan.together)
    kc = min(round_up(kc, plan.together), max(1, work.k))
    bv, br = _dot_blocks(work, plan, kc, machine)
    blocks = {v: bv, r: br}
    for g, unit in ((v, plan.nr), (r, plan.mr)):
        if {a.name for a in getattr(space, g)} & {x.axis for x in region.limits}:
            blocks[g] = min(blocks[g], max(LIMITED_BLOCK // unit, 1) * unit)
    return DotTiles(plan.registers, blocks["m"], kc, blocks["n"])


def joint_name(region: Region, group: tuple[Axis, ...], name: str) -> str:
    """Of a tile axis: that of the one axis that it covers, else a new one."""
    if len(group) == 1:
        return group[0].name
    while any(name == a.name for a in region.axes):
        name += "_"
    return name


def k_block(k: int, most: int = MOST_K) -> int:
    """A chunk of k whose panel fits the first-level cache: all of k in equal parts."""
    parts = max(1, -(-k // most))
    return max(1, -(-k // parts))


def _most_k(work: DotWork, plan: DotPlan, machine: Machine) -> int:
    """The longest chunk of k. Where the row operand is packed as memory has it, a step of k takes a
    line of it for a few rows: half of the first-level cache holds those lines and the panel (weight
    gradients of 128 to 512 by 128 on two cores of Zen 3, chunks of 128 over 384: 0.93; 2026-11)."""
    if plan.r_mode != "lanes" or work.r * work.itemsize <= LINE:
        return MOST_K
    step = plan.nr * work.itemsize + LINE
    return max(LEAST_K, min(MOST_K, machine.l1 // 2 // step))


@dataclass(frozen=True, slots=True)
class DotWork:
    """Extents along the vector axis, the row axis, k and the batch; bytes of an element."""

    v: int
    r: int
    k: int
    batch: int
    itemsize: int


def dot_work(region: Region, program: DotProgram, plan: DotPlan) -> DotWork:
    """The sizes of a dot as its plan sees them."""
    extents = {g: rg.extent_of(getattr(region.space, g)) for g in ("m", "n", "k", "batch")}
    v, r = ("n", "m") if plan.v == program.dot.n else ("m", "n")
    itemsize = carry_dtype(program).itemsize
    return DotWork(extents[v], extents[r], extents["k"], extents["batch"], itemsize)


def _dot_blocks(work: DotWork, plan: DotPlan, kc: int, machine: Machine) -> tuple[int, int]:
    """Tile sizes along the vector and row axes of least estimated time."""

    def candidates(extent: int, unit: int, most: int) -> list[int]:
        sizes = {round_up(-(-extent // parts), unit) for parts in range(1, 9)}
        sizes |= {round_up(min(extent, most // d), unit) for d in (1, 2, 4)}
        return sorted(s for s in sizes if s <= round_up(most, unit))

    best: tuple[float, int, int] | None = None
    for bv in candidates(work.v, plan.nr, 1024 * 4 // work.itemsize):
        for br in candidates(work.r, plan.mr, 192):
            if bv * br * work.itemsize > machine.l2 // 2:
                continue
            cycles = dot_cycles(work, plan, bv, br, kc, machine)
            if best is None or cycles < best[0]:
                best = (cycles, bv, br)
    assert best is not None
    return best[1], best[2]


def dot_cycles(work: DotWork, plan: DotPlan, bv: int, br: int, kc: int, machine: Machine) -> float:
    """Estimated cycles of a dot with tiles of bv by br elements and chunks of kc of k."""
    v_tiles, r_tiles = -(-work.v // bv), -(-work.r // br)
    tiles = work.batch * v_tiles * r_tiles
    rounds = -(-tiles // machine.cores)
    product = bv * br * work.k / (2 * plan.lanes * plan.together)
    kept = bv * round_up(work.k, kc) * work.itemsize // plan.together
    is_kept = r_tiles > 1 and kept <= STATIONARY_BYTES
    packs = -(-rounds // r_tiles) if is_kept else rounds  # each thread packs what it keeps
    one_pack = bv * work.k * plan.v_cycles
    return rounds * (product + br * work.k * plan.r_cycles + 2000) + packs * one_pack
