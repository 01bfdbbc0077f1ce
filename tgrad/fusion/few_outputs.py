"""Sums of many terms with few results, in two: otherwise a few programs of a GPU do all the work.

In: canonical nodes, the device's limits. Out: nodes that compute the same, with an axis of parts
where it helps. Invariant: pure; parts are added in a fixed order, in the accumulator's dtype, so
results are the same on every run.

    %d = dot %a, %b over k                       %p = dot %a, %b over k / P, for each part
                                           ->    %d = cast (reduce_sum %p over the parts)
    %s = reduce_sum %x over n h w                %q = reduce_sum %x over n / P, h, w
                                                 %s = reduce_sum %q over the parts

That is split K for gradients of weights, and sums over batch and pixels in a normalization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from tgrad.fusion.choices import NO_CHOICES, Names, PlanChoices, Site
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.find_chains import softmax_weights
from tgrad.fusion.row_columns import summed_beside_rows
from tgrad.fusion.statistics import dot_behind
from tgrad.graph import build as b
from tgrad.graph.node import Node, below, make, rebuilt, toposort
from tgrad.graph.op import MOVEMENT, REDUCE, Op
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL

TILE = 128
"""Rows and columns of a dot's result that a program computes."""
LEAST_K, LEAST_TERMS = 512, 128
"""Terms that a part adds at least, of a dot and of a sum."""
FEW_K = 8192
"""A dot of fewer terms is not worth a second kernel; nor is a sum that one program may nest."""
PLANES = 3
"""Axes of a sum over the pixels of images: a gradient of a convolution's weights, of windows that
reach over the edge."""
ALONE, IMAGES, FEW_IMAGES = 0.75, 64, 4 / 3
"""Share of its rate that a program alone on a multiprocessor reaches; images that one tile takes at
a pixel; what fewer cost (H200, 2026-11)."""
CHANNELS = 16
"""Of windows that lie apart in memory; of fewer, neighbours share what one access brings."""
PART = 800
"""Terms that are added in the time in which a part's sum of them is written and read."""
SHARE = 8
"""A sum is split where fewer than one in so many of the device's programs would work, or where the
parts save more than a launch takes."""
SPREAD = 2
"""Programs for each of the device's that such parts make at most, and those of images."""
FEW_PROGRAMS, LEAST_SPLIT = 16, 1 << 16
"""Programs, and terms above which a sum may be split, where the device asks for no splits and a
search tries one: with the first processors of few cores are busy, below the second a launch costs
more than it saves."""


def split_few_outputs(
    outputs: Sequence[Node], limits: Limits, choices: PlanChoices = NO_CHOICES
) -> list[Node]:
    """The outputs with sums that would keep few programs busy in parts, canonical again."""
    if not limits.programs and not choices:
        return list(outputs)
    order = toposort(outputs)
    weights = softmax_weights(order)  # a chain of dots walks their columns by itself
    beside_rows = summed_beside_rows(order, limits)
    names = Names()

    def split(node: Node, same: Node) -> Node | None:
        if not _may_split(node, weights):
            return None
        chosen = choices.at_node("split", node, names)
        return _chosen(same, limits, chosen, node in beside_rows)

    results = rebuilt(outputs, split)
    return list(outputs) if results == list(outputs) else rewrite(results, CANONICAL)


def sums_to_split(outputs: Sequence[Node], limits: Limits) -> list[Site]:
    """Sums of few results, whether in parts as a rule or not."""
    order = toposort(outputs)
    weights, names = softmax_weights(order), Names()
    beside_rows = summed_beside_rows(order, limits)
    found: list[Site] = []
    for node in order:
        with_rows = node in beside_rows
        if _may_split(node, weights) and _chosen(node, limits, "parts", with_rows) is not None:
            planned = "whole" if _split(node, limits, with_rows) is None else "parts"
            nbytes = sum(x.nbytes for x in node.inputs)
            found.append(Site(names.of("split", node), planned, nbytes))
    return found


def _may_split(node: Node, weights: frozenset[Node] | set[Node]) -> bool:
    if node.op is Op.DOT:
        return weights.isdisjoint(node.inputs)
    return node.op in REDUCE


def _chosen(node: Node, limits: Limits, chosen: str | None, with_rows: bool) -> Node | None:
    """The sum in parts; None for one that stays whole.

    Args:
        with_rows: whether row_columns.py has a better place for it.
    """
    if chosen == "whole":
        return None
    if chosen == "parts" and not limits.programs:
        limits = replace(limits, programs=FEW_PROGRAMS, nested_elements=LEAST_SPLIT)
    return _split(node, limits, with_rows)


def _split(node: Node, limits: Limits, with_rows: bool) -> Node | None:
    if not limits.programs:
        return None
    if node.op is Op.DOT:
        return _split_dot(node, limits.programs)
    return _split_sum(node, limits, with_rows)


def _parts(extent: int, most: int) -> int:
    """The largest divisor of an extent that is no more than `most`."""
    return next(p for p in range(max(min(extent, most), 1), 0, -1) if extent % p == 0)


def _split_axis(x: Node, axis: int, parts: int) -> Node:
    shape = (*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])
    return b.reshape_to(x, shape)


def _split_dot(node: Node, programs: int) -> Node | None:
    left, right = node.inputs
    (ca, cb), (batch, _) = node.attr("contract"), node.attr("batch")
    k = prod(left.shape[a] for a in ca)
    if batch or k < FEW_K or not node.dtype.is_float:
        return None
    m, n = (x.size // k for x in (left, right))
    tiles = -(-m // TILE) * -(-n // TILE)
    extents = [left.shape[a] for a in ca]
    are_images = len(ca) == PLANES and extents[0] >= IMAGES
    if are_images and (_has_edges(left, ca) or _has_edges(right, cb)):
        at, parts = _of_images(extents, tiles, programs)
    else:
        most = min(programs // tiles, k // LEAST_K)
        found = [(i, _parts(extent, most)) for i, extent in enumerate(extents)]
        at, parts = max(found, key=lambda one: one[1])
    if parts < 2:
        return None
    acc = node.dtype.accumulator
    made = make(
        Op.DOT,
        _split_axis(left, ca[at], parts),
        _split_axis(right, cb[at], parts),
        contract=(_shifted(ca, at), _shifted(cb, at)),
        batch=((ca[at],), (cb[at],)),
        dtype=acc,
    )
    return b.cast_to(b.sum_over(made, (0,)), node.dtype)


def _has_edges(x: Node, summed: Sequence[int]) -> bool:
    """Whether an operand is windows of some channels, of which those at the edge have elements that
    are not there."""
    others = [extent for axis, extent in enumerate(x.shape) if axis not in summed]
    if max(others, default=1) < CHANNELS:
        return False
    while x.op in MOVEMENT:
        if x.op is Op.PAD:
            return True
        (x,) = x.inputs
    return False


def _of_images(extents: Sequence[int], tiles: int, programs: int) -> tuple[int, int]:
    """The axis of a sum over (images, rows, columns) to part, and in how many parts: what takes
    least time. A program alone on a multiprocessor waits for loads, two keep it busy; where a part
    has few images, a tile's masks change within it."""
    k = prod(extents)
    most = min(SPREAD * programs // tiles, k // LEAST_K)

    def cost(choice: tuple[int, int]) -> float:
        at, parts = choice
        count = tiles * parts
        pairs = -(-count // (SPREAD * programs)) * SPREAD * programs
        busy = ALONE * count / programs if count <= programs else count / pairs
        is_whole = at > 0 or extents[0] // parts >= IMAGES
        return (1 if is_whole else FEW_IMAGES) / busy + PART * (parts - 1) / k

    divisors = ((at, p) for at, n in enumerate(extents) for p in range(1, most + 1) if n % p == 0)
    return min(divisors, key=cost, default=(0, 1))


def _shifted(axes: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The axes where axis axes[at] has become two, of which the second is summed."""
    return tuple(a + (a >= axes[at]) for a in axes)


def _split_sum(node: Node, limits: Limits, with_rows: bool) -> Node | None:
    (x,) = node.inputs
    axes = node.attr("axes")
    terms = x.size // max(node.size, 1)
    is_row = axes[-1] == len(x.shape) - 1
    busy = max(node.size if is_row else -(-node.size // limits.sum_columns), 1)
    most = min(limits.programs // busy, terms // LEAST_TERMS)
    if x.size <= limits.nested_elements or SHARE * busy > limits.programs:
        most = min(SPREAD * limits.programs // busy, terms // LEAST_TERMS)
        saved = _reading(x, busy, limits) * (1 - 1 / most) if most > 1 else 0.0
        if with_rows or saved < limits.launch:
            return None
    if is_row and dot_behind(x) is not None:  # a statistic of a chain
        return None
    axis, parts = max(((a, _parts(x.shape[a], most)) for a in axes), key=lambda found: found[1])
    if parts < 2:
        return None
    acc = node.dtype.accumulator
    inner = tuple(a + (a >= axis) for a in axes)
    part = make(node.op, _split_axis(b.cast_to(x, acc), axis, parts), axes=inner)
    place = axis - sum(a < axis for a in axes)
    return b.cast_to(make(node.op, part, axes=(place,)), node.dtype)


def _reading(x: Node, programs: int, limits: Limits) -> float:
    """Seconds in which so many programs read a value."""
    return below(x, (Op.CAST,)).nbytes / (limits.program_bandwidth * programs)
