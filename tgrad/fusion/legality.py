"""What may be one kernel: a region's axes sorted by role, or the reason why not.

In: a draft Region. Out: Space or Refused(reason). Invariant: a region with a Space can be lowered
by every generator.

Shapes of kernels:
    map      every axis is parallel
    scan     rows as of a reduce, with scans along the row
    sort     rows that are sorted whole, with what follows element by element
    reduce   rows: reductions over one set of axes, results per row or along the row; or rows inside
             one further reduction whose results have neither
    dot      a contraction with elementwise prologues and epilogue; or several over one result's
             axes, side by side if they share an operand, or summed
    scatter  a map whose stores go where an index says
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import inf

from tgrad.fusion import region as rg
from tgrad.fusion.axes import DotAxes
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.region import Axis, Region, Space, extent_of
from tgrad.graph.index import Index

FEW_TURNED = 32
"""Neighbours along an axis; of fewer, the lines of memory that a row touches stay in the cache
(softmax of 65536 rows, turned, one core with AVX-512: of 24 elements 3.2 ms, by two kernels 8.6; of
32 elements 10.8 and 3.2; 2026-11)."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nodes cannot share a kernel."""

    reason: str


def classify(
    region: Region, dots: Sequence[DotAxes], limits: Limits, single: bool = False
) -> Space | Refused:
    """Sort the axes of a draft region by role.

    Args:
        region: its space is not looked at.
        dots: the different axes of its dots.
        limits: of the device.
        single: whether it computes one node only: then it is not refused for being slow.
    """
    if len(region.values) > limits.values:
        return Refused(f"{len(region.values)} values, more than {limits.values} in one kernel")
    along = [v for v in region.values if isinstance(v, (rg.Reduce, rg.Scan, rg.Sort))]
    if dots:
        if along:
            return Refused("a reduction beside a dot needs a whole row of its result")
        return _classify_dot(region, dots, limits)
    if any(s.combine != "set" or s.index.loaded() for s in region.stores):
        if along:
            return Refused("a reduction beside a scatter")
        return Space("scatter", region.axes)
    reductions = [v for v in along if not isinstance(v, rg.Sort)]
    if len(reductions) != len(along):
        return _classify_sort(region, single)
    if reductions:
        return _classify_reduce(region, reductions, limits, single)
    return _classify_map(region)


def _classify_map(region: Region) -> Space | Refused:
    everything = {a.name for a in region.axes}
    for store in region.stores:
        if rg.variables_of(store) != everything:
            return Refused("results of different sizes in one elementwise kernel")
    return Space("map", region.axes)


def _classify_dot(region: Region, dots: Sequence[DotAxes], limits: Limits) -> Space | Refused:
    contracted = [set(g) for g in dict.fromkeys(d.k for d in dots)]
    results = {tuple(map(frozenset, d.groups[:3])) for d in dots}
    if len(results) > 1:
        return Refused("dots over different rows or columns")
    groups = [set(g) for g in dots[0].groups[:3]]
    inner, k = (region.pick(g) for g in (set().union(*contracted[:-1]), contracted[-1]))
    batch, m, n = (region.pick(g) for g in groups)
    if not m or not n or not all(contracted):
        return Refused("a dot without rows, columns or a contracted axis is a reduction")
    refused = _refuse_dots(region, limits)
    if refused is not None:
        return refused
    outside = {a.name for a in region.axes} - set().union(*groups, *contracted)
    if outside:
        return Refused(f"the result of a dot is broadcast along {sorted(outside)}")
    result = {a.name for a in (*batch, *m, *n)}
    for store in region.stores:
        if rg.variables_of(store) != result:
            return Refused("an epilogue that stores something else than the dot's domain")
    for v in region.values:
        if isinstance(v, rg.Dot) and set(v.axes) & result:
            return Refused("a dot over an axis of its own result")
    after: set[int] = set()
    for number, v in enumerate(region.values):
        if isinstance(v, rg.Dot) and after.isdisjoint((v.a, v.b)):
            after.add(number)
        elif after.intersection(rg.operands_of(v)):
            after.add(number)
            if isinstance(v, rg.Dot) or set(region.dims[number]).intersection(*contracted):
                return Refused("the result of a dot is used along its contracted axis")
    parallel = (*batch, *m, *n)
    return Space("dot", parallel, batch=batch, m=m, n=n, k=k, inner=inner)


def _refuse_dots(region: Region, limits: Limits) -> Refused | None:
    """Why several dots are not one kernel: apart, each has larger tiles."""
    dots = [v for v in region.values if isinstance(v, rg.Dot)]
    if len(dots) > limits.dots:
        return Refused("two dots in one kernel" if limits.dots == 1 else f"{len(dots)} dots")
    if len({v.dtype for v in dots}) > 1:
        return Refused("dots with different accumulators")
    if sum(v.start < 0 for v in dots) > 1 and not shared_operands(region):
        return Refused("dots that neither share an operand nor are summed")
    return None


def shared_operands(region: Region) -> set[int]:
    """Numbers of values that all dots of a region contract, each with something else."""
    return set.intersection(*({v.a, v.b} for v in region.values if isinstance(v, rg.Dot)))


def _classify_sort(region: Region, single: bool) -> Space | Refused:
    walks = {v.axes for v in region.values if isinstance(v, rg.AlongAxes)}
    if len(walks) > 1 or any(isinstance(v, (rg.Reduce, rg.Scan)) for v in region.values):
        return Refused("a sort beside a reduction, a scan or a sort of other rows")
    row = set(walks.pop())
    everything = {a.name for a in region.axes}
    for number, v in enumerate(region.values):
        if isinstance(v, rg.Sort) and not single and set(region.dims[number]) != everything:
            return Refused("rows would be sorted again for every element of another axis")
    if any(rg.variables_of(s) != everything for s in region.stores):
        return Refused("a result that has part of the axes of a sort")
    return Space("sort", region.pick(everything - row), row=region.pick(row))


def _classify_reduce(
    region: Region, reductions: list[rg.Reduce | rg.Scan], limits: Limits, single: bool
) -> Space | Refused:
    scans = [r for r in reductions if isinstance(r, rg.Scan)]
    sets: list[frozenset[str]] = []
    for r in reductions:
        if frozenset(r.axes) not in sets:
            sets.append(frozenset(r.axes))
    if len(sets) > 2:
        return Refused("reductions over three different sets of axes")
    row, outer = (sets[0], sets[1]) if len(sets) == 2 else (sets[0], frozenset[str]())
    if outer and scans:
        return Refused("a scan inside or around a reduction over other axes")
    crossed = _rows_and_columns(region, row, outer, limits) if outer else None
    if crossed is not None:
        return crossed
    if outer:
        nested = _order_nested(region, row, outer)
        if isinstance(nested, Refused):
            return nested
        row, outer = nested
    everything = {a.name for a in region.axes}
    parallel = everything - row - outer
    rows = extent_of(region.pick(set(parallel)))
    length = extent_of(region.pick(set(row)))
    has_whole = any(
        isinstance(v, rg.Reduce) and parallel <= set(dims)
        for v, dims in zip(region.values, region.dims)
    )
    again = single or (has_whole and not outer and length <= limits.short_row)
    repeated = None if again else _refuse_repeats(region, parallel, row, outer)
    if repeated is not None:
        return repeated
    stores_row = False
    for store in region.stores:
        names = rg.variables_of(store)
        if names != parallel and names != parallel | row:
            return Refused("a result that has part of the reduced axes")
        stores_row |= bool(names & row)
    reads_again = stores_row and len(scans) < len(reductions)
    if reads_again and length > limits.row_elements and rows < limits.busy_rows:
        return Refused(
            f"a row of {length:,} elements does not fit on chip and {rows} rows are too few to "
            "read it again"
        )
    may_turn = limits.turns_rows or single or scans or outer
    if stores_row and not may_turn and _turns_rows(region, everything, row):
        return Refused("rows would be stored across how they are read")
    if outer and stores_row:
        return Refused("a result along the row beside a reduction over the rows")
    total = length * extent_of(region.pick(set(outer))) * rows
    if outer and total > _most_nested(rows, total, limits):
        return Refused(f"a reduction over {total:,} elements of rows needs several programs")
    return Space(
        "scan" if scans else "reduce",
        region.pick(set(parallel)),
        row=region.pick(set(row)),
        outer=region.pick(set(outer)),
    )


def _most_nested(rows: int, total: int, limits: Limits) -> int:
    """Elements, of `total`, that one kernel reduces in rows and then over `rows` results."""
    busy = max(-(-rows // limits.sum_columns), 1) if limits.programs else total
    return min(limits.nested_elements, limits.elements_of_a_launch * busy)


def _turns_rows(region: Region, wide: Set[str], row: Set[str]) -> bool:
    """Whether what is reduced has its neighbours in memory along the row, and a result of the rows
    has them along another axis, or the other way round: one of both would touch a line of memory
    for each element. Apart, the kernel of the statistics reads along memory, and that of the result
    turns squares of it."""
    reductions = [n for n, v in enumerate(region.values) if isinstance(v, rg.Reduce)]
    reduced = (region.values[n] for n in rg.behind(region.values, reductions))
    loads = [v.index for v in reduced if isinstance(v, rg.Load) and rg.variables_of(v) == wide]
    stores = [s.index for s in region.stores if rg.variables_of(s) == wide]
    read, written = ({_neighbours(region, index) for index in found} for found in (loads, stores))
    if min((a.extent for a in read | written), default=0) < FEW_TURNED:
        return False
    loaded, stored = ({a.name in row for a in axes} for axes in (read, written))
    return len(loaded) == 1 and not stored <= loaded


def _neighbours(region: Region, index: Index) -> Axis:
    """The axis along which elements lie nearest to each other in memory."""
    return min(region.axes, key=lambda a: abs(index.stride(a.name) or 0) or inf)


def _refuse_repeats(
    region: Region, parallel: Set[str], row: frozenset[str], outer: frozenset[str]
) -> Refused | None:
    """Why a reduction would be computed more than once, if it would."""
    for v, dims in zip(region.values, region.dims):
        if isinstance(v, (rg.Reduce, rg.Scan)):
            want = parallel | (outer if frozenset(v.axes) == row else frozenset())
            missing = sorted(want - set(dims))
            if missing:
                return Refused(
                    f"a reduction would be computed again for every {', '.join(missing)}"
                )
    return None


def _rows_and_columns(
    region: Region, a: frozenset[str], b: frozenset[str], limits: Limits
) -> Space | None:
    """The space of a kernel whose programs walk rows, reduce each and sum their columns; None if
    the region is no such kernel."""
    last = region.axes[-1].name
    if (last in a) == (last in b):
        return None
    row, rows = (a, b) if last in a else (b, a)
    everything = {x.name for x in region.axes}
    parallel = everything - row - rows
    if not parallel or row & rows or extent_of(region.pick(set(row))) > limits.columns:
        return None
    depends: list[bool] = []
    for number, v in enumerate(region.values):
        dims = set(region.dims[number])
        late = any(depends[x] for x in rg.operands_of(v))
        if isinstance(v, rg.Reduce):
            is_column = frozenset(v.axes) == rows
            if late or not dims >= parallel | (row if is_column else rows):
                return None
            late = is_column
        depends.append(late)
        if late and dims & rows:
            return None
    wanted = (everything, parallel | rows, parallel | row)
    if any(rg.variables_of(s) not in wanted for s in region.stores):
        return None
    return Space(
        "reduce",
        region.pick(set(parallel)),
        row=region.pick(set(row)),
        outer=region.pick(set(rows)),
    )


def _order_nested(
    region: Region, a: frozenset[str], b: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]] | Refused:
    """(row, outer): which of two sets of reduced axes is inside the other."""
    if a & b:
        return Refused("reductions over overlapping sets of axes")
    depends: list[set[frozenset[str]]] = []
    for v in region.values:
        kinds: set[frozenset[str]] = set()
        for operand in rg.operands_of(v):
            kinds |= depends[operand]
        if isinstance(v, rg.Reduce):
            kinds = kinds | {frozenset(v.axes)}
        depends.append(kinds)
    row_first = outer_first = False
    for v in region.values:
        if isinstance(v, rg.Reduce):
            inner = set().union(*(depends[o] for o in rg.operands_of(v)))
            row_first |= frozenset(v.axes) == b and a in inner
            outer_first |= frozenset(v.axes) == a and b in inner
    if row_first == outer_first:
        return Refused("reductions over two axes that do not nest")
    row, outer = (a, b) if row_first else (b, a)
    for number, v in enumerate(region.values):
        if isinstance(v, rg.Reduce) and frozenset(v.axes) == outer:
            if set(region.dims[number]) & row:
                return Refused("reductions over two axes that do not nest")
    return row, outer
