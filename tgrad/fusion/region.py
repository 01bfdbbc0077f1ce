"""Regions: the only thing that fusion hands on.

In: nothing. Out: `Region`, one kernel's worth of work as an expression DAG over named axes.
Invariant: frozen, hashable, serialisable to JSON; values are in dependency order and refer to
earlier ones by number; every axis of a value is one that its operands have, less reduced ones.

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

import json
from copy import copy
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod
from typing import Any

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import Source, VerifyError
from tgrad.graph import index as ix
from tgrad.graph.index import Bound, Div, Index, Loaded, Mod, Var
from tgrad.graph.library import LibraryCall
from tgrad.graph.op import OPS, REDUCE, SCAN, Op, is_elementwise

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
    """Places along axes of an earlier value's elements (unsigned, at most 32 bits) in ascending
    order, equal ones in theirs."""

    arg: int
    axes: tuple[str, ...]
    dtype: DType = dt.int32


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
        kind: "map", "reduce", "dot", "scatter", "scan", "sort", "chain" or "library".
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
        library: the call that the step is, in place of values and stores.
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
    library: LibraryCall | None = None

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

    @cached_property
    def key(self) -> str:
        """JSON text that two regions share exactly if they are the same work."""
        return json.dumps({**self.to_json(), "source": None}, sort_keys=True)

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
        if self.library is not None:
            lines.append(f"  {self.slots[-1].name} = {self.library.text()}")
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
            return f"argsort %{value.arg} along {' '.join(value.axes)}"
        start = f" on %{value.start}" if value.start >= 0 else ""
        return f"dot %{value.a}, %{value.b} over {' '.join(value.axes)}{start}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; `region_from_json` reads it back."""
        return {
            "name": self.name,
            "axes": [[a.name, a.extent] for a in self.axes],
            "slots": [[s.name, s.dtype.name, s.size, s.role] for s in self.slots],
            "values": [_value_to_json(v) for v in self.values],
            "stores": [
                [s.slot, _index_to_json(s.index), s.value, s.combine, _mask_to_json(s.mask)]
                for s in self.stores
            ],
            "limits": [[x.axis, x.inner, x.capacity, x.slot] for x in self.limits],
            "source": [self.source.file, self.source.line, self.source.label],
            "space": {
                "kind": self.space.kind,
                "live": _mask_to_json(self.space.live),
                **self._tests_to_json(),
                **{group: [a.name for a in getattr(self.space, group)] for group in GROUPS},
            },
            **({} if self.table is None else {"table": _table_to_json(self.table)}),
            **({} if self.library is None else {"library": _library_to_json(self.library)}),
        }

    def _tests_to_json(self) -> dict[str, Any]:
        tests = [_value_to_json(t) for t in self.space.tests]
        return {"tests": tests} if tests else {}


def whole_axes(region: Region) -> tuple[tuple[Axis, ...], ...]:
    """Groups of a chain's axes that lie in one tile each: what a first dot contracts, and n."""
    names = {a.name for a in region.space.inner}
    groups = [region.space.n]
    for value in region.values:
        if isinstance(value, Dot) and set(value.axes) <= names:
            groups.append(tuple(a for a in region.axes if a.name in value.axes))
    return tuple(dict.fromkeys(groups))


def value_dims(
    axes: tuple[Axis, ...], values: tuple[Value, ...] | list[Value]
) -> tuple[tuple[str, ...], ...]:
    """Axes of each value, in the order of `axes`."""
    order = {a.name: i for i, a in enumerate(axes)}
    result: list[tuple[str, ...]] = []
    for value in values:
        names: set[str] = set()
        for e in indices_of(value):
            names |= e.variables()
        for operand in operands_of(value):
            names.update(result[operand])
        if isinstance(value, (Reduce, Dot)):
            names -= set(value.axes)
        if isinstance(value, (Scan, Sort)):
            names |= set(value.axes)
        result.append(tuple(sorted(names, key=order.__getitem__)))
    return tuple(result)


def indices_of(value: Value | Store) -> tuple[Index, ...]:
    """Index expressions that a value or store evaluates."""
    if not isinstance(value, _INDEXED):
        return ()
    if isinstance(value, (Load, Store)):
        return (value.index, *(b.index for b in value.mask))
    if isinstance(value, IndexValue):
        return (value.index,)
    return tuple(b.index for b in value.mask)


def operands_of(value: Value | Store) -> tuple[int, ...]:
    """Numbers of the values that a value or store reads, those inside its indices included."""
    if isinstance(value, (Compute, Scan)):
        return value.args
    if isinstance(value, (Reduce, Sort)):
        return (value.arg,)
    if isinstance(value, Dot):
        return (value.a, value.b) if value.start < 0 else (value.a, value.b, value.start)
    inner = tuple(sorted({v for e in indices_of(value) for v in e.loaded()}))
    if isinstance(value, Store):
        return (value.value, *inner)
    return inner


def verify_region(region: Region) -> None:
    """Check the invariant of the module.

    Raises:
        VerifyError: names the value that breaks it.
    """
    names = {a.name for a in region.axes}
    for number, value in enumerate(region.values):
        where = f"%{number} of region {region.name}"
        if any(not 0 <= v < number for v in operands_of(value)):
            raise VerifyError(f"{where} refers to a later value.", source=region.source)
        if any(not e.variables() <= names for e in indices_of(value)):
            raise VerifyError(f"{where} uses an axis that is not there.", source=region.source)
        if isinstance(value, Compute):
            if not is_elementwise(value.op) or len(value.args) != OPS[value.op].arity:
                raise VerifyError(f"{where} is a bad {value.op}.", source=region.source)
        if isinstance(value, Reduce) and value.op not in REDUCE:
            raise VerifyError(f"{where} reduces with {value.op}.", source=region.source)
        if isinstance(value, Scan) and value.op not in SCAN:
            raise VerifyError(f"{where} scans with {value.op}.", source=region.source)
        if isinstance(value, Dot) and value.start >= 0:
            _check_start(region, value.start, where)
        if isinstance(value, Load) and not value.mask:
            _check_bounds(region, value.slot, value.index, where)
    for store in region.stores:
        if not store.mask:
            _check_bounds(region, store.slot, store.index, "a store")
        if region.slots[store.slot].role == "in":
            raise VerifyError(f"{region.name} stores to an input.", source=region.source)
    if region.table is not None:
        _check_table(region, region.table)
    if region.library is not None and (region.values or region.stores or region.limits):
        raise VerifyError(f"{region.name} is a call and a kernel.", source=region.source)


def _check_start(region: Region, start: int, where: str) -> None:
    """A dot that another is summed onto is one, and is read by that one alone."""
    readers = sum(operands_of(x).count(start) for x in (*region.values, *region.stores))
    if not isinstance(region.values[start], Dot) or readers != 1:
        raise VerifyError(f"{where} starts from what others read.", source=region.source)


def _check_table(region: Region, table: Table) -> None:
    """Members write apart from each other, and lengths are those of one axis that indices walk."""

    def fail(why: str) -> None:
        raise VerifyError(f"The table of {region.name}: {why}.", source=region.source)

    if table.members < 2 or len(set(table.own)) != len(table.own):
        fail(f"{table.members} members that own the slots {table.own}")
    if any(not 0 <= s < len(region.slots) for s in table.own):
        fail("a member owns a slot that is not there")
    if any(s.slot not in table.own for s in region.stores):
        fail("members share a slot that they write")
    if not table.lengths:
        return
    if len(table.lengths) != table.members or len(region.axes) != 1:
        fail(f"{len(table.lengths)} lengths for {len(region.axes)} axes of {table.members} members")
    if min(table.lengths) < 1 or max(table.lengths) != region.axes[0].extent:
        fail(f"the longest member is not the region's {region.axes[0].extent}")
    walked = ix.var(region.axes[0].name, region.axes[0].extent)
    for item in (*region.values, *region.stores):
        if any(e != walked and not e.is_const for e in indices_of(item)):
            fail("an index that is neither the axis nor a number")
        if isinstance(item, Inside) or (isinstance(item, (Load, Store)) and item.mask):
            fail("a mask")


def _check_bounds(region: Region, slot: int, index: Index, where: str) -> None:
    size = region.slots[slot].size
    if index.loaded() or 0 in (a.extent for a in region.axes):
        return
    if index.lo < 0 or index.hi >= size:
        raise VerifyError(
            f"{where}: {index} in [{index.lo}, {index.hi}] leaves {region.slots[slot].name} of "
            f"{size} elements.",
            source=region.source,
        )


def _mask_text(mask: Mask) -> str:
    return " and ".join(map(str, mask))


def _index_to_json(e: Index) -> list[Any]:
    terms: list[Any] = []
    for atom, c in e.terms:
        if isinstance(atom, Var):
            terms.append(["var", atom.name, atom.extent, c])
        elif isinstance(atom, Loaded):
            terms.append(["loaded", atom.value, atom.lo, atom.hi, c])
        elif isinstance(atom, (Div, Mod)):
            kind = "div" if isinstance(atom, Div) else "mod"
            terms.append([kind, _index_to_json(atom.base), atom.divisor, c])
    return [e.const, terms]


def _index_from_json(data: list[Any]) -> Index:
    result = ix.constant(data[0])
    for kind, *rest in data[1]:
        if kind == "var":
            part = ix.var(rest[0], rest[1])
        elif kind == "loaded":
            part = ix.loaded(rest[0], rest[1], rest[2])
        elif kind == "div":
            part = _index_from_json(rest[0]) // rest[1]
        else:
            part = _index_from_json(rest[0]) % rest[1]
        result = result + part * rest[-1]
    return result


def _mask_to_json(mask: Mask) -> list[Any]:
    return [[_index_to_json(b.index), b.lo, b.hi] for b in mask]


def _mask_from_json(data: list[Any]) -> Mask:
    return tuple(Bound(_index_from_json(i), lo, hi) for i, lo, hi in data)


def _value_to_json(v: Value) -> list[Any]:
    if isinstance(v, Load):
        return ["load", v.dtype.name, v.slot, _index_to_json(v.index), _mask_to_json(v.mask)]
    if isinstance(v, Const):
        return ["const", v.dtype.name, repr(v.value)]
    if isinstance(v, IndexValue):
        return ["index", v.dtype.name, _index_to_json(v.index)]
    if isinstance(v, Inside):
        return ["inside", v.dtype.name, _mask_to_json(v.mask)]
    if isinstance(v, Compute):
        return ["compute", v.dtype.name, v.op.value, list(v.args), v.word]
    if isinstance(v, Reduce):
        return ["reduce", v.dtype.name, v.op.value, v.arg, list(v.axes)]
    if isinstance(v, Scan):
        return ["scan", v.dtype.name, v.op.value, list(v.args), list(v.axes)]
    if isinstance(v, Sort):
        return ["sort", v.dtype.name, v.arg, list(v.axes)]
    start = [v.start] if v.start >= 0 else []
    return ["dot", v.dtype.name, v.a, v.b, list(v.axes), *start]


def _value_from_json(data: list[Any]) -> Value:
    kind, dtype, *rest = data[0], dt.by_name(data[1]), *data[2:]
    if kind == "load":
        return Load(rest[0], _index_from_json(rest[1]), _mask_from_json(rest[2]), dtype)
    if kind == "const":
        if rest[0] in ("True", "False"):
            return Const(rest[0] == "True", dtype)
        return Const(float(rest[0]) if dtype.is_float else int(rest[0]), dtype)
    if kind == "index":
        return IndexValue(_index_from_json(rest[0]), dtype)
    if kind == "inside":
        return Inside(_mask_from_json(rest[0]), dtype)
    if kind == "compute":
        return Compute(Op(rest[0]), tuple(rest[1]), dtype, rest[2])
    if kind == "reduce":
        return Reduce(Op(rest[0]), rest[1], tuple(rest[2]), dtype)
    if kind == "scan":
        return Scan(Op(rest[0]), tuple(rest[1]), tuple(rest[2]), dtype)
    if kind == "sort":
        return Sort(rest[0], tuple(rest[1]), dtype)
    return Dot(rest[0], rest[1], tuple(rest[2]), dtype, *rest[3:])


def _test_from_json(data: list[Any]) -> Inside | Compute:
    test = _value_from_json(data)
    assert isinstance(test, (Inside, Compute))
    return test


def region_from_json(data: dict[str, Any]) -> Region:
    """Inverse of `Region.to_json`."""
    axes = tuple(Axis(n, e) for n, e in data["axes"])
    by_name = {a.name: a for a in axes}
    space = data["space"]
    return Region(
        name=data["name"],
        axes=axes,
        slots=tuple(Slot(n, dt.by_name(d), size, role) for n, d, size, role in data["slots"]),
        values=tuple(_value_from_json(v) for v in data["values"]),
        stores=tuple(
            Store(slot, _index_from_json(i), value, combine, _mask_from_json(mask))
            for slot, i, value, combine, mask in data["stores"]
        ),
        source=Source(*data["source"]),
        limits=tuple(AxisLimit(*x) for x in data["limits"]),
        space=Space(
            space["kind"],
            live=_mask_from_json(space["live"]),
            tests=tuple(_test_from_json(t) for t in space.get("tests", ())),
            **{group: tuple(by_name[n] for n in space[group]) for group in GROUPS},
        ),
        table=_table_from_json(data["table"]) if "table" in data else None,
        library=_library_from_json(data["library"]) if "library" in data else None,
    )


def _library_to_json(call: LibraryCall) -> list[Any]:
    return [call.function, [list(s) for s in call.shapes], list(call.params), call.dtype.name]


def _library_from_json(data: list[Any]) -> LibraryCall:
    shapes = tuple(tuple(s) for s in data[1])
    return LibraryCall(data[0], shapes, tuple(data[2]), dt.by_name(data[3]))


def _table_to_json(table: Table) -> list[Any]:
    return [table.members, list(table.own), list(table.lengths)]


def _table_from_json(data: list[Any]) -> Table:
    return Table(data[0], tuple(data[1]), tuple(data[2]))
