"""Results of dots lie in memory as their operands do, so that neighbours in a tile stay neighbours.

In: nodes at the end of all passes that rewrite them, the device's limits. Out: nodes that compute
the same, and results that are to be stored by themselves. Invariant: pure; what the user sees keeps
its order of axes.

The gradient of a convolution's weights is a dot [O, C, kh, kw] over windows of an image whose
channels are last. A tile of it has many channels of one place of the window: in the order of the
weights they lie kh * kw apart, and each costs an access of 32 bytes by itself. So parts of a sum,
which one kernel reads, lie as they are computed:

    %p = dot %dy, %x             [P O C kh kw]      %p = dot %dy, permute %x     [P O kh kw C]
    %d = reduce_sum %p over 0    [O C kh kw]   ->   %d = permute (reduce_sum %p over 0), 0 3 1 2

and a whole gradient that an optimizer reads with its weights is stored so first:

    %d = cast (dot %dy, %x)      [O C kh kw]   ->   %s = cast (dot %dy, permute %x)        stored
    %w = sub %w, mul %d, %rate                      %w = sub %w, mul (permute %s, 0 3 1 2), %rate
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tgrad.fusion.device_limits import Limits
from tgrad.fusion.movement import push_index
from tgrad.graph import build as b
from tgrad.graph.index import flatten, var
from tgrad.graph.node import Node, make, rebuilt, toposort, users_of
from tgrad.graph.op import MOVEMENT, Op, is_elementwise

LEAST_RESULTS = 1 << 18
"""Results that are worth a kernel of their own: accesses of 32 bytes for each, of a weight, its
momentum and what becomes of it, take the second-level cache of an H200 as long as a launch."""

Axes = tuple[int, ...]


def lay_as_loaded(outputs: Sequence[Node], limits: Limits) -> tuple[list[Node], frozenset[Node]]:
    """The outputs with results of dots in the order of what the dots read, where what reads the
    results has another; and those results that are to be stored."""
    if not limits.programs:
        return list(outputs), frozenset()
    order = toposort(outputs)
    users, stored = users_of(order), set[Node]()
    moved = _moved(order, users)
    ends = {end for n in order if n.op is Op.DOT
            if (end := _end(n, users, outputs, moved)) is not None}  # fmt: skip

    def change(node: Node, same: Node) -> Node | None:
        if node not in ends:
            return None
        laid = _laid(same if same.op is Op.DOT else same.inputs[0])
        if laid is None:
            return None
        dot, axes = laid
        if same.op is Op.REDUCE_SUM:
            return b.permute(make(same.op, dot, **dict(same.attrs)), [a - 1 for a in axes[1:]])
        if axes[-1] == len(axes) - 1:  # neighbours along the columns are written together
            return None
        result = dot if same.op is Op.DOT else make(same.op, dot, **dict(same.attrs))
        stored.add(result)
        return b.permute(result, axes)

    return rebuilt(outputs, change), frozenset(stored)


def _end(
    dot: Node, users: Mapping[Node, Collection[Node]], outputs: Sequence[Node],
    moved: Collection[Node],
) -> Node | None:  # fmt: skip
    """The sum of a dot's parts; or a large dot, or the cast of it, that nobody reads in another
    order of axes."""
    only = next(iter(users[dot])) if len(users[dot]) == 1 and dot not in outputs else None
    if dot.attr("batch")[0]:
        is_sum = only is not None and only.op is Op.REDUCE_SUM and only.attr("axes") == (0,)
        return only if is_sum else None
    end = only if only is not None and only.op is Op.CAST else dot
    return end if dot.size >= LEAST_RESULTS and end not in moved else None


def _moved(order: Sequence[Node], users: Mapping[Node, Collection[Node]]) -> set[Node]:
    """Values that are read in another shape, or of which something is that is computed of them
    element by element."""
    found: set[Node] = set()
    for node in reversed(order):
        if any(u.op in MOVEMENT or (u in found and is_elementwise(u.op)) for u in users[node]):
            found.add(node)
    return found


def _laid(dot: Node) -> tuple[Node, Axes] | None:
    """A dot in another order, and the axes of it in the old one; None if they lie well."""
    batch = range(len(dot.attr("batch")[0]))
    turned, places = [], list(batch)
    for x, contracted, same in zip(dot.inputs, dot.attr("contract"), dot.attr("batch")):
        free = [a for a in range(len(x.shape)) if a not in (*contracted, *same)]
        laid = _as_in_memory(x, free)
        axes = list(range(len(x.shape)))
        for at, axis in zip(free, laid):
            axes[at] = axis
        turned.append(b.permute(x, axes))
        places += [len(places) + laid.index(a) for a in free]
    if places == sorted(places):
        return None
    return make(Op.DOT, *turned, **dict(dot.attrs)), tuple(places)


def _as_in_memory(x: Node, free: Sequence[int]) -> list[int]:
    """Axes of a view, the one along which neighbours in memory lie last."""
    shape = x.shape
    index = tuple(var(f"i{a}", n) for a, n in enumerate(shape))
    while x.op in MOVEMENT:
        index, _ = push_index(x, index)
        x = x.inputs[0]
    place = flatten(index, x.shape)
    wide = [a for a in free if shape[a] > 1]
    along = [a for a in wide if place.stride(f"i{a}") in (1, -1)]
    if not along or wide[-1] in along:
        return list(free)
    return [*(a for a in free if a != along[0]), along[0]]
