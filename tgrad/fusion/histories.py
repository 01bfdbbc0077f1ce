"""What computing a value again would repeat, and whether it is stored instead.

In: a graph and which of its nodes are stored. Out: each node's elementwise history, and whether
loading it beats that. Invariant: pure; only costs are weighed here, never what is legal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tgrad.fusion.device_limits import Limits
from tgrad.graph.node import Node, below
from tgrad.graph.op import MOVEMENT, OPS, Op, is_expensive

FLOPS_PER_BYTE = 5
"""Arithmetic that takes as long as moving a byte, on the device where memory is cheapest: a CPU of
two cores with 300 GFLOP/s and 60 GB/s. A value is stored for later kernels if computing it again
costs more than writing and reading it."""

TILES_OF_PACKED = 8
"""Tiles of a dot from which weights of four bits are unpacked once for all of them."""

DOT_TILE = 128
"""Rows or columns of a dot's result whose tile computes an operand once."""

MASK_COST = 8
"""Of comparing a place with both ends of a run."""

PLACES = 64
"""How many times as large a table is as each tensor that it is made of."""

TABLE_COST = 40
"""What an element of a table costs at most that is computed where it is read; a random draw costs
more."""

TINY = 4096
"""Kernels over at most this many elements join even if they share no data, and values of so few are
computed again."""


@dataclass(frozen=True, slots=True)
class History:
    """The elementwise computation behind a node: how much, and from which stored nodes."""

    nodes: int
    cost: int
    leaves: frozenset[Node]
    dear: int = 0
    """What of the cost is of functions, such as exp."""


def histories_of(
    order: Sequence[Node], stored: Collection[Node], inside: Collection[Node]
) -> dict[Node, History]:
    """What inlining each node would repeat; what a chain computes on the way is none of it.

    Args:
        order: the graph, inputs before users.
        stored: nodes that are loaded where they are read.
        inside: of chains.
    """
    result: dict[Node, History] = {}
    for n in order:
        if n.op is Op.BUFFER or n in stored or n in inside:
            result[n] = History(0, 0, frozenset({n}))
        else:
            result[n] = inlined(n, result, stored)
    return result


def inlined(node: Node, histories: Mapping[Node, History], stored: Collection[Node]) -> History:
    """The history of a node that is computed where it is read."""
    nodes, cost, leaves = 1, OPS[node.op].cost, frozenset[Node]()
    dear = cost if is_expensive(node.op) else 0
    for x in node.inputs:
        part = History(0, 0, frozenset({x})) if x in stored else histories[x]
        nodes, cost, dear = nodes + part.nodes, cost + part.cost, dear + part.dear
        leaves |= part.leaves
    most = 1 << 20
    return History(min(nodes, most), min(cost, most), leaves, min(dear, most))


def is_masked_load(operand: Node, histories: Mapping[Node, History]) -> bool:
    """Whether an operand is what lies in memory where a condition of fewer axes holds, else 0: rows
    of a group. It is cheap to compute, and storing it would take a copy for each group."""
    if operand.op is not Op.WHERE:
        return False
    condition, value, zero = (below(x, MOVEMENT) for x in operand.inputs)
    is_zero = zero.op is Op.CONST and zero.attr("value") == 0
    is_load = not histories[value].cost and len(histories[value].leaves) == 1
    is_small = max(condition.size, value.size) * 2 <= operand.size
    return is_zero and is_load and is_small and histories[condition].cost <= MASK_COST


def is_costly_prologue(operand: Node, histories: Mapping[Node, History]) -> bool:
    """Whether a dot should read the stored operand: each element is read many times."""
    history = histories[operand]
    is_simple = history.cost <= 2 and len(history.leaves) <= 1
    return not (is_simple or is_masked_load(operand, histories))


def is_dear_to_repeat(
    operand: Node, view: Node, dot: Node, histories: Mapping[Node, History], limits: Limits
) -> bool:
    """Whether a dot that computes its operand does so too often: once for each tile of the other
    side, and for each window that an element is in. What is made of half its bytes or less, such
    as packed weights, is not stored: that memory is what packing saves. But a program of a GPU
    unpacks parts of bytes so slowly that weights of four bits are, one layer at a time, where many
    tiles read them."""
    history = histories[operand]
    packed = sum(x.nbytes for x in history.leaves)
    if operand.size <= TINY or is_masked_load(operand, histories):
        return False
    other = next((x for x in dot.inputs if x is not view), view)
    side = dot.inputs.index(other)
    k = prod(other.shape[a] for a in dot.attr("contract")[side])
    batch = prod(other.shape[a] for a in dot.attr("batch")[side])
    tiles = -(-(other.size // max(k * batch, 1)) // DOT_TILE)
    times = view.size * tiles / operand.size
    if below(other, MOVEMENT) is operand:
        times += other.size / operand.size
    if 2 * packed <= operand.nbytes and history.cost <= TABLE_COST:
        parts_of_bytes = limits.programs > 0 and 3 * packed <= operand.nbytes
        return parts_of_bytes and tiles >= TILES_OF_PACKED
    return history.cost * (times - 1) > FLOPS_PER_BYTE * 2 * operand.dtype.itemsize


def is_table_of_places(node: Node, histories: Mapping[Node, History]) -> bool:
    """Whether a node is a large table of what places and far smaller tensors say, such as a mask of
    documents or distances of keys from queries. It is not stored: with sequences of 32k it would be
    gigabytes, and where a kernel computes it, tiles may be skipped for it."""
    return node.size > TINY and is_made_of_places(node, histories[node])


def is_made_of_places(node: Node, made: History) -> bool:
    """Whether what places and far smaller tensors say makes a node, with little arithmetic."""
    is_small = all(PLACES * leaf.size <= node.size for leaf in made.leaves)
    return is_small and made.cost <= TABLE_COST


def is_worth_storing(node: Node, histories: Mapping[Node, History]) -> bool:
    """Whether loading a node beats computing it again in every kernel that needs it."""
    if is_table_of_places(node, histories):
        return False
    history = histories[node]
    big = sum(1 for leaf in history.leaves if 4 * leaf.size >= node.size)
    if big > 1 and node.size > 1:
        return True
    return history.cost > FLOPS_PER_BYTE * 2 * node.dtype.itemsize
