"""What holds of every region.

In: a Region. Out: nothing, or an error that names what breaks it. Invariant: values are in
dependency order; indices without a mask stay inside their slots; inputs are not written.
"""

from __future__ import annotations

from tgrad.errors import VerifyError
from tgrad.fusion.region import (
    Compute,
    Dot,
    Inside,
    Load,
    Reduce,
    Region,
    Scan,
    Store,
    Table,
    indices_of,
    operands_of,
)
from tgrad.graph import index as ix
from tgrad.graph.index import Index
from tgrad.graph.op import OPS, REDUCE, SCAN, is_elementwise


def verify_region(region: Region) -> None:
    """Check the invariant of the module.

    Raises:
        VerifyError: names the value that breaks it.
    """
    names = {a.name for a in region.axes}
    for number, value in enumerate(region.values):
        where = f"%{number} of region {region.name}"
        if any(not 0 <= v < number for v in operands_of(value)):
            raise VerifyError(f"{where} refers to a later value.", source=region.source)
        if any(not e.variables() <= names for e in indices_of(value)):
            raise VerifyError(f"{where} uses an axis that is not there.", source=region.source)
        if isinstance(value, Compute):
            if not is_elementwise(value.op) or len(value.args) != OPS[value.op].arity:
                raise VerifyError(f"{where} is a bad {value.op}.", source=region.source)
        if isinstance(value, Reduce) and value.op not in REDUCE:
            raise VerifyError(f"{where} reduces with {value.op}.", source=region.source)
        if isinstance(value, Scan) and value.op not in SCAN:
            raise VerifyError(f"{where} scans with {value.op}.", source=region.source)
        if isinstance(value, Dot) and value.start >= 0:
            _check_start(region, value.start, where)
        if isinstance(value, Load) and not value.mask:
            _check_bounds(region, value.slot, value.index, where)
    for store in region.stores:
        if not store.mask:
            _check_bounds(region, store.slot, store.index, "a store")
        if region.slots[store.slot].role == "in":
            raise VerifyError(f"{region.name} stores to an input.", source=region.source)
    if region.table is not None:
        _check_table(region, region.table)
    if region.call is not None and (region.values or region.stores or region.limits):
        raise VerifyError(f"{region.name} is a call and a kernel.", source=region.source)


def _check_start(region: Region, start: int, where: str) -> None:
    """A dot that another is summed onto is one, and is read by that one alone."""
    readers = sum(operands_of(x).count(start) for x in (*region.values, *region.stores))
    if not isinstance(region.values[start], Dot) or readers != 1:
        raise VerifyError(f"{where} starts from what others read.", source=region.source)


def _check_table(region: Region, table: Table) -> None:
    """Members write apart from each other, and lengths are those of one axis that indices walk."""

    def fail(why: str) -> None:
        raise VerifyError(f"The table of {region.name}: {why}.", source=region.source)

    if table.members < 2 or len(set(table.own)) != len(table.own):
        fail(f"{table.members} members that own the slots {table.own}")
    if any(not 0 <= s < len(region.slots) for s in table.own):
        fail("a member owns a slot that is not there")
    if any(s.slot not in table.own for s in region.stores):
        fail("members share a slot that they write")
    if not table.lengths:
        return
    if len(table.lengths) != table.members or len(region.axes) != 1:
        fail(f"{len(table.lengths)} lengths for {len(region.axes)} axes of {table.members} members")
    if min(table.lengths) < 1 or max(table.lengths) != region.axes[0].extent:
        fail(f"the longest member is not the region's {region.axes[0].extent}")
    walked = ix.var(region.axes[0].name, region.axes[0].extent)
    for item in (*region.values, *region.stores):
        if any(e != walked and not e.is_const for e in indices_of(item)):
            fail("an index that is neither the axis nor a number")
        if isinstance(item, Inside) or (isinstance(item, (Load, Store)) and item.mask):
            fail("a mask")


def _check_bounds(region: Region, slot: int, index: Index, where: str) -> None:
    size = region.slots[slot].size
    if index.loaded() or 0 in (a.extent for a in region.axes):
        return
    if index.lo < 0 or index.hi >= size:
        raise VerifyError(
            f"{where}: {index} in [{index.lo}, {index.hi}] leaves {region.slots[slot].name} of "
            f"{size} elements.",
            source=region.source,
        )
