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
from typing import Any, cast

from tgrad.dtype import DType, int64
from tgrad.graph import build
from tgrad.graph.deferred import Deferred, Instance, is_pending
from tgrad.graph.key import row_of
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op
from tgrad.graph.rules_elementwise import constant_of
from tgrad.graph.size import Size
from tgrad.graph.sized import gathered, placed

_EXACT = frozenset((Op.POW, Op.FLOORDIV, Op.MOD, Op.SHL, Op.SHR))
"""Ops that have cheaper forms where the second operand is known."""
_MARK, _SLICE, _BUFFER = Op.CUSTOM_VJP, Op.SLICE, Op.BUFFER
_NUMBERS = frozenset((Op.CONST, Op.EXPAND))
"""Looked up once: see `_Apart.walk`."""
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
        deferred: its nodes that are results of templates in one row each; such a form says what
            another step does again, but is of no use to a plan.
    """

    rows: tuple[Hashable, ...]
    values: tuple[str, ...]
    sites: tuple[Site, ...]
    leaves: tuple[Node, ...]
    parts: tuple[Part | None, ...]
    order: list[Node]
    deferred: list[Deferred]


def form_of(outputs: Sequence[Node], with_parts: bool = True, is_whole: bool = True) -> Form:
    """Take a graph apart.

    Args:
        outputs: of the graph.
        with_parts: whether a contiguous part of a buffer is a leaf.
        is_whole: whether templates are taken apart, too.
    """
    apart = _Apart(with_parts, is_whole)
    apart.walk(outputs)
    rows = (*apart.rows, tuple([apart.number[n] for n in outputs]))
    parts = tuple([apart.parts.get(leaf) for leaf in apart.leaves])
    values, sites, leaves = tuple(apart.values), tuple(apart.sites), tuple(apart.leaves)
    return Form(rows, values, sites, leaves, parts, apart.order, apart.deferred)


@dataclass(slots=True)
class _Apart:
    """A graph that is taken apart, in one walk.

    Attributes:
        with_parts, is_whole: see `form_of`.
        parts: the leaves that are parts of buffers.
        number: of each node; its row, as long as there are no instances of templates.
        numbers: how many have been given.
        first: the number of each instance's first node.
        rows, values, sites, leaves, order, deferred: see `Form`.
    """

    with_parts: bool
    is_whole: bool
    parts: dict[Node, Part] = field(default_factory=dict)
    number: dict[Node, int] = field(default_factory=dict)
    rows: list[Hashable] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)
    order: list[Node] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    first: dict[Instance, int] = field(default_factory=dict)
    numbers: int = 0

    def walk(self, outputs: Sequence[Node]) -> None:
        """Write the row of each node when its operands have theirs. Every step of a program walks
        its whole graph."""
        number, order, rows = self.number, self.order, self.rows
        stack = [*outputs]
        stack.reverse()
        while stack:
            node = stack[-1]
            if node in number:
                stack.pop()
                continue
            if type(node) is Deferred and not self.is_whole and node.instance is not None:
                if self._is_begun(node.instance, stack):
                    self._join(node, node.instance)
                    stack.pop()
                continue
            op, inputs = node.op, node.inputs
            if op is _MARK:
                if inputs[0] not in number:
                    stack.append(inputs[0])
                    continue
                number[node] = number[inputs[0]]
            else:
                if not (op is _SLICE and self._is_part(node)):
                    for x in inputs[::-1]:
                        if x not in number and constant_of(x) is None:
                            stack.append(x)
                    if stack[-1] is not node:
                        continue
                number[node] = self.numbers
                self.numbers += 1
                rows.append(self._row(node))
            order.append(stack.pop())

    def _is_begun(self, instance: Instance, stack: list[Node]) -> bool:
        """Whether an instance has its row; else its operands are put on the stack if they have
        none, and its row is written if they do."""
        if instance in self.first:
            return True
        number, operands = self.number, instance.used_operands()
        waiting = [x for x in operands if x not in number and constant_of(x) is None]
        if waiting:
            stack += reversed(waiting)
            return False
        row = [number[x] if x in number else _row_of_constant(x) for x in operands]
        self.rows.append((instance.template, tuple(row)))
        self.first[instance] = self.numbers
        self.numbers += len(instance.template.rows)
        return True

    def _join(self, node: Deferred, instance: Instance) -> None:
        """Number a result of an instance."""
        self.number[node] = self.first[instance] + node.place - instance.before
        self.deferred.append(node)

    def _is_part(self, node: Node) -> bool:
        """Whether a SLICE is in memory, as a part of a buffer that lies together."""
        part = part_of(node, self.is_whole) if self.with_parts else None
        if part is not None:
            self.parts[node] = part
        return part is not None

    def _row(self, node: Node) -> Hashable:
        """What a node does, without its values."""
        op, inputs = node.op, node.inputs
        if op is _BUFFER or node in self.parts:
            self.leaves.append(node)
            return (node.shape, node.dtype)
        if op in FIRST:
            own = _sites_of_movement(node)
            self.sites += own
            self.values += [repr(s.number) for s in own]
            return _row_of_movement(node, self.number, frozenset([s.place for s in own]))
        for x in inputs:
            if type(x) is not Deferred and x.op in _NUMBERS and constant_of(x) is not None:
                return row_of(node, self._operands(node))
        return row_of(node, tuple(map(self.number.__getitem__, inputs)))

    def _operands(self, node: Node) -> tuple[Hashable, ...]:
        """The operands in the row of a node, some of which are numbers that inputs could give."""
        exact = 1 if node.op in _EXACT else -1
        found: list[Hashable] = []
        for place, x in enumerate(node.inputs):
            constant = constant_of(x)
            if constant is None:
                found.append(self.number[x])
                continue
            value = repr(constant.attr("value"))
            if place == exact or x.dtype.is_bool:
                found.append((x.shape, x.dtype, value))
                continue
            self.sites.append(Site(node, place))
            self.values.append(value)
            found.append((x.shape, x.dtype))
        return tuple(found)


def _row_of_constant(x: Node) -> Hashable:
    """A number, or what is expanded from one, that stays as it is."""
    constant = constant_of(x)
    assert constant is not None
    return (x.shape, x.dtype, repr(constant.attr("value")))


def _operands(node: Node) -> tuple[Node, ...]:
    """What a node is computed from, numbers aside."""
    if node.op is Op.CUSTOM_VJP:
        return node.inputs[:1]
    return tuple(x for x in node.inputs if constant_of(x) is None)


def _sites_of_movement(node: Node) -> tuple[Site, ...]:
    """The values of a SLICE or PAD that inputs could give as well."""
    x = node.inputs[0]
    sizes = enumerate(zip(node.shape, x.shape))
    sites = [Site(node, axis) for axis, (m, n) in sizes if m != n and m and n]
    return tuple(sites) if constant_of(x) is None else (Site(node, OPERAND), *sites)


def _row_of_movement(node: Node, number: Mapping[Node, int], places: frozenset[int]) -> Hashable:
    """A SLICE or PAD without the values of its sites, which are at these places."""
    x, attrs = node.inputs[0], cast("dict[str, Any]", dict(node.attrs))
    first, last = [
        tuple([None if axis in places else at for axis, at in enumerate(attrs[name])])
        for name in (("start", "stop") if node.op is _SLICE else ("low", "high"))
    ]
    operand: Hashable = (x.shape, x.dtype) if OPERAND in places else number[x]
    return (node.op, operand, node.shape, first, last, attrs.get("step", ()))


def part_of(node: Node, is_whole: bool = True) -> Part | None:
    """The part of a buffer that a SLICE node is; None for all others, and for what is deferred if
    nobody looks behind it.

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
        if not is_whole and is_pending(x):
            return None
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
