"""Sums of rows that lie in memory, in registers of 32 bytes where there are wider ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.cpu_fallback.cases import F32, Draft, call, compare, random_slots
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.graph.op import Op
from tgrad.settings import Settings

WIDE = dataclasses.replace(
    cpu_fallback.detect_machine(), vector_bytes=64, vector_registers=32, l2=1
)
"""Registers of 64 bytes; nothing fits its second-level cache."""


def sum_of(
    n: int, m: int, op: Op | None = None, square: bool = False, dtype: dt.DType = F32
) -> Region:
    """Of rows, of a row and a row beside it, or of their squares; of a row less a number of it."""
    d = Draft(i=n, j=m)
    x = d.input("x", "i j", dtype)
    if op is not None:
        x = d.op(op, x, d.input("y", "i j" if op is Op.MUL else "i", dtype))
    if square:
        x = d.op(Op.MUL, x, x)
    d.store(d.reduce(Op.REDUCE_SUM, x, "j"), "i")
    return d.region("sum", "reduce", parallel="i", row="j")


@pytest.mark.parametrize(
    "region, is_halved",
    [
        pytest.param(sum_of(5, 1024), True, id="whole"),
        pytest.param(sum_of(7, 1000), True, id="ragged"),
        pytest.param(sum_of(3, 33), True, id="one step and a rest"),
        pytest.param(sum_of(3, 31), False, id="less than a step"),
        pytest.param(sum_of(2, 20_011), True, id="in strips"),
        pytest.param(sum_of(1, 300_007), True, id="in chunks"),
        pytest.param(sum_of(4, 515, Op.MUL), True, id="of products"),
        pytest.param(sum_of(4, 515, Op.SUB, square=True), True, id="of squared differences"),
        pytest.param(sum_of(4, 515, Op.MAXIMUM), False, id="of maxima"),
        pytest.param(sum_of(4, 515, dtype=dt.float64), False, id="of float64"),
        pytest.param(sum_of(4, 515, dtype=dt.bfloat16), False, id="of bfloat16"),
    ],
)
def test_sums(settings: Settings, region: Region, is_halved: bool) -> None:
    [draft] = cpu_fallback.draft([region], machine=WIDE)
    assert ("tg_sum_8(" in draft.source) == is_halved
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    given = random_slots(region)
    have, want = call(artifact.entry, given)[-1], evaluate_region(region, given)[-1]
    compare(have, want, 2e-2 if have.dtype.itemsize == 2 else 1e-5, draft.source)


def test_a_second_pass_is_as_before(settings: Settings) -> None:
    d = Draft(i=6, j=777)
    x = d.input("x", "i j")
    mean = d.op(Op.DIV, d.reduce(Op.REDUCE_SUM, x, "j"), d.input("n", "i"))
    apart = d.op(Op.SUB, x, mean)
    d.store(d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, apart, apart), "j"), "i")
    region = d.region("variance", "reduce", parallel="i", row="j")
    [draft] = cpu_fallback.draft([region], machine=WIDE)
    assert draft.source.count("tg_sum_8(") == 1
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    given = random_slots(region)
    given[1][:] = 777
    have = call(artifact.entry, given)[-1]
    compare(have, evaluate_region(region, given)[-1], 1e-5, draft.source)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 31, 64, 69])
def test_what_is_not_finite(settings: Settings, value: float, place: int) -> None:
    region = sum_of(3, 70)
    [draft] = cpu_fallback.draft([region], machine=WIDE)
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    given = random_slots(region)
    given[0][70 + place] = value
    have = call(artifact.entry, given)[-1]
    np.testing.assert_array_equal(have[1], np.float32(value))
    assert np.isfinite(have[[0, 2]]).all()


@pytest.mark.parametrize("op", [Op.REDUCE_MAX, Op.REDUCE_MIN])
@pytest.mark.parametrize("m", [32, 33, 100, 1024])
@pytest.mark.parametrize("scaled", [False, True])
def test_extrema(settings: Settings, op: Op, m: int, scaled: bool) -> None:
    """NaN wherever a row has one, in registers and in what is left; infinities."""
    d = Draft(i=2 * m + 4, j=m)
    x = d.input("x", "i j")
    x = d.op(Op.MUL, x, d.input("y", "i")) if scaled else x
    d.store(d.reduce(op, x, "j"), "i")
    region = d.region("extremum", "reduce", parallel="i", row="j")
    [draft] = cpu_fallback.draft([region], machine=dataclasses.replace(WIDE, l2=1 << 30))
    assert f"tg_{'max' if op is Op.REDUCE_MAX else 'min'}_8(" in draft.source
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    given = random_slots(region)
    rows = given[0].reshape(2 * m + 4, m)
    for n in range(m):
        rows[n, n] = np.nan
        rows[m + n, n] = np.inf if n % 2 else -np.inf
    rows[-4:-2], rows[-2:] = np.inf, -np.inf
    have, want = call(artifact.entry, given)[-1], evaluate_region(region, given)[-1]
    compare(have, want, 1e-6, draft.source)
    assert np.isnan(have).sum() == m
