"""The form of a graph: what graphs share that differ in numbers and places alone.

    x[3:35] * 0.5    and    y[7:39] * 0.25    have the form    part * number

In: output nodes. Out: a `Form`: rows that are equal for such graphs, the values in which they
differ, and the memory that each reads. Invariant: rows and values together say all of the work;
`with_inputs`, which makes inputs of values that vary, leaves every result what it was.

A contiguous part of a buffer is a leaf with its own place in memory, so that a loop over the rows
of a data set builds one graph. What rules ask about stays in the rows: exponents, divisors, shifts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from tgrad.dtype import DType, int64
from tgrad.graph import build
from tgrad.graph.key import row_of
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op
from tgrad.graph.rules_elementwise import constant_of
from tgrad.graph.size import Size
from tgrad.graph.sized import gathered, placed

_EXACT = frozenset((Op.POW, Op.FLOORDIV, Op.MOD, Op.SHL, Op.SHR))
"""Ops that have cheaper forms where the second operand is known."""
FIRST = {Op.SLICE: "start", Op.PAD: "low"}
"""Where a movement begins along each axis, by its attribute's name."""


OPERAND = -1
"""The place of a SLICE's or PAD's only operand."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a value stands: a number at each of its uses, since equal ones may differ later.

    Attributes:
        node: a SLICE or PAD that begins at the value, or whatever has a number as operand.
        place: which operand; of a SLICE or PAD the axis, `OPERAND` for the operand.
    """

    node: Node
    place: int

    @property
    def dtype(self) -> DType:
        """Of the input that the value becomes."""
        return int64 if self.is_start else self.node.inputs[self.place].dtype

    @property
    def is_start(self) -> bool:
        """Whether it is where a SLICE or PAD begins."""
        return self.node.op in FIRST and self.place != OPERAND

    @property
    def number(self) -> bool | int | float:
        """The value."""
        if self.is_start:
            return int(self.node.attr(FIRST[self.node.op])[self.place])
        constant = constant_of(self.node.inputs[self.place])
        assert constant is not None
        number: bool | int | float = constant.attr("value")
        return number


@dataclass(frozen=True, slots=True)
class Part:
    """Elements of a buffer that lie together.

    Attributes:
        buffer: the BUFFER node.
        offset: how many elements come before.
    """

    buffer: Node
    offset: int


@dataclass(frozen=True, slots=True)
class Form:
    """A graph, taken apart.

    Attributes:
        rows: what it computes, less its values, with its leaves renamed in order of first use.
        values: as texts, so that 1, 1.0 and True differ.
        sites: where each value stands.
        leaves: BUFFER nodes, and SLICE nodes that are a `Part` of one.
        parts: for each leaf, which part of a buffer it is; None for a whole one.
        order: its nodes, inputs before users.
    """

    rows: tuple[Hashable, ...]
    values: tuple[str, ...]
    sites: tuple[Site, ...]
    leaves: tuple[Node, ...]
    parts: tuple[Part | None, ...]
    order: list[Node]


def form_of(outputs: Sequence[Node], with_parts: bool = True) -> Form:
    """Take a graph apart.

    Args:
        outputs: of the graph.
        with_parts: whether a contiguous part of a buffer is a leaf.
    """
    apart = _Apart(with_parts)
    order = toposort(outputs, apart.inputs)
    for node in order:
        apart.add(node)
    rows = (*apart.rows, tuple([apart.number[n] for n in outputs]))
    parts = tuple([apart.parts.get(leaf) for leaf in apart.leaves])
    return Form(
        rows, tuple(apart.values), tuple(apart.sites), tuple(apart.leaves), parts, order
    )  # fmt: skip


@dataclass(slots=True)
class _Apart:
    """A graph that is taken apart, in two walks: one that orders it, one that writes rows.

    Attributes:
        with_parts: see `form_of`.
        parts: the leaves that are parts of buffers.
        constants: for each other node, its operands that are numbers, None for those that are not.
        number: the row of each node.
        rows, values, sites, leaves: see `Form`.
    """

    with_parts: bool
    parts: dict[Node, Part] = field(default_factory=dict)
    constants: dict[Node, list[Node | None]] = field(default_factory=dict)
    number: dict[Node, int] = field(default_factory=dict)
    rows: list[Hashable] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)

    def inputs(self, node: Node) -> tuple[Node, ...]:
        """What must be computed before; a contiguous part of a buffer is there."""
        if self.with_parts and node.op is Op.SLICE:
            part = part_of(node)
            if part is not None:
                self.parts[node] = part
                return ()
        if node.op is Op.CUSTOM_VJP:
            return node.inputs[:1]
        constants = self.constants[node] = [constant_of(x) for x in node.inputs]
        if not any(constants):
            return node.inputs
        return tuple([x for x, c in zip(node.inputs, constants) if c is None])

    def add(self, node: Node) -> None:
        """Write the row of a node, whose inputs have theirs."""
        if node.op is Op.CUSTOM_VJP:
            self.number[node] = self.number[node.inputs[0]]
            return
        row: Hashable
        if node.op is Op.BUFFER or node in self.parts:
            self.leaves.append(node)
            row = (node.shape, node.dtype)
        elif node.op in FIRST:
            own = _sites_of_movement(node)
            self.sites += own
            self.values += [repr(s.number) for s in own]
            row = _row_of_movement(node, self.number, frozenset([s.place for s in own]))
        elif any(self.constants[node]):
            row = row_of(node, self._operands(node))
        else:
            row = row_of(node, tuple([self.number[x] for x in node.inputs]))
        self.number[node] = len(self.rows)
        self.rows.append(row)

    def _operands(self, node: Node) -> tuple[Hashable, ...]:
        """The operands in the row of a node, some of which are numbers that inputs could give."""
        exact = 1 if node.op in _EXACT else -1
        operands: list[Hashable] = []
        for place, (x, constant) in enumerate(zip(node.inputs, self.constants[node])):
            if constant is None:
                operands.append(self.number[x])
                continue
            value = repr(constant.attr("value"))
            if place == exact or x.dtype.is_bool:
                operands.append((x.shape, x.dtype, value))
                continue
            self.sites.append(Site(node, place))
            self.values.append(value)
            operands.append((x.shape, x.dtype))
        return tuple(operands)


def _operands(node: Node) -> tuple[Node, ...]:
    """What a node is computed from, numbers aside."""
    if node.op is Op.CUSTOM_VJP:
        return node.inputs[:1]
    return tuple(x for x in node.inputs if constant_of(x) is None)


def _sites_of_movement(node: Node) -> tuple[Site, ...]:
    """The values of a SLICE or PAD that inputs could give as well."""
    sizes = zip(node.shape, node.inputs[0].shape)
    cut = (axis for axis, (m, n) in enumerate(sizes) if m != n and m and n)
    number = () if constant_of(node.inputs[0]) is None else (Site(node, OPERAND),)
    return (*number, *(Site(node, axis) for axis in cut))


def _row_of_movement(node: Node, number: Mapping[Node, int], places: frozenset[int]) -> Hashable:
    """A SLICE or PAD without the values of its sites, which are at these places."""
    x = node.inputs[0]
    first, last = (
        tuple(None if axis in places else at for axis, at in enumerate(node.attr(name)))
        for name in (("start", "stop") if node.op is Op.SLICE else ("low", "high"))
    )
    steps = node.attr("step") if node.op is Op.SLICE else ()
    operand: Hashable = (x.shape, x.dtype) if OPERAND in places else number[x]
    return (node.op, operand, node.shape, first, last, steps)


def part_of(node: Node) -> Part | None:
    """The part of a buffer that a SLICE node is; None for all others.

    x of shape [8, 4]: x[2:5] is the part of 12 elements after 8; x[:, 1:3] is none.
    """
    if node.op is not Op.SLICE or not node.size:
        return None
    offset, x = 0, node
    while x.op is not Op.BUFFER:
        if x.op is Op.SLICE:
            begin = _begin(x)
            if begin is None:
                return None
            offset += begin
        elif x.op not in (Op.RESHAPE, Op.CUSTOM_VJP):
            return None
        x = x.inputs[0]
    return Part(x, offset)


def _begin(node: Node) -> int | None:
    """How many elements of its input come before those of a SLICE, if those lie together."""
    shape, start, step = node.inputs[0].shape, node.attr("start"), node.attr("step")
    cut = [a for a, (m, n) in enumerate(zip(node.shape, shape)) if m != n]
    if not cut:
        return 0
    last = cut[-1]
    if any(m != 1 for m in node.shape[:last]) or (step[last] != 1 and node.shape[last] != 1):
        return None
    return sum(at * math.prod(shape[a + 1 :]) for a, at in enumerate(start))


def with_inputs(
    outputs: Sequence[Node], leaves: Mapping[Node, Node], varying: Mapping[Site, Node] | None = None
) -> list[Node]:
    """The graph with other leaves, and with inputs in place of values.

    Args:
        outputs: of the graph.
        leaves: what stands for each of its buffers, or of its form's leaves.
        varying: 0-d inputs that give the values of sites; none if left out.
    """
    made = dict(leaves)
    places: dict[Node, dict[int, Node]] = {}
    for site, value in (varying or {}).items():
        places.setdefault(site.node, {})[site.place] = value
    for node in toposort(outputs, lambda n: () if n in leaves else _operands(n)):
        if node not in made:
            with source_scope(node.source):
                made[node] = _made(node, made, places.get(node, {}))
    return [made[n] for n in outputs]


def _made(node: Node, made: Mapping[Node, Node], values: Mapping[int, Node]) -> Node:
    """A node on other inputs, with values that are inputs."""
    if node.op is Op.CUSTOM_VJP:
        return made[node.inputs[0]]
    if values and node.op in FIRST:
        x = _kept(node.inputs[0], made)
        starts = dict(values)
        if OPERAND in starts:
            x = build.expand_to(starts.pop(OPERAND), x.shape)
        return (_slice if node.op is Op.SLICE else _pad)(node, x, starts)
    operands = tuple(
        build.expand_to(values[place], x.shape) if place in values else _kept(x, made)
        for place, x in enumerate(node.inputs)
    )
    return make(node.op, *operands, **dict(node.attrs)) if operands else node


def _kept(x: Node, made: Mapping[Node, Node]) -> Node:
    """An operand whose value does not vary: a number stays, though an equal one varies elsewhere,
    where a leaf of the user's is computed from it."""
    return x if constant_of(x) is not None else made.get(x, x)


def _slice(node: Node, x: Node, starts: Mapping[int, Node]) -> Node:
    """x[start : start + n * step : step] = gather of x at start + i * step"""
    ranges = zip(node.attr("start"), node.attr("stop"), x.shape)
    bounds = [(0, n) if a in starts else (i, j) for a, (i, j, n) in enumerate(ranges)]
    step = node.attr("step")
    steps = tuple(1 if a in starts else s for a, s in enumerate(step))
    y = build.slice_(x, tuple(i for i, _ in bounds), tuple(j for _, j in bounds), steps)
    for axis, start in starts.items():
        y = gathered(y, axis, start, node.shape[axis], step[axis])
    return y


def _pad(node: Node, x: Node, lows: Mapping[int, Node]) -> Node:
    """pad(x)[i] = x[i - low] where 0 <= i - low < n, else 0"""
    low, high = node.attr("low"), node.attr("high")
    fixed = [tuple(0 if a in lows else n for a, n in enumerate(edge)) for edge in (low, high)]
    y = build.pad(x, *fixed)
    for axis, begin in lows.items():
        y = placed(y, axis, begin, node.shape[axis], _no_size)
    return y


def _no_size(size: Size) -> Node:
    raise AssertionError(f"{size} in a graph whose sizes are numbers")
