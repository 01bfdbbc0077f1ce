"""What a search may choose for a C kernel.

In: a Region, the Machine. Out: a SearchSpace around the heuristic's choice. Invariant: every choice
computes the same function; the source of the space's start is the heuristic's own.

    dot      form: packed, or the window programs that fit, plain or with so many points of
             minimal filtering; the axis in vector lanes; registers of the tile; blocks of the
             vector axis, the row axis and k; band of a convolution's rows
    chain    blocks of m and k
    others   the axis in vector lanes, its block, the block of a transposition's other axis, whether
             a row is kept between two passes

Blocks are in elements, so that a choice means the same for another shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tgrad.cpu_fallback.chain_heuristics import chain_config, chain_points, chain_side
from tgrad.cpu_fallback.code import round_up
from tgrad.cpu_fallback.dot_heuristics import (
    DotTiles,
    DotWork,
    dot_config,
    dot_cycles,
    dot_tiles,
    dot_work,
    match_region,
)
from tgrad.cpu_fallback.dot_plan import DotPlan, DotProgram, carry_dtype, plan_dot, rate_plans
from tgrad.cpu_fallback.heuristics import (
    STASH_LIMIT,
    LoopAxes,
    LoopTiles,
    choose_config,
    loop_tiles,
)
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_heuristics import (
    window_config,
    window_programs,
    winograd_operations,
    winograd_points,
    with_tiles,
)
from tgrad.cpu_fallback.window_plan import WindowProgram
from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, RegisterTile, Role
from tgrad.kernel.space import Choice, Parameter, SearchSpace, Value, parameter

GENERATION = 2
"""Raised when a parameter changes its meaning, or kernels change so much that what was measured
before says little."""

ROWS = (2, 4, 6, 8, 10, 12, 14, 16)
V_BLOCKS = (48, 96, 192, 384, 768)
R_BLOCKS = (16, 32, 64, 128, 256)
K_BLOCKS = (128, 256, 384, 512, 768)
LOOP_BLOCKS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
COLUMN_BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096)
SIDES = (16, 32, 64, 128, 256)
CHAIN_BLOCKS = (16, 32, 48, 64, 96, 128)
MOST_CHAIN_BLOCK = 256
BANDS = (1, 2, 4, 7, 8, 14, 16, 28, 32)
PATCHES = 2.0
"""How much longer a packed dot takes where its operand is a window, of which patches are copied."""
DOT_PARAMETERS = (
    "form", "vector", "vectors", "rows", "vector_block", "row_block", "k_block", "band",
)  # fmt: skip
MOST_LANES = 3
"""Axes that are tried in vector lanes, the cheapest by count."""


def search_space(region: Region, machine: Machine) -> SearchSpace:
    """The choices for a region."""
    kind = region.space.kind
    if kind == "dot":
        return _dot_space(region, machine)
    if kind == "chain":
        return _chain_space(region, machine)
    if kind == "sort":
        only = choose_config(region, machine)
        return SearchSpace((), (), lambda choice: only)
    return _loop_space(region, machine)


def _up_to(values: Iterable[int], extent: int) -> list[int]:
    """Blocks below the extent, and the extent."""
    return [v for v in values if v < extent] + [max(extent, 1)]


# -- dots ---------------------------------------------------------------------------------------


def _dot_space(region: Region, machine: Machine) -> SearchSpace:
    program = match_region(region)
    if program is None:
        only = choose_config(region, machine)
        return SearchSpace((), (), lambda choice: only)
    windows: dict[str, tuple[Config, WindowProgram]] = {}
    for config, window in reversed(list(window_programs(region, machine))):
        windows[window.kind] = config, window
        for points in winograd_points(window, machine):
            windows[f"{window.kind} {points}"] = replace(config, winograd=points), window
    return _DotChoices(region, program, windows, machine).space()


class _DotChoices:
    """A dot's parameters, and what becomes of their values."""

    def __init__(
        self,
        region: Region,
        program: DotProgram,
        windows: dict[str, tuple[Config, WindowProgram]],
        machine: Machine,
    ):
        self.region, self.program, self.windows = region, program, windows
        self.machine, self.itemsize = machine, carry_dtype(program).itemsize
        self.plans = {
            "n" if plan.v == program.dot.n else "m": plan
            for _, plan in rate_plans(program, machine)
        }
        self.parameters, self.start = self._parameters()

    def space(self) -> SearchSpace:
        return SearchSpace(self.parameters, self.start, self.config, self.estimate, self.choices)

    def _parameters(self) -> tuple[tuple[Parameter, ...], Choice]:
        """The parameters, and the heuristic's value of each."""
        tiles = dot_tiles(self.region, self.machine)
        best = plan_dot(self.program, self.machine)
        vector = "n" if best.v == self.program.dot.n else "m"
        work = dot_work(self.region, self.program, best)
        window = window_config(self.region, self.machine)
        registers = (window or tiles).registers
        assert registers is not None
        bv, br = (tiles.n, tiles.m) if vector == "n" else (tiles.m, tiles.n)
        forms = {(c.axes, c.winograd): form for form, (c, _) in self.windows.items()}
        band, bands = 0, [0]
        banded = [found for form, found in self.windows.items() if _has_band(form)]
        if banded:
            config, program = banded[0]
            y = program.dot.kernel.axis(program.y.step).extent
            band = (window or with_tiles(config, program, self.machine)).band
            bands = _up_to(BANDS, y)
        vectors = [1, 2, 3, 4] if self.machine.vector_registers >= 32 else [1, 2, 3]
        start: Choice = (
            "packed" if window is None else forms[window.axes, window.winograd], vector,
            registers.vectors, registers.rows, bv, br, tiles.k, band,
        )  # fmt: skip
        values: tuple[Sequence[Value], ...] = (
            ["packed", *self.windows], ["n", "m"], vectors, list(ROWS), _up_to(V_BLOCKS, work.v),
            _up_to(R_BLOCKS, work.r), _up_to(K_BLOCKS, work.k), bands,
        )  # fmt: skip
        found = zip(DOT_PARAMETERS, values, start)
        return tuple(parameter(name, v, at) for name, v, at in found), start

    def choices(self) -> Iterator[Choice]:
        """What a form does not use is as in the heuristic's choice."""
        every = [p.values for p in self.parameters]
        fixed = [(value,) for value in self.start]
        yield from product(["packed"], *every[1:7], fixed[7])
        for form in self.windows:
            bands = every[7] if _has_band(form) else fixed[7]
            yield from product([form], fixed[1], *every[2:4], *fixed[4:7], bands)

    def config(self, choice: Choice) -> Config | None:
        """The configuration; None where the tile does not fit registers or the second-level
        cache."""
        form, vectors, rows = choice[0], int(choice[2]), int(choice[3])
        if vectors * rows + vectors + 1 > self.machine.vector_registers:
            return None
        if form != "packed":
            return self._window_config(choice)
        tiles = self._tiles(choice)
        if tiles.v * tiles.r * self.itemsize > self.machine.l2 or choice[7] != self.start[7]:
            return None
        m, n = (tiles.r, tiles.v) if choice[1] == "n" else (tiles.v, tiles.r)
        return dot_config(self.region, DotTiles(tiles.plan.registers, m, tiles.k, n))

    def _tiles(self, choice: Choice) -> _Tiles:
        """Blocks in whole register tiles, k in equal parts."""
        _, vector, vectors, rows, bv, br, kc, _ = choice
        plan = replace(self.plans[str(vector)], nv=int(vectors), mr=int(rows))
        work = dot_work(self.region, self.program, plan)
        chunks = -(-work.k // max(int(kc), 1))
        v, r = round_up(min(int(bv), work.v), plan.nr), round_up(min(int(br), work.r), plan.mr)
        return _Tiles(plan, work, v, r, -(-work.k // max(chunks, 1)))

    def _window_config(self, choice: Choice) -> Config | None:
        form, vector, vectors, rows, *blocks, band = choice
        config, program = self.windows[str(form)]
        if (vector, *blocks) != (self.start[1], *self.start[4:7]):
            return None
        if int(rows) > program.dot.kernel.axis(program.r).extent:
            return None
        registers = RegisterTile(program.v, int(vectors), int(rows))
        if _has_band(str(form)):
            return replace(config, registers=registers, band=int(band))
        return replace(config, registers=registers) if band == self.start[7] else None

    def estimate(self, choice: Choice) -> float:
        """Cycles with what padding, loads of a register tile and sums in memory cost."""
        form, vectors, rows = choice[0], int(choice[2]), int(choice[3])
        tiles = self._tiles(choice)
        loads = 1 + max(0.0, (vectors + rows) / (vectors * rows) - 0.4)
        if form == "packed":
            cycles = dot_cycles(tiles.work, tiles.plan, tiles.v, tiles.r, tiles.k, self.machine)
            itemsize = self.itemsize / tiles.plan.together
            panel = tiles.plan.nr * tiles.k * itemsize / self.machine.l1
            patches = PATCHES if self.windows else 1.0
            return cycles * loads * patches * (1 + max(0.0, panel - 1) / 4)
        config, program = self.windows[str(form)]
        if config.winograd:
            operations = winograd_operations(program, config.winograd, self.machine)
            return operations / (2 * self.machine.cores) * loads
        v, r = (program.dot.kernel.axis(x).extent for x in (program.v, program.r))
        padded = round_up(v, tiles.plan.nr) / v * round_up(r, rows) / r
        points = rg.extent_of(self.region.axes) / self.machine.cores
        return points / (2 * tiles.plan.lanes) * padded * loads


def _has_band(form: str) -> bool:
    """Whether a form's programs compute a choice of rows."""
    return form != "weights"


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Blocks of a packed dot along its vector axis, its row axis and k."""

    plan: DotPlan
    work: DotWork
    v: int
    r: int
    k: int


# -- chains -------------------------------------------------------------------------------------


def _chain_space(region: Region, machine: Machine) -> SearchSpace:
    m, k = rg.extent_of(region.space.m), rg.extent_of(region.space.k)
    side = chain_side(region, machine)
    start = (min(side, m), min(side, k))
    parameters = (
        parameter("m_block", _up_to(CHAIN_BLOCKS, m), start[0]),
        parameter("k_block", _up_to(CHAIN_BLOCKS, k), start[1]),
    )

    def config(choice: Choice) -> Config | None:
        block_m, block_k = choice
        assert isinstance(block_m, int) and isinstance(block_k, int)
        if max(block_m, block_k) > MOST_CHAIN_BLOCK:
            return None
        return chain_config(region, block_m, block_k)

    def estimate(choice: Choice) -> float:
        return chain_points(region, int(choice[0]), int(choice[1]))

    return SearchSpace(parameters, start, config, estimate)


# -- maps, reductions, scatters -----------------------------------------------------------------


def _loop_space(region: Region, machine: Machine) -> SearchSpace:
    axes = LoopAxes(region)
    tiles = loop_tiles(region, axes, machine)
    if not axes.lanes:
        only = axes.config(tiles)
        return SearchSpace((), (), lambda choice: only)
    lanes = {m.name: m for _, m in axes.lanes[:MOST_LANES]}
    widest = max((m.extent for m in lanes.values() if m.role is Role.GRID), default=1)
    blocks = COLUMN_BLOCKS if axes.has_loops else LOOP_BLOCKS
    parameters: list[Parameter] = [
        parameter("vector", list(lanes), tiles.vector),
        parameter("block", [*(b for b in blocks if b < widest), tiles.block], tiles.block),
    ]
    start: list[int | str] = [tiles.vector, tiles.block]
    if any(axes.other_axis(m) is not None for m in lanes.values()):
        parameters.append(parameter("other_block", [1, *SIDES], tiles.other_block))
        parameters[1] = parameter("block", [*SIDES, *parameters[1].values], tiles.block)
        start.append(tiles.other_block)
    if region.space.row:
        parameters.append(parameter("stash", ["yes", "no"], "yes"))
        start.append("yes")
    names = [p.name for p in parameters]

    def config(choice: Choice) -> Config | None:
        chosen = dict(zip(names, choice))
        vector, block = lanes.get(str(chosen["vector"])), int(chosen["block"])
        if vector is None or vector.role is not Role.GRID:
            block = 1
        block = block if vector is None else min(block, vector.extent)
        stash = tiles.stash
        if region.space.row:
            stash = STASH_LIMIT // block if chosen["stash"] == "yes" else 0
        if choice == space.start:
            return axes.config(tiles)
        if vector is None:
            return axes.config(LoopTiles(stash=stash))
        other = axes.other_axis(vector)
        side = int(chosen.get("other_block", 1))
        if other is None or side == 1:
            return axes.config(LoopTiles(vector.name, block, stash=stash))
        if block * min(side, other.extent) * 8 > machine.l2:
            return None
        side = min(side, other.extent)
        return axes.config(LoopTiles(vector.name, block, other.name, side, stash))

    def estimate(choice: Choice) -> float:
        chosen = dict(zip(names, choice))
        return axes.cost(lanes.get(str(chosen["vector"])), int(chosen.get("other_block", 1)) > 1)

    space = SearchSpace(tuple(parameters), tuple(start), config, estimate)
    return space
