"""Kernels that read a part of a buffer are given the place where it starts.

In: kernels. Out: the same work on windows of its inputs. Invariant: a slot's first element lies at
`Fused.starts` in its buffer, at a multiple of ALIGNMENT bytes; what is written starts at 0.

x[3, i] and x[4, i] become w[i] with windows of their own: equal regions, whose source is generated
and compiled once, and which may share a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from tgrad.fusion import region as rg
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import KNOWN_REGIONS, Region

ALIGNMENT = 256
"""Bytes, as of the buffers themselves: whatever loads may rely on holds for windows too."""


def with_windows(fused: Sequence[Fused]) -> list[Fused]:
    """The kernels on windows of their inputs, before results are written in place."""
    result: list[Fused] = []
    for f in fused:
        region, starts = _windowed(f.region, len(f.inputs))
        result.append(replace(f, region=region.at_line(f.region.source), starts=starts))
    return result


@lru_cache(maxsize=KNOWN_REGIONS)
def _windowed(region: Region, inputs: int) -> tuple[Region, tuple[int, ...]]:
    """The region with its loads counted from the first element that each input is read at."""
    loads: dict[int, list[rg.Load]] = {}
    for v in region.values:
        if isinstance(v, rg.Load):
            loads.setdefault(v.slot, []).append(v)
    slots, starts = list(region.slots), [0] * len(region.slots)
    for number, found in loads.items():
        slot = region.slots[number]
        grain = ALIGNMENT // slot.dtype.itemsize
        if number >= inputs:
            continue
        start = max(min(v.index.lo for v in found), 0) // grain * grain
        last = max(v.index.hi for v in found)  # beyond the buffer where a mask does not hold
        starts[number] = start
        slots[number] = replace(slot, size=min(last + 1, slot.size) - start)
    values = tuple(
        replace(v, index=v.index - starts[v.slot]) if isinstance(v, rg.Load) else v
        for v in region.values
    )
    return replace(region, slots=tuple(slots), values=values), tuple(starts[:inputs])


def first_bytes(fused: Fused) -> tuple[int, ...]:
    """The byte of its buffer at which each slot of a kernel begins; empty if all begin at 0."""
    if not any(fused.starts):
        return ()
    first = [start * n.dtype.itemsize for n, start in fused.windows]
    return (*first, *(0 for _ in fused.outputs))
