"""A product too large to be worth storing, of which only rows are looked at, in chunks of rows.

In: canonical nodes, the device's figures. Out: nodes that compute the same. Invariant: pure; rows
are computed as before, to the bit; sums over rows are in parts, added in one order in the
accumulator's dtype.

    x = dot h, W                                for each chunk c of rows:  x_c = dot h_c, W
    r = reduce_max x, ...    rows of x     ->      r_c, ... of x_c
    g = what is done with x and its rows           g_c = the same with x_c and r_c
    y = dot g, W                                   y_c = dot g_c, W             y  = all y_c
    d = dot h, g over the rows                     d_c = dot h_c, g_c over rows   d = Σ_c d_c

So the logits of a language model (rows x classes) and their gradient are never stored whole: cross
entropy needs one row of them at a time, in forward and backward alike, and nothing is computed
twice. Nothing here knows of cross entropy: what counts is that all that is as large as x belongs to
one chunk of rows, and that what leaves is a row's number, a product of rows, or a sum over them.

The sums are what it costs: d is read and written once a chunk more. There are as many chunks as
keep that below COST of the time of the products, by the device's bandwidth and rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from tgrad import dtype as dt
from tgrad.errors import Source
from tgrad.fusion.cost import DeviceFigures
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, on_inputs, source_scope, toposort, users_of
from tgrad.graph.op import REDUCE, Op, is_elementwise
from tgrad.graph.shape import dot_axes

LEAST_BYTES = 1 << 28
"""A smaller product is stored."""
CHUNK_BYTES = 1 << 26
"""A chunk of it has at least so many bytes: enough tiles to fill any device."""
MOST = 16
"""Chunks at most: each is a buffer of the kernel that puts a result together."""
LEFT = 0.5
"""Share of the product's bytes that a chunk and the sums may hold at most."""
COST = 0.1
"""Share of the products' time that adding up sums over rows may take."""


@dataclass(frozen=True)
class Chunked:
    """The outputs, what belongs together in time, and what was decided.

    Attributes:
        outputs: nodes that compute the same.
        turns: kernels of nodes with different numbers stay apart: 0 for what chunks are made from,
            then one for each chunk, then one for what is made of all.
        notes: a sentence for the user's line of each product that was looked at.
    """

    outputs: list[Node]
    turns: Mapping[Node, int]
    notes: Mapping[Source, str]


def chunk_rows(outputs: Sequence[Node], figures: DeviceFigures) -> Chunked:
    """The outputs with large products in chunks of rows, where that is legal and worth it."""
    results = list(outputs)
    notes: dict[Source, str] = {}
    turns: dict[Node, int] = {}
    order = toposort(results)
    for node in reversed([n for n in order if n.op is Op.DOT and n.nbytes >= LEAST_BYTES]):
        if turns:
            break  # one product a plan: turns of two would have to be one order
        found = _find(node, results)
        choice = found if isinstance(found, str) else _choose(found, figures)
        if isinstance(choice, _Choice):
            assert isinstance(found, _Cone)
            chunking = _Chunking(found, choice.parts)
            results = chunking.run(results)
            turns = chunking.turns(results)
            notes[node.source] = (
                f"{node.nbytes:,} bytes are not stored whole: rows in {choice.parts} chunks, whose "
                f"sums take {choice.cost:.0%} of the products' time"
            )
        else:
            notes[node.source] = f"{node.nbytes:,} bytes are stored whole: {choice}"
    return Chunked(results, turns, notes)


@dataclass
class _Cone:
    """What is computed chunk by chunk.

    Attributes:
        root: the product.
        axis: for each node inside, which of its axes is cut.
        sums: sums over rows of nodes inside, and products that contract them.
        whole: nodes inside that are read outside, all chunks together.
    """

    root: Node
    axis: dict[Node, int] = field(default_factory=dict)
    sums: list[Node] = field(default_factory=list)
    whole: list[Node] = field(default_factory=list)


# -- what is legal ----------------------------------------------------------------------------


def _find(root: Node, outputs: Sequence[Node]) -> _Cone | str:
    """The cone of a product, or why it cannot be computed in chunks."""
    order = toposort(outputs)
    free, _ = dot_axes(root.inputs[0].shape, root.inputs[1].shape, dict(root.attrs))
    if not free or root.attr("batch") != ((), ()):
        return "a batch of products"
    cone = _Cone(root, {root: 0})
    uses = users_of(order)
    for n in order:
        if n is root or not any(x in cone.axis for x in n.inputs):
            continue
        axis = _axis_of(n, cone.axis)
        if axis is not None:
            cone.axis[n] = axis
        elif _is_sum(n, cone.axis):
            cone.sums.append(n)
        elif any(_is_large(x, root) for x in n.inputs if x in cone.axis):
            return f"{n.op} of {n.source.label} needs more than rows of the product"
    _trim(cone, order, uses)
    stored = set(outputs)
    for n in cone.axis:
        if n not in stored and all(u in cone.axis or u in cone.sums for u in uses[n]):
            continue
        if _is_large(n, root):
            return f"{n.op} of {n.source.label} is needed whole"
        cone.whole.append(n)
    return cone


def _is_large(n: Node, root: Node) -> bool:
    return n.size >= root.size


def _trim(cone: _Cone, order: Sequence[Node], uses: Mapping[Node, set[Node]]) -> None:
    """Leave in the cone what is large, reads something large, or leads to something large."""
    needed: set[Node] = set()
    for n in reversed(order):
        if n not in cone.axis:
            continue
        reads = any(x in cone.axis and _is_large(x, cone.root) for x in n.inputs)
        if _is_large(n, cone.root) or reads or any(u in needed for u in uses[n]):
            needed.add(n)
    cone.axis = {n: a for n, a in cone.axis.items() if n in needed}
    cone.sums = [n for n in cone.sums if any(_is_cut(x, cone) for x in n.inputs)]


def _is_cut(x: Node, cone: _Cone) -> bool:
    return x in cone.axis and _is_large(x, cone.root)


def _axis_of(n: Node, axis: dict[Node, int]) -> int | None:
    """Which axis of a node is cut where its inputs are, if a chunk of it needs a chunk of them."""
    cut = [(i, axis[x]) for i, x in enumerate(n.inputs) if x in axis]
    (first, a) = cut[0]
    if is_elementwise(n.op):
        return a if all(other == a for _, other in cut) else None
    if n.op in REDUCE:
        axes = n.attr("axes")
        return None if a in axes else a - sum(x < a for x in axes)
    if n.op is Op.EXPAND:
        (x,) = n.inputs
        place = a + len(n.shape) - len(x.shape)
        return place if n.shape[place] == x.shape[a] else None
    if n.op is Op.PERMUTE:
        return n.attr("axes").index(a)
    if n.op is Op.RESHAPE:
        return _reshaped(n.inputs[0].shape, n.shape, a)
    if n.op is Op.DOT and len(cut) == 1 and n.attr("batch") == ((), ()):
        free = dot_axes(n.inputs[0].shape, n.inputs[1].shape, dict(n.attrs))
        if a in free[first]:
            return free[first].index(a) + first * len(free[0])
    return None


def _reshaped(shape: tuple[int, ...], new: tuple[int, ...], axis: int) -> int | None:
    """The axis of the new shape that begins where `axis` does, so that both are cut alike."""
    before = prod(shape[:axis])
    return next((a for a, n in enumerate(new) if n > 1 and prod(new[:a]) == before), None)


def _is_sum(n: Node, axis: dict[Node, int]) -> bool:
    """Whether a node is a sum over the axis that is cut of its inputs."""
    if n.op is Op.REDUCE_SUM:
        return axis[n.inputs[0]] in n.attr("axes")
    if n.op is not Op.DOT:
        return False
    places = {
        contract.index(axis[x]) if axis[x] in contract else -1
        for x, contract in zip(n.inputs, n.attr("contract"))
        if x in axis
    }
    return len(places) == 1 and -1 not in places


# -- what is worth it -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """How many chunks, and the share of the products' time that adding up their sums takes."""

    parts: int
    cost: float


def _choose(cone: _Cone, figures: DeviceFigures) -> _Choice | str:
    """The most chunks of equal rows, none too small, whose sums cost little; or why there are
    none."""
    products = [n for n in (*cone.axis, *cone.sums) if n.op is Op.DOT]
    computing = sum(_seconds(n, figures) for n in products)
    held = sum(n.size * n.dtype.accumulator.itemsize for n in cone.sums)
    share = 2 * held / figures.bandwidth / computing  # of each chunk but the first
    whole = cone.root.nbytes
    most = min(MOST, whole // CHUNK_BYTES)
    if share:
        most = min(most, 1 + int(COST / share))
    sizes = {n.shape[a] for n, a in cone.axis.items()}
    fits = (p for p in range(most, 1, -1) if all(size % p == 0 for size in sizes))
    parts = next(fits, 1)
    if parts == 1 and share > COST:
        return f"a sum over each chunk of rows takes {share:.0%} of the products' time"
    if parts == 1:
        return "no few equal chunks of its rows"
    if whole // parts + held > LEFT * whole:
        return f"a chunk of rows and the sums would hold {whole // parts + held:,}"
    return _Choice(parts, share * (parts - 1))


def _seconds(n: Node, figures: DeviceFigures) -> float:
    """The time of a product on the unit that computes it."""
    k = prod(n.inputs[0].shape[a] for a in n.attr("contract")[0])
    is_half = max(x.dtype.itemsize for x in n.inputs) <= 2
    rate = figures.matrix_rate if is_half and figures.matrix_rate else figures.vector_rate
    return 2 * n.size * k / rate


# -- the rewrite ------------------------------------------------------------------------------


class _Chunking:
    def __init__(self, cone: _Cone, parts: int):
        self.cone, self.parts = cone, parts
        self.chunks: dict[Node, list[Node]] = {}
        """Of nodes inside."""
        self.made: dict[Node, Node] = {}
        self.turn: dict[Node, int] = {}
        """Of the nodes that are made for one chunk."""

    def run(self, outputs: Sequence[Node]) -> list[Node]:
        for n in toposort(outputs):
            with source_scope(n.source):
                if n in self.cone.axis:
                    self.chunks[n] = [self._chunk(n, c) for c in range(self.parts)]
                    if n in self.cone.whole:
                        self.made[n] = _joined(self.chunks[n], self.cone.axis[n])
                elif n in self.cone.sums:
                    self.made[n] = self._sum(n)
                else:
                    self.made[n] = on_inputs(n, tuple(self.made[x] for x in n.inputs))
        return [self.made[n] for n in outputs]

    def turns(self, outputs: Sequence[Node]) -> dict[Node, int]:
        """The turn of each node that a chunk needs or that needs a chunk."""
        order = toposort(outputs)
        found = dict(self.turn)
        for n in order:
            if n not in found and any(found.get(x) for x in n.inputs):
                found[n] = self.parts + 1
        for n in reversed(order):
            if n in found and found[n] <= self.parts:
                for x in n.inputs:
                    found.setdefault(x, 0)
        return found

    def _chunk(self, n: Node, c: int) -> Node:
        axis = self.cone.axis[n]
        shape = tuple(s // self.parts if a == axis else s for a, s in enumerate(n.shape))
        cuts: Sequence[int | None] = [axis if is_elementwise(n.op) else None] * len(n.inputs)
        if n.op is Op.DOT:
            cuts = self._free(n, axis)
        inputs = [self._input(x, cut, c) for x, cut in zip(n.inputs, cuts)]
        attrs = dict(n.attrs)
        if "shape" in attrs:
            attrs["shape"] = shape
        made = make(n.op, *inputs, **attrs)
        self.turn[made] = c + 1
        return made

    def _free(self, n: Node, axis: int) -> tuple[int | None, int | None]:
        """Which axis of each operand of a dot an axis of its result is."""
        left, right = dot_axes(n.inputs[0].shape, n.inputs[1].shape, dict(n.attrs))
        if axis < len(left):
            return left[axis], None
        return None, right[axis - len(left)]

    def _input(self, x: Node, axis: int | None, c: int) -> Node:
        """The chunk of an input that is cut along an axis; all of one that is not."""
        if x in self.cone.axis:
            return self.chunks[x][c]
        whole = self.made[x]
        if axis is None:
            return whole
        length = whole.shape[axis] // self.parts
        return b.slice_axis(whole, axis, c * length, (c + 1) * length)

    def _sum(self, n: Node) -> Node:
        """Σ over chunks of the sum over a chunk's rows"""
        wide = n.dtype.accumulator
        total: Node | None = None
        for c in range(self.parts):
            if n.op is Op.DOT:
                inputs = [self._input(x, cut, c) for x, cut in zip(n.inputs, self._contracted(n))]
                part = make(Op.DOT, *inputs, **{**dict(n.attrs), "dtype": wide})
            else:
                part = make(n.op, b.cast_to(self.chunks[n.inputs[0]][c], wide), **dict(n.attrs))
            total = part if total is None else b.add(total, part)
            self.turn[part] = self.turn[total] = c + 1
        assert total is not None
        made = b.cast_to(total, n.dtype)
        self.turn[made] = self.parts
        return made

    def _contracted(self, n: Node) -> tuple[int, ...]:
        """Which axis of each operand holds the rows that a dot sums over."""
        contract = n.attr("contract")
        axis = self.cone.axis
        side = next(s for s, x in enumerate(n.inputs) if x in axis)
        place = contract[side].index(axis[n.inputs[side]])
        return tuple(axes[place] for axes in contract)


def _joined(chunks: Sequence[Node], axis: int) -> Node:
    """Chunks one after the other, bit by bit as they are."""
    length = chunks[0].shape[axis]
    total = length * len(chunks)
    joined: Node | None = None
    for c, chunk in enumerate(chunks):
        wide = b.pad_axis(chunk, axis, c * length, total - (c + 1) * length)
        if joined is None:
            joined = wide
            continue
        place = make(Op.IOTA, axis=0, dtype=dt.int64, shape=(total,))
        before = b.less(place, b.const(c * length, dt.int64, (total,)))
        column = b.reshape_to(before, (total, *(1,) * (len(wide.shape) - axis - 1)))
        joined = b.where(b.expand_to(column, wide.shape), joined, wide)
    assert joined is not None
    return joined
