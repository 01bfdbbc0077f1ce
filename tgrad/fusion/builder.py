"""From a group of graph nodes to a Region: indices are pushed from the results to the loads.

In: the nodes that one kernel computes, and which of them must be stored. Out: a Region with the
nodes of its slots, or Refused. Invariant: the region computes exactly what the nodes say; whatever
is not in the group and not inlined is a load.

Two steps keep indices affine. An axis v under `v // d` or `v % d` is split into (v / d, d) and the
region is built again; neighbouring axes that every index walks as one are joined at the end.
Reductions name their axes like an axis of equal size that is free there, so that the passes over
one row share its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tgrad import dtype as dt
from tgrad.fusion import region as rg
from tgrad.fusion.axes import DotAxes, drop_dead, flip_axes, join_axes, rename_axes
from tgrad.fusion.chain import settle_chain
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.folding import fold, next_operand
from tgrad.fusion.legality import Refused, classify
from tgrad.fusion.live import with_live_dot, with_live_rows
from tgrad.fusion.movement import Indices, covers, push_index
from tgrad.fusion.packed import take_apart_packed
from tgrad.fusion.region import Axis, Mask, Region, Slot, Space, Store
from tgrad.fusion.sums import join_sums_of_dots
from tgrad.graph import index as ix
from tgrad.graph.index import Bound, Div, Index, Mod, Var
from tgrad.graph.node import Node, behind
from tgrad.graph.op import MOVEMENT, REDUCE, ROWWISE, Op, is_elementwise

MAX_REFINEMENTS = 12


@dataclass(frozen=True)
class Built:
    """A region and the graph nodes behind its slots (inputs, then outputs)."""

    region: Region
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


def build_region(
    name: str,
    group: Sequence[Node],
    outputs: Sequence[Node],
    leaves: set[Node],
    limits: Limits,
    chain: bool = False,
) -> Built | Refused:
    """The region that computes `group` and stores `outputs`.

    Args:
        name: of the region.
        group: heavy or stored nodes computed inside, producers first.
        outputs: those of the group that are written to memory.
        leaves: nodes computed by other kernels, to be loaded; buffers always are.
        limits: what the device can hold on chip.
        chain: whether dots and reductions that the group's dots need are computed in it, too.
    """
    factors: dict[str, tuple[int, ...]] = {}
    for _ in range(MAX_REFINEMENTS):
        builder = _Builder(name, group, outputs, leaves, factors, chain)
        refused = builder.run()
        if refused is not None and not builder.is_waste and not chain:
            return refused
        if not builder.find_splits():
            break
    if refused is not None:
        return refused
    return builder.finish(limits)


def main_of(stored: Sequence[Node]) -> Node:
    """The result that a region is said to be for: the largest."""
    return max(stored, key=lambda n: n.size)


@dataclass(frozen=True)
class _LogicalAxis:
    """One axis of a shape: the variables it is split into, and its index."""

    name: str
    extent: int
    parts: tuple[Axis, ...]

    @property
    def index(self) -> Index:
        variables = tuple(ix.var(p.name, p.extent) for p in self.parts)
        return ix.flatten(variables, tuple(p.extent for p in self.parts))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(p.name for p in self.parts)


class _Builder:
    def __init__(
        self,
        name: str,
        group: Sequence[Node],
        outputs: Sequence[Node],
        leaves: set[Node],
        factors: dict[str, tuple[int, ...]],
        is_chain: bool,
    ):
        self.name, self.group, self.outputs = name, list(group), list(outputs)
        self.is_chain = is_chain
        self.loop: list[_LogicalAxis] = []
        self.contracted: list[tuple[Node, list[_LogicalAxis]]] = []
        self.inside, self.leaves, self.factors = set(group), leaves, factors
        self.logical: list[_LogicalAxis] = []
        made = rg.Values()
        self.values, self.dims, self._emit = made.values, made.dims, made.emit
        self.memo: dict[tuple[Node, Indices, Mask], int] = {}
        self.visited: dict[Node, list[tuple[Indices, Mask, int]]] = {}
        self.inputs: dict[Node, int] = {}
        self.dots: list[DotAxes] = []
        self.walks: dict[str, bool] = {}
        self.columns: dict[Node, list[_LogicalAxis]] = {}
        """Axes that sums of columns reduce."""
        self.refused: Refused | None = None
        self.is_waste = False
        """Whether the group is refused for elements that may be its own once axes are split."""
        self.stores: list[Store] = []
        self.stored: list[Node] = []

    # -- axes -----------------------------------------------------------------------------------

    def _axis(self, extent: int) -> _LogicalAxis:
        name = f"a{len(self.logical)}"
        sizes = self.factors.get(name, (extent,))
        if prod(sizes) != extent:  # another axis had this name before a split
            sizes = (extent,)
        parts = tuple(Axis(name if len(sizes) == 1 else f"{name}_{p}", n)
                      for p, n in enumerate(sizes))  # fmt: skip
        axis = _LogicalAxis(name, extent, parts)
        self.logical.append(axis)
        return axis

    def _reduction_axes(self, extents: Sequence[int], used: frozenset[str]) -> list[_LogicalAxis]:
        """Axes for reduced sizes: existing free ones of the same sizes in order, else new ones."""
        if list(extents) == [a.extent for a in self.loop]:
            if not any(a.names & used for a in self.loop):
                return self.loop
        chosen: list[_LogicalAxis] = []
        start = 0
        for extent in extents:
            for position in range(start, len(self.logical)):
                axis = self.logical[position]
                if axis.extent == extent and not axis.names & used:
                    chosen.append(axis)
                    start = position + 1
                    break
            else:
                chosen.append(self._axis(extent))
                start = len(self.logical)
        return chosen

    def _dot_axes(
        self, node: Node, extents: Sequence[int], used: frozenset[str]
    ) -> list[_LogicalAxis]:
        """Axes that a dot contracts. In a chain the last dots share the loop's; the first dots take
        an axis of equal size that is free, so that both read an operand under one name."""
        if not self.is_chain:
            return self._plain_dot_axes(node, extents, used)
        if node in self.inside:
            if [a.extent for a in self.loop] != list(extents):
                self.loop = [self._axis(n) for n in extents]
            return self.loop
        taken = used.union(*(a.names for a in self.loop))
        chosen: list[_LogicalAxis] = []
        for extent in extents:
            parts = (p for a in self.logical for p in a.parts)
            free = [p for p in parts if p.extent == extent and p.name not in taken]
            axis = _LogicalAxis(free[0].name, extent, (free[0],)) if free else self._axis(extent)
            taken |= axis.names
            chosen.append(axis)
        return chosen

    def _plain_dot_axes(
        self, node: Node, extents: Sequence[int], used: frozenset[str]
    ) -> list[_LogicalAxis]:
        """Those of an earlier dot of the same operand, so that it is loaded for both; else new
        ones, and a loop of their own."""
        for other, axes in self.contracted:
            is_free = not any(a.names & used for a in axes)
            if is_free and [a.extent for a in axes] == list(extents):
                if not set(other.inputs).isdisjoint(node.inputs):
                    return axes
        axes = [self._axis(n) for n in extents]
        self.contracted.append((node, axes))
        return axes

    # -- the walk -------------------------------------------------------------------------------

    def run(self) -> Refused | None:
        """Build values and stores; Refused when the group has no common domain."""
        finals = self._finals()
        main = max(finals, key=lambda n: (n.size, -self.group.index(n)))
        shape = tuple(n for n in self._domain(main).shape if n != 1)
        columns = [n for n in finals if _is_column_sum(n, main)]
        for root in columns:
            self._factor(shape, root.inputs[0].shape)
        axes = [self._axis(n) for n in shape]
        rows: list[Node] = []
        for root in finals:
            domain = self._domain(root)
            if root in columns:
                if not self._column_sum(root, axes):
                    return Refused("sums of columns in other parts than the rows")
                continue
            if self.is_chain and root.size < main.size:
                rows.append(root)
                continue
            if tuple(n for n in domain.shape if n != 1) != shape[: self._kept(root, shape)]:
                return Refused(
                    f"{root.op} over {domain.shape} and {main.op} over {main.shape} have different "
                    "iteration domains"
                )
            free = iter(axes)
            index = tuple(ix.ZERO if n == 1 else next(free).index for n in domain.shape)
            if root.op is Op.SCATTER:
                self._scatter(root, index)
            else:
                self._value(root, index, ())
        for root in rows:
            refused = self._row_statistic(root)
            if refused is not None:
                return refused
        for node in self.outputs:
            if node.op is Op.SCATTER:
                continue
            refused = self._store(node)
            if refused is not None:
                return refused
        return self.refused or self._refuse_waste()

    def _factor(self, shape: Sequence[int], wide: Sequence[int]) -> None:
        """Split the domain's axes where the axes of an equal shape begin."""
        rest = [n for n in wide if n != 1]
        for number, extent in enumerate(shape):
            sizes: list[int] = []
            while rest and prod(sizes) < extent:
                sizes.append(rest.pop(0))
            if len(sizes) > 1 and prod(sizes) == extent:
                self.factors.setdefault(f"a{number}", tuple(sizes))

    def _column_sum(self, root: Node, axes: Sequence[_LogicalAxis]) -> bool:
        """A sum over part of the domain; False if the domain's axes are not those of what it sums.

        Every part of a domain axis is one of the sum's axes or some that make up one of them."""
        parts = [p for axis in axes for p in axis.parts]
        index: list[Index] = []
        forced: list[_LogicalAxis] = []
        for axis, extent in enumerate(root.inputs[0].shape):
            mine: list[Axis] = []
            while extent != 1 and parts and prod(p.extent for p in mine) < extent:
                mine.append(parts.pop(0))
            if prod(p.extent for p in mine) != extent:
                return False
            logical = _LogicalAxis("", extent, tuple(mine))
            if axis not in root.attr("axes"):
                index.append(logical.index)
            elif extent != 1:
                forced.append(logical)
        self.columns[root] = forced
        self._value(root, tuple(index), ())
        return True

    def _row_statistic(self, root: Node) -> Refused | None:
        """A result of a chain with one element a row, where a reduction it reads was computed."""
        shape = tuple(n for n in root.shape if n != 1)
        for node, index, mask in list(self.memo):
            if node.op in REDUCE and not mask and tuple(n for n in node.shape if n != 1) == shape:
                wide = iter(e for e, n in zip(index, node.shape) if n != 1)
                self._value(root, tuple(ix.ZERO if n == 1 else next(wide) for n in root.shape), ())
                return None
        return Refused(f"{root.source.label or root.op} is no statistic of the chain's rows")

    def _refuse_waste(self) -> Refused | None:
        """A reduction or dot is computed once for each of its elements, or not in this kernel."""
        if len(self.group) == 1:
            return None
        for node in self.group:
            if node.op is not Op.DOT and node.op not in REDUCE:
                continue
            for index, mask, _ in self.visited.get(node, ()):
                if mask or not covers(node, index, ix.flatten(index, node.shape)):
                    self.is_waste = not mask
                    return Refused(
                        f"{node.source.label or node.op} would be computed for other elements than "
                        "its own there"
                    )
        return None

    def _kept(self, root: Node, shape: tuple[int, ...]) -> int:
        """How many leading axes of the domain the root has: a reduction of rows of that domain has
        all but the last."""
        if root.op not in REDUCE or len(shape) < 2:
            return len(shape)
        wide, axes = root.inputs[0].shape, root.attr("axes")
        is_row = tuple(n for n in wide if n != 1) == shape and wide[-1] != 1
        return len(shape) - 1 if is_row and axes == (len(wide) - 1,) else len(shape)

    def _domain(self, root: Node) -> Node:
        return root.inputs[2] if root.op is Op.SCATTER else root

    def _finals(self) -> list[Node]:
        """Roots that no other root of the group reads."""
        ends = self.inside | self.leaves
        inputs = (x for root in self.group for x in root.inputs)
        read = set(behind(inputs, lambda n: n not in ends))
        return [n for n in self.group if n not in read]

    def _store(self, node: Node) -> Refused | None:
        for index, mask, number in self.visited.get(node, ()):
            flat = ix.flatten(index, node.shape)
            if mask or not covers(node, index, flat):
                continue
            self.stored.append(node)
            self.stores.append(Store(-1, flat, number))
            return None
        return Refused(
            f"{node.source.label or node.op} is read there at indices that do not cover it"
        )

    def _scatter(self, root: Node, index: Indices) -> None:
        base, index_node, src = root.inputs
        axis = root.attr("axis")
        position = self._value(index_node, index, ())
        value = self._value(src, index, ())
        target, mask = self._position(position, index_node.dtype, base.shape[axis])
        where = (*index[:axis], target, *index[axis + 1 :])
        self.stored.append(root)
        self.stores.append(
            Store(-1, ix.flatten(where, base.shape), value, root.attr("combine"), mask)
        )

    def _value(self, node: Node, index: Indices, mask: Mask) -> int:
        key = (node, index, mask)
        stack = [] if key in self.memo else [(node, 0)]
        while stack:  # a chain of elements may be longer than Python's stack
            top, at = stack.pop()
            if (top, index, mask) in self.memo:
                continue
            operand = self._operand(top, at, index, mask)
            if operand is not None:
                stack += [(top, at + 1), (operand, 0)]
                continue
            number = self.memo[(top, index, mask)] = self._compute(top, index, mask)
            if top in self.inside:
                self.visited.setdefault(top, []).append((index, mask, number))
        return self.memo[key]

    def _operand(self, node: Node, at: int, index: Indices, mask: Mask) -> Node | None:
        is_leaf = node in self.leaves and node not in self.inside
        if is_leaf or not is_elementwise(node.op):
            return None
        return next_operand(node, at, lambda x: self.values[self.memo[(x, index, mask)]])

    def _compute(self, node: Node, index: Indices, mask: Mask) -> int:
        op = node.op
        if op is Op.BUFFER or (node in self.leaves and node not in self.inside):
            return self._load(node, index, mask)
        if op is Op.CONST:
            return self._emit(rg.Const(node.attr("value"), node.dtype))
        if op is Op.IOTA:
            return self._place(index[node.attr("axis")], node.dtype)
        if is_elementwise(op):
            return self._elementwise(node, index, mask)
        if op is Op.PAD:
            return self._pad(node, index, mask)
        if op in MOVEMENT:
            pushed, _ = push_index(node, index)
            return self._value(node.inputs[0], pushed, mask)
        if op is Op.GATHER:
            return self._gather(node, index, mask)
        if op in REDUCE:
            return self._reduce(node, index, mask)
        if op in ROWWISE:
            return self._along_row(node, index, mask)
        if op is Op.DOT:
            return self._dot(node, index, mask)
        raise AssertionError(f"{node} cannot be part of a region")

    def _place(self, index: Index, dtype: dt.DType) -> int:
        is_fixed = not index.terms and not dtype.is_float
        return self._emit(rg.Const(index.const, dtype) if is_fixed else rg.IndexValue(index, dtype))

    def _elementwise(self, node: Node, index: Indices, mask: Mask) -> int:
        op, inputs = node.op, node.inputs
        if op is Op.WHERE:
            test = self.values[self._value(inputs[0], index, mask)]
            if isinstance(test, rg.Const):
                return self._value(inputs[1 if test.value else 2], index, mask)
        args = tuple(self._value(x, index, mask) for x in inputs)
        known = fold(op, args, self.values, node.dtype)
        if isinstance(known, int):
            return known
        word = node.attr("word") if op is Op.PHILOX else 0
        return self._emit(known or rg.Compute(op, args, node.dtype, word))

    def _load(self, node: Node, index: Indices, mask: Mask) -> int:
        slot = self.inputs.setdefault(node, len(self.inputs))
        kept = tuple(b for b in mask if not b.is_always)
        if any(b.is_never for b in kept):
            return self._zero(node.dtype)
        return self._emit(rg.Load(slot, ix.flatten(index, node.shape), kept, node.dtype))

    def _zero(self, dtype: dt.DType) -> int:
        zero: bool | int | float = False if dtype.is_bool else 0.0 if dtype.is_float else 0
        return self._emit(rg.Const(zero, dtype))

    def _pad(self, node: Node, index: Indices, mask: Mask) -> int:
        pushed, bounds = push_index(node, index)
        if any(b.is_never for b in bounds):
            return self._zero(node.dtype)
        inner = self._value(node.inputs[0], pushed, (*mask, *(b for b in bounds if b not in mask)))
        value = self.values[inner]
        if not bounds or (isinstance(value, rg.Load) and set(bounds) <= set(value.mask)):
            return inner
        inside = self._emit(rg.Inside(bounds))
        return self._emit(rg.Compute(Op.WHERE, (inside, inner, self._zero(node.dtype)), node.dtype))

    def _gather(self, node: Node, index: Indices, mask: Mask) -> int:
        x, index_node = node.inputs
        axis = node.attr("axis")
        number = self._value(index_node, index, mask)
        position, bounds = self._position(number, index_node.dtype, x.shape[axis])
        return self._value(x, (*index[:axis], position, *index[axis + 1 :]), (*mask, *bounds))

    def _position(self, number: int, dtype: dt.DType, size: int) -> tuple[Index, Mask]:
        """Where an integer that the kernel computes points, and the bound under which it does.

        Addresses may rely on the bound, because what lies outside is masked.
        """
        value = self.values[number]
        if isinstance(value, rg.Const) and 0 <= value.value < size:
            return ix.constant(int(value.value)), ()
        anything = ix.loaded(number, int(dtype.min), int(dtype.max))
        return ix.loaded(number, 0, size - 1), (Bound(anything, 0, size),)

    def _reduce(self, node: Node, index: Indices, mask: Mask) -> int:
        x, axes = node.inputs[0], node.attr("axes")
        wide = [a for a in axes if x.shape[a] != 1]
        used = _variables((*index, *(b.index for b in mask)), self.dims)
        chosen = self.columns.get(node) or self._reduction_axes([x.shape[a] for a in wide], used)
        by_axis = {a: c.index for a, c in zip(wide, chosen)}
        outer = iter(index)
        inner = tuple(
            by_axis.get(a, ix.ZERO) if a in axes else next(outer) for a in range(len(x.shape))
        )
        arg = self._value(x, inner, mask)
        acc = x.dtype.accumulator
        names = tuple(p.name for c in chosen for p in c.parts)
        present = tuple(n for n in names if n in self.dims[arg])
        extents = {p.name: p.extent for c in chosen for p in c.parts}
        missing = prod(extents[n] for n in names if n not in present)
        if acc is not x.dtype:
            arg = self._emit(rg.Compute(Op.CAST, (arg,), acc))
        number = self._emit(rg.Reduce(node.op, arg, present, acc)) if present else arg
        if missing != 1 and node.op in (Op.REDUCE_SUM, Op.REDUCE_PROD):
            op = Op.MUL if node.op is Op.REDUCE_SUM else Op.POW
            times = self._emit(rg.Const(float(missing) if acc.is_float else missing, acc))
            number = self._emit(rg.Compute(op, (number, times), acc))
        if acc is not node.dtype:
            number = self._emit(rg.Compute(Op.CAST, (number,), node.dtype))
        return number

    def _along_row(self, node: Node, index: Indices, mask: Mask) -> int:
        """A scan or a sort: whoever reads it sees the whole row, in one direction."""
        axis, label = node.attr("axis"), node.source.label or node.op
        found = [
            (a, e != a.index)
            for a, e in ((a, index[axis]) for a in self.logical)
            if a.extent == node.shape[axis] and e in (a.index, a.index * -1 + (a.extent - 1))
        ]
        plain = (*index[:axis], found[0][0].index, *index[axis + 1 :]) if found else index
        if not found or mask or not covers(node, plain, ix.flatten(plain, node.shape)):
            self.refused = Refused(f"{label} is read there at other elements than its rows")
            return self._zero(node.dtype)
        walk, is_flipped = found[0]
        args = tuple(self._value(x, index, mask) for x in node.inputs)
        names = tuple(p.name for p in walk.parts)
        if node.op is Op.ARGSORT and self.dims[args[0]].isdisjoint(names):
            return self._emit(rg.IndexValue(index[axis], node.dtype))  # equal keys stay in order
        if any(self.walks.setdefault(name, is_flipped) != is_flipped for name in names):
            self.refused = Refused(f"{label} walks its rows from the other end")
        if node.op is Op.ARGSORT:
            attrs: dict[str, Any] = dict(node.attrs)
            places = self._emit(rg.Sort(args[0], names, first=attrs.get("first", 0)))
            return self._emit(rg.Compute(Op.CAST, (places,), node.dtype))
        acc = node.dtype.accumulator
        if acc is not node.dtype:
            args = tuple(self._emit(rg.Compute(Op.CAST, (a,), acc)) for a in args)
        number = self._emit(rg.Scan(node.op, args, names, acc))
        if acc is not node.dtype:
            number = self._emit(rg.Compute(Op.CAST, (number,), node.dtype))
        return number

    def _dot(self, node: Node, index: Indices, mask: Mask) -> int:
        a, b = node.inputs
        (ca, cb), (ba, bb) = node.attr("contract"), node.attr("batch")
        free_a = [i for i in range(len(a.shape)) if i not in ca and i not in ba]
        free_b = [j for j in range(len(b.shape)) if j not in cb and j not in bb]
        batch, m = index[: len(ba)], index[len(ba) : len(ba) + len(free_a)]
        n = index[len(ba) + len(free_a) :]
        wide = [p for p, i in enumerate(ca) if a.shape[i] != 1]
        used = _variables((*index, *(x.index for x in mask)), self.dims)
        chosen = self._dot_axes(node, [a.shape[ca[p]] for p in wide], used)
        contracted = [ix.ZERO] * len(ca)
        for p, axis in zip(wide, chosen):
            contracted[p] = axis.index
        index_a = _placed(len(a.shape), (ba, batch), (free_a, m), (ca, contracted))
        index_b = _placed(len(b.shape), (bb, batch), (free_b, n), (cb, contracted))
        left, right = self._value(a, index_a, mask), self._value(b, index_b, mask)
        acc = dot_accumulator(node.dtype)
        if acc is dt.int32:
            left, right = self._bytes(left, right)
        names = tuple(p.name for c in chosen for p in c.parts)
        axes = DotAxes(_names(batch), _names(m), _names(n), names)
        if self.is_chain and self._has_dot(right):  # the rows are those of the scores
            axes = replace(axes, m=axes.n, n=axes.m)
        if axes not in self.dots and (node in self.inside or not self.is_chain):
            self.dots.append(axes)
        number = self._emit(rg.Dot(left, right, names, acc))
        if acc is not node.dtype:
            number = self._emit(rg.Compute(Op.CAST, (number,), node.dtype))
        return number

    def _bytes(self, left: int, right: int) -> tuple[int, int]:
        """Operands of a dot as they were before both were widened from int8, whose products matrix
        units add in int32."""
        narrow: list[int] = []
        for number in (left, right):
            value = self.values[number]
            if isinstance(value, rg.Compute) and value.op is Op.CAST:
                narrow += (a for a in value.args if self.values[a].dtype is dt.int8)
        return (narrow[0], narrow[1]) if len(narrow) == 2 else (left, right)

    def _has_dot(self, number: int) -> bool:
        """Whether a value is computed from a dot."""
        value = self.values[number]
        if isinstance(value, rg.Dot):
            return True
        return any(self._has_dot(x) for x in rg.operands_of(value))

    # -- splitting and joining axes -------------------------------------------------------------

    def _indices(self) -> list[Index]:
        return [e for v in (*self.values, *self.stores) for e in rg.indices_of(v)]

    def find_splits(self) -> bool:
        """Record the axes that some index divides; True if the region must be built again."""
        parts = {p.name: (axis, n) for axis in self.logical for n, p in enumerate(axis.parts)}
        found: dict[str, tuple[int, ...]] = {}
        for e in self._indices():
            for atom in e.atoms():
                if not isinstance(atom, (Div, Mod)):
                    continue
                inner = atom.base.atom
                if not isinstance(inner, Var) or inner.extent % atom.divisor:
                    continue
                axis, position = parts[inner.name]
                if axis.name not in found:
                    sizes = [p.extent for p in axis.parts]
                    sizes[position : position + 1] = [inner.extent // atom.divisor, atom.divisor]
                    found[axis.name] = tuple(sizes)
        self.factors.update(found)
        return bool(found)

    def finish(self, limits: Limits) -> Built | Refused:
        """Number the slots, join axes, name them, classify."""
        buffers = len(self.inputs) + len(self.stored)
        if buffers > limits.slots and not self.is_chain:
            return Refused(f"{buffers} buffers, more than {limits.slots} in one kernel")
        parts = [p for axis in self.logical for p in axis.parts]
        is_counted = any(s.counts for s in self.stores)
        axes = tuple(p for p in parts if is_counted or self._is_used(p.name))
        slots = [Slot(f"in{i}", n.dtype, max(n.size, 1), "in") for n, i in self.inputs.items()]
        stores: list[Store] = []
        for number, (node, store) in enumerate(zip(self.stored, self.stores)):
            role = "inout" if store.combine != "set" or node.op is Op.SCATTER else "out"
            slots.append(Slot(f"out{number}", node.dtype, max(node.size, 1), role))
            stores.append(replace(store, slot=len(self.inputs) + number))
        draft = Region(
            self.name, axes, tuple(slots), tuple(self.values), tuple(stores),
            main_of(self.stored).source, Space("map", ()),
        )  # fmt: skip
        flipped = frozenset(name for name, is_flipped in self.walks.items() if is_flipped)
        draft, dots = join_axes(flip_axes(drop_dead(draft), flipped), tuple(self.dots))
        if limits.dots > 1 and not self.is_chain:
            draft, dots = take_apart_packed(draft, dots, limits.dots)
        draft, dots = rename_axes(draft, dots)
        if self.is_chain:
            region = settle_chain(draft, dots, limits)
            if isinstance(region, Refused):
                return region
            return Built(region, tuple(self.inputs), tuple(self.stored))
        draft = join_sums_of_dots(draft)
        space = classify(draft, dots, limits, len(self.group) == 1)
        if isinstance(space, Refused):
            return space
        region = with_live_dot(replace(draft, space=space))
        if not limits.orders_scatters:  # the device's programs, not one thread, go through rows
            region = with_live_rows(region)
        return Built(region, tuple(self.inputs), tuple(self.stored))

    def _is_used(self, name: str) -> bool:
        """Whether a value or a store walks the axis, or a value is summed along it."""
        if any(name in d for d in self.dims):
            return True
        if any(name in v.axes for v in self.values if isinstance(v, rg.AlongAxes)):
            return True
        return any(name in rg.variables_of(s) for s in self.stores)


def dot_accumulator(dtype: dt.DType) -> dt.DType:
    """What a dot adds in: of short integers int32, which wraps to the same low bits."""
    is_short = not dtype.is_float and dtype.itemsize < 4
    return dt.int32 if is_short else dtype.accumulator


def _is_column_sum(root: Node, main: Node) -> bool:
    """Whether a root sums rows of a domain, part by part, that another root has whole."""
    if root.op is not Op.REDUCE_SUM or root is main or root.inputs[0].size != main.size:
        return False
    axes, rank = root.attr("axes"), len(root.inputs[0].shape)
    return 0 not in axes and rank - 1 not in axes


def _placed(rank: int, *groups: tuple[Sequence[int], Sequence[Index]]) -> Indices:
    result = [ix.ZERO] * rank
    for axes, indices in groups:
        for axis, e in zip(axes, indices):
            result[axis] = e
    return tuple(result)


def _names(indices: Sequence[Index]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for e in indices:
        for atom in e.atoms():
            if isinstance(atom, Var):
                seen[atom.name] = None
    return tuple(seen)


def _variables(indices: Indices, dims: list[frozenset[str]]) -> frozenset[str]:
    """Axes that the indices depend on, through loaded integers too."""
    names: frozenset[str] = frozenset()
    for e in indices:
        names |= e.variables()
        for v in e.loaded():
            names |= dims[v]
    return names
