"""Canonical rules for movement ops.

In: a movement node. Out: an equal node with fewer or simpler movements. Invariant: exact; no rule
copies or computes anything.
"""

from __future__ import annotations

from tgrad.graph import build as b
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.rewrite import rule
from tgrad.graph.rules_elementwise import constant_of, is_constant

_OF_CONSTANT = (Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.SLICE, Op.FLIP, Op.WINDOW, Op.PAD)


@rule("move(constant) = constant, and pad(0) = 0", *_OF_CONSTANT)
def move_constant(node: Node) -> Node | None:
    (x,) = node.inputs
    const = constant_of(x)
    if const is None or (node.op is Op.PAD and not is_constant(x, 0)):
        return None
    return b.expand_to(const, node.shape)


@rule("reshape(x, shape of x) = x, and so for expand", Op.RESHAPE, Op.EXPAND)
def same_shape(node: Node) -> Node | None:
    return node.inputs[0] if node.inputs[0].shape == node.shape else None


@rule("reshape(reshape(x)) = reshape(x), expand(expand(x)) = expand(x)", Op.RESHAPE, Op.EXPAND)
def join_shapes(node: Node) -> Node | None:
    (x,) = node.inputs
    return make(node.op, x.inputs[0], shape=node.shape) if x.op is node.op else None


@rule("permute(permute(x, p), q) = permute(x, p[q])", Op.PERMUTE)
def join_permutes(node: Node) -> Node | None:
    (x,) = node.inputs
    if x.op is not Op.PERMUTE:
        return None
    return b.permute(x.inputs[0], tuple(x.attr("axes")[a] for a in node.attr("axes")))


@rule("permute(x) = reshape(x), where only axes of size 1 change places", Op.PERMUTE)
def permute_ones(node: Node) -> Node | None:
    (x,) = node.inputs
    moved = [a for a in node.attr("axes") if x.shape[a] != 1]
    return b.reshape_to(x, node.shape) if moved == sorted(moved) else None


@rule("pad(x, 0, 0) = x, slice(x, all) = x, flip(x, axes of size 1) = x", Op.PAD, Op.SLICE, Op.FLIP)
def move_nothing(node: Node) -> Node | None:
    (x,) = node.inputs
    if node.op is Op.FLIP:
        return x if all(x.shape[a] == 1 for a in node.attr("axes")) else None
    return x if x.shape == node.shape else None


@rule("pad(pad(x, a, b), c, d) = pad(x, a + c, b + d)", Op.PAD)
def join_pads(node: Node) -> Node | None:
    (x,) = node.inputs
    if x.op is not Op.PAD:
        return None
    low, high = (
        tuple(p + q for p, q in zip(x.attr(side), node.attr(side), strict=True))
        for side in ("low", "high")
    )
    return b.pad(x.inputs[0], low, high)


@rule("x[a::s][c::t] = x[a + c * s :: s * t]", Op.SLICE)
def join_slices(node: Node) -> Node | None:
    (x,) = node.inputs
    if x.op is not Op.SLICE:
        return None
    bounds = []
    for axis, n in enumerate(node.shape):
        step = x.attr("step")[axis] * node.attr("step")[axis]
        start = x.attr("start")[axis] + node.attr("start")[axis] * x.attr("step")[axis]
        bounds.append((start, start + (n - 1) * step + 1, step) if n else (0, 0, 1))
    start, stop, step = zip(*bounds, strict=True) if bounds else ((), (), ())
    return b.slice_(x.inputs[0], start, stop, step)


@rule("pad(x)[a:b] = pad(x[c:d]), where the slice keeps part of x", Op.SLICE)
def slice_of_pad(node: Node) -> Node | None:
    (padded,) = node.inputs
    if padded.op is not Op.PAD or any(s != 1 for s in node.attr("step")):
        return None
    (x,) = padded.inputs
    start, stop, low, high = [], [], [], []
    for axis, n in enumerate(x.shape):
        before = padded.attr("low")[axis]
        first, last = node.attr("start")[axis] - before, node.attr("stop")[axis] - before
        if min(last, n) <= max(first, 0):
            return None
        start.append(max(first, 0))
        stop.append(min(last, n))
        low.append(max(-first, 0))
        high.append(max(last - n, 0))
    return b.pad(b.slice_(x, tuple(start), tuple(stop)), tuple(low), tuple(high))


@rule("flip(flip(x, p), q) = flip(x, axes in just one of p and q)", Op.FLIP)
def join_flips(node: Node) -> Node | None:
    (x,) = node.inputs
    if x.op is not Op.FLIP:
        return None
    axes = tuple(sorted(set(x.attr("axes")) ^ set(node.attr("axes"))))
    return make(Op.FLIP, x.inputs[0], axes=axes) if axes else x.inputs[0]


MOVEMENT_RULES = (
    move_constant, same_shape, join_shapes, join_permutes, permute_ones, move_nothing, join_pads,
    join_slices, slice_of_pad, join_flips,
)  # fmt: skip
