"""Results written over inputs that nobody needs any more.

In: kernels in order, and which result may take the place of which input. Out: kernels whose slots
are shared where that is legal, and the pairs that are. Invariant: an input is overwritten only by
its last reader, element by element: each element is read by the program that writes it, before, in
the same pass over a row or an earlier one; or by an exchange between processes. What is exchanged
to become a result of the plan is made in the memory of that result.

    adam:  in0 = m, in1 = g;  out0[i] = 0.9 * in0[i] + 0.1 * in1[i]
    becomes  in0 = g;  out0 (inout)[i] = 0.9 * out0[i] + 0.1 * in0[i]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tgrad.fusion import region as rg
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import KNOWN_REGIONS, Region, Store
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.node import Node


@dataclass(frozen=True)
class InPlace:
    """Kernels with shared slots, and for each result written in place, the input it replaces."""

    fused: tuple[Fused, ...]
    replaces: Mapping[Node, Node]


def home_of(node: Node, replaces: Mapping[Node, Node]) -> Node:
    """The node whose memory this one is written into; itself as a rule."""
    while node in replaces:
        node = replaces[node]
    return node


def reuse_inputs(
    fused: Sequence[Fused], donated: Mapping[Node, Node], fixed: frozenset[Node]
) -> InPlace:
    """Write results in place where that is legal.

    Args:
        fused: kernels in the order in which they run.
        donated: for results of the plan, the buffer of the caller that they may overwrite.
        fixed: nodes whose memory no other result may take: buffers of the caller, results.
    """
    last: dict[Node, int] = {}
    for position, f in enumerate(fused):
        for n in f.inputs:
            last[n] = position
    replaces: dict[Node, Node] = {}
    taken: set[Node] = set()
    result: list[Fused] = []
    for position, f in enumerate(fused):
        for out in f.outputs:
            if out in replaces:  # filled by an earlier kernel and updated by this one
                continue
            if out in donated:
                candidates = [donated[out]]
            elif out in fixed:
                operand = _exchanged(f, last, position)
                if operand is not None and operand not in fixed and operand not in replaces:
                    replaces[operand] = out
                continue
            else:
                candidates = [n for n in f.inputs if n not in fixed and n.nbytes == out.nbytes]
            for n in candidates:
                if n in taken or last.get(n, -1) > position or n.dtype is not out.dtype:
                    continue
                shared = f if n not in f.inputs else _share(f, n, out)
                if shared is None:
                    continue
                f, replaces[out] = shared, n
                taken.add(n)
                break
        result.append(f)
    return InPlace(tuple(result), replaces)


def _exchanged(f: Fused, last: Mapping[Node, int], position: int) -> Node | None:
    """The operand of an exchange whose result may take its place, if nobody reads it later."""
    call = f.region.call
    is_alike = isinstance(call, CollectiveCall) and call.is_in_place and not f.windows[0][1]
    return f.inputs[0] if is_alike and last[f.inputs[0]] == position else None


def _share(f: Fused, n: Node, out: Node) -> Fused | None:
    """The kernel with the slot of input `n` joined to that of output `out`, if that is legal."""
    read, written = f.inputs.index(n), len(f.inputs) + f.outputs.index(out)
    if isinstance(f.region.call, CollectiveCall):  # both slots stay, and are the same memory
        return f if f.region.call.is_in_place and read == 0 else None
    if f.windows[read][1]:
        return None
    shared = _with_shared_slot(f.region, read, written, len(f.inputs))
    if shared is None:
        return None
    kept = [(x, start) for x, start in f.windows if x is not n]
    return replace(
        f,
        region=shared.at_line(f.region.source),
        inputs=tuple(x for x, _ in kept),
        starts=tuple(start for _, start in kept),
    )


@lru_cache(maxsize=KNOWN_REGIONS)
def _with_shared_slot(region: Region, read: int, written: int, inputs: int) -> Region | None:
    """The region with one slot for an input and a result, if that is legal."""
    stores = [s for s in region.stores if s.slot == written]
    if len(stores) != 1 or region.slots[written].role != "out":
        return None
    if not _reads_what_it_writes(region, read, stores[0]):
        return None

    def moved(slot: int) -> int:
        slot = written if slot == read else slot
        return slot - 1 if slot > read else slot

    slots = tuple(
        replace(s, role="inout") if i == written else s
        for i, s in enumerate(region.slots)
        if i != read
    )
    names = [f"in{i}" for i in range(inputs - 1)]
    slots = (
        *(replace(s, name=name) for s, name in zip(slots, names)),
        *slots[len(names) :],
    )
    values = tuple(
        replace(v, slot=moved(v.slot)) if isinstance(v, rg.Load) else v for v in region.values
    )
    new_stores = tuple(replace(s, slot=moved(s.slot)) for s in region.stores)
    name = region.name if region.name.endswith("_inplace") else f"{region.name}_inplace"
    return replace(region, name=name, slots=slots, values=values, stores=new_stores)


def _reads_what_it_writes(region: Region, slot: int, store: Store) -> bool:
    """Whether every load of the slot reads the element that the same program then writes, and
    none of them comes after the write."""
    space = region.space
    if space.kind not in ("map", "reduce", "dot") or store.mask:
        return False
    written = store.index.variables()
    if written & {a.name for group in (space.outer, space.k) for a in group}:
        return False
    if written & {a.name for a in space.row} and not _is_in_last_pass(region, store):
        return False
    return all(
        v.index == store.index and not v.mask
        for v in region.values
        if isinstance(v, rg.Load) and v.slot == slot
    )


def _is_in_last_pass(region: Region, store: Store) -> bool:
    """Whether the pass over the rows that writes is the last one that reads.

    Softmax reads its row for the maximum, again for the sum, and last for the quotient, which may
    then take its place.
    """
    if region.space.outer:
        return False
    passes = _passes_before(region)
    mine, written = passes[store.value], store.index.variables()
    rows = {a.name for a in region.space.row}
    return all(passes[v.arg] < mine for v in region.values if isinstance(v, rg.Reduce)) and all(
        s.index.variables() == written and passes[s.value] == mine
        for s in region.stores
        if s.index.variables() & rows
    )


def _passes_before(region: Region) -> list[int]:
    """For each value, how many reductions must end before it, one after the other."""
    result: list[int] = []
    for value in region.values:
        needed = max((result[v] for v in rg.operands_of(value)), default=0)
        result.append(needed + isinstance(value, rg.Reduce))
    return result
