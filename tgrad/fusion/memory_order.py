"""In which order the axes of intermediate values lie in memory: as the dots that make them do.

In: canonical outputs. Out: nodes that compute the same; what follows a dot is computed, and stored,
with the dot's columns last. Invariant: pure; outputs keep their order of axes, and nothing but
permutes is added.

A convolution is a dot [N, H, W, O] whose result users see as [N, O, H, W]. Moved behind what reads
it, the permute meets the window of the next convolution, where it is index arithmetic: images lie
with channels last, as matrix units read them, from one convolution to the next and back.

    %d = dot %x, %w                                 %d = dot %x, %w
    %y = permute %d, 0 3 1 2                  ->    %z = relu %d
    %z = relu %y                                    %s = reduce_sum %z over 0 1 2
    %s = reduce_sum %z over 0 2 3                   readers of the old %z: permute %z, 0 3 1 2

Only what is permuted so that a dot's columns are no longer last is moved; a value of two orders
takes that of its first operand that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tgrad.graph import build as b
from tgrad.graph.node import Node, make, on_inputs, source_scope, toposort
from tgrad.graph.op import REDUCE, Op, is_elementwise
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL

Axes = tuple[int, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Permuted:
    """A value as permute(core, axes): axis i of the value is axis axes[i] of the core."""

    core: Node
    axes: Axes


def keep_order_of_dots(outputs: Sequence[Node]) -> list[Node]:
    """The outputs with permutes of dots moved behind what reads them, canonical again."""
    order = toposort(outputs)
    if not any(_is_seed(n) for n in order):
        return list(outputs)
    kept = frozenset(outputs)
    plain: dict[Node, Node] = {}
    moved: dict[Node, Permuted] = {}
    for node in order:
        with source_scope(node.source):
            found = None if node in kept else _moved(node, plain, moved)
            if found is None:
                plain[node] = on_inputs(node, tuple(plain[x] for x in node.inputs))
                continue
            moved[node] = found
            plain[node] = b.permute(found.core, found.axes)
    return rewrite([plain[n] for n in outputs], CANONICAL)


def _is_seed(node: Node) -> bool:
    """A permute that takes a dot's columns away from the end."""
    if node.op is not Op.PERMUTE or node.inputs[0].op is not Op.DOT:
        return False
    axes = node.attr("axes")
    return bool(axes[-1] != len(axes) - 1)


def _moved(
    node: Node, plain: Mapping[Node, Node], moved: Mapping[Node, Permuted]
) -> Permuted | None:
    """The node behind the permutes of its operands; None where it has to see them."""
    if _is_seed(node):
        return Permuted(plain[node.inputs[0]], node.attr("axes"))
    operands = [moved[x] for x in node.inputs if x in moved and x.op is not Op.EXPAND]
    if not operands:
        return None
    axes = operands[0].axes
    if is_elementwise(node.op):
        inputs = (_in_order(x, axes, plain, moved) for x in node.inputs)
        return Permuted(make(node.op, *inputs, **dict(node.attrs)), axes)
    if node.inputs[0] not in moved:
        return None
    first = moved[node.inputs[0]]
    if node.op in REDUCE:
        return _reduced(node, first)
    if node.op is Op.GATHER and node.inputs[1].shape == node.shape:
        index = _in_order(node.inputs[1], first.axes, plain, moved)
        axis = first.axes[node.attr("axis")]
        return Permuted(make(Op.GATHER, first.core, index, axis=axis), first.axes)
    move = _MOVES.get(node.op)
    return None if move is None else move(node, first)


def _in_order(
    node: Node, axes: Axes, plain: Mapping[Node, Node], moved: Mapping[Node, Permuted]
) -> Node:
    """The core that gives the node by a permute of these axes."""
    if node in moved and moved[node].axes == axes:
        return moved[node].core
    return b.permute(plain[node], _inverse(axes))


def _inverse(axes: Axes) -> Axes:
    return tuple(axes.index(a) for a in range(len(axes)))


def _spread(values: Sequence[Any], axes: Axes) -> tuple[Any, ...]:
    """One number for each axis of the value, as numbers for the axes of its core."""
    return tuple(values[i] for i in _inverse(axes))


# -- ops that see their operand's axes ---------------------------------------------------------


def _reduced(node: Node, x: Permuted) -> Permuted:
    gone = node.attr("axes")
    core = make(node.op, x.core, axes=tuple(sorted(x.axes[a] for a in gone)))
    left = [a for i, a in enumerate(x.axes) if i not in gone]
    return Permuted(core, tuple(sorted(left).index(a) for a in left))


def _permuted(node: Node, x: Permuted) -> Permuted:
    return Permuted(x.core, tuple(x.axes[a] for a in node.attr("axes")))


def _expanded(node: Node, x: Permuted) -> Permuted | None:
    if len(node.shape) != len(x.axes):
        return None
    return Permuted(b.expand_to(x.core, _spread(node.shape, x.axes)), x.axes)


def _padded(node: Node, x: Permuted) -> Permuted:
    low, high = (_spread(node.attr(side), x.axes) for side in ("low", "high"))
    return Permuted(b.pad(x.core, low, high), x.axes)


def _sliced(node: Node, x: Permuted) -> Permuted:
    bounds = (_spread(node.attr(name), x.axes) for name in ("start", "stop", "step"))
    return Permuted(b.slice_(x.core, *bounds), x.axes)


def _flipped(node: Node, x: Permuted) -> Permuted:
    axes = tuple(sorted(x.axes[a] for a in node.attr("axes")))
    return Permuted(make(Op.FLIP, x.core, axes=axes), x.axes)


def _windowed(node: Node, x: Permuted) -> Permuted:
    attrs = {**dict(node.attrs), "axis": x.axes[node.attr("axis")]}
    return Permuted(make(Op.WINDOW, x.core, **attrs), (*x.axes, len(x.axes)))


def _reshaped(node: Node, x: Permuted) -> Permuted | None:
    """Axes that are split stay where they were; those that are joined must follow each other in
    the core too."""
    have = tuple(x.core.shape[a] for a in x.axes)
    groups = _runs(have, node.shape)
    by_first: dict[int, Axes] = {}
    ones: Axes = ()
    for old, new in groups:
        wide = [i for i in old if have[i] != 1] or list(old[:1])
        if not wide:
            ones += new
            continue
        places = [x.axes[i] for i in wide]
        between = range(places[0], places[-1] + 1)
        if places != sorted(places) or any(
            x.core.shape[p] != 1 and p not in places for p in between
        ):
            return None
        by_first[places[0]] = new
    sequence = (*(i for place in sorted(by_first) for i in by_first[place]), *ones)
    core = b.reshape_to(x.core, tuple(node.shape[i] for i in sequence))
    return Permuted(core, _inverse(sequence))


def _runs(old: Shape, new: Shape) -> list[tuple[Axes, Axes]]:
    """Shortest runs of axes of equal products, from the front."""
    groups: list[tuple[Axes, Axes]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        p = q = 1
        while p != q or (i == first_i and i < len(old)) or (j == first_j and j < len(new)):
            if i < len(old) and (p <= q or j == len(new)):
                p, i = p * old[i], i + 1
            elif j < len(new):
                q, j = q * new[j], j + 1
            else:
                break
        groups.append((tuple(range(first_i, i)), tuple(range(first_j, j))))
    return groups


_MOVES: dict[Op, Callable[[Node, Permuted], Permuted | None]] = {
    Op.PERMUTE: _permuted,
    Op.EXPAND: _expanded,
    Op.PAD: _padded,
    Op.SLICE: _sliced,
    Op.FLIP: _flipped,
    Op.WINDOW: _windowed,
    Op.RESHAPE: _reshaped,
}
