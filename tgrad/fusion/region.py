"""Regions: the only thing that fusion hands on.

In: nothing. Out: `Region`, one kernel's worth of work as an expression DAG over named axes.
Invariant: frozen and hashable; values are in dependency order and refer to earlier ones by number;
every axis of a value is one that its operands have, less reduced ones. verify.py checks it, and
region_json.py turns regions into plain data and back.

Grammar:
    region  = name (axis = extent, ...) slots values stores [table]
    value   = load slot[index] if mask | const | index | inside mask
            | op(values) | reduce_op(value) over axes | dot(value, value) over axes [on dot]
            | scan_op(values) along axes | argsort(value) along axes
    store   = slot[index] (set | add | max | min | mul)= value [if mask]

A value has an axis (is a tile along it) if its index, or an operand, depends on the axis. Reduced
axes may be named like axes of stores: in softmax over j, `max over j` and the store both use j,
which says that all three passes see the same row. A scan or sort walks its axes in row-major order
and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import inf, prod
from typing import TypeVar

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.index import Bound, Index
from tgrad.graph.library import LibraryCall
from tgrad.graph.op import Op

Mask = tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis of the iteration domain: 0 <= name < extent."""

    name: str
    extent: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A buffer that the kernel is given. `role` is "in", "out" or "inout" (updated in place)."""

    name: str
    dtype: DType
    size: int
    role: str

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Load:
    """Element `index` of a slot; zero where a bound of the mask does not hold."""

    slot: int
    index: Index
    mask: Mask
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A Python number. Equal ones are written alike: NaN is itself; 0.0 and -0.0 differ, as do 1,
    1.0 and True."""

    value: bool | int | float
    dtype: DType

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const):
            return NotImplemented
        return self.dtype is other.dtype and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash((repr(self.value), self.dtype))


@dataclass(frozen=True, slots=True)
class IndexValue:
    """The value of an index expression."""

    index: Index
    dtype: DType


@dataclass(frozen=True, slots=True)
class Inside:
    """Whether all bounds hold (bool)."""

    mask: Mask
    dtype: DType = dt.bool_


@dataclass(frozen=True, slots=True)
class Compute:
    """An elementwise op on earlier values; `word` is philox's attribute."""

    op: Op
    args: tuple[int, ...]
    dtype: DType
    word: int = 0


@dataclass(frozen=True, slots=True)
class Reduce:
    """A reduction of an earlier value over axes; accumulates in `dtype`."""

    op: Op
    arg: int
    axes: tuple[str, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Dot:
    """Sum over `axes` of the product of two earlier values, on matrix units; accumulates in
    `dtype`, on top of an earlier dot that nothing else reads if `start` names one."""

    a: int
    b: int
    axes: tuple[str, ...]
    dtype: DType
    start: int = -1


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan of earlier values along axes; accumulates in `dtype`."""

    op: Op
    args: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Sort:
    """Places along axes of an earlier value's elements (unsigned, at most 32 bits unless `first` is
    said) in ascending order, equal ones in theirs.

    Attributes:
        first: how many places of a row are needed, from its start; after them it is 0. All if 0.
    """

    arg: int
    axes: tuple[str, ...]
    dtype: DType = dt.int32
    first: int = 0


Value = Load | Const | IndexValue | Inside | Compute | Reduce | Dot | Scan | Sort
AlongAxes = (Reduce, Dot, Scan, Sort)
"""Values with axes of their own to reduce or to walk."""


@dataclass(frozen=True, slots=True)
class Store:
    """Write a value to element `index` of a slot, where the mask holds."""

    slot: int
    index: Index
    value: int
    combine: str = "set"
    mask: Mask = ()

    @property
    def counts(self) -> bool:
        """Whether writing the same again changes what is there."""
        return self.combine in ("add", "mul")


Item = TypeVar("Item", bound=Value | Store)
Names = TypeVar("Names", tuple[str, ...], frozenset[str])

_INDEXED = (Load, IndexValue, Inside, Store)
"""What evaluates index expressions."""


@dataclass(frozen=True, slots=True)
class AxisLimit:
    """Points that need not be computed: those where axis // inner % capacity is at or above the
    integer in a slot. A generator may skip them or not."""

    axis: str
    inner: int
    capacity: int
    slot: int


@dataclass(frozen=True)
class Space:
    """The iteration domain sorted by what happens to each axis.

    Attributes:
        kind: "map", "reduce", "dot", "scatter", "scan", "sort", "chain" or "call".
        parallel: axes that no value reduces (for a dot: batch, then m, then n).
        row: axes that scans and sorts walk or the innermost reductions reduce; stores may have
            them too.
        outer: axes of a second reduction, around the rows (mean of row losses; no store has them)
            or beside them (sums of columns, in the gradient of a norm).
        batch, m, n, k: axes of a dot, empty otherwise. Of a chain: those of its last dots; the row
            statistics reduce k, too.
        inner: axes that the first dots of a chain contract; of a dot, those that dots contract
            before the ones over k.
        live: of a chain: where a bound does not hold, an element of m x k adds nothing. Of a
            reduce of sums: the same of an element of its rows.
        tests: of a chain: where one does not hold, an element of m x k adds nothing. Each has no
            rows or no columns, or is LE or LT of integers of which one has no rows, the other no
            columns.
    """

    kind: str
    parallel: tuple[Axis, ...]
    row: tuple[Axis, ...] = ()
    outer: tuple[Axis, ...] = ()
    batch: tuple[Axis, ...] = ()
    m: tuple[Axis, ...] = ()
    n: tuple[Axis, ...] = ()
    k: tuple[Axis, ...] = ()
    inner: tuple[Axis, ...] = ()
    live: Mask = ()
    tests: tuple[Inside | Compute, ...] = ()


KNOWN_REGIONS = 4096
"""Regions whose derived forms a pass remembers, at most."""

GROUPS = ("parallel", "row", "outer", "batch", "m", "n", "k", "inner")
"""Fields of a Space that hold axes."""


def extent_of(axes: tuple[Axis, ...]) -> int:
    """Number of points of a group of axes."""
    return prod(a.extent for a in axes)


@dataclass(frozen=True, slots=True)
class Table:
    """A batch: one launch that runs a region for several members, each on buffers of its own.

    Attributes:
        members: how many.
        own: numbers of the slots of which each member has its own buffer; all share the others.
        lengths: for each member the extent of the region's only axis, the largest of which the
            region has; empty if all members are the region itself.
    """

    members: int
    own: tuple[int, ...]
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Region:
    """One kernel's worth of work. See the grammar at the top of the module.

    Attributes:
        name: what it computes, such as "softmax_4096x1024_f32"; a C and Python identifier.
        axes: iteration domain, outermost first.
        slots: buffers, inputs before outputs.
        values: the expression DAG in dependency order.
        stores: what is written.
        source: the user's line of the main result.
        space: axes by role; set by fusion/legality.py.
        limits: what need not be computed; set by fusion/limits.py.
        table: the members, if one launch runs the region for several; set by fusion/batching.py.
        call: of a library, which the step is, in place of values and stores.
    """

    name: str
    axes: tuple[Axis, ...]
    slots: tuple[Slot, ...]
    values: tuple[Value, ...]
    stores: tuple[Store, ...]
    source: Source = field(compare=False)
    space: Space
    limits: tuple[AxisLimit, ...] = ()
    table: Table | None = None
    call: LibraryCall | CollectiveCall | None = None

    @property
    def is_exchange(self) -> bool:
        """Whether it is a call in which processes exchange a tensor."""
        return isinstance(self.call, CollectiveCall)

    @cached_property
    def _hash(self) -> int:
        compared = (f.name for f in fields(self) if f.compare)
        return hash(tuple(getattr(self, name) for name in compared))

    def __hash__(self) -> int:
        """Of all that equality compares, computed once: regions are keys all over planning."""
        return self._hash

    def at_line(self, source: Source) -> Region:
        """The same work for another line of the user's: an equal region. What is derived from a
        region does not depend on its line, so what is known of one is known of the other."""
        if source == self.source:
            return self
        moved = copy(self)
        moved.__dict__["source"] = source
        return moved

    @cached_property
    def buffers(self) -> tuple[Slot, ...]:
        """What a launch is given, in order: a slot that members own stands once for each."""
        if self.table is None:
            return self.slots
        lengths = self.table.lengths or self.table.members * (0,)
        found: list[Slot] = []
        for number, slot in enumerate(self.slots):
            if number not in self.table.own:
                found.append(slot)
            elif self.table.lengths and slot.size == self.axes[0].extent:
                found += [Slot(slot.name, slot.dtype, n, slot.role) for n in lengths]
            else:
                found += self.table.members * [slot]
        return tuple(found)

    @property
    def domain(self) -> str:
        """The iteration domain as text, such as "i0=512 x r0=576"."""
        axes = " x ".join(f"{a.name}={a.extent}" for a in self.axes) or "1"
        if self.table is None:
            return axes
        if self.table.lengths:
            return f"{self.table.members} members, {sum(self.table.lengths)} elements"
        return f"{self.table.members} members x {axes}"

    @cached_property
    def dims(self) -> tuple[tuple[str, ...], ...]:
        """Axes of each value, in the order of `axes`."""
        return value_dims(self.axes, self.values)

    def pick(self, names: Collection[str]) -> tuple[Axis, ...]:
        """The axes of these names, in order."""
        return tuple(a for a in self.axes if a.name in names)

    def extent(self, name: str) -> int:
        return next(a.extent for a in self.axes if a.name == name)

    def __str__(self) -> str:
        lines = [f"region {self.name} ({', '.join(f'{a.name}={a.extent}' for a in self.axes)})"]
        if self.table is not None:
            own = ", ".join(self.slots[number].name for number in self.table.own)
            lines.append(f"  for {self.table.members} members, each with its own {own}")
            if self.table.lengths:
                lengths = " ".join(map(str, self.table.lengths))
                lines.append(f"  {self.axes[0].name} of each: {lengths}")
        for v, (value, dims) in enumerate(zip(self.values, self.dims)):
            lines.append(f"  %{v} = {self._text(value)} : {value.dtype.short} [{' '.join(dims)}]")
        if self.space.live:
            lines.append(f"  live where {_mask_text(self.space.live)}")
        lines += [f"  live where {self._text(test)}" for test in self.space.tests]
        for s in self.stores:
            sign = "=" if s.combine == "set" else f"{s.combine}="
            mask = f" if {_mask_text(s.mask)}" if s.mask else ""
            lines.append(f"  {self.slots[s.slot].name}[{s.index}] {sign} %{s.value}{mask}")
        if self.call is not None:
            lines.append(f"  {self.slots[-1].name} = {self.call.text()}")
        for x in self.limits:
            place = f"{x.axis} // {x.inner} % {x.capacity}"
            lines.append(f"  needed where {place} < {self.slots[x.slot].name}[0]")
        return "\n".join(lines)

    def _text(self, value: Value) -> str:
        if isinstance(value, Load):
            mask = f" if {_mask_text(value.mask)}" if value.mask else ""
            return f"load {self.slots[value.slot].name}[{value.index}]{mask}"
        if isinstance(value, Const):
            return f"const {value.value!r}"
        if isinstance(value, IndexValue):
            return f"index {value.index}"
        if isinstance(value, Inside):
            return f"inside {_mask_text(value.mask)}"
        if isinstance(value, Compute):
            return f"{value.op} " + ", ".join(f"%{a}" for a in value.args)
        if isinstance(value, Reduce):
            return f"{value.op} %{value.arg} over {' '.join(value.axes)}"
        if isinstance(value, Scan):
            args = ", ".join(f"%{a}" for a in value.args)
            return f"{value.op} {args} along {' '.join(value.axes)}"
        if isinstance(value, Sort):
            first = f" first {value.first}" if value.first else ""
            return f"argsort %{value.arg} along {' '.join(value.axes)}{first}"
        start = f" on %{value.start}" if value.start >= 0 else ""
        return f"dot %{value.a}, %{value.b} over {' '.join(value.axes)}{start}"


def whole_axes(region: Region) -> tuple[tuple[Axis, ...], ...]:
    """Groups of a chain's axes that lie in one tile each: what a first dot contracts, and n."""
    names = {a.name for a in region.space.inner}
    groups = [region.space.n]
    for value in region.values:
        if isinstance(value, Dot) and set(value.axes) <= names:
            groups.append(region.pick(value.axes))
    return tuple(dict.fromkeys(groups))


def value_dims(
    axes: tuple[Axis, ...], values: tuple[Value, ...] | list[Value]
) -> tuple[tuple[str, ...], ...]:
    """Axes of each value, in the order of `axes`."""
    order = {a.name: i for i, a in enumerate(axes)}
    result: list[tuple[str, ...]] = []
    for value in values:
        names = _axes_of(value, result)
        if not isinstance(names, tuple):
            names = tuple(sorted(names, key=order.__getitem__))
        result.append(names)
    return tuple(result)


def _axes_of(value: Value, dims: Sequence[Names]) -> Names | set[str]:
    """The axes of a value, from those of the values before it."""
    if isinstance(value, Compute):  # most values, and most of operands of the same axes
        different = {dims[a] for a in value.args}
        if len(different) == 1:
            return different.pop()
    names = variables_of(value)
    for operand in operands_of(value):
        names.update(dims[operand])
    if isinstance(value, (Reduce, Dot)):
        names -= set(value.axes)
    if isinstance(value, (Scan, Sort)):
        names |= set(value.axes)
    return names


class Values:
    """The values of a region that is made, each once.

    Attributes:
        values: in dependency order.
        dims: the axes of each.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.dims: list[frozenset[str]] = []
        self._numbers: dict[Value, int] = {}

    def emit(self, value: Value) -> int:
        """The number of a value; it is appended if it is new."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
            self.dims.append(frozenset(_axes_of(value, self.dims)))
        return number


def indices_of(value: Value | Store) -> tuple[Index, ...]:
    """Index expressions that a value or store evaluates."""
    if not isinstance(value, _INDEXED):
        return ()
    if isinstance(value, (Load, Store)):
        return (value.index, *(b.index for b in value.mask))
    if isinstance(value, IndexValue):
        return (value.index,)
    return tuple(b.index for b in value.mask)


def variables_of(value: Value | Store) -> set[str]:
    """Axes that a value or store has in its index expressions."""
    names: set[str] = set()
    for e in indices_of(value):
        names |= e.variables()
    return names


def operands_of(value: Value | Store) -> tuple[int, ...]:
    """Numbers of the values that a value or store reads, those inside its indices included."""
    if isinstance(value, (Compute, Scan)):
        return value.args
    if isinstance(value, (Reduce, Sort)):
        return (value.arg,)
    if isinstance(value, Dot):
        return (value.a, value.b) if value.start < 0 else (value.a, value.b, value.start)
    if not isinstance(value, _INDEXED):
        return ()
    loaded = {v for e in indices_of(value) for v in e.loaded()}
    inner = tuple(sorted(loaded)) if loaded else ()
    return (value.value, *inner) if isinstance(value, Store) else inner


def with_indices(item: Item, index: Callable[[Index], Index]) -> Item:
    """The value or store at other indices."""

    def moved(mask: Mask) -> Mask:
        return tuple(Bound(index(b.index), b.lo, b.hi) for b in mask)

    made: Value | Store = item
    match item:
        case Load():
            made = Load(item.slot, index(item.index), moved(item.mask), item.dtype)
        case IndexValue():
            made = IndexValue(index(item.index), item.dtype)
        case Inside():
            made = Inside(moved(item.mask), item.dtype)
        case Store():
            made = replace(item, index=index(item.index), mask=moved(item.mask))
    return made  # type: ignore[return-value]


def behind(values: Sequence[Value], numbers: Iterable[int], have: Container[int] = ()) -> list[int]:
    """The values of these numbers and what they are computed from, less what is at hand, in
    dependency order."""
    found: set[int] = set()
    stack = list(numbers)
    while stack:
        number = stack.pop()
        if number not in found and number not in have:
            found.add(number)
            stack += operands_of(values[number])
    return sorted(found)


def finite_maximum(values: Sequence[Value], number: int) -> int | None:
    """The maximum of which the value is where(maximum == -inf, 0, maximum), if it is that."""
    v = values[number]
    if not isinstance(v, Compute) or v.op is not Op.WHERE:
        return None
    condition, zero = (values[a] for a in v.args[:2])
    if not isinstance(zero, Const) or zero.value != 0:
        return None
    if not isinstance(condition, Compute) or condition.op is not Op.EQ:
        return None
    low = values[condition.args[1]]
    if condition.args[0] != v.args[2] or not isinstance(low, Const) or low.value != -inf:
        return None
    return v.args[2]


def exponent_scale(values: Sequence[Value], maximum: int) -> int | None:
    """The number c of exp (c (x - r)) for a maximum r; None for exp (x - r)."""
    for v in values:
        if isinstance(v, Compute) and v.op is Op.EXP:
            product = values[v.args[0]]
            if isinstance(product, Compute) and product.op is Op.MUL:
                shifted = values[product.args[0]]
                if isinstance(shifted, Compute) and shifted.op is Op.SUB:
                    if maximum in (shifted.args[1], finite_maximum(values, shifted.args[1])):
                        return product.args[1]
    return None


def _mask_text(mask: Mask) -> str:
    return " and ".join(map(str, mask))
