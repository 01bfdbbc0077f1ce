"""Which work a stored choice belongs to.

In: a Region. Out: texts. Invariant: two regions have one `region_key` exactly if they are the same
work, whatever their names and source lines; regions that differ in sizes alone have one
`class_key`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tgrad.fusion.region import Region


def region_key(region: Region) -> str:
    """Digest of the work: sizes, types, addresses; not of names and lines."""
    data = region.to_json()
    data["slots"] = [slot[1:] for slot in data["slots"]]
    return _digest({**data, "name": None, "source": None})


def class_key(region: Region) -> str:
    """Digest of the form of the work: what is computed in which order and in which types, and what
    becomes of each axis; no sizes, no addresses."""
    space = region.to_json()["space"]
    return _digest(
        {
            "axes": [a.name for a in region.axes],
            "slots": [[s.dtype.name, s.role] for s in region.slots],
            "values": [_form(v) for v in region.to_json()["values"]],
            "stores": [[s.slot, s.value, s.combine, bool(s.mask)] for s in region.stores],
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
