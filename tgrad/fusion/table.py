"""Members of a batch as regions of their own.

In: a region with a table. Out: each member's plain region, and which of the launch's buffers are
its slots. Invariant: running the members one by one is what the batch computes; so the oracle, the
cost model and the tests need to know nothing more about tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tgrad.errors import UNKNOWN
from tgrad.fusion import region as rg
from tgrad.fusion.region import KNOWN_REGIONS, Axis, Region, Space
from tgrad.graph.index import ZERO, var


@dataclass(frozen=True)
class Member:
    """One run of a batched region.

    Attributes:
        region: what it computes, without a table.
        buffers: for each slot, its number among `Region.buffers` of the batch.
    """

    region: Region
    buffers: tuple[int, ...]


def members_of(region: Region) -> Iterator[Member]:
    """The members of a batch in order; a region without a table is its own only member."""
    table = region.table
    if table is None:
        yield Member(region, tuple(range(len(region.slots))))
        return
    starts: list[int] = []
    count = 0
    for slot in range(len(region.slots)):
        starts.append(count)
        count += table.members if slot in table.own else 1
    plain = replace(region, table=None)
    for number in range(table.members):
        one = resized(plain, table.lengths[number]) if table.lengths else plain
        yield Member(
            one,
            tuple(s + (number if slot in table.own else 0) for slot, s in enumerate(starts)),
        )


def resized(region: Region, extent: int) -> Region:
    """A region over one axis, with another number of elements along it.

    in0[i] * 2 for i < 100   ->   in0[i] * 2 for i < 7
    """
    (old,) = region.axes
    axis = Axis(old.name, extent)
    walked = {old.name: var(old.name, extent)}

    def at(item: rg.Item) -> rg.Item:
        return rg.with_indices(item, lambda e: e.substitute(walked))

    return replace(
        region,
        axes=(axis,),
        slots=tuple(replace(s, size=extent) if s.size == old.extent else s for s in region.slots),
        values=tuple(map(at, region.values)),
        stores=tuple(map(at, region.stores)),
        space=Space(
            region.space.kind,
            parallel=(axis,) if region.space.parallel else (),
            row=(axis,) if region.space.row else (),
        ),
    )


WIDE = 16
"""Lengths that it divides are apart from others: their loads may be wide on every device."""


@lru_cache(maxsize=KNOWN_REGIONS)
def form_of(region: Region) -> Region | None:
    """What regions that may share a launch have in common; None if the region runs alone.

    Regions of one form are the same code: they are equal but for their names, or they walk whole
    buffers along one axis whose length alone differs.
    """
    if region.table is not None or region.limits or region.space.kind not in ("map", "reduce"):
        return None
    plain = replace(region, name="", source=UNKNOWN)
    if not walks_whole_buffers(region):
        return plain
    return resized(plain, WIDE if region.axes[0].extent % WIDE == 0 else WIDE - 1)


def walks_whole_buffers(region: Region) -> bool:
    """Whether every index is the region's only axis, over buffers of its length, or 0, in buffers
    of one element; and, in a reduction, all results are scalars."""
    if len(region.axes) != 1 or region.axes[0].extent < 2 or region.space.outer:
        return False
    walked = var(region.axes[0].name, region.axes[0].extent)
    for item in (*region.values, *region.stores):
        if isinstance(item, rg.Inside) or (isinstance(item, (rg.Load, rg.Store)) and item.mask):
            return False
        if isinstance(item, (rg.Load, rg.Store)):
            size = region.slots[item.slot].size
            if (item.index, size) not in ((walked, walked.hi + 1), (ZERO, 1)):
                return False
        elif isinstance(item, rg.IndexValue) and item.index not in (walked, ZERO):
            return False
    kind = "map" if region.space.parallel else "reduce"
    return all(s.index == (walked if kind == "map" else ZERO) for s in region.stores)


def as_single(form: Region) -> Region:
    """The form of a member with one element: it has no axis at all."""
    one = resized(form, 1)
    return replace(one, axes=(), space=Space("map", parallel=()))
