"""Programs of a kernel that nobody needs, where a size of the run decides.

In: a kernel to be, and which elements of its results are needed. Out: the same, with limits on axes
that a generator may use to skip programs. Invariant: at a skipped point of the iteration domain no
store writes an element that is needed.

Sizes are inputs of the plan, or numbers that a kernel of it computes, such as how many tiles there
are; that kernel then runs before those that it limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from tgrad.fusion import region as rg
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import AxisLimit, Region, Slot
from tgrad.graph import index as ix
from tgrad.graph.demand import EVERYTHING, Condition, Needed, conditions_of, needed_elements
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op


def with_computed_limits(fused: Sequence[Fused], results: Sequence[Node]) -> list[Fused]:
    """The kernels with limits by sizes that kernels of the plan make, in an order that may run.

    Args:
        fused: in an order that may run.
        results: of the plan.
    """
    makers: dict[Node, list[Fused]] = defaultdict(list)
    for f in fused:
        for n in f.outputs:
            makers[n].append(f)
    masks = (n.inputs[0] for n in toposort(results) if n.op is Op.WHERE)
    if not any(c.size in makers for mask in masks for c in conditions_of(mask)):
        return list(fused)
    needed = {
        n: frozenset(c for c in conditions if c.size in makers)
        for n, conditions in needed_elements(dict.fromkeys(results, EVERYTHING)).items()
    }
    sizes, order = tuple(makers), list(fused)
    for f in fused:
        limited = with_limits(f, needed, sizes)
        before = _behind(limited, makers)
        if limited is f or id(f) in before:  # a size that depends on what it would limit
            continue
        at = next(i for i, k in enumerate(order) if k is f)
        early = [k for k in order[at + 1 :] if id(k) in before]
        late = [k for k in order[at + 1 :] if id(k) not in before]
        order = [*order[:at], *early, limited, *late]
        for n in f.outputs:
            makers[n] = [limited if k is f else k for k in makers[n]]
    return order


def _behind(fused: Fused, makers: Mapping[Node, Sequence[Fused]]) -> set[int]:
    """Identities of the kernels that make what a kernel needs, and of those that they need."""
    found: set[int] = set()
    stack = list(fused.inputs)
    while stack:
        for maker in makers.get(stack.pop(), ()):
            if id(maker) not in found:
                found.add(id(maker))
                stack += maker.inputs
    return found


def with_limits(f: Fused, needed: Mapping[Node, Needed], sizes: Sequence[Node]) -> Fused:
    """The kernel with the limits that all of its stores allow; none if it serves several steps.

    Args:
        sizes: those of the conditions and others, in the order in which the kernel is given them.
    """
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
    known, rank = f.region.limits, {size: i for i, size in enumerate(sizes)}
    ordered = sorted(allowed, key=lambda a: (*a[:3], rank[a[3]]))
    added = [s for s in dict.fromkeys(size for *_, size in ordered) if s not in f.inputs]
    region = _with_slots(f.region, len(f.inputs), added)
    inputs = (*f.inputs, *added)
    limits = tuple(
        AxisLimit(axis, inner, capacity, inputs.index(size))
        for axis, inner, capacity, size in ordered
    )
    starts = (*f.starts, *(len(inputs) - len(f.inputs)) * (0,)) if f.starts else ()
    return replace(
        f, region=replace(region, limits=(*known, *limits)), inputs=inputs, starts=starts
    )


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
