"""Where the elements of an axis of symbolic size stand in memory that is laid out for the largest.

In: nodes, whose shapes are plain numbers, in a scope of symbols. Out: for each axis, factors with
their capacities and sizes. Invariant: an element exists if it is below the size in every factor of
every axis; what else is in memory has no meaning, and graph/padding.py keeps it from being seen.

An axis of T of at most 32 is one factor; B and T merged by a reshape, [B <= 8][T <= 32], are two:
element i exists where i // 32 < B and i % 32 < T. A size before static factors is one factor again:
[T <= 32][4] is [4*T <= 128].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from tgrad.errors import TraceError
from tgrad.graph.node import Node, make
from tgrad.graph.op import REDUCE, ROWWISE, Op, is_elementwise
from tgrad.graph.shape import dot_axes
from tgrad.graph.size import Extent, Scope, Size, divided, is_same, running_scope

LIMIT, FILL = "limit", "fill"
"""Rules of marks. A limit says how large axes are; a fill makes them static, with zeros."""


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """A part of an axis.

    Attributes:
        capacity: elements in memory.
        size: elements that exist: all of them, or the value of a Size.
        is_same: every element has one value, so that any size would do.
    """

    capacity: int
    size: Extent
    is_same: bool = False

    def fits(self, other: Factor) -> bool:
        """Whether both have the same elements."""
        return self.capacity == other.capacity and is_same(self.size, other.size)


@dataclass(frozen=True, eq=False, slots=True)
class Unknown:
    """In place of a factor whose size nobody could tell; the reason is raised if it matters."""

    capacity: int
    reason: TraceError


Axis = tuple[Factor | Unknown, ...]
Layout = tuple[Axis, ...]


# -- axes ----------------------------------------------------------------------------------------


def static(n: int) -> Axis:
    """All elements exist."""
    return (Factor(n, n),)


def factors_of(axis: Axis) -> tuple[Factor, ...]:
    """The factors, all known.

    Raises:
        TraceError: one is not.
    """
    for f in axis:
        if isinstance(f, Unknown):
            raise f.reason
    return axis  # type: ignore[return-value]


def size_of(axis: Axis) -> Extent:
    """Number of elements that exist."""
    return prod(f.size for f in factors_of(axis))


def is_static(axis: Axis) -> bool:
    """Whether all elements exist."""
    return all(isinstance(f, Factor) and isinstance(f.size, int) for f in axis)


def is_uniform(axis: Axis) -> bool:
    """Whether all elements have one value."""
    return all(isinstance(f, Factor) and f.is_same for f in axis)


def are_alike(a: Axis, b: Axis) -> bool:
    """Whether the same elements exist."""
    return len(a) == len(b) and all(
        isinstance(f, Factor) and isinstance(g, Factor) and f.fits(g) for f, g in zip(a, b)
    )


def _merged(factors: Sequence[Factor | Unknown]) -> Axis:
    """The normal form: no factor of one element; what is static joined to what is before it."""
    result: list[Factor | Unknown] = []
    for f in factors:
        if isinstance(f, Factor) and f.capacity == 1 and isinstance(f.size, int):
            continue
        last = result[-1] if result else None
        if (
            isinstance(f, Factor)
            and isinstance(last, Factor)
            and isinstance(f.size, int)
            and f.is_same is last.is_same
        ):
            result[-1] = Factor(last.capacity * f.capacity, last.size * f.size, f.is_same)
            continue
        result.append(f)
    return tuple(result) or static(1)


def _existing(axis: Axis) -> Axis:
    """The elements that exist, whichever of them have one value."""
    return _merged([Factor(f.capacity, f.size) for f in factors_of(axis)])


def _cut(factors: Sequence[Factor], capacities: Sequence[int]) -> list[Axis] | None:
    """The factors dealt out to axes of these capacities; None where a size would be split."""
    left = list(factors)
    axes: list[Axis] = []
    for capacity in reversed(capacities):
        found: list[Factor] = []
        while capacity > 1:
            if not left:
                return None
            f = left.pop()
            if capacity % f.capacity == 0:
                found.append(f)
                capacity //= f.capacity
                continue
            if f.capacity % capacity:
                return None
            outer = divided(f.size, capacity)
            if outer is None:
                return None
            left.append(Factor(f.capacity // capacity, outer, f.is_same))
            found.append(Factor(capacity, capacity, f.is_same))
            capacity = 1
        axes.append(_merged(found[::-1]))
    return None if left else axes[::-1]


def _joined(a: Axis, b: Axis) -> Axis | None:
    """The axis of a result whose elements need one of each; None where the sizes differ."""
    if are_alike(a, b):
        both = zip(factors_of(a), factors_of(b))
        return _merged([replace(f, is_same=f.is_same and g.is_same) for f, g in both])
    for one, other in ((a, b), (b, a)):
        if is_uniform(one) and (is_static(one) or is_same(size_of(one), size_of(other))):
            return other
    for one, other in ((factors_of(a), factors_of(b)), (factors_of(b), factors_of(a))):
        parts = _cut(one, [f.capacity for f in other])
        if parts is not None and len(other) > 1:
            pairs = [_joined(p, (f,)) for p, f in zip(parts, other)]
            if all(p is not None for p in pairs):
                return _merged([f for p in pairs for f in p or ()])
    if is_static(a) and is_static(b) and is_same(size_of(a), size_of(b)):
        return _existing(a)
    return None


# -- layouts of nodes ----------------------------------------------------------------------------


def layout_of(node: Node, scope: Scope) -> Layout:
    """The layout of a node, from those of its inputs.

    Raises:
        TraceError: the op cannot be done for a symbolic size.
    """
    known = scope.layouts
    stack = [node]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        inputs = top.inputs[:1] if top.op is Op.CUSTOM_VJP else top.inputs
        waiting = [x for x in inputs if x not in known]
        if waiting:
            stack.extend(waiting)
            continue
        known[stack.pop()] = _infer(top, [known[x] for x in inputs])
    return known[node]


def _infer(node: Node, inputs: list[Layout]) -> Layout:
    if any(isinstance(n, Size) for n in node.shape):
        raise _refused(node, "does not take a symbolic size")
    if is_elementwise(node.op):
        return _elementwise(node, inputs)
    if node.op in _RULES:
        return _RULES[node.op](node, inputs)
    if any(not is_static(axis) for layout in inputs for axis in layout):
        raise _refused(node, "is not supported on an axis of symbolic size")
    return tuple(static(n) for n in node.shape)


def _refused(node: Node, what: str) -> TraceError:
    return TraceError(
        f"{node.op} {what}.",
        "Leave that axis out of dynamic=, or do this outside the compiled function.",
        node.source,
    )


def _elementwise(node: Node, inputs: list[Layout]) -> Layout:
    result = inputs[0]
    for layout in inputs[1:]:
        result = tuple(_together(node, a, b) for a, b in zip(result, layout))
    return result


def _together(node: Node, a: Axis, b: Axis) -> Axis:
    found = _joined(a, b)
    if found is None:
        raise TraceError(
            f"{node.op} of axes of sizes {size_of(a)} and {size_of(b)}, which stand at different "
            "places in memory.",
            "Sizes that are always equal need one name: dynamic={'x': {0: ('N', 1, 64)}, 'y': "
            "{0: ('N', 1, 64)}}. Sizes merged by reshape must be merged in one order.",
            node.source,
        )
    return found


def _leaf(node: Node, inputs: list[Layout]) -> Layout:
    if node.op is Op.BUFFER:
        sizes = node.attr("storage").sizes
        return tuple((Factor(n, n if sizes is None else sizes[a]),)
                     for a, n in enumerate(node.shape))  # fmt: skip
    along = node.attr("axis") if node.op is Op.IOTA else 0
    return tuple((Factor(n, n, is_same=a != along),) for a, n in enumerate(node.shape))


def _mark(node: Node, inputs: list[Layout]) -> Layout:
    (layout,) = inputs
    if node.attr("rule") == FILL:
        return tuple(static(n) for n in node.shape)
    if node.attr("rule") != LIMIT:
        return layout
    scope = running_scope()
    assert scope is not None
    limits = node.attr("params")
    return tuple(a if limit is None else decode(limit, scope) for a, limit in zip(layout, limits))


def _reduce(node: Node, inputs: list[Layout]) -> Layout:
    return tuple(axis for a, axis in enumerate(inputs[0]) if a not in node.attr("axes"))


def _along_row(node: Node, inputs: list[Layout]) -> Layout:
    layout, at = _elementwise(node, inputs), node.attr("axis")
    _check_places(node, layout[at])
    walked = tuple(replace(f, is_same=False) for f in factors_of(layout[at]))
    return (*layout[:at], walked, *layout[at + 1 :])


def _permute(node: Node, inputs: list[Layout]) -> Layout:
    return tuple(inputs[0][a] for a in node.attr("axes"))


def _expand(node: Node, inputs: list[Layout]) -> Layout:
    lead = len(node.shape) - len(inputs[0])
    have = (1,) * lead + node.inputs[0].shape
    return tuple(
        inputs[0][a - lead] if a >= lead and have[a] == n else (Factor(n, n, is_same=True),)
        for a, n in enumerate(node.shape)
    )


def _reshape(node: Node, inputs: list[Layout]) -> Layout:
    if node.shape == node.inputs[0].shape:
        return inputs[0]
    if all(is_static(axis) and not is_uniform(axis) for axis in inputs[0]):
        return tuple(static(n) for n in node.shape)
    given = [f for axis in inputs[0] for f in axis]
    unknown = next((f for f in given if isinstance(f, Unknown)), None)
    known = [f for f in given if isinstance(f, Factor)]
    problem = unknown.reason if unknown else _refused(
        node, f"from {shown(inputs[0])} to {node.shape} splits an axis of symbolic size"
    )  # fmt: skip
    tiny = any(f.capacity == 1 and isinstance(f.size, Size) for f in known)
    if not unknown and not tiny and 0 not in node.shape:
        axes = _cut([f for f in known if f.capacity > 1], node.shape)
        if axes is not None:
            return tuple(axes)
    if all(is_static((f,)) for f in given):  # factors of one value and others, cut across
        return tuple(static(n) for n in node.shape)
    return tuple((Unknown(n, problem),) for n in node.shape)


def _pad(node: Node, inputs: list[Layout]) -> Layout:
    axes: list[Axis] = []
    for axis, low, high, n in zip(inputs[0], node.attr("low"), node.attr("high"), node.shape):
        if not low and not high:
            axes.append(axis)
        elif is_static(axis):
            axes.append(static(n))
        elif len(axis) > 1:
            raise _refused(node, "is not supported on merged axes of symbolic size")
        else:
            axes.append((Factor(n, size_of(axis) + low + high),))
    return tuple(axes)


def _slice(node: Node, inputs: list[Layout]) -> Layout:
    ranges = zip(node.attr("start"), node.attr("stop"), node.attr("step"))
    return tuple(
        _sliced(node, axis, before, after, *r)
        for axis, before, after, r in zip(inputs[0], node.inputs[0].shape, node.shape, ranges)
    )


def _sliced(
    node: Node, axis: Axis, before: int, after: int, start: int, stop: int, step: int
) -> Axis:
    if (start, stop, step) == (0, before, 1):
        return axis
    if is_static(axis):
        return (Factor(after, after, is_uniform(axis)),)
    (factor,) = factors_of(axis) if len(axis) == 1 else (None,)
    if factor is not None and isinstance(factor.size, Size):
        least = factor.size.bounds[0]
        if stop <= least:
            return (Factor(after, after, factor.is_same),)
        if step == 1 and stop == before and start <= least:
            return (Factor(after, factor.size - start, factor.is_same),)
    which = f"[{start}:{stop}:{step}] of an axis of size {size_of(axis)}"
    return (Unknown(after, _refused(node, f"{which}, which may end before")),)


def _flip(node: Node, inputs: list[Layout]) -> Layout:
    for a in node.attr("axes"):
        _check_places(node, inputs[0][a])
    return inputs[0]


def _window(node: Node, inputs: list[Layout]) -> Layout:
    along, n = node.attr("axis"), node.attr("size")
    axis, capacity = inputs[0][along], node.shape[along]
    if is_static(axis):
        moved = static(capacity)
    else:
        refused = _refused(node, "is not supported on an axis of symbolic size")
        reach, size = node.attr("dilation") * (n - 1), size_of(axis)
        if len(axis) > 1:
            raise refused
        is_known = node.attr("stride") == 1 and isinstance(size, Size) and size.bounds[0] > reach
        moved = (Factor(capacity, size - reach) if is_known else Unknown(capacity, refused),)
    return (*(moved if a == along else x for a, x in enumerate(inputs[0])), static(n))


def _check_places(node: Node, axis: Axis) -> None:
    """An index counts elements; memory must hold them one after the other."""
    if len(axis) > 1 and not is_static(axis):
        raise _refused(node, "along axes of symbolic size that a reshape merged is not supported")


def _gather(node: Node, inputs: list[Layout]) -> Layout:
    _check_places(node, inputs[0][node.attr("axis")])
    return places_layout(node, inputs)


def places_layout(node: Node, inputs: Sequence[Layout]) -> Layout:
    """Which places of a gather or a scatter exist: one value along an axis is of no size of its
    own, and takes that of what is read or written there."""
    other, index, *source = inputs
    axes: list[Axis] = []
    for a, axis in enumerate(index):
        for layout in source:
            axis = _together(node, axis, layout[a])
        axes.append(axis if a == node.attr("axis") else _narrow(node, a, axis, other[a]))
    return tuple(axes)


def _narrow(node: Node, a: int, axis: Axis, other: Axis) -> Axis:
    """An axis of places beside one of what is read or written, which may be longer."""
    if node.inputs[1].shape[a] == node.inputs[0].shape[a]:
        return _together(node, axis, other)
    if is_static(axis) and is_static(other):
        return axis
    raise _refused(node, "with an index that is shorter than an axis of symbolic size")


def _scatter(node: Node, inputs: list[Layout]) -> Layout:
    along = node.attr("axis")
    base, places = inputs[0], places_layout(node, inputs)
    _check_places(node, base[along])
    wide = node.inputs[1].shape
    return tuple(
        b if a == along or node.shape[a] != wide[a] else p
        for a, (b, p) in enumerate(zip(base, places))
    )


def contracted(node: Node, inputs: Sequence[Layout]) -> list[Axis]:
    """The axes that a dot sums over."""
    a, b = inputs
    return [_together(node, a[i], b[j]) for i, j in zip(*node.attr("contract"))]


def _dot(node: Node, inputs: list[Layout]) -> Layout:
    a, b = inputs
    x, y = node.inputs
    contracted(node, inputs)
    batch = [_together(node, a[i], b[j]) for i, j in zip(*node.attr("batch"))]
    free_a, free_b = dot_axes(x.shape, y.shape, dict(node.attrs))
    return (*batch, *(a[i] for i in free_a), *(b[j] for j in free_b))


_RULES: dict[Op, Callable[[Node, list[Layout]], Layout]] = {
    **dict.fromkeys(REDUCE, _reduce),
    **dict.fromkeys(ROWWISE, _along_row),
    Op.RESHAPE: _reshape,
    Op.PERMUTE: _permute,
    Op.EXPAND: _expand,
    Op.PAD: _pad,
    Op.SLICE: _slice,
    Op.FLIP: _flip,
    Op.WINDOW: _window,
    Op.GATHER: _gather,
    Op.SCATTER: _scatter,
    Op.DOT: _dot,
    Op.IOTA: _leaf,
    Op.CONST: _leaf,
    Op.BUFFER: _leaf,
    Op.CUSTOM_VJP: _mark,
}
"""Ops that are not here take static sizes only."""


def shown(layout: Layout) -> str:
    """The sizes, for a message."""
    sizes = ["?" if isinstance(axis[0], Unknown) else size_of(axis) for axis in layout]
    return f"({', '.join(str(s) for s in sizes)}{',' if len(sizes) == 1 else ''})"


# -- marks ---------------------------------------------------------------------------------------


def encode(axis: Axis) -> tuple[tuple[object, ...], ...]:
    """An axis as plain data, which may be an attribute of a node."""
    return tuple(
        (f.capacity, f.size.terms if isinstance(f.size, Size) else f.size, f.is_same)
        for f in factors_of(axis)
    )


def decode(data: Sequence[tuple[int, Extent, bool]], scope: Scope) -> Axis:
    """Inverse of `encode`."""
    return tuple(
        Factor(capacity, size if isinstance(size, int) else Size(scope, size), is_same)  # type: ignore[arg-type]
        for capacity, size, is_same in data
    )


def limit(node: Node, axes: Sequence[Axis | None]) -> Node:
    """The node, marked: these are the elements of its axes that exist; None where it is known."""
    params = tuple(None if a is None else encode(a) for a in axes)
    return make(Op.CUSTOM_VJP, node, node, rule=LIMIT, params=params)


def fill(node: Node) -> Node:
    """The node, marked: zeros where no element exists, and all axes are static then."""
    return make(Op.CUSTOM_VJP, node, node, rule=FILL, params=())


def like(gradient: Node, node: Node) -> Node:
    """A gradient has the elements of its node, whatever rule made it."""
    scope = running_scope()
    if scope is None:
        return gradient
    pairs = list(zip(layout_of(node, scope), layout_of(gradient, scope), strict=True))
    missing = [None if are_alike(*pair) else _missing(gradient, *pair) for pair in pairs]
    return gradient if all(axis is None for axis in missing) else limit(gradient, missing)


def _missing(gradient: Node, wanted: Axis, have: Axis) -> Axis | None:
    """The limit that an axis of a gradient needs."""
    if any(isinstance(f, Unknown) for f in wanted):
        return None  # a mark over the node says it, and its rule has filled the gradient
    if not isinstance(have[0], Unknown):
        is_anywhere = is_uniform(wanted) and is_same(size_of(wanted), size_of(have))
        if is_anywhere or are_alike(_existing(wanted), _existing(have)):
            return None
    if is_static(wanted) and (is_uniform(wanted) or is_static(have)):
        return None  # one value for any size: what it is joined to says which; or all exist
    if is_static(wanted) or not (is_static(have) or isinstance(have[0], Unknown)):
        raise _refused(gradient, f"gives a gradient of {shown((have,))} for {shown((wanted,))}")
    return _existing(wanted)
