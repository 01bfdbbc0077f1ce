"""Groups of nodes of one structure are built into a region once.

In: groups, as `build_region` takes them. Out: what it gives. Invariant: two groups have one
structure exactly if renaming the nodes of one gives the other, so the region of one is that of the
other; a model of many equal layers is planned in the time of a few.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tgrad.fusion.builder import Built, build_region, main_of
from tgrad.fusion.legality import Limits, Refused
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
        nodes, structure = self._structure(group, leaves)
        number = {n: i for i, n in enumerate(nodes)}

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
        inputs, stored = (tuple(nodes[i] for i in s) for s in (known.inputs, known.outputs))
        region = known.region.at_line(main_of(stored).source)
        return Built(region, inputs, stored)

    def _structure(
        self, group: Sequence[Node], leaves: set[Node]
    ) -> tuple[list[Node], tuple[int, ...]]:
        """The nodes that a region of the group depends on, down to its leaves, and for each the
        number of its row and the places of its inputs in the list."""
        loaded = leaves.difference(group)
        place: dict[Node, int] = {}
        structure: list[int] = []
        stack = [*group]
        stack.reverse()
        while stack:
            node = stack[-1]
            if node not in place:
                if node.op is Op.BUFFER or node in loaded:
                    structure.append(self._loaded_row(node))
                elif missing := [x for x in reversed(node.inputs) if x not in place]:
                    stack += missing
                    continue
                else:
                    structure.append(self._row(node))
                    structure += [place[x] for x in node.inputs]
                place[node] = len(place)
            stack.pop()
        return list(place), tuple(structure)

    def _row(self, node: Node) -> int:
        """A number that two nodes share exactly if they differ in nothing but their inputs, of
        which they have as many."""
        number = self._row_of.get(node)
        if number is None:
            # repr keeps 1, 1.0 and True, and 0.0 and -0.0, apart
            attrs = repr(node.attrs) if node.op is Op.CONST else node.attrs
            label, count = node.source.label, len(node.inputs)
            row = (node.op, attrs, node.shape, node.dtype, label, count)
            number = self._row_of[node] = self._rows.setdefault(row, len(self._rows))
        return number

    def _loaded_row(self, node: Node) -> int:
        """A number for what a region may know of a node that it loads."""
        number = self._loaded_row_of.get(node)
        if number is None:
            row = (node.shape, node.dtype, node.source.label)
            number = self._loaded_row_of[node] = self._rows.setdefault(row, len(self._rows))
        return number
