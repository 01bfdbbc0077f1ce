"""Rows picked from tables that no cache holds: fetched ahead, and copied past the caches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.cpu_fallback.cases import F32, Draft, call, compare, random_slots
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Compute, Const, Region
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import Op
from tgrad.settings import Settings

ROWS = 9
"""Of the table; numbers from -3 on and beyond the last row are picked as well."""

NO_CACHES = dataclasses.replace(cpu_fallback.detect_machine(), l2=1, l3=1)


def picked_rows(
    name: str, count: int, columns: int, dtype: DType = F32, wraps: bool = False, adds: bool = False
) -> Region:
    """out[i, j] = table[number[i], j], zero outside; negative numbers from the end if it `wraps`,
    one more than that if it `adds`."""
    d = Draft(i=count, j=columns)
    number = d.input("number", "i", dt.int64)
    if wraps:
        zero, rows = d.add(Const(0, dt.int64)), d.add(Const(ROWS, dt.int64))
        is_negative = d.add(Compute(Op.LT, (number, zero), dt.bool_))
        number = d.op(Op.WHERE, is_negative, d.op(Op.ADD, number, rows), number)
    row = loaded(number, -20, 20)
    table = d.slot("table", dtype, ROWS * columns)
    value = d.load(table, row * columns + d.var("j"), (Bound(row, 0, ROWS),))
    if adds:
        value = d.op(Op.ADD, value, d.add(Const(1.0, dtype)))
    d.store(value, "i j")
    return d.region(name, "map", parallel="i j")


@pytest.mark.parametrize(
    ("region", "copies"),
    [
        (picked_rows("plain", 50, 256), True),
        (picked_rows("few", 3, 64), False),
        (picked_rows("of_odd_length", 50, 67), True),
        (picked_rows("from_the_end", 50, 80, wraps=True), True),
        (picked_rows("longer_than_is_fetched", 20, 1100), True),
        (picked_rows("of_halves", 50, 256, dt.float16), False),
        (picked_rows("and_added_to", 50, 256, adds=True), False),
    ],
    ids=lambda x: x.name if isinstance(x, Region) else "",
)
def test_picked_rows(settings: Settings, region: Region, copies: bool) -> None:
    rng = np.random.default_rng(7)
    number, table, out = (s.size for s in region.slots)
    kind = region.slots[1].dtype.numpy
    given = [
        rng.integers(-3, ROWS + 3, number),
        rng.standard_normal(table).astype(kind),
        np.zeros(out, kind),
    ]
    [draft] = cpu_fallback.draft([region], machine=NO_CACHES)
    assert ("tg_fetch" in draft.source) == (number > 4)
    assert ("tg_stream" in draft.source) == copies
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    have = call(artifact.entry, given)
    compare(have[2], evaluate_region(region, given)[2], 1e-6, draft.source)


def test_rows_that_a_cache_holds_are_left_alone() -> None:
    [draft] = cpu_fallback.draft([picked_rows("plain", 50, 256)])
    assert "tg_fetch" not in draft.source and "tg_stream" not in draft.source


def test_rows_that_the_last_cache_holds_are_not_copied_past_it() -> None:
    region = picked_rows("plain", 50, 256)
    moved = sum(s.size * s.dtype.itemsize for s in region.slots)
    for size, copies in ((moved, False), (moved // 2, True)):
        machine = dataclasses.replace(NO_CACHES, l3=size)
        [draft] = cpu_fallback.draft([region], machine=machine)
        assert "tg_fetch" in draft.source
        assert ("tg_stream" in draft.source) == copies


def test_two_rows_picked_in_one_program(settings: Settings) -> None:
    """Each is fetched ahead by itself: a sum over pairs of rows."""
    d = Draft(i=50, j=256, r=2)
    number = d.input("number", "i r", dt.int64)
    row = loaded(number, -20, 20)
    table = d.slot("table", F32, ROWS * 256)
    value = d.load(table, row * 256 + d.var("j"), (Bound(row, 0, ROWS),))
    value = d.op(Op.MUL, value, d.input("weight", "i r"))
    d.store(d.reduce(Op.REDUCE_SUM, value, "r"), "i j")
    region = d.region("pairs", "reduce", parallel="i j", row="r")
    given = random_slots(region)
    given[0] = np.random.default_rng(7).integers(-3, ROWS + 3, 100)
    [draft] = cpu_fallback.draft([region], machine=NO_CACHES)
    assert draft.source.count("tg_fetch(") == 2
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    have = call(artifact.entry, given)
    compare(have[-1], evaluate_region(region, given)[-1], 1e-5, draft.source)
