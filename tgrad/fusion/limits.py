"""Programs of a kernel that nobody needs, where a size of the run decides.

In: a kernel to be, and which elements of its results are needed. Out: the same, with limits on axes
that a generator may use to skip programs. Invariant: at a skipped point of the iteration domain no
store writes an element that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from tgrad.fusion import region as rg
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import AxisLimit, Region, Slot
from tgrad.graph import index as ix
from tgrad.graph.demand import EVERYTHING, Condition, Needed
from tgrad.graph.node import Node


def with_limits(f: Fused, needed: Mapping[Node, Needed]) -> Fused:
    """The kernel with the limits that all of its stores allow; none if it serves several steps."""
    stores = f.region.stores
    if not stores or f.region.table is not None or any(s.combine != "set" for s in stores):
        return f
    allowed: set[tuple[str, int, int, Node]] | None = None
    for store in stores:
        node = f.outputs[store.slot - len(f.inputs)]
        found = {
            (*place, c.size)
            for c in needed.get(node, EVERYTHING)
            if (place := _axis_of(f.region, store, c)) is not None
        }
        allowed = found if allowed is None else allowed & found
    if not allowed:
        return f
    sizes = tuple(dict.fromkeys(size for *_, size in sorted(allowed, key=lambda a: a[:3])))
    added = [s for s in sizes if s not in f.inputs]
    region = _with_slots(f.region, len(f.inputs), added)
    inputs = (*f.inputs, *added)
    limits = tuple(
        AxisLimit(axis, inner, capacity, inputs.index(size))
        for axis, inner, capacity, size in sorted(allowed, key=lambda a: a[:3])
    )
    starts = (*f.starts, *(len(inputs) - len(f.inputs)) * (0,)) if f.starts else ()
    return replace(f, region=replace(region, limits=limits), inputs=inputs, starts=starts)


def _axis_of(region: Region, store: rg.Store, c: Condition) -> tuple[str, int, int] | None:
    """The axis whose place decides a condition on the place of the store, with its factors."""
    place = store.index // c.inner % c.capacity
    reduced = {name for v in region.values if isinstance(v, (rg.Reduce, rg.Dot)) for name in v.axes}
    for axis in region.axes:
        stride = store.index.stride(axis.name)
        if axis.name in reduced or not stride or stride < 0 or c.inner % stride:
            continue
        inner = c.inner // stride
        if axis.extent % (inner * c.capacity):
            continue
        if ix.var(axis.name, axis.extent) // inner % c.capacity == place:
            return axis.name, inner, c.capacity
    return None


def _with_slots(region: Region, place: int, added: list[Node]) -> Region:
    """The region with more inputs, before its outputs."""
    if not added:
        return region

    def moved(slot: int) -> int:
        return slot if slot < place else slot + len(added)

    slots = tuple(Slot(f"in{place + i}", n.dtype, prod(n.shape), "in") for i, n in enumerate(added))
    values = tuple(
        replace(v, slot=moved(v.slot)) if isinstance(v, rg.Load) else v for v in region.values
    )
    return replace(
        region,
        slots=(*region.slots[:place], *slots, *region.slots[place:]),
        values=values,
        stores=tuple(replace(s, slot=moved(s.slot)) for s in region.stores),
    )
