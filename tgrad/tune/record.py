"""A stored choice.

In: what a search found for a kernel. Out: `Record`, plain data and back. Invariant: its digest
covers every field, so that one changed by hand or by a fault does not pass for a measurement.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from tgrad.fusion.region import Region
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.kernel.space import Place, Value
from tgrad.tune.key import class_key, extents_of, region_key

PLAN = "whole plan"
"""In place of the key of a class, for the choices of a whole graph."""


class RecordError(ValueError):
    """Data that is no record; the message says why."""


@dataclass(frozen=True)
class Record:
    """The choice for one kernel at one place; or, with no region, those for a whole graph: then the
    key is the graph's, the parameters are places in it, and the times are sums over the kernels
    that each choice changes.

    Attributes:
        key: the region's; see tune/key.py.
        form: the key of its class.
        extents: its sizes.
        device, generator: the place.
        kernel, line, equation: what it is, for people.
        choice: parameters and their values.
        heuristic, tuned: seconds of a launch; 0.0 where nothing was measured.
        trials: configurations measured.
        region: the region as JSON text.
    """

    key: str
    form: str
    extents: tuple[int, ...]
    device: str
    generator: str
    kernel: str
    line: str
    equation: str
    choice: Mapping[str, Value]
    heuristic: float
    tuned: float
    trials: int
    region: str

    @property
    def place(self) -> Place:
        return Place(self.device, self.generator)

    @property
    def is_plan(self) -> bool:
        """Whether it is of a whole graph."""
        return self.form == PLAN

    @property
    def is_measured(self) -> bool:
        """Whether it was measured, and not only ranked by estimates."""
        return self.tuned > 0

    @property
    def gain(self) -> float:
        """How many times quicker than the heuristic's; 1.0 where nothing was measured."""
        return self.heuristic / self.tuned if self.is_measured else 1.0

    @cached_property
    def work(self) -> Region:
        """The region itself.

        Raises:
            RecordError: its text is none.
        """
        try:
            return region_from_json(json.loads(self.region))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RecordError(f"the region of {self.kernel} cannot be read: {error}") from None

    @property
    def digest(self) -> str:
        """Of all fields."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain data; `record_from_json` reads it back."""
        return {**asdict(self), "extents": list(self.extents), "choice": dict(self.choice)}

    def check(self) -> None:
        """Whether the keys are those of the region.

        Raises:
            RecordError: they are not.
        """
        if self.is_plan:
            if self.region or self.extents:
                raise RecordError(f"{self.kernel} is of a whole graph and has a region")
            return
        region = self.work
        if region_key(region) != self.key or class_key(region) != self.form:
            raise RecordError(f"the key of {self.kernel} is not that of its region")
        if extents_of(region) != self.extents:
            raise RecordError(f"the extents of {self.kernel} are not those of its region")


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("key", "form", "device", "generator", "kernel", "line", "equation"), (str,)),
    "region": (str,),
    "extents": (list, tuple),
    "choice": (dict,),
    "heuristic": (int, float),
    "tuned": (int, float),
    "trials": (int,),
}


def record_from_json(data: Any) -> Record:
    """Inverse of `Record.to_json`.

    Raises:
        RecordError: a field is missing, unknown or of another type.
    """
    if not isinstance(data, dict):
        raise RecordError("a record is not an object")
    names = {f.name for f in fields(Record)}
    if set(data) != names:
        wrong = ", ".join(sorted(names ^ set(data)))
        raise RecordError(f"missing or unknown fields: {wrong}")
    for name, types in _TYPES.items():
        if not isinstance(data[name], types) or isinstance(data[name], bool):
            raise RecordError(f"{name} is {data[name]!r}")
    if not all(type(n) is int for n in data["extents"]):
        raise RecordError(f"extents are {data['extents']!r}")
    if not all(type(v) in (int, str) for v in data["choice"].values()):
        raise RecordError(f"the choice is {data['choice']!r}")
    times = {name: float(data[name]) for name in ("heuristic", "tuned")}
    if not all(0 <= t < float("inf") for t in times.values()):
        raise RecordError(f"the times are {times}")
    return Record(**{**data, "extents": tuple(data["extents"]), **times})


def make_record(
    region: Region,
    place: Place,
    equation: str,
    choice: Mapping[str, Value],
    heuristic: float = 0.0,
    tuned: float = 0.0,
    trials: int = 0,
) -> Record:
    """The record of a search's result for a region; of the user's file it keeps the name alone."""
    data = region_to_json(region)
    data["source"][0] = os.path.basename(data["source"][0])
    return Record(
        key=region_key(region),
        form=class_key(region),
        extents=extents_of(region),
        device=place.device,
        generator=place.generator,
        kernel=region.name,
        line=str(region.source) if region.source.line else "",
        equation=equation,
        choice=dict(choice),
        heuristic=float(heuristic),
        tuned=float(tuned),
        trials=trials,
        region=json.dumps(data, sort_keys=True, separators=(",", ":")),
    )


def plan_record(
    key: str,
    name: str,
    place: Place,
    choice: Mapping[str, Value],
    heuristic: float,
    tuned: float,
    trials: int,
) -> Record:
    """The record of what was decided for a graph as a whole."""
    return Record(
        key=key,
        form=PLAN,
        extents=(),
        device=place.device,
        generator=place.generator,
        kernel=name,
        line="",
        equation="",
        choice=dict(choice),
        heuristic=heuristic,
        tuned=tuned,
        trials=trials,
        region="",
    )
