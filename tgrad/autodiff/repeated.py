"""Gradients by templates: most graphs that are differentiated are those of a step before.

In: a graph and what is asked of it, and the walk that differentiates. Out: its results. Invariant:
the graph is the one that the walk makes, with the same lines. See docs/decisions/0083.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from tgrad.errors import Source
from tgrad.graph.key import row_of
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op
from tgrad.graph.template import Template

_MARK, _BUFFER = Op.CUSTOM_VJP, Op.BUFFER
KEPT = 64
"""Graphs that are known, those that were seen last."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was made of a graph the last time.

    Attributes:
        sources: the lines of its nodes.
        template: of the gradients; None where there is none.
    """

    sources: list[Source]
    template: Template | None


_known: OrderedDict[int, tuple[Hashable, _Known] | None] = OrderedDict()
"""By the hash of what is asked; None for what was asked once."""
_lock = threading.Lock()


def gradients_again(
    walk: Callable[[], list[Node | None]],
    order: Sequence[Node],
    asked: Sequence[Node],
    with_effects: Collection[str],
    modes: Hashable,
    is_graph: bool,
) -> list[Node | None]:
    """What a walk gives, from a template where it has given it before.

    Args:
        walk: makes the gradients.
        order: the nodes of the output.
        asked: the gradient of the output, and what is differentiated with respect to.
        with_effects: rules that do more than to make graph.
        modes: what rules depend on beside the graph.
        is_graph: whether gradients are asked for their own gradients.
    """
    have = frozenset(order)
    nodes = [*order, *toposort(asked, lambda n: () if n in have else n.inputs)]
    nodes = list(dict.fromkeys(nodes))
    rows = _rows(nodes, with_effects)
    if rows is None:
        return walk()
    number = {n: i for i, n in enumerate(nodes)}
    place = (rows, tuple([number[n] for n in asked]), number[order[-1]], modes, is_graph)
    key, sources = hash(place), [n.source for n in nodes if n.inputs]
    with _lock:
        is_new = key not in _known
        known = _known.setdefault(key, None)
        _known.move_to_end(key)
        if len(_known) > KEPT:
            _known.popitem(last=False)
    if known is not None and known[0] == place and known[1].sources == sources:
        template = known[1].template
        if template is None:
            return walk()
        return template.on(nodes) if is_graph else template.deferred_on(nodes)
    results = walk()
    if not is_new:
        found = _Known(sources, Template.between(nodes, results, with_sources=True))
        with _lock:
            _known[key] = place, found
    return results


def _rows(nodes: Sequence[Node], with_effects: Collection[str]) -> tuple[Hashable, ...] | None:
    """All that the nodes are, but for the memory of buffers and the identity of leaves; None where
    a rule has effects."""
    number: dict[Node, int] = {}
    rows: list[Hashable] = []
    for n in nodes:
        number[n] = len(rows)
        inputs = tuple(map(number.__getitem__, n.inputs))
        if n.op is _BUFFER:
            rows.append((n.shape, n.dtype, n.device))
        elif n.op is not _MARK:
            rows.append(row_of(n, inputs))
        elif n.attr("rule") in with_effects:
            return None
        elif n.attr("rule") == "leaf":
            rows.append((_MARK, inputs))
        else:
            rows.append((_MARK, inputs, n.attrs, repr(n.attr("params"))))  # 0.0 is not -0.0
    return tuple(rows)
