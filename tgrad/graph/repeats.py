"""Work that plans do again: lines of the program whose tensors later graphs build on.

In: the nodes of each graph that runs, in order. Out: those lines, and such nodes. Invariant: what
is computed does not depend on them, only what is stored. See docs/decisions/0078.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

from tgrad.graph.node import Node, behind, living_nodes, runs
from tgrad.graph.op import MOVEMENT, Op

Line = tuple[str, int]
"""A file and a line of it."""

_WRAPPERS = MOVEMENT | {Op.CUSTOM_VJP, Op.CAST}
_FREE = frozenset((Op.BUFFER, Op.CONST, Op.IOTA))
_PASSED = _WRAPPERS | _FREE
"""Ops that are no work by themselves: what they wrap is in the graph as well."""

lines: dict[Line, int] = {}
"""Where tensors were made that a later plan had to compute a second time, and how many of those
were reported."""

repeated: set[Node] = set()
"""What was computed a second time, until somebody has looked for the tensors that hold it."""

_FEW = 64
"""Nodes of a mask or a table of angles, at most."""
_REPORTS = 8
"""Of a line: what is made by calls that nobody holds on to is reported in vain."""


def line_of(node: Node) -> Line:
    """Where a node was made first."""
    return node.source.file, node.source.line


def note_computed(
    order: Sequence[Node], deferred: Sequence[Node], whole: Callable[[], Sequence[Node]]
) -> None:
    """Mark the nodes of a graph that runs; learn the lines of what an earlier one computed too.

    Args:
        order: the graph's nodes, inputs before users.
        deferred: those that stand for more.
        whole: gives all of them, with what they stand for.

    graph 1: h = tanh(x @ w)             runs for its loss, and h is not stored
    graph 2: tanh(y @ w + h.detach())    computes h again: its lines, and that of detach

    graph 1: scores = x @ w              runs, and best = scores.argmax() lives, which nobody reads
    graph 2: table[best]                 computes scores again for best, which is older: its line
    """
    again = [n for n in order if n.is_computed and n.op not in _PASSED]
    if not deferred:
        if again:
            _learn(order)
    elif any(n.is_computed for n in deferred) or any(map(_is_news, again)):
        _learn(whole())
    for n in chain(order, deferred):
        n.is_computed = True
    runs.count += 1


def _is_news(node: Node) -> bool:
    """Whether there is something to learn where a node was computed a second time."""
    return lines.get(line_of(node), 0) < _REPORTS and is_work(node)


def _learn(order: Sequence[Node]) -> None:
    found: set[Node] = set()
    handed: set[Node] = set()
    late: set[Node] = set()  # made before an earlier plan ran, of its values, and not by it
    for n in order:
        if n.is_computed:
            continue
        is_old = n.born < runs.count
        for x in n.inputs[:1] if n.op is Op.CUSTOM_VJP else n.inputs:
            if x in handed or (x.is_computed and is_work(x)):
                found.add(x)
                if n.op in _WRAPPERS:
                    found.add(n)
                    handed.add(n)
            elif x not in late:
                continue
            elif not is_old:
                found.add(x)
            if is_old:
                late.add(n)
    reported = {n for n in found if lines.setdefault(line_of(n), 0) < _REPORTS}
    for line in {line_of(n) for n in reported}:
        lines[line] += 1
    repeated.update(n for n in behind(reported, _is_again) if n in reported or is_work(n))


def _is_again(node: Node) -> bool:
    """Whether a node was computed a second time: those who hold it may be older than its users.

    x = randn(64, 3, 224, 224)     the first step reads conv(x), which pads x; so does the second
    """
    return node.is_computed and node.op is not Op.BUFFER


_LISTED = next(map(sys.getrefcount, [object()]))
"""References to an object that a list alone holds, counted over that list."""


def take_held() -> list[Node]:
    """What was computed a second time and more than other nodes hold, each of them once: mostly
    nothing, since the tensors that held it have values, or are gone."""
    found = list(repeated)
    repeated.clear()
    if not found:
        return []
    inputs = chain.from_iterable(map(attrgetter("inputs"), living_nodes()))
    uses = Counter(map(id, filter(set(found).__contains__, inputs)))
    del inputs
    counts = list(map(sys.getrefcount, found))
    return [n for n, count in zip(found, counts) if count > _LISTED + uses[id(n)]]


def is_work(node: Node) -> bool:
    """Whether a node is computed from memory, or by many operations: what is made of numbers and
    places by a few costs little, and kernels know it."""
    while node.op in _WRAPPERS:
        node = node.inputs[0]
    if node.op in _FREE:
        return False
    seen: set[Node] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n.op is Op.BUFFER or len(seen) > _FEW:
            return True
        if n not in seen:
            seen.add(n)
            stack += n.inputs[:1] if n.op is Op.CUSTOM_VJP else n.inputs
    return False
