"""Records for tests of stores and files."""

from __future__ import annotations

from dataclasses import replace

from tests.tune.regions import region_of
from tgrad import cpu_fallback
from tgrad.kernel.space import Place
from tgrad.settings import settings
from tgrad.tune.record import Record, make_record

ELSEWHERE = Place("another processor", "C 0, cc 1")


def record_of(kind: str = "matmul", size: int = 64, place: Place | None = None) -> Record:
    """A record of this machine, whose choice is the heuristic's."""
    region = region_of(kind, size)
    space = cpu_fallback.search_space(region)
    here = cpu_fallback.place(settings) if place is None else place
    return make_record(region, here, "out = a", space.named(space.start), 2e-3, 1e-3, 7)


def with_choice(record: Record, **values: int | str) -> Record:
    """The record with other values."""
    return replace(record, choice={**record.choice, **values})
