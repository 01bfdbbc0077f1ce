"""What a region costs: FLOPs and bytes, before it runs.

In: a Region. Out: exact counts. Invariant: the counts follow from the region alone. A dot counts 2
FLOPs per multiply-add, an arithmetic elementwise op or a step of a reduction counts 1, casts,
selects, comparisons and index arithmetic count 0. Bytes are those that must move at least once:
the elements of each slot that the region touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.graph.op import Op

_FREE_OPS = frozenset(
    {
        Op.CAST, Op.BITCAST, Op.WHERE, Op.NOT, Op.AND, Op.OR, Op.XOR,
        Op.LT, Op.LE, Op.EQ, Op.NE, Op.SHL, Op.SHR,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic and memory traffic of one launch."""

    flops: int
    bytes: int


def cost_of(region: Region) -> Cost:
    """FLOPs and least bytes moved of a region."""
    extent = {a.name: a.extent for a in region.axes}

    def points(names: tuple[str, ...] | frozenset[str]) -> int:
        return prod(extent[n] for n in names)

    flops = 0
    dims = region.dims
    for number, value in enumerate(region.values):
        if isinstance(value, rg.Compute) and value.op not in _FREE_OPS:
            flops += points(dims[number])
        elif isinstance(value, rg.Reduce):
            flops += points(dims[value.arg])
        elif isinstance(value, rg.Dot):
            flops += 2 * points(tuple(set(dims[number]) | set(value.axes)))
    touched = [0] * len(region.slots)
    for item in (*region.values, *region.stores):
        if isinstance(item, (rg.Load, rg.Store)):
            names = set(item.index.variables())
            for loaded in item.index.loaded():
                names |= set(dims[loaded])
            count = min(points(frozenset(names)), region.slots[item.slot].size)
            touched[item.slot] = max(touched[item.slot], count)
    moved = sum(n * s.dtype.itemsize for n, s in zip(touched, region.slots))
    return Cost(flops, moved)
