"""Rows that are passed over several times: the last pass past the caches, exponentials of values
below their maximum, quotients by their sums."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.cpu_fallback.cases import Draft, call, compare
from tests.cpu_fallback.test_accuracy import worst_error
from tgrad import cpu_fallback
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Const, Region
from tgrad.graph.op import Op
from tgrad.settings import Settings

SMALL_CACHES = dataclasses.replace(cpu_fallback.detect_machine(), l2=1 << 17, l3=1)
WHOLE_CACHES = dataclasses.replace(cpu_fallback.detect_machine(), l3=1 << 40)


def softmax(
    rows: int, columns: int, scale: float | None = None, scales_first: bool = False
) -> Region:
    """Of each row, its values less their maximum scaled, or they themselves before."""
    d = Draft(i=rows, j=columns)
    x = d.input("x", "i j")
    c = d.add(Const(scale, d.values[x].dtype)) if scale is not None else None
    if c is not None and scales_first:
        x = d.op(Op.MUL, x, c)
    less = d.op(Op.SUB, x, d.reduce(Op.REDUCE_MAX, x, "j"))
    if c is not None and not scales_first:
        less = d.op(Op.MUL, less, c)
    e = d.op(Op.EXP, less)
    d.store(d.op(Op.DIV, e, d.reduce(Op.REDUCE_SUM, e, "j")), "i j")
    name = f"softmax_{rows}x{columns}" + ("_first" if scales_first else "") + f"_{scale}"
    return d.region(name.replace(".", "p").replace("-", "m"), "row", parallel="i", row="j")


def run(region: Region, settings: Settings, machine: cpu_fallback.Machine, x: np.ndarray) -> str:
    """Check the kernel against the oracle; its source."""
    [artifact] = cpu_fallback.compile_drafts(
        cpu_fallback.draft([region], machine=machine), settings
    )
    given = [x, np.zeros_like(x)]
    with np.errstate(all="ignore"):
        have, want = call(artifact.entry, given), evaluate_region(region, given)
    compare(have[1], want[1], 1e-5, artifact.source)
    return artifact.source


@pytest.mark.parametrize("columns", [2048, 2064, 2050])
def test_the_last_pass_leaves_the_caches(settings: Settings, columns: int) -> None:
    """Whole lines alone, and with parts of tiles at the end."""
    x = np.random.default_rng(1).normal(0, 30, (20, columns)).astype(np.float32)
    x[1], x[2, 7], x[3, 9] = -np.inf, np.nan, np.inf
    source = run(softmax(20, columns), settings, SMALL_CACHES, x.reshape(-1))
    streams = columns % 16 == 0
    assert ("tg_stream(out + " in source) == ("tg_fetch(x + i_next * " in source) == streams
    assert "_inverse" in source
    plain = run(softmax(20, columns), settings, WHOLE_CACHES, x.reshape(-1))
    assert "tg_stream(" not in plain


@pytest.mark.parametrize(
    ("region", "is_low", "is_sum"),
    [
        (softmax(3, 1500), True, True),
        (softmax(3, 1500, 0.25), True, False),
        (softmax(3, 1500, -0.25), False, False),
        (softmax(3, 1500, 0.37, scales_first=True), True, True),
        (softmax(3, 64), True, True),
    ],
    ids=lambda x: x.name if isinstance(x, Region) else "",
)
def test_what_is_proved(settings: Settings, region: Region, is_low: bool, is_sum: bool) -> None:
    """Products before the maximum are rounded by themselves."""
    count = region.slots[0].size
    x = np.random.default_rng(2).uniform(-40, 40, count).astype(np.float32)
    source = run(region, settings, WHOLE_CACHES, x)
    assert ("tg_exp_low(" in source, "_inverse" in source) == (is_low, is_sum)


def test_two_loops_divide_by_one_sum(settings: Settings) -> None:
    """Each declares what it multiplies by."""
    d = Draft(i=3, j=1500)
    x = d.input("x", "i j")
    e = d.op(Op.EXP, d.op(Op.SUB, x, d.reduce(Op.REDUCE_MAX, x, "j")))
    y = d.op(Op.DIV, e, d.reduce(Op.REDUCE_SUM, e, "j"))
    z = d.op(Op.SUB, y, d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, y, y), "j"))
    d.store(z, "i j")
    region = d.region("twice", "row", parallel="i", row="j")
    numbers = np.random.default_rng(3).standard_normal(3 * 1500).astype(np.float32)
    source = run(region, settings, WHOLE_CACHES, numbers)
    assert source.count("= 1 / ") == 2


@pytest.mark.parametrize("columns", [64, 1500])
def test_large_products_less_their_maximum(settings: Settings, columns: int) -> None:
    """The largest less itself is 0, whatever was rounded when it was multiplied."""
    x = np.full((3, columns), 1e10, np.float32)
    x[1], x[2, 3:] = np.finfo(np.float32).min, 2.9e37
    region = softmax(3, columns, 0.37, scales_first=True)
    [artifact] = cpu_fallback.generate([region], settings)
    have = call(artifact.entry, [x.reshape(-1), np.zeros(x.size, np.float32)])[1]
    want = np.full((3, columns), 1 / columns)
    want[2] = [0] * 3 + [1 / (columns - 3)] * (columns - 3)
    np.testing.assert_allclose(have.reshape(3, columns), want, rtol=1e-6)


def test_ulps_of_exponentials_below_a_maximum(settings: Settings) -> None:
    """Over all floats that are not above zero, and what is NaN."""
    bits = np.arange(0x80000000, 0xFF800001, 509, dtype=np.uint64).astype(np.uint32)
    dense = -np.linspace(0, 105, 500_001)
    x = np.concatenate([[0.0, -0.0, -np.inf, -104.0], dense, bits.view(np.float32)])
    x = x.astype(np.float32)
    for values in (x, np.append(x, np.float32(np.nan))):
        d = Draft(i=1, j=values.size)
        given = d.input("x", "i j")
        d.store(d.op(Op.EXP, d.op(Op.SUB, given, d.reduce(Op.REDUCE_MAX, given, "j"))), "i j")
        region = d.region(f"shifted_{values.size}", "row", parallel="i", row="j")
        [artifact] = cpu_fallback.generate([region], settings)
        assert "tg_exp_low(" in artifact.source
        have = call(artifact.entry, [values, np.zeros_like(values)])[1]
        with np.errstate(all="ignore"):
            want = np.exp(values.astype(np.float64) - values.max())
        assert worst_error(have, want, "exp") <= 1.5
