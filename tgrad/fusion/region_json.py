"""Regions as plain data, which other processes and files hold.

In: a Region. Out: lists, dictionaries, numbers and text, as JSON has them, and back. Invariant:
what is read back equals what was written.
"""

from __future__ import annotations

import json
from typing import Any

from tgrad import dtype as dt
from tgrad.errors import Source
from tgrad.fusion.region import (
    GROUPS,
    Axis,
    AxisLimit,
    Compute,
    Const,
    Dot,
    IndexValue,
    Inside,
    Load,
    Mask,
    Reduce,
    Region,
    Scan,
    Slot,
    Sort,
    Space,
    Store,
    Table,
    Value,
)
from tgrad.graph import index as ix
from tgrad.graph.collective import CollectiveCall
from tgrad.graph.index import Bound, Div, Index, Loaded, Mod, Var
from tgrad.graph.library import LibraryCall
from tgrad.graph.op import Op


def region_to_json(region: Region) -> dict[str, Any]:
    """Plain data; `region_from_json` reads it back."""
    return {
        "name": region.name,
        "axes": [[a.name, a.extent] for a in region.axes],
        "slots": [[s.name, s.dtype.name, s.size, s.role] for s in region.slots],
        "values": [_value_to_json(v) for v in region.values],
        "stores": [
            [s.slot, _index_to_json(s.index), s.value, s.combine, _mask_to_json(s.mask)]
            for s in region.stores
        ],
        "limits": [[x.axis, x.inner, x.capacity, x.slot] for x in region.limits],
        "source": [region.source.file, region.source.line, region.source.label],
        "space": {
            "kind": region.space.kind,
            "live": _mask_to_json(region.space.live),
            **_tests_to_json(region),
            **{group: [a.name for a in getattr(region.space, group)] for group in GROUPS},
        },
        **({} if region.table is None else {"table": _table_to_json(region.table)}),
        **({} if region.call is None else {"call": _call_to_json(region.call)}),
    }


def region_from_json(data: dict[str, Any]) -> Region:
    """Inverse of `region_to_json`."""
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
        call=_call_from_json(data["call"]) if "call" in data else None,
    )


def work_text(region: Region) -> str:
    """JSON text that two regions share exactly if they are the same work."""
    return json.dumps({**region_to_json(region), "source": None}, sort_keys=True)


def _tests_to_json(region: Region) -> dict[str, Any]:
    tests = [_value_to_json(t) for t in region.space.tests]
    return {"tests": tests} if tests else {}


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
        return ["sort", v.dtype.name, v.arg, list(v.axes), *([v.first] if v.first else [])]
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
        return Sort(rest[0], tuple(rest[1]), dtype, *rest[2:])
    return Dot(rest[0], rest[1], tuple(rest[2]), dtype, *rest[3:])


def _test_from_json(data: list[Any]) -> Inside | Compute:
    test = _value_from_json(data)
    assert isinstance(test, (Inside, Compute))
    return test


def _call_to_json(call: LibraryCall | CollectiveCall) -> list[Any]:
    group = [call.group, call.processes] if isinstance(call, CollectiveCall) else []
    shapes = [list(s) for s in call.shapes]
    return [call.function, shapes, list(call.params), call.dtype.name, *group]


def _call_from_json(data: list[Any]) -> LibraryCall | CollectiveCall:
    function, shapes, params, dtype, *group = data
    make = CollectiveCall if group else LibraryCall
    shapes = tuple(tuple(s) for s in shapes)
    params = tuple(tuple(p) if isinstance(p, list) else p for p in params)
    return make(function, shapes, params, dt.by_name(dtype), *group)


def _table_to_json(table: Table) -> list[Any]:
    return [table.members, list(table.own), list(table.lengths)]


def _table_from_json(data: list[Any]) -> Table:
    return Table(data[0], tuple(data[1]), tuple(data[2]))
