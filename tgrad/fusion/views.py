"""How often kernels compute an element that movement shows them again and again.

In: an elementwise node and its uses. Out: whether it is stored for that. Invariant: pure; the
number of elements that each view shows decides, and what computing one costs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from tgrad.fusion.device_limits import Limits
from tgrad.fusion.histories import TABLE_COST, TINY, History, inlined, is_made_of_places
from tgrad.graph.node import Node
from tgrad.graph.op import MOVEMENT, REDUCE, ROWWISE, Op


def is_dear_to_view(
    node: Node,
    uses: Mapping[Node, Collection[Node]],
    outputs: Collection[Node],
    histories: Mapping[Node, History],
    limits: Limits,
) -> bool:
    """Whether windows, shifts, repeats and lookups would compute elements again and again, for more
    than it costs to store and load them:

        y = exp(x);  y[1:] - y[:-1]        two exp an element, or one that is stored
    """
    if node.size <= TINY:
        return False
    made = inlined(node, histories, ())
    if not made.dear or is_made_of_places(node, made):
        return False
    is_of_rows = any(leaf.op in REDUCE or leaf.op in ROWWISE for leaf in made.leaves)
    makes_planes = limits.makes_planes and made.dear <= TABLE_COST
    whole = _View.of(node, repeats=not is_of_rows)  # a kernel of rows repeats nothing
    again = _elements_read(whole, uses, outputs, makes_planes) - node.size
    return made.dear * again > limits.dear_per_byte * 2 * node.nbytes


def _elements_read(
    whole: _View,
    uses: Mapping[Node, Collection[Node]],
    outputs: Collection[Node],
    makes_planes: bool,
) -> int:
    """How many elements kernels compute that do not store a node: of each of its views those that
    it shows, but for products, which are asked for by themselves."""
    total, stack = 0, [whole]
    while stack:
        view = stack.pop()
        stack += [view.moved(u) for u in uses[view.node] if u.op in MOVEMENT]
        others = [u for u in uses[view.node] if u.op not in MOVEMENT and u.op is not Op.DOT]
        looked_up = [u.size for u in others if u.op is Op.GATHER and u.inputs[0] is view.node]
        is_plane = makes_planes and view.windows > 1
        if len(looked_up) < len(others) or view.node in outputs:
            total += view.once if is_plane else view.read
        total += sum(looked_up)
    return total


def _repeats_within(expand: Node) -> bool:
    """Whether an expansion repeats elements along the last axes alone."""
    before = expand.inputs[0].shape
    repeated = [n == 1 for n in before]
    return repeated == sorted(repeated)


@dataclass(frozen=True, slots=True)
class _View:
    """What movement makes of a node.

    Attributes:
        node: the view.
        read: elements that are computed for it.
        repeats: whether elements that an expansion repeats are computed again.
        windows: directions of windows that it still has.
        once: elements that are computed for it if windows compute what they read once.
    """

    node: Node
    read: int
    repeats: bool
    windows: int
    once: int

    @staticmethod
    def of(node: Node, repeats: bool) -> _View:
        """All of a node."""
        return _View(node, node.size, repeats, 0, node.size)

    def moved(self, user: Node) -> _View:
        """A view of it; an axis repeated within all others is no work again."""
        before, after = max(self.node.size, 1), user.size
        read = self.read * after // before
        if user.op is Op.WINDOW:
            return replace(self, node=user, read=read, windows=self.windows + 1)
        is_again = self.repeats and not _repeats_within(user)
        if user.op is Op.SLICE or (user.op is Op.EXPAND and is_again):
            return replace(self, node=user, read=read, once=self.once * after // before)
        if user.op is Op.RESHAPE and _long_axes(user) != _long_axes(self.node):
            return replace(self, node=user, windows=0, once=self.read)
        return replace(self, node=user)


def _long_axes(node: Node) -> list[int]:
    return [n for n in node.shape if n != 1]
