"""Extrema that programs join in memory, with every NaN in a form that wins.

In: canonical nodes, the device's limits. Out: nodes that compute the same. Invariant: pure; only
the bits of NaN change.

    %s = scatter %x, %i, %v max      ->      %s = scatter quiet(%x), %i, quiet(%v) max

    quiet(%y) = where %y != %y, bitcast 0x7fffffff, %y

GPUs have no such instruction for floats, so their bits are compared as integers: those of positive
numbers as signed ones, those of negative numbers as unsigned ones the other way round. The greatest
bits of the right sign win both, and others may lose either: 0xffffffff wins a minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from tgrad.dtype import int32, int64
from tgrad.fusion.device_limits import Limits
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, on_inputs, rebuilt, toposort
from tgrad.graph.op import Op


def keep_nan(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs, where a maximum or minimum of floats with NaN is NaN on this device."""
    if not limits.compares_bits or not any(map(_joins_floats, toposort(outputs))):
        return list(outputs)
    return rebuilt(outputs, lambda n, same: _with_quiet(same) if _joins_floats(n) else None)


def _with_quiet(scatter: Node) -> Node:
    base, index, source = scatter.inputs
    return on_inputs(scatter, (_quiet(base, scatter), index, _quiet(source, scatter)))


def _joins_floats(n: Node) -> bool:
    return n.op is Op.SCATTER and n.dtype.is_float and n.attr("combine") in ("max", "min")


def _quiet(x: Node, scatter: Node) -> Node:
    """The value with each NaN in the form that wins the scatter."""
    if x.op is Op.EXPAND and x.inputs[0].op is Op.CONST and not isnan(x.inputs[0].attr("value")):
        return x
    kind = int64 if x.dtype.itemsize == 8 else int32
    bits = b.const(int(kind.max) if scatter.attr("combine") == "max" else -1, kind, x.shape)
    return b.where(make(Op.NE, x, x), make(Op.BITCAST, bits, dtype=x.dtype), x)
