"""Scatters whose results depend on the order in which numbers arrive.

In: canonical nodes, the device's limits. Out: the nodes of which equal plans may make different
bits. Invariant: extrema and sums of integers are the same in every order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.fusion.device_limits import Limits
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op


def unordered(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """Scatters of the outputs that set, or add or multiply floats, where programs race."""
    if limits.orders_scatters:
        return []
    scatters = (n for n in toposort(outputs) if n.op is Op.SCATTER)
    return [n for n in scatters if n.attr("combine") == "set" or _is_inexact(n)]


def _is_inexact(node: Node) -> bool:
    return node.dtype.is_float and node.attr("combine") in ("add", "mul")
