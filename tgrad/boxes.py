"""Where the elements of a value stand in memory that is laid out for the largest sizes.

In: layouts of nodes, values of symbols. Out: memory of the elements that exist, in order, and the
other way round. Invariant: what else is in memory is neither read nor given to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.graph.layout import Layout, factors_of, is_static
from tgrad.graph.size import Extent, Size
from tgrad.runtime.device import allocate, open_device

_LOST = 1.5
"""How many times its own elements the memory of a value may have while it is kept."""


@dataclass(frozen=True)
class Box:
    """The elements of a value that exist: `sizes` of `capacities`, factor by factor."""

    capacities: tuple[int, ...]
    sizes: tuple[Extent, ...]

    @staticmethod
    def of(layout: Layout) -> Box | None:
        """The box of a layout; None where all elements exist."""
        if all(is_static(axis) for axis in layout):
            return None
        factors = [f for axis in layout for f in factors_of(axis)]
        return Box(tuple(f.capacity for f in factors), tuple(f.size for f in factors))

    def shape(self, values: Sequence[int]) -> tuple[int, ...]:
        """The sizes for these values of the symbols."""
        return tuple(value_at(n, values) for n in self.sizes)

    def taken(self, memory: Any, dtype: DType, device: Device, values: Sequence[int]) -> Any:
        """Memory of the elements that exist, in order: the same if they come first in it."""
        sizes = self.shape(values)
        if sizes == self.capacities:
            return memory
        if sizes[1:] == self.capacities[1:]:
            return open_device(device).view(memory, 0, prod(sizes) * dtype.itemsize)
        return self.copied(memory, dtype, device, values)

    def kept(self, memory: Any, dtype: DType, device: Device, values: Sequence[int]) -> Any:
        """The same for elements that are kept: not in memory that is mostly something else."""
        is_lost = prod(self.capacities) > _LOST * prod(self.shape(values))
        return (self.copied if is_lost else self.taken)(memory, dtype, device, values)

    def copied(self, memory: Any, dtype: DType, device: Device, values: Sequence[int]) -> Any:
        """New memory of the elements that exist, in order."""
        sizes = self.shape(values)
        target = allocate(device, prod(sizes) * dtype.itemsize)
        open_device(device).copy_box(target, sizes, memory, self.capacities, dtype.itemsize)
        return target

    def filled(self, memory: Any, dtype: DType, device: Device, values: Sequence[int]) -> Any:
        """Memory of the largest sizes with the elements of `memory`: the same if these are all."""
        sizes = self.shape(values)
        if sizes == self.capacities:
            return memory
        target = allocate(device, prod(self.capacities) * dtype.itemsize)
        open_device(device).copy_box(target, self.capacities, memory, sizes, dtype.itemsize)
        return target


def value_at(n: Any, values: Sequence[int]) -> Any:
    """A size for these values of the symbols; anything else as it is."""
    return n.at(values) if isinstance(n, Size) else n
