"""A graph with one axis more in front: what vmap does to it.

In: nodes, and a node with a leading axis for each that gets one. Out: nodes with that axis.
Invariant: member b of the result is the graph computed from member b of the replacements; nodes
that depend on none of them are used as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tgrad.autodiff.backward import custom_rule, register_vjp
from tgrad.errors import UnsupportedError
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import OPS, Kind, Op
from tgrad.graph.shape import dot_axes
from tgrad.moving import RULE as MOVED
from tgrad.moving import moved

Batched = dict[Node, Node]

PASSED_ON = {
    "checkpoint", "copy", "detach", "formula", "overwritten", "realised", "twin", "variable",
    "zero_slope",
}  # fmt: skip
"""Rules of marks that hold for any shape."""

UNRECORDED = ("no_grad",)
"""What a mark "detach" says of results under `no_grad`, of functions that are transformed."""


def batch(outputs: Sequence[Node], table: Mapping[Node, Node], size: int) -> list[Node]:
    """The outputs with a leading axis of `size`; those that do not depend on the table's nodes are
    expanded to it."""
    made: Batched = dict(table)
    for node in toposort(outputs):
        if node not in made and any(x in made for x in node.inputs):
            made[node] = _RULES.get(node.op, _by_kind)(node, made, size)
    return [made[n] if n in made else _wide(n, size) for n in outputs]


def _wide(node: Node, size: int) -> Node:
    """The same values for every member."""
    return b.expand_to(b.reshape_to(node, (1, *node.shape)), (size, *node.shape))


def _inputs(node: Node, made: Batched, size: int) -> list[Node]:
    return [made[x] if x in made else _wide(x, size) for x in node.inputs]


def _by_kind(node: Node, made: Batched, size: int) -> Node:
    """Ops whose attributes name axes: each is one further on."""
    attrs: dict[str, Any] = dict(node.attrs)
    if "axis" in attrs:
        attrs["axis"] += 1
    if OPS[node.op].kind is Kind.REDUCE or node.op is Op.FLIP:
        attrs["axes"] = tuple(a + 1 for a in attrs["axes"])
    return make(node.op, *_inputs(node, made, size), **attrs)


def _shaped(node: Node, made: Batched, size: int) -> Node:
    """reshape; expand, whose new axes come after the batch's"""
    (x,) = (made[x] for x in node.inputs)
    shape = node.attr("shape")
    if node.op is Op.EXPAND:
        ones = (1,) * (len(shape) - len(x.shape) + 1)
        x = b.reshape_to(x, (x.shape[0], *ones, *x.shape[1:]))
    return make(node.op, x, shape=(size, *shape))


def _permute(node: Node, made: Batched, size: int) -> Node:
    return make(Op.PERMUTE, made[node.inputs[0]], axes=(0, *(a + 1 for a in node.attr("axes"))))


def _pad(node: Node, made: Batched, size: int) -> Node:
    low, high = node.attr("low"), node.attr("high")
    return make(Op.PAD, made[node.inputs[0]], low=(0, *low), high=(0, *high))


def _slice(node: Node, made: Batched, size: int) -> Node:
    start, stop, step = (node.attr(name) for name in ("start", "stop", "step"))
    return make(
        Op.SLICE, made[node.inputs[0]], start=(0, *start), stop=(size, *stop), step=(1, *step)
    )


def _dot(node: Node, made: Batched, size: int) -> Node:
    """The batch of both is a batch axis; the batch of one is a free axis of it, moved to the front
    of the result."""
    first, second = node.inputs
    contract, lead = node.attr("contract"), node.attr("batch")
    is_wide = [x in made for x in node.inputs]

    def moved(axes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(a + w for a in side) for side, w in zip(axes, is_wide))

    contract, lead = moved(contract), moved(lead)
    if all(is_wide):
        lead = ((0, *lead[0]), (0, *lead[1]))
    pair = [made.get(x, x) for x in node.inputs]
    result = make(Op.DOT, *pair, contract=contract, batch=lead, dtype=node.dtype)
    if all(is_wide):
        return result
    frees = dot_axes(first.shape, second.shape, dict(node.attrs))
    at = len(lead[0]) + (0 if is_wide[0] else len(frees[0]))
    others = tuple(a for a in range(len(result.shape)) if a != at)
    return b.permute(result, (at, *others))


def _mark(node: Node, made: Batched, size: int) -> Node:
    """A mark's rule is written for one member: its gradient is batched when it is asked for."""
    rule, params = node.attr("rule"), node.attr("params")
    if rule == MOVED:  # the copy was made of no member
        return moved(made[node.inputs[1]], *params)
    result, *arguments = _inputs(node, made, size)
    if rule in PASSED_ON:
        return make(Op.CUSTOM_VJP, result, *arguments, rule=rule, params=params)
    return make(Op.CUSTOM_VJP, result, *arguments, rule="batched", params=(rule, params))


def placeholder(number: int, like: Node, shape: tuple[int, ...]) -> Node:
    """A variable of that shape, which a batched node will replace. No value may be read of it."""
    zeros = b.const(0, like.dtype, shape)
    return make(Op.CUSTOM_VJP, zeros, rule="placeholder", params=(number,))


_depth = threading.local()


@contextmanager
def inside_vmap() -> Iterator[None]:
    """Inside the block a mapped function runs: values may depend on placeholders."""
    _depth.count = getattr(_depth, "count", 0) + 1
    try:
        yield
    finally:
        _depth.count -= 1


@contextmanager
def inside_transform() -> Iterator[None]:
    """Inside the block a function runs whose derivative is taken: its results are graph of
    variables that `requires_grad` says nothing of."""
    _depth.transforms = getattr(_depth, "transforms", 0) + 1
    try:
        yield
    finally:
        _depth.transforms -= 1


def is_inside_transform() -> bool:
    """Whether a function is mapped or differentiated in this thread: what it makes is not to be
    replaced by values."""
    return bool(getattr(_depth, "transforms", 0)) or is_inside_vmap()


def is_inside_vmap() -> bool:
    """Whether a mapped function runs in this thread."""
    return bool(getattr(_depth, "count", 0))


def check_values(nodes: Sequence[Node]) -> None:
    """Make sure that values exist.

    Raises:
        UnsupportedError: they depend on a member of a batch.
    """
    if is_inside_vmap() and _depends_on_member(nodes):
        raise UnsupportedError(
            "a value is read inside vmap.", "Use tgrad.where, or read it outside."
        )


def check_written(before: Node, value: Node) -> None:
    """Make sure that a tensor which is the same for all members stays so.

    Raises:
        UnsupportedError: what is written to it depends on a member of a batch.
    """
    if is_inside_vmap() and _depends_on_member([value]) and not _depends_on_member([before]):
        raise UnsupportedError(
            "a tensor that is the same for all members is changed in place inside vmap, to values "
            "of each member.",
            "Compute a new one.",
        )


def _depends_on_member(nodes: Sequence[Node]) -> bool:
    marks = (n for n in toposort(nodes) if n.op is Op.CUSTOM_VJP)
    return any(n.attr("rule") == "placeholder" for n in marks)


@register_vjp("placeholder", has_effects=True)
def _placeholder_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """A variable has no history."""
    return ()


@register_vjp("batched", has_effects=True)
def _batched_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """The rule of one member, batched."""
    rule, inner = params
    nodes = (g, result, *arguments)
    variables = [placeholder(-1 - i, n, n.shape[1:]) for i, n in enumerate(nodes)]
    of_one, value, *given = variables
    marked = make(Op.CUSTOM_VJP, value, *given, rule=rule, params=inner)
    found = custom_rule(rule)(of_one, marked, tuple(given), inner)
    wanted = [n for n in found if n is not None]
    table = {**dict(zip(variables, nodes)), marked: result}
    done = iter(batch(wanted, table, g.shape[0]))
    return [None if n is None else next(done) for n in found]


def _refuse(node: Node, made: Batched, size: int) -> Node:
    raise UnsupportedError(f"vmap of {node.op}.", "Write it with a batch axis.", node.source)


Rule = Callable[[Node, Batched, int], Node]

_RULES: dict[Op, Rule] = {
    Op.RESHAPE: _shaped,
    Op.EXPAND: _shaped,
    Op.PERMUTE: _permute,
    Op.PAD: _pad,
    Op.SLICE: _slice,
    Op.DOT: _dot,
    Op.CUSTOM_VJP: _mark,
    Op.IOTA: _refuse,
    Op.CONST: _refuse,
    Op.BUFFER: _refuse,
}
"""Ops whose attributes say more than the number of an axis; `_by_kind` does the others. Leaves have
no inputs, so they are never asked."""
