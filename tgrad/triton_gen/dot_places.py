"""Where tiles of products lie: in which order axes go, and what is the same in a whole tile.

In: a Region of dots, blocks. Out: axes in order; whether masks and addresses change within a tile.
Invariant: nothing but the region's index expressions decides.
"""

from __future__ import annotations

from math import inf

from tgrad.fusion.region import Axis, Dot, Load, Region, extent_of, indices_of
from tgrad.graph.index import Atom, Div, Index, Mod, Var, unflatten, var

DEEPEST = 64
"""Block of k of products of half types."""


def contracted(region: Region) -> list[tuple[Axis, ...]]:
    """The different groups of axes that a region's dots contract, in order."""
    names = dict.fromkeys(v.axes for v in region.values if isinstance(v, Dot))
    return [region.pick(group) for group in names]


def as_loaded(region: Region, group: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axes in the order of a buffer that holds many neighbours along one of them, so that a
    tile's neighbours are neighbours in memory: (row, column, channel) of an image with channels
    last."""
    names = {a.name for a in group}
    loads = [v for v in region.values if isinstance(v, Load) and names <= v.index.variables()]
    if len(group) < 2 or not loads:
        return group

    def stride(load: Load, axis: Axis) -> float:
        return abs(load.index.stride(axis.name) or inf)

    def neighbours(load: Load) -> tuple[int, int]:
        along = max((a.extent for a in group if stride(load, a) == 1), default=1)
        return along, region.slots[load.slot].size

    best = max(loads, key=neighbours)
    return tuple(sorted(group, key=lambda a: stride(best, a), reverse=True))


def in_one_place(region: Region, group: tuple[Axis, ...], block: int) -> tuple[Axis, ...]:
    """The axes as loaded, but those that no mask depends on behind the others where tiles fit them:
    a tile then is one pixel of many images, and its masks are numbers. The gradient of a 3x3
    window of 512 channels takes 65 us of 147 so, of 64 channels 143 of 177. Not for windows of few
    channels: neighbouring pixels share what one access brings (H200, 2026-11)."""
    loaded = as_loaded(region, group)
    rest = unmasked(region, loaded, block)
    return (*(a for a in loaded if a not in rest), *rest)


def unmasked(region: Region, group: tuple[Axis, ...], block: int) -> tuple[Axis, ...]:
    """Of the axes those that no mask depends on, if tiles fit them and nothing that is read or
    written lies together along the others."""
    loads = [v for v in region.values if isinstance(v, Load)]
    masked = {name for v in loads for b in v.mask for name in b.index.variables()}
    free = tuple(a for a in group if a.name not in masked)
    lying = [*(v.index for v in loads), *(s.index for s in region.stores)]
    if extent_of(free) % block or any(
        index.stride(a.name) == 1 for index in lying for a in group if a not in free
    ):
        return ()
    return free


def is_windowed(region: Region) -> bool:
    """Whether a load's address needs divisions of what changes within a tile of k (convolution with
    few channels): such tiles cost many registers."""
    flat = _along_tiles(region)
    indices = (e for v in region.values if isinstance(v, Load) for e in indices_of(v))
    found = (atom for e in indices for atom in e.substitute(flat).atoms())
    return any(isinstance(a, (Div, Mod)) and not _is_by_tiles(a) for a in found)


def _along_tiles(region: Region) -> dict[str, Index]:
    """Each axis of a dot's region as parts of the axes b, m, n and k of its tiles."""
    space, flat = region.space, dict[str, Index]()
    for name, group in (("b", space.batch), ("m", space.m), ("n", space.n), ("k", space.k)):
        group = as_loaded(region, group)
        shape = tuple(a.extent for a in group)
        parts = unflatten(var(name, extent_of(group)), shape)
        flat |= {a.name: e for a, e in zip(group, parts)}
    return flat


def is_one_window(region: Region, blocks: tuple[int, int, int]) -> bool:
    """Whether each mask differs along one axis of a tile alone, as where a tile of a weight's
    gradient lies at one place of the window: then masks take few registers."""
    flat, sizes = _along_tiles(region), dict(zip("mnk", blocks))
    masks = (v.mask for v in region.values if isinstance(v, Load))
    for bound in (x for mask in masks for x in mask):
        terms = bound.index.substitute(flat).terms
        axes = {name for atom, _ in terms for name in _within_tile(atom, sizes)}
        if len(axes - {"b"}) > 1:
            return False
    return True


def _within_tile(atom: Atom, sizes: dict[str, int]) -> frozenset[str]:
    """The axes of a tile along which a part of an index differs."""
    if isinstance(atom, (Div, Mod)):
        axis = atom.base.atom
        size = sizes.get(axis.name) if isinstance(axis, Var) else None
        if isinstance(atom, Div) and size is not None and atom.divisor % size == 0:
            return frozenset()
        return frozenset().union(*(_within_tile(a, sizes) for a, _ in atom.base.terms))
    return frozenset({atom.name}) if isinstance(atom, Var) else frozenset({"m", "n"})


def is_masked(region: Region) -> bool:
    """Whether some of what a product reads is not there: the masks cost AMD scalar registers."""
    return any(isinstance(v, Load) and v.mask for v in region.values)


def is_masked_by_rows(region: Region) -> bool:
    """Whether what a product reads has masks, and none that differs along a tile of k."""
    masks = [v.mask for v in region.values if isinstance(v, Load) and v.mask]
    last = {as_loaded(region, group)[-1].name for group in contracted(region) if group}
    return bool(masks) and all(last.isdisjoint(b.index.variables()) for m in masks for b in m)


def _is_by_tiles(atom: Div | Mod) -> bool:
    """Whether the division is one of k by whole tiles, or of what k has no part in."""
    inner = atom.base
    while isinstance(inner.atom, (Div, Mod)):
        atom, inner = inner.atom, inner.atom.base
    return inner.variables() <= {"b", "m", "n"} or (
        isinstance(inner.atom, Var) and atom.divisor % DEEPEST == 0
    )
