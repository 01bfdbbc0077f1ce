"""Groups whose kernels are legal for sure: they join without being built each time.

In: roots that are computed element by element over one shape. Out: what a kernel for several of
them reads, before any is built. Invariant: each root is computed at the index of its own element
and loads all that it says, so the kernel is one map over the shape; only how many buffers and
values it has can refuse it.

    a = exp(x); b = a + y[::-1]; c = b * a        one shape; x, y are loaded, y at other indices

A long elementwise history (the gradient of a special function) that is cut into many roots grows by
one root at a time, and is built once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from tgrad.graph.node import Node, toposort
from tgrad.graph.op import MOVEMENT, Op, is_elementwise

VALUES_OF_PAD = 3
"""Whether an element is inside, zero, and the choice between it and what is inside."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A kernel that is legal and not built yet; see `Built`."""

    name: str
    inputs: frozenset[Node]
    outputs: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """What elementwise roots over one shape compute and read.

    Attributes:
        shape: of each root.
        values: no fewer than the values of their kernel; nodes, or what stands for others.
        loads: what they read, each other's results included.
        moved: those of `loads` that they read at other indices than their own.
    """

    shape: tuple[int, ...]
    values: frozenset[object]
    loads: frozenset[Node]
    moved: frozenset[Node]

    def joined(self, other: Pointwise, roots: Collection[Node]) -> Pointwise | None:
        """Of both, whose roots are `roots`; None if they are not one map."""
        moved = self.moved | other.moved
        if self.shape != other.shape or not moved.isdisjoint(roots):
            return None
        values, loads = self.values | other.values, self.loads | other.loads
        return Pointwise(self.shape, values, loads, moved)


def pointwise_of(root: Node, roots: Collection[Node], limit: int) -> Pointwise | None:
    """What one of `roots` computes from the others; None where it is not one map, where a known
    test may leave out part of it, or where it has more values than a limit."""
    if not is_elementwise(root.op) or 0 in root.shape:
        return None
    walk = _Walk(lambda n: n.op is Op.BUFFER or (n in roots and n is not root), limit)
    if walk.visit(root, ()) is None:
        return None
    loads, moved = frozenset(walk.loads), frozenset(walk.moved)
    return Pointwise(root.shape, frozenset(walk.values), loads, moved)


@dataclass
class _Walk:
    """A walk from a root to what it loads.

    Attributes:
        is_loaded: whether a node is.
        limit: of values.
    """

    is_loaded: Callable[[Node], bool]
    limit: int
    values: set[object] = field(default_factory=set)
    loads: set[Node] = field(default_factory=set)
    moved: set[Node] = field(default_factory=set)

    def visit(self, start: Node, path: tuple[Node, ...]) -> bool | None:
        """Walk an expression: False if folding may find it constant; None if the root may be no map
        or if it has too many values.

        Args:
            path: the movement through which it is read: one that is read in two ways is computed
                twice.
        """
        varies: dict[Node, bool] = {}
        for n in toposort([start], self._inputs):
            if n.shape != start.shape or len(self.values) > self.limit:
                return None
            if n.op not in MOVEMENT or self.is_loaded(n):
                self.values.add(n if n.op is Op.CONST else (path, n))
            if self.is_loaded(n):
                self.loads.add(n)
                if path:
                    self.moved.add(n)
                varies[n] = True
            elif n.op is Op.CONST:
                varies[n] = False
            elif n.op is Op.IOTA:
                varies[n] = n.shape[n.attr("axis")] > 1 and _keeps_all(path)
            elif n.op in MOVEMENT:
                found = self._visit_moved(n, path)
                if found is None:
                    return None
                varies[n] = found
            elif not is_elementwise(n.op) or (n.op is Op.WHERE and not varies[n.inputs[0]]):
                return None
            else:
                varies[n] = any(varies[x] for x in n.inputs)
        return varies[start]

    def _visit_moved(self, node: Node, path: tuple[Node, ...]) -> bool | None:
        """Walk what a movement moves, in the end; None, too, where a pad may hide it."""
        while node.op in MOVEMENT and not self.is_loaded(node):
            if node.op is Op.PAD:
                if not _keeps_all(path):
                    return None
                self.values.update((path, node, n) for n in range(VALUES_OF_PAD))
            path = (*path, node)
            node = node.inputs[0]
        return None if 0 in node.shape else self.visit(node, path)

    def _inputs(self, n: Node) -> tuple[Node, ...]:
        return () if n.op in MOVEMENT or self.is_loaded(n) else n.inputs


def _keeps_all(path: Sequence[Node]) -> bool:
    """Whether movement leaves no element out: what is left could be all that a pad adds, or one
    known element."""
    return not any(n.op in (Op.SLICE, Op.WINDOW) for n in path)
