"""How far rounding alone can take the values of a graph, for the tests that compare devices.

In: nodes. Out: for each, NumPy's values, and the distance that another order of the same roundings
may put between them and a device's. Invariant: equal values are moved alike, and what an operation
does not round is not moved, so that ties stay ties and exact comparisons exact.

Source of the idea: stochastic arithmetic (Vignes, 1993). The graph is computed in float64; then
some times more, with each rounded value moved within its dtype's rounding. How far those are from
the first, and NumPy's own values in the dtype, is what rounding does to this graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tgrad.dtype import DType, float64
from tgrad.graph.interpret import cast, evaluate, interpret
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import OPS, Kind, Op

Array = np.ndarray[Any, Any]

SAMPLES = 6
"""Runs with moved values. Where a difference of large values is all that is left, one rounding is
the whole error, and the runs must not all be near it by chance."""
FACTOR, UNITS = 8.0, 2.0
"""A device may be so many times further away than they are, and so many units of the dtype of the
largest element: of its own last rounding."""

SUMS = frozenset({Op.REDUCE_SUM, Op.DOT, Op.SCAN_SUM, Op.SCATTER})
"""Devices add in another order, and in the accumulator's dtype: their terms are moved, and what
their partial sums may lose."""
EXACT = frozenset(
    {
        Op.NEG, Op.ABS, Op.FLOOR, Op.ROUND, Op.TRUNC, Op.MAXIMUM, Op.MINIMUM, Op.WHERE, Op.BITCAST,
        Op.REDUCE_MAX, Op.REDUCE_MIN, Op.SCAN_MAX, Op.SCAN_MIN,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Bounded:
    """An output: NumPy's values, and how far from them a device's may be (0 but for floats)."""

    values: Array
    distance: float


def bounded(nodes: Sequence[Node]) -> list[Bounded]:
    """The outputs as NumPy computes them, each with its bound."""
    with np.errstate(all="ignore"):
        have = interpret(nodes, lambda storage: storage.numpy())
        if not any(node.dtype.is_float for node in nodes):
            return [Bounded(values, 0.0) for values in have]
        exact, *moved = (wide_values(nodes, seed) for seed in range(SAMPLES + 1))
        return [
            Bounded(values, distance(node.dtype, values, exact[i], [run[i] for run in moved]))
            for i, (node, values) in enumerate(zip(nodes, have))
        ]


def distance(dtype: DType, values: Array, exact: Array, moved: Sequence[Array]) -> float:
    if not dtype.is_float:
        return 0.0
    runs = [np.abs(run - exact) for run in (values.astype(np.float64), *moved)]
    furthest = max(float(run[np.isfinite(run)].max(initial=0.0)) for run in runs)
    finite = np.abs(exact[np.isfinite(exact)])
    return FACTOR * furthest + UNITS * unit(dtype) * float(finite.max(initial=0.0))


def unit(dtype: DType) -> float:
    """The spacing of the dtype's numbers at 1."""
    return float(ml_dtypes.finfo(dtype.numpy).eps)


def wide_values(nodes: Sequence[Node], seed: int) -> list[Array]:
    """The outputs, every float in float64; moved within its dtype, but for seed 0."""
    wide: dict[Node, Node] = {}
    values: dict[Node, Array] = {}
    for node in toposort(nodes):
        wide[node] = widened(node, [wide[x] for x in node.inputs])
        if node.op is Op.BUFFER:
            read = node.attr("storage").numpy().reshape(node.shape)
            values[node] = read.astype(np.float64) if node.dtype.is_float else read
            continue
        given = [values[x] for x in node.inputs]
        if seed and is_sum(node):
            given = [moved(x, n.dtype.accumulator, seed) for x, n in zip(given, node.inputs)]
        result = bits_of(node, given) if node.op is Op.BITCAST else evaluate(wide[node], given)
        if seed and is_sum(node) and node.dtype.is_float:
            result = result + partial_sums(node, wide[node], given, seed)
        values[node] = moved(result, node.dtype, seed) if seed and is_rounded(node) else result
    return [values[node] for node in nodes]


def is_sum(node: Node) -> bool:
    """Whether it adds; a scatter may take the largest, which rounds nothing."""
    return node.op in SUMS and dict(node.attrs).get("combine", "add") == "add"


def partial_sums(node: Node, wide: Node, given: Sequence[Array], seed: int) -> Array:
    """What n partial sums lose: the square root of n roundings of the sum of the terms' sizes. One
    term that is added many times loses in one direction, so that it may be more."""
    sizes = evaluate(wide, [np.abs(x) if x.dtype.kind == "f" else x for x in given])
    return math.sqrt(terms(node)) * (moved(sizes, node.dtype.accumulator, seed) - sizes)


def terms(node: Node) -> int:
    """How many values are added to one, at most."""
    first = node.inputs[0].shape
    if node.op is Op.SCATTER:
        return node.inputs[1].shape[node.attr("axis")] + 1
    if node.op is Op.SCAN_SUM:
        return first[node.attr("axis")]
    axes = node.attr("contract")[0] if node.op is Op.DOT else node.attr("axes")
    return math.prod(first[axis] for axis in axes)


def widened(node: Node, inputs: Sequence[Node]) -> Node:
    """The same node on inputs of float64."""
    if node.op in (Op.BUFFER, Op.BITCAST):
        return make(Op.CAST, node, dtype=float64) if node.dtype.is_float else node
    attrs = dict(node.attrs)
    if isinstance(attrs.get("dtype"), DType) and attrs["dtype"].is_float:
        attrs["dtype"] = float64
    return make(node.op, *inputs, **attrs)


def bits_of(node: Node, given: Sequence[Array]) -> Array:
    """A bitcast, which is of the dtype's own bits."""
    result = evaluate(node, [cast(x, n.dtype) for x, n in zip(given, node.inputs)])
    return result.astype(np.float64) if node.dtype.is_float else result


def is_rounded(node: Node) -> bool:
    if not node.dtype.is_float or node.op in EXACT:
        return False
    if node.op is Op.CAST:
        source = node.inputs[0].dtype
        return source.is_float and unit(source) < unit(node.dtype)
    return is_sum(node) or OPS[node.op].kind in (Kind.ELEMENTWISE, Kind.REDUCE, Kind.SCAN)


def moved(x: Array, dtype: DType, seed: int) -> Array:
    """Floats times 1 + d, |d| from a quarter to half a unit; d follows from the value and the
    seed."""
    if not dtype.is_float:
        return x
    bits = np.ascontiguousarray(x, np.float64).view(np.uint64)
    scrambled = (bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15 + 2 * seed)
    part = ((scrambled >> np.uint64(11)) * 2.0**-53).reshape(x.shape) - 0.5
    return x * (1 + (part / 2 + np.copysign(0.25, part)) * unit(dtype))


def assert_within(got: Array, want: Bounded) -> None:
    """Equal integers and bools; floats within the bound."""
    values = want.values
    assert got.shape == values.shape and got.dtype == values.dtype
    if values.dtype.kind not in "fV":
        np.testing.assert_array_equal(got, values)
        return
    np.testing.assert_allclose(
        got.astype(np.float64), values.astype(np.float64), rtol=0, atol=want.distance
    )
