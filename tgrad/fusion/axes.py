"""Tidying a draft region: dead values out, axes joined and named.

In: a Region whose space is not known yet. Out: an equal one. Invariant: each pass is pure and keeps
what the region computes.

    x[i*8 + j] over (i=4, j=8)   becomes   x[i] over (i=32)        when every index allows it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Remove values that no store and no bound of the space needs, and axes that only those walked:
    a gather from a constant needs no index. A store that counts happens at each point of all
    axes."""
    needed = [v for s in region.stores for v in rg.operands_of(s)]
    needed += [v for b in region.space.live for v in b.index.loaded()]
    live = rg.behind(region.values, needed)
    if len(live) == len(region.values):
        return region
    number = {old: new for new, old in enumerate(live)}
    values = tuple(with_numbers(region.values[v], number) for v in live)
    stores = tuple(with_numbers(s, number) for s in region.stores)
    space = replace(region.space, live=mask_with_numbers(region.space.live, number))
    kept = replace(region, values=values, stores=stores, space=space)
    if any(s.counts for s in stores):
        return kept
    walked = _walked(kept)
    return replace(kept, axes=region.pick(walked))


def _walked(region: Region) -> set[str]:
    """Names of the axes that a value or a store depends on, or that a value is taken along."""
    names: set[str] = set()
    for item in (*region.values, *region.stores):
        names |= rg.variables_of(item)
        if isinstance(item, rg.AlongAxes):
            names.update(item.axes)
    return names


def with_numbers(value: rg.Item, number: Mapping[int, int]) -> rg.Item:
    """The value or store with the numbers of others replaced."""
    changes: dict[str, object] = {}
    match value:
        case rg.Compute() | rg.Scan():
            changes = {"args": tuple(number[a] for a in value.args)}
        case rg.Reduce() | rg.Sort():
            changes = {"arg": number[value.arg]}
        case rg.Dot():
            changes = {"a": number[value.a], "b": number[value.b]}
            changes["start"] = number[value.start] if value.start >= 0 else -1
        case rg.Store():
            changes = {"value": number[value.value]}
    moved = rg.with_indices(value, lambda e: _renumbered(e, number))
    return replace(moved, **changes) if changes else moved  # type: ignore[arg-type]


def _renumbered(e: Index, number: Mapping[int, int]) -> Index:
    """The index with the numbers of values that it reads replaced."""
    if not e.loaded():
        return e
    return e.rebuild(
        lambda a: ix.loaded(number[a.value], a.lo, a.hi) if isinstance(a, ix.Loaded) else None
    )


def mask_with_numbers(mask: Iterable[Bound], number: Mapping[int, int]) -> Mask:
    """The bounds with the numbers of values that they read replaced."""
    return tuple(Bound(_renumbered(b.index, number), b.lo, b.hi) for b in mask)


def _different_indices(region: Region) -> dict[Index, None]:
    """The indices of a region, each once: most values are loaded at the same few."""
    items = (*region.values, *region.stores)
    return dict.fromkeys(e for item in items for e in rg.indices_of(item))


def _substitute(region: Region, table: Mapping[str, Index]) -> Region:
    return _with_indices(region, {e: e.substitute(table) for e in _different_indices(region)})


def _with_indices(region: Region, new: Mapping[Index, Index]) -> Region:
    """The region with each of its indices replaced."""
    values = tuple(rg.with_indices(v, new.__getitem__) for v in region.values)
    stores = tuple(rg.with_indices(s, new.__getitem__) for s in region.stores)
    return replace(region, values=values, stores=stores)


def flip_axes(region: Region, names: frozenset[str]) -> Region:
    """Walk axes from their ends: i becomes extent - 1 - i."""
    if not names:
        return region
    extents = {a.name: a.extent for a in region.axes if a.name in names}
    return _substitute(region, {n: ix.var(n, e) * -1 + (e - 1) for n, e in extents.items()})


def join_axes(region: Region, dots: tuple[DotAxes, ...]) -> tuple[Region, tuple[DotAxes, ...]]:
    """Join neighbouring axes that every index walks as one: i*N + j becomes one axis."""
    axes, new, gone = list(region.axes), {e: e for e in _different_indices(region)}, set[str]()
    position = 0
    while position + 1 < len(axes):
        outer, inner = axes[position : position + 2]
        walked = _joined(new, outer, inner) if _are_alike(region, dots, outer, inner) else None
        if walked is None:
            position += 1
            continue
        new = walked
        gone.add(inner.name)
        axes[position : position + 2] = [Axis(outer.name, outer.extent * inner.extent)]
        position = max(position - 1, 0)
    if not gone:
        return region, dots
    joined = _with_indices(region, new)
    values = tuple(
        replace(x, axes=tuple(a for a in x.axes if a not in gone))
        if isinstance(x, rg.AlongAxes)
        else x
        for x in joined.values
    )
    dots = tuple(
        DotAxes(*(tuple(a for a in group if a not in gone) for group in d.groups)) for d in dots
    )
    return replace(joined, axes=tuple(axes), values=values), dots


def _are_alike(region: Region, dots: tuple[DotAxes, ...], outer: Axis, inner: Axis) -> bool:
    """Whether whatever reduces or walks one of two axes does so with both."""
    along = (v.axes for v in region.values if isinstance(v, rg.AlongAxes))
    groups = (group for d in dots for group in d.groups)
    return all((outer.name in names) == (inner.name in names) for names in (*along, *groups))


def _joined(indices: Mapping[Index, Index], outer: Axis, inner: Axis) -> dict[Index, Index] | None:
    """The indices over one axis in place of two, under the outer one's name; None if one of them
    does not walk the two as one."""
    both = ix.var(outer.name, outer.extent * inner.extent)
    table = {outer.name: both // inner.extent, inner.name: both % inner.extent}
    result: dict[Index, Index] = {}
    for old, index in indices.items():
        result[old] = walked = index.substitute(table)
        if walked is not index and walked.stride(outer.name) is None:
            return None
    return result


def rename_axes(region: Region, dots: tuple[DotAxes, ...]) -> tuple[Region, tuple[DotAxes, ...]]:
    """Stored axes become i0, i1, ...; axes that are only reduced become r0, r1, ..."""
    stored: set[str] = set()
    for s in region.stores:
        stored |= rg.variables_of(s) | set(region.dims[s.value])
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
