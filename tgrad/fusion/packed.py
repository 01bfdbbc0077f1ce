"""Sums over the parts of packed integers, a part at a time.

In: a draft Region with its dots' axes. Out: an equal one. Invariant: pure; what is read of memory
is the same, and a packed integer is loaded once for all of its parts.

    %0 = load w[n*K + k]                          (two weights a byte)
    %5 = where (r < 1), %0 & 15, %0 >> 4          %3 = dot x[m, 2k], (%0 & 15) over k
    %6 = dot x[m, 2k + r], %5 over k r      ->    %6 = dot x[m, 2k + 1], (%0 >> 4) over k on %3

With r in a tile, neighbours of a tile are parts of one byte: each thread loads it again for each
part, by itself. Without r, neighbours are neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tgrad import dtype as dt
from tgrad.fusion import region as rg
from tgrad.fusion.axes import DotAxes, drop_dead
from tgrad.fusion.region import Axis, Mask, Region, extent_of
from tgrad.graph import index as ix
from tgrad.graph import interpret
from tgrad.graph.index import Bound, Index
from tgrad.graph.op import Op

PARTS = 8
"""Most parts of an integer."""
FEW_ROWS = 64
"""Rows of the other operand up to which it may be loaded with steps: with more, its tiles weigh
more than those of the packed one."""


def take_apart_packed(
    region: Region, dots: tuple[DotAxes, ...], most_dots: int
) -> tuple[Region, tuple[DotAxes, ...]]:
    """The region with a sum over a packed integer's parts as a sum for each part."""
    for axis in region.axes:
        if 1 < axis.extent <= PARTS and _is_packed(region, axis, dots, most_dots):
            dots = tuple(replace(d, k=tuple(a for a in d.k if a != axis.name)) for d in dots)
            return _Parts(region, axis).run(), dots
    return region, dots


def _is_packed(region: Region, axis: Axis, dots: Sequence[DotAxes], most_dots: int) -> bool:
    """Whether some integer is loaded for several terms of the only sum, along this axis."""
    sums = [v for v in region.values if isinstance(v, rg.AlongAxes)]
    if len(sums) != 1 or any(axis.name in region.dims[s.value] for s in region.stores):
        return False
    if any(e.loaded() for x in (*region.values, *region.stores) for e in rg.indices_of(x)):
        return False
    (total,) = sums
    others = set(total.axes) - {axis.name}
    if axis.name not in total.axes or not others:
        return False
    if isinstance(total, rg.Dot):
        few = min(extent_of(region.pick(names)) for names in (dots[0].m, dots[0].n))
        if axis.extent > most_dots or few > FEW_ROWS:
            return False
    elif not isinstance(total, rg.Reduce) or total.op is not Op.REDUCE_SUM:
        return False
    return any(
        isinstance(v, rg.Load)
        and not v.dtype.is_float
        and axis.name not in v.index.variables()
        and any(v.index.stride(o) == 1 for o in others)
        for v in region.values
    )


class _Parts(rg.Values):
    """The values of a region again, those along the axis once for each of its points."""

    def __init__(self, region: Region, axis: Axis):
        super().__init__()
        self.region, self.axis = region, axis

    def run(self) -> Region:
        places: list[tuple[int, ...]] = []  # of each old value, by part; one where all are alike
        for number, value in enumerate(self.region.values):
            if isinstance(value, rg.AlongAxes):
                places.append((self._sum(value, places),))
            elif self._is_alike(number):
                places.append((self._at(value, 0, places),))
            else:
                parts = range(self.axis.extent)
                places.append(tuple(self._at(value, p, places) for p in parts))
        stores = tuple(replace(s, value=places[s.value][0]) for s in self.region.stores)
        axes = tuple(a for a in self.region.axes if a != self.axis)
        region = replace(self.region, axes=axes, values=tuple(self.values), stores=stores)
        return drop_dead(region)

    def _is_alike(self, number: int) -> bool:
        """Whether a value is the same for all parts: by its axes, and a mask need not know it."""
        return self.axis.name not in self.region.dims[number]

    def _sum(
        self, value: rg.Reduce | rg.Dot | rg.Scan | rg.Sort, places: list[tuple[int, ...]]
    ) -> int:
        axes = tuple(a for a in value.axes if a != self.axis.name)
        if isinstance(value, rg.Dot):
            last = -1
            for part in range(self.axis.extent):
                a, b = (_part(places[x], part) for x in (value.a, value.b))
                last = self.emit(rg.Dot(a, b, axes, value.dtype, last))
            return last
        assert isinstance(value, rg.Reduce)
        arg = _part(places[value.arg], 0)
        for part in range(1, self.axis.extent):
            args = (arg, _part(places[value.arg], part))
            arg = self.emit(rg.Compute(Op.ADD, args, self.region.values[value.arg].dtype))
        return self.emit(replace(value, arg=arg, axes=axes))

    def _at(self, value: rg.Value, part: int, places: list[tuple[int, ...]]) -> int:
        """A value at one point of the axis."""
        match value:
            case rg.Load():
                mask = self._mask(value.mask, part)
                if any(b.is_never for b in mask):
                    return self.emit(rg.Const(0.0 if value.dtype.is_float else 0, value.dtype))
                return self.emit(replace(value, index=self._index(value.index, part), mask=mask))
            case rg.IndexValue():
                e = self._index(value.index, part)
                return self.emit(
                    rg.Const(e.const, value.dtype) if e.is_const else replace(value, index=e)
                )
            case rg.Inside():
                mask = self._mask(value.mask, part)
                if not mask or any(b.is_never for b in mask):
                    return self.emit(rg.Const(not mask, dt.bool_))
                return self.emit(replace(value, mask=mask))
            case rg.Compute():
                return self._compute(value, tuple(_part(places[a], part) for a in value.args))
            case _:
                return self.emit(value)

    def _compute(self, value: rg.Compute, args: tuple[int, ...]) -> int:
        """An elementwise op, done here where that needs no memory."""
        operands = [self.values[a] for a in args]
        first = operands[0]
        if value.op is Op.WHERE and isinstance(first, rg.Const):
            return args[1] if first.value else args[2]
        constants = [x for x in operands if isinstance(x, rg.Const) and not x.dtype.is_float]
        if len(constants) == len(args) and value.op is not Op.PHILOX and not value.dtype.is_float:
            arrays = [np.asarray(x.value, x.dtype.numpy) for x in constants]
            result = interpret.elementwise(value.op, arrays, value.dtype)
            return self.emit(rg.Const(result.item(), value.dtype))
        return self.emit(replace(value, args=args))

    def _index(self, e: Index, part: int) -> Index:
        return e.substitute({self.axis.name: ix.constant(part)})

    def _mask(self, mask: Mask, part: int) -> Mask:
        bounds = (Bound(self._index(b.index, part), b.lo, b.hi) for b in mask)
        return tuple(b for b in bounds if not b.is_always)


def _part(places: tuple[int, ...], part: int) -> int:
    return places[part] if len(places) > 1 else places[0]
