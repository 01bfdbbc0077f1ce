"""Groups of nodes of one structure are built into a region once.

In: groups, as `build_region` takes them. Out: what it gives. Invariant: two groups have one
structure exactly if renaming the nodes of one gives the other, so the region of one is that of the
other; a model of many equal layers is planned in the time of a few.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tgrad.fusion.builder import Built, build_region, main_of
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.legality import Refused
from tgrad.fusion.region import Region
from tgrad.graph.node import Node
from tgrad.graph.op import Op


@dataclass(frozen=True, slots=True)
class _Template:
    """A region, and the numbers of the nodes behind its slots."""

    region: Region
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class RegionBuilder:
    """Builds regions for one device and remembers them."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._known: dict[Hashable, _Template | Refused] = {}
        self._rows: dict[Hashable, int] = {}
        self._row_of: dict[Node, int] = {}
        self._loaded_row_of: dict[Node, int] = {}

    def build(
        self,
        name: str,
        group: Sequence[Node],
        outputs: Sequence[Node],
        leaves: set[Node],
        chain: bool = False,
    ) -> Built | Refused:
        """What `build_region` gives for these arguments and the device's limits."""
        number, structure = self._structure(group, leaves)

        def numbers(of: Sequence[Node]) -> tuple[int, ...]:
            return tuple(number[n] for n in of)

        key = (name, chain, structure, numbers(group), numbers(outputs))
        known = self._known.get(key)
        if known is None:
            built = build_region(name, group, outputs, leaves, self.limits, chain)
            if isinstance(built, Refused):
                self._known[key] = built
            else:
                places = numbers(built.inputs), numbers(built.outputs)
                self._known[key] = _Template(built.region, *places)
            return built
        if isinstance(known, Refused):
            return known
        nodes = list(number)
        inputs, stored = (tuple(nodes[i] for i in s) for s in (known.inputs, known.outputs))
        region = known.region.at_line(main_of(stored).source)
        return Built(region, inputs, stored)

    def _structure(
        self, group: Sequence[Node], leaves: set[Node]
    ) -> tuple[dict[Node, int], tuple[int, ...]]:
        """The nodes that a region of the group depends on, down to its leaves, numbered as they
        are met; and for each in turn the number of its row and those of its inputs."""
        loaded = leaves.difference(group)
        number = {n: i for i, n in enumerate(dict.fromkeys(group))}
        structure: list[int] = []
        waiting = list(number)
        row_of, loaded_row_of = self._row_of, self._loaded_row_of
        for node in waiting:  # grows as inputs are met
            if node.op is Op.BUFFER or node in loaded:
                row = loaded_row_of.get(node)
                structure.append(self._new_loaded_row(node) if row is None else row)
                continue
            row = row_of.get(node)
            structure.append(self._new_row(node) if row is None else row)
            for x in node.inputs:
                place = number.get(x)
                if place is None:
                    place = number[x] = len(waiting)
                    waiting.append(x)
                structure.append(place)
        return number, tuple(structure)

    def _new_row(self, node: Node) -> int:
        """A number that two nodes share exactly if they differ in nothing but their inputs, of
        which they have as many."""
        # repr keeps 1, 1.0 and True, and 0.0 and -0.0, apart
        attrs = repr(node.attrs) if node.op is Op.CONST else node.attrs
        label, count = node.source.label, len(node.inputs)
        row = (node.op, attrs, node.shape, node.dtype, label, count)
        number = self._row_of[node] = self._rows.setdefault(row, len(self._rows))
        return number

    def _new_loaded_row(self, node: Node) -> int:
        """A number for what a region may know of a node that it loads."""
        row = (node.shape, node.dtype, node.source.label)
        number = self._loaded_row_of[node] = self._rows.setdefault(row, len(self._rows))
        return number
