"""Which stored choice a kernel gets.

In: Records of several origins, a Region, its SearchSpace. Out: a Config, or None where the
heuristic stands. Invariant: a choice is used only at the place where it was measured, and only if
it is in the kernel's space.

The rule: the record of the very region, looked for in the order of the origins; else, of all
records of its class, the one whose sizes are nearest, if no size is off by more than a factor of
two. Distance is the sum of |log2(size / size)|; of equal ones, the record with the smaller key. The
values of a nearest record are moved to the nearest legal ones; where its heuristic stood, it stands
here too. Where there is none, a region that reads numbers as inputs, since they vary, takes that of
the class in which they are written.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import log2

from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.kernel.space import Place, SearchSpace, Value
from tgrad.tune.key import class_key, class_key_with_numbers, extents_of, region_key
from tgrad.tune.record import Record

FARTHEST = 1.0
"""Largest |log2| of the ratio of two sizes of which one's choice serves the other."""


@dataclass(frozen=True, slots=True)
class Match:
    """A record for a region, and whether it was measured on this very region."""

    record: Record
    is_exact: bool


class Choices:
    """The records of one place, in the order of their origins."""

    def __init__(self, place: Place, origins: Iterable[Iterable[Record]]):
        self.place = place
        self._by_key: dict[str, Record] = {}
        self._by_form: dict[str, list[Record]] = defaultdict(list)
        self._ranked: dict[str, Record] = {}
        self._plans: dict[str, Record] = {}
        for record in (r for records in origins for r in records):
            if record.place != place:
                if record.place.kind == place.kind and not record.is_plan:
                    self._ranked.setdefault(record.key, record)
            elif record.is_plan:
                self._plans.setdefault(record.key, record)
            elif not record.is_measured:
                self._ranked[record.key] = record
            elif record.key not in self._by_key:
                self._by_key[record.key] = record
                self._by_form[record.form].append(record)

    def __bool__(self) -> bool:
        return bool(self._by_key or self._plans)

    @cached_property
    def digest(self) -> str:
        """Of the records that runs use, and of their place."""
        used = (*self._by_key.values(), *self._plans.values())
        text = repr((self.place, [record.digest for record in used]))
        return hashlib.sha256(text.encode()).hexdigest()

    def plan(self, key: Callable[[], str]) -> Mapping[str, Value]:
        """What was decided for a graph as a whole; `key` is asked only if there is anything."""
        found = self._plans.get(key()) if self._plans else None
        return {} if found is None else found.choice

    def plan_record(self, key: str) -> Record | None:
        """The record behind that."""
        return self._plans.get(key)

    def has(self, region: Region) -> bool:
        """Whether the very region was measured."""
        return region_key(region) in self._by_key

    def ranked(self, region: Region) -> list[Record]:
        """What was ranked for the very region, or measured with another version or another number
        of processors of the kind: a search starts from it, no run uses it."""
        found = self._ranked.get(region_key(region))
        return [] if found is None else [found]

    def match(self, region: Region) -> Match | None:
        """The record that the rule names."""
        found = self._by_key.get(region_key(region))
        if found is not None:
            return Match(found, True)
        nearest = self._nearest(region, class_key(region))
        if nearest is None:
            form = class_key_with_numbers(region)
            nearest = None if form is None else self._nearest(region, form)
        return None if nearest is None else Match(nearest, False)

    def _nearest(self, region: Region, form: str) -> Record | None:
        """The record of a class whose sizes are nearest to a region's."""
        wanted = extents_of(region)
        near = [
            (distance, record.key, record)
            for record in self._by_form.get(form, ())
            if (distance := distance_of(wanted, record.extents)) is not None
        ]
        return min(near, key=lambda n: n[:2])[2] if near else None

    def config(self, region: Region, space: Callable[[Region], SearchSpace]) -> Config | None:
        """The configuration that the rule gives a region; None for the heuristic's."""
        if not self._by_key:
            return None
        found = self.match(region)
        if found is None or not (found.is_exact or found.record.gain > 1):
            return None
        legal = space(region)
        named = found.record.choice
        choice = legal.find(named) if found.is_exact else legal.nearest(named)
        config = None if choice is None else legal.config(choice)
        origin = "stored" if found.is_exact else "nearest"
        return None if config is None else replace(config, origin=origin)


def distance_of(a: tuple[int, ...], b: tuple[int, ...]) -> float | None:
    """How far sizes are from each other; None if too far.

    >>> distance_of((64, 32), (128, 32)), distance_of((64, 32), (256, 32))
    (1.0, None)
    """
    if len(a) != len(b):
        return None
    steps = [abs(log2(max(x, 1) / max(y, 1))) for x, y in zip(a, b)]
    return sum(steps) if max(steps, default=0.0) <= FARTHEST else None
