"""Which work a stored choice belongs to.

In: a Region. Out: texts. Invariant: two regions have one `region_key` exactly if they are the same
work, whatever their names and source lines; regions that differ in sizes alone have one
`class_key`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tgrad.fusion.region import Load, Region
from tgrad.fusion.region_json import region_to_json


def region_key(region: Region) -> str:
    """Digest of the work: sizes, types, addresses; not of names and lines."""
    data = region_to_json(region)
    data["slots"] = [slot[1:] for slot in data["slots"]]
    return _digest({**data, "name": None, "source": None})


def class_key(region: Region) -> str:
    """Digest of the form of the work: what is computed in which order and in which types, and what
    becomes of each axis; no sizes, no addresses."""
    return _class_key(region, ())


def class_key_with_numbers(region: Region) -> str | None:
    """That of the same work with numbers written in it where this reads inputs of one element, as a
    plan that numbers share does; None if it reads none."""
    inputs = _numbers(region)
    return _class_key(region, inputs) if inputs else None


def _numbers(region: Region) -> tuple[int, ...]:
    """The inputs of one element that serve as numbers alone."""
    if region.table is not None or region.limits:
        return ()
    loads = [v for v in region.values if isinstance(v, Load)]
    read, stored = {v.slot for v in loads}, {s.slot for s in region.stores}
    return tuple(i for i in sorted(read - stored) if region.slots[i].size == 1)


def _class_key(region: Region, numbers: tuple[int, ...]) -> str:
    """The class with some inputs taken for numbers."""
    data = region_to_json(region)
    space = data["space"]
    slots = [i for i in range(len(region.slots)) if i not in numbers]
    values = [
        ["const", v[1]] if v[0] == "load" and v[2] in numbers else _form(v) for v in data["values"]
    ]
    return _digest(
        {
            "axes": [a.name for a in region.axes],
            "slots": [[region.slots[i].dtype.name, region.slots[i].role] for i in slots],
            "values": values,
            "stores": [
                [slots.index(s.slot), s.value, s.combine, bool(s.mask)] for s in region.stores
            ],
            "space": {**space, "live": bool(space["live"])},
            "limits": len(region.limits),
            "table": None if region.table is None else bool(region.table.lengths),
        }
    )


def _form(value: list[Any]) -> list[Any]:
    """A value without its index, its mask and its number."""
    kind, dtype, *rest = value
    if kind in ("load", "const", "index", "inside"):
        return [kind, dtype]
    return [kind, dtype, *rest]


def extents_of(region: Region) -> tuple[int, ...]:
    """The sizes that regions of one class differ in: of the axes, in order, and of a batch."""
    members = 1 if region.table is None else region.table.members
    return (*(a.extent for a in region.axes), members)


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
