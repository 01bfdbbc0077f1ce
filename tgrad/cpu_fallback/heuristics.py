"""Configurations with no search.

In: a Region and the Machine. Out: a Config. Invariant: each axis of the region is covered once;
reduced axes become loops, all others the grid; the choice depends on sizes and strides only.

Neighbouring axes that every address treats as one are merged. Then one axis is chosen to fill
vector registers: an innermost loop over a row that lies contiguous in memory, or a grid axis with
a wide block (columns, elementwise work). A transposition gets two wide axes. A dot's tiles are
those of least estimated time over the cores, for caches of the machine's sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrad.cpu_fallback.code import distinct_axes
from tgrad.cpu_fallback.dot_plan import (
    PACK_CYCLES,
    STATIONARY_BYTES,
    DotPlan,
    carry_dtype,
    match_dot,
    plan_dot,
)
from tgrad.cpu_fallback.emit_index import run_along
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_heuristics import window_config
from tgrad.fusion import region as rg
from tgrad.fusion.region import Axis, Region
from tgrad.graph.index import Div, Index, Mod, var
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.kernel.lower import lower

CHAIN_BLOCK = 64
"""Rows, and columns, of a chain's tile: a few of them fit in the first-level cache."""

STASH_LIMIT = 16384
"""Elements of a row that may be kept on a thread's stack between two passes."""

MAP_BLOCK = 16384
"""Elements of the vector axis that a program of elementwise work owns."""

COLUMN_BLOCK = 512
"""Columns that a program reduces together; their carries stay in the first-level cache."""

LIMITED_BLOCK = 48
"""Elements of a dot's tile along an axis of which a part may not be needed: tiles are skipped as a
whole."""

TRANSPOSE_BLOCK = 64
"""Side of the square that a transposing program turns in cache: four cache lines of each row
(4096x4096, a core of Zen 5: 10.8 ms, with two lines 15.5 ms; 2026-11)."""


def choose_config(region: Region, machine: Machine) -> Config:
    """A good configuration for the region on the machine."""
    if region.space.kind == "dot":
        return window_config(region, machine) or _dot_config(region, machine)
    if region.space.kind == "sort":
        return _sort_config(region)
    if region.space.kind == "chain":
        return _chain_config(region)
    return _loop_config(region, machine)


def _sort_config(region: Region) -> Config:
    """A row a program, all of it in memory of the program's own."""
    row = region.space.row
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in region.space.parallel]
    return Config((*axes, TileAxis(row[-1].name, row, rg.extent_of(row), Role.FULL)))


# -- maps, reductions, scatters -----------------------------------------------------------------


@dataclass
class _Merged:
    """A tile axis to be: the region axes it covers and what happens to it."""

    covers: tuple[Axis, ...]
    role: Role
    depth: int

    @property
    def name(self) -> str:
        return self.covers[-1].name

    @property
    def extent(self) -> int:
        return rg.extent_of(self.covers)


@dataclass(frozen=True)
class _Access:
    """One load or store: its index over merged axes and how often it happens."""

    index: Index
    weight: int
    is_scatter: bool


def _loop_config(region: Region, machine: Machine) -> Config:
    merged = _merge_axes(region)
    accesses = _accesses(region, merged)
    unsafe = {
        m.name
        for a in accesses
        if a.is_scatter
        for m in merged
        if m.name not in distinct_axes(a.index)
    }
    grid = [m for m in merged if m.role is Role.GRID]
    rows = [m for m in merged if m.depth == 2]
    candidates = [m for m in (*grid, *rows) if m.name not in unsafe and m.extent > 1]
    vector = min(candidates, key=lambda m: _cost(m, accesses), default=None)
    blocks: dict[str, int] = {}
    stash_limit = STASH_LIMIT
    if vector is not None and vector.role is Role.GRID:
        has_loops = len(grid) != len(merged)
        members = 1 if region.table is None else region.table.members
        blocks[vector.name] = _vector_block(vector, grid, has_loops, machine, members)
        stash_limit = STASH_LIMIT // max(1, blocks[vector.name])
        other = _transposed_axis(vector, grid, accesses)
        if other is not None and not has_loops:
            blocks[vector.name] = min(vector.extent, TRANSPOSE_BLOCK)
            blocks[other.name] = min(other.extent, TRANSPOSE_BLOCK)
    ordered = sorted(
        merged,
        key=lambda m: (m.depth, m.depth > 0 and m is vector),
    )
    axes = tuple(TileAxis(m.name, m.covers, blocks.get(m.name, 1), m.role) for m in ordered)
    return Config(axes, stash_limit=stash_limit)


def _depth(axis: Axis, region: Region) -> int:
    if axis in region.space.row:
        return 2
    return 1 if axis in region.space.outer else 0


def _merge_axes(region: Region) -> list[_Merged]:
    """Region axes, neighbours joined where no address needs them apart."""
    indices = {e for thing in (*region.values, *region.stores) for e in rg.indices_of(thing)}
    result: list[_Merged] = []
    for axis in region.axes:
        depth = _depth(axis, region)
        role = Role.LOOP if depth else Role.GRID
        last = result[-1] if result else None
        if depth and last is not None and last.depth == depth and _walks(region, axis):
            last.covers = (*last.covers, axis)
            continue
        if last is not None and last.depth == depth and _reduced_alike(region, last, axis):
            joined = _join(indices, last, axis)
            if joined is not None:
                indices = joined
                last.covers = (*last.covers, axis)
                continue
        result.append(_Merged((axis,), role, depth))
    return result


def _walks(region: Region, axis: Axis) -> bool:
    """Whether a scan or sort walks the axis: then the whole row is one tile axis."""
    return any(isinstance(v, (rg.Scan, rg.Sort)) and axis.name in v.axes for v in region.values)


def _reduced_alike(region: Region, merged: _Merged, axis: Axis) -> bool:
    """Whether each reduction takes both or neither."""
    for value in region.values:
        if isinstance(value, (rg.Reduce, rg.Dot)):
            if (axis.name in value.axes) != (merged.name in value.axes):
                return False
    return True


def _join(indices: set[Index], merged: _Merged, axis: Axis) -> set[Index] | None:
    """The indices over the joint axis (named like the inner one); None if one would divide."""
    if merged.extent == 0 or axis.extent == 0:
        return None
    whole = var(axis.name, merged.extent * axis.extent)
    values = {merged.name: whole // axis.extent, axis.name: whole % axis.extent}
    result = set()
    for e in indices:
        if merged.name not in e.variables() and axis.name not in e.variables():
            result.add(e)
            continue
        new = e.substitute(values)
        for atom in new.atoms():
            if isinstance(atom, (Div, Mod)) and axis.name in atom.base.variables():
                return None
        result.add(new)
    return result


def _accesses(region: Region, merged: Sequence[_Merged]) -> list[_Access]:
    values: dict[str, Index] = {}
    for m in merged:
        flat = var(m.name, m.extent)
        for axis in reversed(m.covers):
            values[axis.name] = flat % max(1, axis.extent) if axis is not m.covers[0] else flat
            flat = flat // max(1, axis.extent)
    extents = {a.name: a.extent for a in region.axes}
    result: list[_Access] = []
    for v, value in enumerate(region.values):
        if isinstance(value, rg.Load):
            weight = 1
            for name in region.dims[v]:
                weight *= max(1, extents[name])
            result.append(_Access(value.index.substitute(values), weight, False))
    for store in region.stores:
        weight = 1
        for name in {n for e in rg.indices_of(store) for n in e.variables()}:
            weight *= max(1, extents[name])
        scatter = store.combine != "set" or bool(store.index.loaded())
        result.append(_Access(store.index.substitute(values), weight, scatter))
    return result


def _cost(axis: _Merged, accesses: Sequence[_Access]) -> float:
    """Estimated cycles of all loads and stores with this axis in vector lanes."""
    total = 0.0
    for a in accesses:
        run = run_along(a.index, axis.name)
        if run is None:
            share = 1.0
        elif run.step in (0, 1):
            share = 0.06 if run.period == 0 else 0.06 + 1 / run.period
        else:
            share = 0.15 if abs(run.step) <= 4 else 1.0
        total += a.weight * (share + 1.0 / max(1, axis.extent))
    return total


def _vector_block(
    axis: _Merged, grid: Sequence[_Merged], has_loops: bool, machine: Machine, members: int
) -> int:
    if has_loops:
        return min(axis.extent, COLUMN_BLOCK)
    others = members
    for m in grid:
        others *= m.extent if m is not axis else 1
    block = MAP_BLOCK
    while block > 1024 and others * -(-axis.extent // block) < 8 * machine.cores:
        block //= 2
    return min(axis.extent, block)


def _transposed_axis(
    vector: _Merged, grid: Sequence[_Merged], accesses: Sequence[_Access]
) -> _Merged | None:
    """An axis along which another big access is contiguous while the vector axis strides it."""
    for a in accesses:
        run = run_along(a.index, vector.name)
        if run is None or abs(run.step) <= 4:
            continue
        for m in grid:
            other = run_along(a.index, m.name)
            if m is not vector and other is not None and other.step == 1 and m.extent >= 8:
                return m
    return None


# -- dots ---------------------------------------------------------------------------------------


def _dot_config(region: Region, machine: Machine) -> Config:
    space = region.space
    names = {g: _joint_name(region, getattr(space, g), g) for g in ("m", "k", "n")}

    def config(m: int, k: int, n: int) -> Config:
        blocks = {"m": m, "k": k, "n": n}
        roles = {"m": Role.GRID, "k": Role.LOOP, "n": Role.GRID}
        axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
        for g in ("m", "k", "n"):
            covers = getattr(space, g)
            extent = max(1, rg.extent_of(covers))
            axes.append(TileAxis(names[g], covers, min(blocks[g], extent), roles[g]))
        return Config(tuple(axes), stash_limit=STASH_LIMIT)

    kc = _k_block(rg.extent_of(space.k))
    guess = config(128, kc, 128)
    program = match_dot(lower(region, guess))
    if program is None:
        return config(32, kc, 32)
    plan = plan_dot(program, machine)
    itemsize = carry_dtype(program).itemsize
    extents = {g: rg.extent_of(getattr(space, g)) for g in ("m", "n", "k")}
    v, r = ("n", "m") if plan.v == program.dot.n else ("m", "n")
    batch = rg.extent_of(space.batch)
    bv, br = _dot_blocks(extents[v], extents[r], extents["k"], batch, itemsize, plan, machine)
    blocks = {v: bv, r: br}
    for g, unit in ((v, plan.nr), (r, plan.mr)):
        if {a.name for a in getattr(space, g)} & {x.axis for x in region.limits}:
            blocks[g] = min(blocks[g], max(LIMITED_BLOCK // unit, 1) * unit)
    return config(blocks["m"], kc, blocks["n"])


def _joint_name(region: Region, group: tuple[Axis, ...], name: str) -> str:
    """Of a tile axis: that of the one axis that it covers, else a new one."""
    if len(group) == 1:
        return group[0].name
    while any(name == a.name for a in region.axes):
        name += "_"
    return name


def _chain_config(region: Region) -> Config:
    """Tiles [k, m] whose rows fill vector registers; what first dots contract, and n, whole."""
    space = region.space
    axes = [TileAxis(a.name, (a,), 1, Role.GRID) for a in space.batch]
    for covers, name, role in ((space.k, "k", Role.LOOP), (space.m, "m", Role.GRID)):
        block = min(CHAIN_BLOCK, rg.extent_of(covers))
        axes.append(TileAxis(_joint_name(region, covers, name), covers, block, role))
    for number, covers in enumerate(rg.whole_axes(region)):
        name = _joint_name(region, covers, f"n{number}")
        axes.append(TileAxis(name, covers, rg.extent_of(covers), Role.FULL))
    return Config(tuple(axes))


def _k_block(k: int) -> int:
    """A chunk of k whose panel fits the first-level cache: all of k in equal parts."""
    parts = max(1, -(-k // 384))
    return max(1, -(-k // parts))


def _dot_blocks(
    v: int, r: int, k: int, batch: int, itemsize: int, plan: DotPlan, machine: Machine
) -> tuple[int, int]:
    """Tile sizes along the vector and row axes of least estimated time."""

    def round_up(n: int, to: int) -> int:
        return -(-n // to) * to

    def candidates(extent: int, unit: int, most: int) -> list[int]:
        sizes = {round_up(-(-extent // parts), unit) for parts in range(1, 9)}
        sizes |= {round_up(min(extent, most // d), unit) for d in (1, 2, 4)}
        return sorted(s for s in sizes if s <= round_up(most, unit))

    transposes = plan.v_mode == "rows"
    v_pack = PACK_CYCLES["transpose" if transposes else "lanes"]
    packed_k = round_up(k, _k_block(k))
    best: tuple[float, int, int] | None = None
    for bv in candidates(v, plan.nr, 1024 * 4 // itemsize):
        for br in candidates(r, plan.mr, 192):
            if bv * br * itemsize > machine.l2 // 2:
                continue
            v_tiles, r_tiles = -(-v // bv), -(-r // br)
            tiles = batch * v_tiles * r_tiles
            rounds = -(-tiles // machine.cores)
            product = bv * br * k / (2 * plan.lanes)
            is_kept = r_tiles > 1 and bv * packed_k * itemsize <= STATIONARY_BYTES
            once = bv * k * v_pack / (r_tiles if is_kept else 1)
            tile = product + once + br * k * PACK_CYCLES["rows"] + 2000
            if best is None or rounds * tile < best[0]:
                best = (rounds * tile, bv, br)
    assert best is not None
    return best[1], best[2]
