"""Regions computed by NumPy: the oracle of every generator.

In: a Region and the flat contents of its input slots. Out: the flat contents of its output slots.
Invariant: nothing is shared with the generators but the region itself. Every value becomes an array
over all axes of the region (size 1 along those it does not have), so keep domains small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.fusion.table import members_of
from tgrad.graph import interpret
from tgrad.graph.index import Div, Index, Loaded, Mod, Var

Array = np.ndarray


def evaluate_region(region: Region, slots: Sequence[Array]) -> list[Array]:
    """Run a region.

    Args:
        region: what to compute.
        slots: one flat array for each of `region.buffers`; those of "out" slots give only their
            dtype and size.

    Returns:
        New flat arrays for all slots, inputs unchanged.
    """
    arrays = [np.array(s) for s in slots]
    if region.call is not None:
        arrays[-1] = region.call.compute(arrays[:-1], region.source).reshape(-1)
        return arrays
    for member in members_of(region):
        made = _Evaluation(member.region, [arrays[b] for b in member.buffers]).run()
        for buffer, array in zip(member.buffers, made):
            arrays[buffer] = array
    return arrays


class _Evaluation:
    def __init__(self, region: Region, slots: list[Array]):
        self.region, self.slots = region, slots
        rank = len(region.axes)
        self.ranges = {
            a.name: np.arange(a.extent, dtype=np.int64).reshape(
                tuple(-1 if i == position else 1 for i in range(rank))
            )
            for position, a in enumerate(region.axes)
        }
        self.position = {a.name: i for i, a in enumerate(region.axes)}
        self.values: list[Array] = []

    def run(self) -> list[Array]:
        with np.errstate(all="ignore"):
            for value in self.region.values:
                self.values.append(self.value(value))
            for store in self.region.stores:
                self.store(store)
        return self.slots

    def index(self, e: Index) -> Array:
        total: Array = np.full((1,) * len(self.region.axes), e.const, np.int64)
        for atom, c in e.terms:
            if isinstance(atom, Var):
                part = self.ranges[atom.name]
            elif isinstance(atom, Loaded):
                part = self.values[atom.value].astype(np.int64)
            elif isinstance(atom, Div):
                part = self.index(atom.base) // atom.divisor
            else:
                assert isinstance(atom, Mod)
                part = self.index(atom.base) % atom.divisor
            total = total + part * c
        return total

    def inside(self, mask: rg.Mask) -> Array:
        result: Array = np.ones((1,) * len(self.region.axes), bool)
        for b in mask:
            e = self.index(b.index)
            result = result & (b.lo <= e) & (e < b.hi)
        return result

    def value(self, value: rg.Value) -> Array:
        dtype = value.dtype.numpy
        if isinstance(value, rg.Load):
            index, inside = np.broadcast_arrays(self.index(value.index), self.inside(value.mask))
            found = self.slots[value.slot][np.where(inside, index, 0)]
            return np.where(inside, found, np.zeros((), dtype)).astype(dtype)
        if isinstance(value, rg.Const):
            return np.full((1,) * len(self.region.axes), value.value).astype(dtype)
        if isinstance(value, rg.IndexValue):
            return self.index(value.index).astype(dtype)
        if isinstance(value, rg.Inside):
            return self.inside(value.mask)
        if isinstance(value, rg.Compute):
            args = np.broadcast_arrays(*(self.values[a] for a in value.args))
            return interpret.elementwise(value.op, args, value.dtype, value.word)
        if isinstance(value, rg.Reduce):
            axes = tuple(self.position[n] for n in value.axes)
            arg = self.along_all(self.values[value.arg].astype(dtype), axes)
            return np.expand_dims(interpret.reduce(value.op, arg, axes), axes).astype(dtype)
        if isinstance(value, rg.Scan):
            args = np.broadcast_arrays(*(self.values[a].astype(dtype) for a in value.args))
            return self.along(value.axes, args, lambda x: interpret.scan(value.op, x, -1))
        if isinstance(value, rg.Sort):
            keys = [self.values[value.arg]]
            return self.along(value.axes, keys, lambda x: _places(x[0], value.first))
        a, b = (self.values[v].astype(np.float64 if value.dtype.is_float else dtype)
                for v in (value.a, value.b))  # fmt: skip
        axes = tuple(self.position[n] for n in value.axes)
        total = self.along_all(a * b, axes).sum(axis=axes, keepdims=True)
        if value.start >= 0:
            total = total + self.values[value.start]
        return total.astype(dtype)

    def along_all(self, x: Array, axes: Sequence[int]) -> Array:
        """The array with all elements along the axes, of which it may have one for all."""
        wide = list(x.shape)
        for axis in axes:
            wide[axis] = self.region.axes[axis].extent
        return np.broadcast_to(x, wide)

    def along(
        self, names: tuple[str, ...], args: Sequence[Array], f: Callable[[list[Array]], Array]
    ) -> Array:
        """`f` of rows: the named axes moved last and joined."""
        axes = [self.position[n] for n in names]
        extents = [self.region.axes[a].extent for a in axes]
        rows = []
        for x in args:
            moved = np.moveaxis(self.along_all(x, axes), axes, range(-len(axes), 0))
            rows.append(moved.reshape(*moved.shape[: -len(axes)], -1))
        out = f(rows)
        return np.moveaxis(out.reshape(*out.shape[:-1], *extents), range(-len(axes), 0), axes)

    def store(self, store: rg.Store) -> None:
        shape = tuple(a.extent for a in self.region.axes)
        parts = (self.index(store.index), self.inside(store.mask), self.values[store.value])
        rank = [max(p.shape[i] for p in parts) for i in range(len(shape))]
        index, inside, value = (np.broadcast_to(p, rank) for p in parts)
        out = self.slots[store.slot]
        where, data = index[inside], value[inside]
        if store.combine == "set":
            out[where] = data
        else:
            combine = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
            combine[store.combine].at(out, where, data)


def _places(keys: Array, first: int) -> Array:
    """Places in ascending order, the first of them alone if not all are needed."""
    places = np.argsort(keys, -1, kind="stable")
    if first:
        places[..., first:] = 0
    return places
