"""What a search may choose for a Triton kernel.

In: a Region, a Target. Out: a SearchSpace around the heuristic's choice. Invariant: every choice
covers the axes as the heuristic does, with other blocks, warps and stages; blocks are powers of
two, and those of a matrix product stay at least 16.

    grid axes     half and double blocks, up to a factor of four
    loops         the same; a row that the heuristic keeps whole may be walked in steps
    num_warps     1 to 32;  num_stages of a kernel that loops over products or sums: 1 to 5
    group_m       1, 4, 8, 16, for a dot with many tiles
    programs      one a tile (0), or 1 or 2 a multiprocessor that walk over the tiles of a dot
    descriptors   0, 1: whether a dot's matrices are copied by TMA, where the GPU has it
    late_products 0, 1: whether a chain multiplies beside its exponentials, where products run on
                  while a program goes on

Spills and too much shared memory show when a choice is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from tgrad.fusion.region import Dot, Region
from tgrad.kernel.ir import Config, Role, TileAxis, count_programs
from tgrad.kernel.lower import lower
from tgrad.kernel.space import Choice, SearchSpace, parameter
from tgrad.triton_gen.blocks import power_of_two
from tgrad.triton_gen.descriptors import matrices_of
from tgrad.triton_gen.epilogue import accumulators, with_epilogue_parts
from tgrad.triton_gen.heuristics import choose_config
from tgrad.triton_gen.late_products import with_late_products
from tgrad.triton_gen.target import Target

GENERATION = 3
"""Raised when a parameter changes its meaning, or kernels change so much that what was measured
before says little."""

REACH = 4
"""Largest factor between a block and the heuristic's."""
WARPS = (1, 2, 4, 8, 16, 32)
STAGES = (1, 2, 3, 4, 5)
GROUPS = (1, 4, 8, 16)
ELEMENTS_OF_A_THREAD = 256
"""Of one tile, at most: beyond that registers spill for certain."""
START_ELEMENTS = 4096
"""Elements in whose time a program starts and ends: a program of fewer is not worth it."""
STEPS = (1024, 2048, 4096, 8192)
"""Blocks of a row that is not kept whole."""


def search_space(region: Region, target: Target) -> SearchSpace:
    """The choices for a region."""
    start = choose_config(region, target)
    if target.is_interpreter:
        return SearchSpace((), (), lambda choice: start)
    return _Choices(region, start, target).space()


class _Choices:
    """Parameters around a heuristic's configuration, and what becomes of their values."""

    def __init__(self, region: Region, heuristic: Config, target: Target):
        self.region, self.heuristic, self.target = region, heuristic, target
        self.kind = region.space.kind
        self.free = [a for a in heuristic.axes if self._blocks(a)]
        self.options = dict(self._options())
        """By the name of a field of `Config`."""

    def _options(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What there is to choose besides blocks; nothing where it makes no difference."""
        region, heuristic, target = self.region, self.heuristic, self.target
        yield "num_warps", WARPS
        has_loops = any(a.role is Role.LOOP for a in heuristic.axes)
        if heuristic.num_stages > 1 or (self.kind in ("dot", "chain", "reduce") and has_loops):
            yield "num_stages", STAGES if target.is_nvidia else STAGES[:2]
        if heuristic.group_m > 1:
            yield "group_m", GROUPS
        is_dot, sms = self.kind == "dot" and region.table is None, target.num_sms
        if is_dot and count_programs(heuristic.axes, region.table) > sms:
            yield "programs", (0, sms, 2 * sms)
        if is_dot and target.has_tma and matrices_of(lower(region, heuristic)):
            yield "descriptors", (0, 1)
        if self.kind == "chain" and target.has_wgmma:
            program = lower(region, heuristic)
            if with_late_products(program) is not program:
                yield "late_products", (0, 1)

    def space(self) -> SearchSpace:
        starts = {f"{a.name}_block": a.block for a in self.free}
        values = {f"{a.name}_block": self._blocks(a) for a in self.free}
        starts |= {name: int(getattr(self.heuristic, name)) for name in self.options}
        parameters = tuple(
            parameter(name, found, starts[name])
            for name, found in {**values, **self.options}.items()
        )
        return SearchSpace(parameters, tuple(starts.values()), self.config, self.estimate)

    def _blocks(self, axis: TileAxis) -> list[int]:
        """Other blocks of an axis; none if it has but one."""
        whole = power_of_two(axis.extent)
        if axis.role is Role.FULL:
            is_row = self.kind == "reduce" and axis.covers == self.region.space.row
            return [b for b in STEPS if b < axis.block] if is_row else []
        if axis.role is Role.GRID and axis.block == 1 and self.kind in ("dot", "chain"):
            return []
        least = 16 if self.kind in ("dot", "chain") and axis.block >= 16 else 1
        found, block = [], max(axis.block // REACH, least)
        while block <= min(axis.block * REACH, max(whole, axis.block)):
            found.append(block)
            block *= 2
        return found

    def config(self, choice: Choice) -> Config | None:
        """The configuration; None where a thread's part of a tile is beyond its registers."""
        values = [int(v) for v in choice]
        blocks = {a.name: b for a, b in zip(self.free, values)}
        options = dict(zip(self.options, values[len(self.free) :]))
        axes = tuple(self._axis(a, blocks.get(a.name, a.block)) for a in self.heuristic.axes)
        threads = options["num_warps"] * self.target.warp_size
        if threads > 1024 or self._tile(axes) > ELEMENTS_OF_A_THREAD * threads:
            return None
        for name in ("descriptors", "late_products"):
            options[name] = bool(options.get(name))
        config = replace(self.heuristic, axes=axes, **options)  # type: ignore[arg-type]
        if self.kind == "dot":
            return with_epilogue_parts(self.region, config, self.target)
        return config

    def _axis(self, axis: TileAxis, block: int) -> TileAxis:
        """The axis with another block; in one tile exactly where its whole extent fits it, but for
        a chain, which always loops over k."""
        if axis.role is Role.GRID or block == axis.block or self.kind == "chain":
            return replace(axis, block=block)
        return replace(axis, block=block, role=Role.FULL if block >= axis.extent else Role.LOOP)

    def _tile(self, axes: tuple[TileAxis, ...]) -> int:
        """Elements of the largest tile: of a dot its sums, else all axes together."""
        if self.kind == "dot":
            sums = len(accumulators(self.region))
            return sums * prod(a.block for a in axes if a.role is Role.GRID)
        if self.kind == "chain":
            blocks = sorted(a.block for a in axes)
            return prod(blocks[-2:])
        return prod(a.block for a in axes)

    def estimate(self, choice: Choice) -> float:
        """Of a dot seconds: waves of programs, each as long as its arithmetic or its traffic takes
        on one multiprocessor. Of other kinds elements, and what starting a program is worth."""
        config = self.config(choice)
        if config is None:
            return float("inf")
        target = self.target
        programs = count_programs(config.axes, self.region.table)
        if self.kind != "dot":
            points = prod(max(a.extent, 1) for a in config.axes)
            return max(1.0, programs / target.num_sms) * (points / programs + START_ELEMENTS)
        blocks = {a.name: a.block for a in config.axes}
        m, n = blocks.get("m", 1), blocks.get("n", 1)
        computing = moving = 0.0
        loaded: set[int] = set()
        for dot in (v for v in self.region.values if isinstance(v, Dot)):
            k = prod(self.region.extent(a) for a in dot.axes)
            itemsize = self.region.values[dot.a].dtype.itemsize
            rate = target.matrix_rate if itemsize <= 2 else target.vector_rate
            computing += 2 * m * n * k / rate
            sides = (side for x, side in ((dot.a, m), (dot.b, n)) if x not in loaded)
            moving += sum(sides) * k * itemsize / (4 * target.bandwidth)
            loaded |= {dot.a, dot.b}
        return -(-programs // target.num_sms) * target.num_sms * max(computing, moving)
