"""Sums of products on one accumulator.

In: a draft Region. Out: an equal one. Invariant: pure; a sum of dots that only it reads is rounded
once, after all of them, and not once for each.

    %2 = dot %0, %1 over k            %2 = dot %0, %1 over k
    %5 = dot %3, %4 over l      ->    %5 = dot %3, %4 over l on %2
    %8 = add (cast %2), (cast %5)     %8 = cast %5

That is the gradient of what several products read (the queries, keys and values of one input).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tgrad.fusion import region as rg
from tgrad.fusion.axes import drop_dead
from tgrad.fusion.region import Region
from tgrad.graph.op import Op


def join_sums_of_dots(region: Region) -> Region:
    """The region with each sum of two dots as one dot on top of the other, from the first on."""
    if sum(isinstance(v, rg.Dot) for v in region.values) < 2:
        return region
    for number, value in enumerate(region.values):
        pair = _summed(region, number)
        if pair is None:
            continue
        first, last = pair
        dot = region.values[last]
        assert isinstance(dot, rg.Dot) and isinstance(value, rg.Compute)
        values = list(region.values)
        values[last] = replace(dot, start=first)
        # a cast to its own dtype stands for the sum where nothing is rounded
        values[number] = rg.Compute(Op.CAST, (last,), value.dtype)
        return join_sums_of_dots(drop_dead(replace(region, values=tuple(values))))
    return region


def _summed(region: Region, number: int) -> tuple[int, int] | None:
    """Two dots that a value is the sum of, in order, where only it reads them."""
    value = region.values[number]
    if not isinstance(value, rg.Compute) or value.op is not Op.ADD:
        return None
    reads = Counter(o for x in (*region.values, *region.stores) for o in rg.operands_of(x))
    dots = sorted(_dot_behind(region, a, value.dtype, reads) for a in value.args)
    if dots[0] < 0 or dots[0] == dots[1]:
        return None
    first, last = (region.values[d] for d in dots)
    assert isinstance(first, rg.Dot) and isinstance(last, rg.Dot)
    dims = rg.value_dims(region.axes, region.values)
    if first.dtype is not last.dtype or dims[dots[0]] != dims[dots[1]]:
        return None  # a dot with a constant has fewer axes: not the accumulator's
    if _starts_late(region, last, dots[0]):
        return None
    return dots[0], dots[1]


def _dot_behind(region: Region, number: int, dtype: object, reads: Counter[int]) -> int:
    """The dot that a value is, rounded to a dtype or not, with no other reader; -1 if none."""
    value = region.values[number]
    if reads[number] != 1:
        return -1
    if isinstance(value, rg.Compute) and value.op is Op.CAST and value.dtype is dtype:
        number, value = value.args[0], region.values[value.args[0]]
    return number if isinstance(value, rg.Dot) and reads[number] == 1 else -1


def _starts_late(region: Region, last: rg.Dot, first: int) -> bool:
    """Whether a dot has a start already, or depends on the one it would be put on."""
    return last.start >= 0 or first in rg.behind(region.values, rg.operands_of(last))
