"""Sums of many products are added up as they come.

In: the nodes of a graph, in order. Out: sums on the way that are stored. Invariant: a kernel adds
at most one product more than it may compute; equal bytes are moved, and one sum is alive in place
of all products.

    w = d1 + d2 + d3 + d4     s2 = d2 + d1;  s3 = d3 + s2;  w = d4 + s3     (one dot a kernel)

That is the gradient of a weight that is used at every step of a loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tgrad.graph.node import Node, below
from tgrad.graph.op import Op

_ON_THE_WAY = (Op.RESHAPE, Op.PERMUTE, Op.CAST)


def partial_sums(
    order: Sequence[Node],
    uses: Mapping[Node, Collection[Node]],
    of_chains: Collection[Node],
    dots: int,
) -> frozenset[Node]:
    """Sums of products that are stored, so that none has more than `dots` + 1 terms.

    Args:
        order: nodes, producers first.
        uses: who reads each.
        of_chains: nodes that kernels of chains compute.
        dots: most dots of one kernel.
    """
    terms: dict[Node, int] = {}
    stored: list[Node] = []
    for n in order:
        if n in of_chains:
            continue
        if n.op is Op.DOT:
            terms[n] = 1
        elif n.op in _ON_THE_WAY and len(uses[n.inputs[0]]) == 1:
            terms[n] = terms.get(n.inputs[0], 0)
        elif n.op is Op.ADD and all(terms.get(x) and len(uses[x]) == 1 for x in n.inputs):
            for x in sorted(set(n.inputs), key=lambda x: -terms[x]):
                if terms[x] > 1 and sum(terms[y] for y in n.inputs) > dots + 1:
                    terms[x] = 1
                    stored.append(below(x, _ON_THE_WAY))
            terms[n] = sum(terms[x] for x in n.inputs)
    return frozenset(stored)
