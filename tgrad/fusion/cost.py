"""What a region costs: FLOPs and bytes, and the time they take, before it runs.

In: a Region, and for the time a device's figures. Out: exact counts, a predicted time. Invariant:
the counts follow from the region alone. A dot counts 2 FLOPs per multiply-add, an arithmetic
elementwise op or a step of a reduction or scan counts 1 (of a linear scan 2), casts, selects,
comparisons, sorts and index arithmetic count 0. What a chain's mask leaves nothing of is counted
like all else, though its loop may skip it; what a gradient computes again is counted again. Bytes
are those that must move at least once: the elements of each slot that the region touches.

    bound = max(bytes / bandwidth, FLOPs / rate of the unit used)      no kernel is faster
    time  = bound / (share of the machine that the grid fills) + launch
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

from tgrad.fusion import region as rg
from tgrad.fusion.region import KNOWN_REGIONS, Region
from tgrad.fusion.table import members_of
from tgrad.graph.index import Index
from tgrad.graph.op import Op

_FREE_OPS = frozenset(
    {
        Op.CAST, Op.BITCAST, Op.WHERE, Op.NOT, Op.AND, Op.OR, Op.XOR,
        Op.LT, Op.LE, Op.EQ, Op.NE, Op.SHL, Op.SHR,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """What a device can do at most.

    Attributes:
        name: of the device, such as "sm_90" or "cpu, 2 cores".
        bandwidth: of its memory, bytes/s.
        vector_rate: float32 FLOP/s of its vector units.
        matrix_rate: FLOP/s of its matrix units for float16; 0 where it has none.
        units: multiprocessors or cores; a grid with fewer programs leaves some idle.
        launch: seconds that a launch costs by itself.
        origin: where the figures come from, in words.
    """

    name: str
    bandwidth: float
    vector_rate: float
    matrix_rate: float
    units: int
    launch: float
    origin: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic and memory traffic of one launch.

    Attributes:
        flops: all of it.
        bytes: moved at least.
        dot_flops: the part of `flops` that dots do.
        matrix_flops: the part of `dot_flops` whose operands have 16 bits or less.
    """

    flops: int
    bytes: int
    dot_flops: int = 0
    matrix_flops: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of one launch: the bound that no kernel beats, and the time expected.

    Attributes:
        bound: the larger of memory's time and arithmetic's.
        seconds: the bound over the share of the device that the grid fills, and the launch.
        limit: what the bound comes from: "memory" or "compute".
    """

    bound: float
    seconds: float
    limit: str


def predict(cost: Cost, programs: int, figures: DeviceFigures) -> Prediction:
    """The time of a launch on a device that runs nothing else.

    Args:
        cost: from `cost_of`.
        programs: size of its grid.
        figures: the device's.

    >>> gpu = DeviceFigures("gpu", 1e12, 50e12, 500e12, 100, 4e-6, "an example")
    >>> predict(Cost(flops=1000, bytes=4_000_000), 100, gpu)
    Prediction(bound=4e-06, seconds=8e-06, limit='memory')
    """
    matrix = cost.matrix_flops if figures.matrix_rate else 0
    moving = cost.bytes / figures.bandwidth
    computing = (cost.flops - matrix) / figures.vector_rate
    if matrix:
        computing = max(computing, matrix / figures.matrix_rate)
    bound = max(moving, computing)
    share = min(1.0, max(programs, 1) / figures.units)
    limit = "memory" if moving >= computing else "compute"
    return Prediction(bound, bound / share + figures.launch, limit)


@lru_cache(maxsize=KNOWN_REGIONS)
def cost_of(region: Region) -> Cost:
    """FLOPs and least bytes moved of a region; of a batch, the sum over its members."""
    if region.call is not None:
        flops, slots = region.call.flops, region.slots
        moved = (*slots[: region.call.reads], slots[-1])
        return Cost(flops, sum(slot.nbytes for slot in moved), flops, 0)
    if region.table is None:
        return _cost_of_one(region)
    costs: dict[Region, Cost] = {}
    parts = [m.region for m in members_of(region)]
    for part in parts:
        if part not in costs:
            costs[part] = _cost_of_one(part)
    return Cost(
        sum(costs[p].flops for p in parts),
        sum(costs[p].bytes for p in parts),
        sum(costs[p].dot_flops for p in parts),
        sum(costs[p].matrix_flops for p in parts),
    )


def _cost_of_one(region: Region) -> Cost:
    extent = {a.name: a.extent for a in region.axes}

    def points(names: tuple[str, ...] | frozenset[str]) -> int:
        return prod(extent[n] for n in names)

    walked = {**extent, **_live_part(region, extent)}

    def computed(names: tuple[str, ...]) -> int:
        return prod(walked[n] for n in names)

    flops = dot_flops = matrix_flops = 0
    dims = region.dims
    for number, value in enumerate(region.values):
        if isinstance(value, rg.Compute) and value.op not in _FREE_OPS:
            flops += computed(dims[number])
        elif isinstance(value, rg.Reduce):
            flops += computed(dims[value.arg])
        elif isinstance(value, rg.Scan):
            flops += len(value.args) * points(dims[number])
        elif isinstance(value, rg.Dot):
            count = 2 * computed(tuple(set(dims[number]) | set(value.axes)))
            flops, dot_flops = flops + count, dot_flops + count
            if max(region.values[v].dtype.itemsize for v in (value.a, value.b)) <= 2:
                matrix_flops += count
    touched: dict[tuple[type, int], dict[tuple[int, int], int]] = defaultdict(dict)
    for item in (*region.values, *region.stores):
        if isinstance(item, (rg.Load, rg.Store)):
            names = set(item.index.variables())
            for inner in item.index.loaded():
                names |= set(dims[inner])
            found = touched[type(item), item.slot]
            comb = _comb(item.index)
            found[comb] = max(found.get(comb, 0), points(frozenset(names)))
    moved = sum(
        min(_elements(found), region.slots[slot].size) * region.slots[slot].dtype.itemsize
        for (_, slot), found in touched.items()
    )
    return Cost(flops, moved, dot_flops, matrix_flops)


def _live_part(region: Region, extent: Mapping[str, int]) -> dict[str, int]:
    """Elements of each row of a sum, or of what a dot contracts, from the first to the last: the
    mean if rows share none."""
    space = region.space
    if space.kind not in ("reduce", "dot") or len(space.live) < 2:
        return {}
    bounds = {v for b in space.live for v in b.index.loaded()}
    rows = prod(extent[n] for n in {n for v in bounds for n in region.dims[v]})
    return {a.name: -(-a.extent // max(rows, 1)) for a in (*space.row, *space.k)}


def _comb(index: Index) -> tuple[int, int]:
    """(d, r): every element at an index is one of r, r + d, r + 2d, ..."""
    step = gcd(*(c for _, c in index.terms)) or 1
    return step, index.const % step


def _elements(found: dict[tuple[int, int], int]) -> int:
    """Elements that accesses touch at least: those of one step and different offsets are apart."""
    by_step: dict[int, int] = defaultdict(int)
    for (step, _), count in found.items():
        by_step[step] += count
    return max(by_step.values())
