"""What convolutions read, copied once with its channels last, as matrix units read them.

In: canonical nodes, at the end of all passes that rewrite them, and the device's limits. Out: nodes
that compute the same, and the copies, which are to be stored. Invariant: pure; buffers of the user,
such as the weight that the optimizer writes, keep their order of axes.

A weight [O, C, kh, kw] lies with its window innermost. A tile of a product takes channels of one
place of the window: C elements kh * kw apart, each of which costs an access of its own, again in
every program and every step of its loop. So, where many programs read it,

    %y = dot %x, permute(%w)              ->      %p = permute %w, 0 2 3 1        stored
                                                  %y = dot %x, permute(permute %p, 0 3 1 2)

The gradient of the input contracts over O and reads rows of C as well: all products that read what
is copied share the copy.
An image of the user, [N, C, H, W], is copied likewise where windows of it are multiplied: each of
its elements is in several. Images inside a graph lie so anyway; see memory_order.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tgrad.fusion.device_limits import Limits
from tgrad.graph import build as b
from tgrad.graph.node import Node, below, on_inputs, source_scope, toposort
from tgrad.graph.op import MOVEMENT, Op

LEAST_CHANNELS = 16
"""Channels that make a row worth reading."""
LEAST_ROWS = 512
"""Rows of the other operand, which are a few tiles, each of which reads the weight."""
LEAST_RESULTS = 1 << 16
"""Results of a product that reads windows: fewer are not worth a launch."""


def copy_channels_last(
    outputs: Sequence[Node], limits: Limits
) -> tuple[list[Node], frozenset[Node]]:
    """The outputs, and the copies that are to be stored."""
    if not limits.copies_channels_last:
        return list(outputs), frozenset()
    order = toposort(outputs)
    copied = {_stored_below(x) for n in order if n.op is Op.DOT for x in n.inputs
              if _is_read_badly(x, n)}  # fmt: skip
    copies: dict[Node, Node] = {}
    made: dict[Node, Node] = {}
    for node in order:
        inputs = tuple(made[x] for x in node.inputs)
        with source_scope(node.source):
            if node.op is Op.DOT and copied:
                inputs = tuple(
                    _reordered(x, copies) if _stored_below(x) in copied else made[x]
                    for x in node.inputs
                )
            made[node] = on_inputs(node, inputs)
    return [made[n] for n in outputs], frozenset(copies.values())


def _is_read_badly(view: Node, dot: Node) -> bool:
    """Whether a dot reads a stored weight with a window, or windows of a stored image, often."""
    stored = _stored_below(view)
    if stored is None or len(stored.shape) < 3 or dot.attr("batch")[0]:
        return False
    if _is_turned(view):
        return False
    if prod(stored.shape[2:]) == 1 or stored.shape[1] < LEAST_CHANNELS:
        return False
    rows = dot.size // max(view.size // _contracted(view, dot), 1)
    return rows >= LEAST_ROWS or (_has_windows(view) and dot.size >= LEAST_RESULTS)


def _is_turned(view: Node) -> bool:
    """Whether what is stored has its channels last, and is only seen with them second."""
    above = view
    while view.op in MOVEMENT:
        above, view = view, view.inputs[0]
    return above.op is Op.PERMUTE and above.attr("axes")[1] == len(above.shape) - 1


def _has_windows(view: Node) -> bool:
    while view.op in MOVEMENT:
        if view.op is Op.WINDOW and view.shape[-1] > 1:
            return True
        view = view.inputs[0]
    return False


def _contracted(view: Node, dot: Node) -> int:
    axes = dot.attr("contract")[dot.inputs.index(view)]
    return max(prod(view.shape[a] for a in axes), 1)


def _stored_below(view: Node) -> Node | None:
    """The buffer, or the cast of one, that a view shows; None if it is something else."""
    view = below(view, MOVEMENT)
    source = view.inputs[0] if view.op is Op.CAST else view
    return view if source.op is Op.BUFFER else None


def _reordered(view: Node, copies: dict[Node, Node]) -> Node:
    """The same view of the copy."""
    if view.op in MOVEMENT:
        return on_inputs(view, (_reordered(view.inputs[0], copies),))
    rank = len(view.shape)
    if view not in copies:
        copies[view] = b.permute(view, (0, *range(2, rank), 1))
    return b.permute(copies[view], (0, rank - 1, *range(1, rank - 1)))
