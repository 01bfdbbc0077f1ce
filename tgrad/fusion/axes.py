"""Tidying a draft region: dead values out, axes joined and named.

In: a Region whose space is not known yet. Out: an equal one. Invariant: each pass is pure and keeps
what the region computes.

    x[i*8 + j] over (i=4, j=8)   becomes   x[i] over (i=32)        when every index allows it
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tgrad.fusion import region as rg
from tgrad.fusion.region import Axis, Mask, Region
from tgrad.graph import index as ix
from tgrad.graph.index import Bound, Index


@dataclass(frozen=True)
class DotAxes:
    """Which axes a dot uses for what, by name."""

    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return self.batch, self.m, self.n, self.k


def drop_dead(region: Region) -> Region:
    """Remove values that no store needs, and axes that only those walked: a gather from a constant
    needs no index. A store that counts happens at each point of all axes."""
    live: set[int] = set()
    stack = [v for s in region.stores for v in rg.operands_of(s)]
    while stack:
        v = stack.pop()
        if v not in live:
            live.add(v)
            stack.extend(rg.operands_of(region.values[v]))
    if len(live) == len(region.values):
        return region
    number = {old: new for new, old in enumerate(sorted(live))}
    values = tuple(with_numbers(region.values[v], number) for v in sorted(live))
    stores = tuple(
        replace(
            s,
            value=number[s.value],
            index=_renumber_index(s.index, number),
            mask=_renumber_mask(s.mask, number),
        )
        for s in region.stores
    )
    kept = replace(region, values=values, stores=stores)
    if any(s.counts for s in stores):
        return kept
    walked = _walked(kept)
    return replace(kept, axes=tuple(a for a in region.axes if a.name in walked))


def _walked(region: Region) -> set[str]:
    """Names of the axes that a value or a store depends on, or that a value is taken along."""
    names: set[str] = set()
    for item in (*region.values, *region.stores):
        for e in rg.indices_of(item):
            names |= e.variables()
        if isinstance(item, rg.AlongAxes):
            names.update(item.axes)
    return names


def with_numbers(value: rg.Value, number: dict[int, int]) -> rg.Value:
    """The value with the numbers of others replaced."""
    match value:
        case rg.Load():
            index, mask = _renumber_index(value.index, number), _renumber_mask(value.mask, number)
            return replace(value, index=index, mask=mask)
        case rg.IndexValue():
            return replace(value, index=_renumber_index(value.index, number))
        case rg.Inside():
            return replace(value, mask=_renumber_mask(value.mask, number))
        case rg.Compute() | rg.Scan():
            return replace(value, args=tuple(number[a] for a in value.args))
        case rg.Reduce() | rg.Sort():
            return replace(value, arg=number[value.arg])
        case rg.Dot():
            start = number[value.start] if value.start >= 0 else -1
            return replace(value, a=number[value.a], b=number[value.b], start=start)
        case _:
            return value


def _renumber_index(e: Index, number: dict[int, int]) -> Index:
    if not e.loaded():
        return e
    return e.rebuild(
        lambda a: ix.loaded(number[a.value], a.lo, a.hi) if isinstance(a, ix.Loaded) else None
    )


def _renumber_mask(mask: Mask, number: dict[int, int]) -> Mask:
    return tuple(Bound(_renumber_index(b.index, number), b.lo, b.hi) for b in mask)


def _substitute(region: Region, table: dict[str, Index]) -> Region:
    def mask(m: Mask) -> Mask:
        return tuple(Bound(b.index.substitute(table), b.lo, b.hi) for b in m)

    values: list[rg.Value] = []
    for v in region.values:
        match v:
            case rg.Load():
                values.append(replace(v, index=v.index.substitute(table), mask=mask(v.mask)))
            case rg.IndexValue():
                values.append(replace(v, index=v.index.substitute(table)))
            case rg.Inside():
                values.append(replace(v, mask=mask(v.mask)))
            case _:
                values.append(v)
    stores = tuple(
        replace(s, index=s.index.substitute(table), mask=mask(s.mask)) for s in region.stores
    )
    return replace(region, values=tuple(values), stores=stores)


def flip_axes(region: Region, names: frozenset[str]) -> Region:
    """Walk axes from their ends: i becomes extent - 1 - i."""
    extents = {a.name: a.extent for a in region.axes if a.name in names}
    return _substitute(region, {n: ix.var(n, e) * -1 + (e - 1) for n, e in extents.items()})


def join_axes(region: Region, dots: tuple[DotAxes, ...]) -> tuple[Region, tuple[DotAxes, ...]]:
    """Join neighbouring axes that every index walks as one: i*N + j becomes one axis."""
    position = 0
    while position + 1 < len(region.axes):
        outer, inner = region.axes[position], region.axes[position + 1]
        if not _can_join(region, dots, outer, inner):
            position += 1
            continue
        joined = Axis(outer.name, outer.extent * inner.extent)
        v = ix.var(joined.name, joined.extent)
        table = {outer.name: v // inner.extent, inner.name: v % inner.extent}
        region = _substitute(region, table)
        axes = (*region.axes[:position], joined, *region.axes[position + 2 :])
        values = tuple(
            replace(x, axes=tuple(a for a in x.axes if a != inner.name))
            if isinstance(x, rg.AlongAxes)
            else x
            for x in region.values
        )
        region = replace(region, axes=axes, values=values)
        dots = tuple(
            DotAxes(*(tuple(a for a in group if a != inner.name) for group in d.groups))
            for d in dots
        )
        position = max(position - 1, 0)
    return region, dots


def _can_join(region: Region, dots: tuple[DotAxes, ...], outer: Axis, inner: Axis) -> bool:
    for v in region.values:
        if isinstance(v, rg.AlongAxes):
            if (outer.name in v.axes) != (inner.name in v.axes):
                return False
    for group in (g for d in dots for g in d.groups):
        if (outer.name in group) != (inner.name in group):
            return False
    both = ix.var("joined axis", outer.extent * inner.extent)
    table = {outer.name: both // inner.extent, inner.name: both % inner.extent}
    for item in (*region.values, *region.stores):
        for e in rg.indices_of(item):
            names = e.variables()
            if outer.name not in names and inner.name not in names:
                continue
            if e.substitute(table).stride("joined axis") is None:
                return False
    return True


def rename_axes(region: Region, dots: tuple[DotAxes, ...]) -> tuple[Region, tuple[DotAxes, ...]]:
    """Stored axes become i0, i1, ...; axes that are only reduced become r0, r1, ..."""
    stored: set[str] = set()
    for s in region.stores:
        for e in rg.indices_of(s):
            stored |= e.variables()
        stored |= set(region.dims[s.value])
    new: dict[str, str] = {}
    for axis in region.axes:
        prefix = "i" if axis.name in stored else "r"
        count = sum(1 for name in new.values() if name.startswith(prefix))
        new[axis.name] = f"{prefix}{count}"
    table = {a.name: ix.var(new[a.name], a.extent) for a in region.axes}
    renamed = _substitute(region, table)
    values = tuple(
        replace(x, axes=tuple(new[a] for a in x.axes)) if isinstance(x, rg.AlongAxes) else x
        for x in renamed.values
    )
    axes = tuple(Axis(new[a.name], a.extent) for a in region.axes)
    dots = tuple(
        DotAxes(*(tuple(new[a] for a in group if a in new) for group in d.groups)) for d in dots
    )
    return replace(renamed, axes=axes, values=values), dots
