"""Maps, reductions, gathers and scatters in C against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu_fallback.cases import F32, Draft, call, check, random_slots
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.fusion.region import Compute, Const, IndexValue, Inside, Region, Scan, Sort
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import OPS, SCAN, Op
from tgrad.settings import Settings

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 88.0, -104.0, 3.5], np.float32)


def chain(n: int, m: int) -> Region:
    d = Draft(i=n, j=m)
    x = d.op(Op.TANH, d.op(Op.ADD, d.input("x", "i j"), d.input("b", "j")))
    y = d.op(Op.MUL, x, d.op(Op.EXP, d.input("c", "i")))
    d.store(y, "i j")
    return d.region("chain", "map", parallel="i j")


@pytest.mark.parametrize("n, m", [(1, 1), (3, 1), (7, 67), (64, 1000), (2, 40000)])
def test_elementwise_chain(settings: Settings, n: int, m: int) -> None:
    check(chain(n, m), settings)


@pytest.mark.parametrize("n, m", [(0, 5), (5, 0)])
def test_empty_domain(settings: Settings, n: int, m: int) -> None:
    [artifact] = cpu_fallback.generate([chain(n, m)], settings)
    call(artifact.entry, random_slots(chain(n, m)))


def test_nan_and_infinity_pass_through(settings: Settings) -> None:
    region = chain(1, SPECIAL.size)
    arrays = random_slots(region)
    arrays[0][:] = SPECIAL
    check(region, settings, arrays)


def reduction(op: Op, dtype: dt.DType, which: str, n: int, m: int) -> Region:
    d = Draft(i=n, j=m)
    axes, kept = {"row": ("j", "i"), "column": ("i", "j"), "full": ("i j", "")}[which]
    d.store(d.reduce(op, d.input("x", "i j", dtype), axes), kept, size=None if kept else 1)
    return d.region(f"{op}_{which}", "reduce", parallel=kept, row=axes)


REDUCTIONS = [Op.REDUCE_SUM, Op.REDUCE_PROD, Op.REDUCE_MAX, Op.REDUCE_MIN]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("which", ["row", "column", "full"])
@pytest.mark.parametrize("n, m", [(1, 1), (5, 7), (33, 129)])
def test_reduction(settings: Settings, op: Op, which: str, n: int, m: int) -> None:
    check(reduction(op, F32, which, n, m), settings, tolerance=2e-5)


OTHER_DTYPES = (dt.int8, dt.int32, dt.int64, dt.uint8, dt.float64, dt.bool_)


@pytest.mark.parametrize(
    ("op", "dtype"),
    [(op, d) for op in REDUCTIONS for d in OTHER_DTYPES if d.kind in OPS[op].domain],
)
@pytest.mark.parametrize("which", ["row", "column", "full"])
def test_reduction_of_other_dtypes(settings: Settings, op: Op, dtype: dt.DType, which: str) -> None:
    check(reduction(op, dtype, which, 9, 37), settings)


@pytest.mark.parametrize("op", [Op.REDUCE_MAX, Op.REDUCE_MIN])
@pytest.mark.parametrize("which", ["row", "column", "full"])
@pytest.mark.parametrize("place", [0, 17, 130])
def test_extremes_propagate_nan(settings: Settings, op: Op, which: str, place: int) -> None:
    region = reduction(op, F32, which, 3, 70)
    arrays = random_slots(region)
    arrays[0][place] = np.nan
    out = check(region, settings, arrays)[1]
    assert np.isnan(out).any()


@pytest.mark.parametrize("op", REDUCTIONS)
def test_empty_reduction_gives_the_identity(settings: Settings, op: Op) -> None:
    d = Draft(i=3, j=0)
    d.store(d.reduce(op, d.input("x", "i j"), "j"), "i")
    region = d.region("empty", "reduce", parallel="i", row="j")
    [artifact] = cpu_fallback.generate([region], settings)
    out = call(artifact.entry, random_slots(region))[1]
    want = {Op.REDUCE_SUM: 0, Op.REDUCE_PROD: 1, Op.REDUCE_MAX: -np.inf, Op.REDUCE_MIN: np.inf}
    assert (out == want[op]).all()


@pytest.mark.parametrize("n, m", [(300, 1000), (3, 300_000), (1, 1_000_000), (200_000, 3)])
@pytest.mark.parametrize("which", ["row", "column", "full"])
def test_long_sums_are_accurate(settings: Settings, n: int, m: int, which: str) -> None:
    region = reduction(Op.REDUCE_SUM, F32, which, n, m)
    arrays = random_slots(region)
    arrays[0] = np.abs(arrays[0])
    check(region, settings, arrays, tolerance=3e-5)


def softmax(n: int, m: int) -> Region:
    d = Draft(i=n, j=m)
    x = d.input("x", "i j")
    e = d.op(Op.EXP, d.op(Op.SUB, x, d.reduce(Op.REDUCE_MAX, x, "j")))
    d.store(d.op(Op.DIV, e, d.reduce(Op.REDUCE_SUM, e, "j")), "i j")
    return d.region("softmax", "reduce", parallel="i", row="j")


def cumulative(op: Op, n: int, m: int, axis: str = "j", dtype: dt.DType = dt.float32) -> Region:
    d = Draft(i=n, j=m)
    args = tuple(d.input(f"x{k}", "i j", dtype) for k in range(OPS[op].arity))
    d.store(d.add(Scan(op, args, (axis,), dtype)), "i j")
    return d.region(str(op), "scan", parallel="i" if axis == "j" else "j", row=axis)


def of_costly_values(n: int, m: int) -> Region:
    """tanh of running sums of exponentials, and the largest sine so far, beside what is summed."""
    d = Draft(i=n, j=m)
    x, y = d.input("x", "i j"), d.input("y", "i j")
    e = d.op(Op.EXP, x)
    total = d.add(Scan(Op.SCAN_SUM, (e,), ("j",), F32))
    largest = d.add(Scan(Op.SCAN_MAX, (d.op(Op.SIN, d.op(Op.ADD, y, total)),), ("j",), F32))
    d.store(d.op(Op.TANH, d.op(Op.DIV, total, d.op(Op.ADD, e, x))), "i j")
    d.store(largest, "i j", "largest")
    return d.region("costly", "scan", parallel="i", row="j")


def argsort(n: int, m: int, dtype: dt.DType = dt.uint32, first: int = 0) -> Region:
    d = Draft(i=n, j=m)
    places = d.add(Sort(d.input("x", "i j", dtype), ("j",), first=first))
    d.store(places, "i j")
    d.store(d.load(0, d.var("i") * m + loaded(places, 0, m - 1)), "i j", "ordered")
    return d.region("argsort", "sort", parallel="i", row="j")


@pytest.mark.parametrize("op", sorted(SCAN))
@pytest.mark.parametrize("n, m", [(1, 2), (3, 5), (17, 100), (40, 3001)])
@pytest.mark.parametrize("axis", ["i", "j"])
def test_scans(settings: Settings, op: Op, n: int, m: int, axis: str) -> None:
    check(cumulative(op, n, m, axis), settings)


@pytest.mark.parametrize("n, m", [(3, 15), (3, 16), (1, 256), (17, 257), (2, 3001)])
def test_scans_of_costly_values(settings: Settings, n: int, m: int) -> None:
    region = of_costly_values(n, m)
    arrays = random_slots(region)
    arrays[1] = np.abs(arrays[1]) / m  # a sine of large sums is no test of scans
    arrays[0] = np.abs(arrays[0]) * -1
    check(region, settings, arrays)


@pytest.mark.parametrize("dtype", [dt.uint8, dt.uint16, dt.uint32], ids=str)
@pytest.mark.parametrize("n, m", [(1, 2), (3, 48), (3, 49), (2, 4096), (1, 300_000)])
def test_argsort(settings: Settings, n: int, m: int, dtype: dt.DType) -> None:
    check(argsort(n, m, dtype), settings)


@pytest.mark.parametrize("n, m, first", [(5, 7, 7), (3, 300, 2), (3, 900, 200), (2, 70_000, 40)])
@pytest.mark.parametrize("dtype", [dt.uint8, dt.uint16, dt.uint32, dt.uint64], ids=str)
def test_first_places(settings: Settings, n: int, m: int, first: int, dtype: dt.DType) -> None:
    check(argsort(n, m, dtype, first), settings)


@pytest.mark.parametrize("n, m", [(1, 1), (3, 5), (17, 100), (2, 40_000)])
def test_softmax(settings: Settings, n: int, m: int) -> None:
    check(softmax(n, m), settings)


def test_softmax_over_columns(settings: Settings) -> None:
    d = Draft(i=50, j=70)
    x = d.input("x", "i j")
    e = d.op(Op.EXP, d.op(Op.SUB, x, d.reduce(Op.REDUCE_MAX, x, "i")))
    d.store(d.op(Op.DIV, e, d.reduce(Op.REDUCE_SUM, e, "i")), "i j")
    check(d.region("softmax0", "reduce", parallel="j", row="i"), settings)


def test_mean_of_row_losses(settings: Settings) -> None:
    """A reduction over rows of a reduction along them: one kernel, shared by threads in chunks."""
    d = Draft(i=3000, j=40)
    x = d.input("x", "i j")
    e = d.op(Op.EXP, d.op(Op.SUB, x, d.reduce(Op.REDUCE_MAX, x, "j")))
    loss = d.op(Op.LOG, d.reduce(Op.REDUCE_SUM, e, "j"))
    d.store(d.reduce(Op.REDUCE_SUM, loss, "i"), "", size=1)
    check(d.region("loss", "reduce", row="j", outer="i"), settings)


def test_statistics_over_several_axes(settings: Settings) -> None:
    """Batch norm: mean and variance of channels over images and pixels."""
    d = Draft(n=8, c=5, p=36)
    x = d.input("x", "n c p")
    scale = d.add(Const(1 / (8 * 36), F32))
    mean = d.op(Op.MUL, d.reduce(Op.REDUCE_SUM, x, "n p"), scale)
    centred = d.op(Op.SUB, x, mean)
    variance = d.op(Op.MUL, d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, centred, centred), "n p"), scale)
    d.store(mean, "c", "mean")
    d.store(variance, "c", "variance")
    check(d.region("var_mean", "reduce", parallel="c", row="n p"), settings)


def test_pooling(settings: Settings) -> None:
    d = Draft(n=3, y=6, x=6, i=2, j=2)
    im = d.slot("im", F32, 3 * 12 * 12)
    place = d.var("n") * 144 + (d.var("y") * 2 + d.var("i")) * 12 + d.var("x") * 2 + d.var("j")
    d.store(d.reduce(Op.REDUCE_MAX, d.load(im, place), "i j"), "n y x")
    check(d.region("max_pool", "reduce", parallel="n y x", row="i j"), settings)


def test_masked_loads(settings: Settings) -> None:
    """Padding: zeros outside."""
    d = Draft(i=9, j=21)
    x = d.slot("x", F32, 7 * 18)
    row, column = d.var("i") - 1, d.var("j") - 2
    mask = (Bound(row, 0, 7), Bound(column, 0, 18))
    d.store(d.load(x, row * 18 + column, mask), "i j")
    check(d.region("pad", "map", parallel="i j"), settings)


def test_masked_stores(settings: Settings) -> None:
    d = Draft(i=9, j=21)
    mask = (Bound(d.var("j"), 3, 17),)
    d.store(d.input("x", "i j"), "i j", mask=mask)
    check(d.region("part", "map", parallel="i j"), settings)


@pytest.mark.parametrize("n, m", [(5, 7), (64, 96), (100, 333)])
def test_transpose(settings: Settings, n: int, m: int) -> None:
    d = Draft(i=n, j=m)
    x = d.op(Op.ADD, d.input("x", "i j"), d.input("b", "i"))
    d.store(x, d.flat("j i"), size=n * m)
    check(d.region("transpose", "map", parallel="i j"), settings)


def test_division_and_remainder_of_an_axis(settings: Settings) -> None:
    d = Draft(i=6, j=35)
    x, y = d.slot("x", F32, 6 * 12), d.slot("y", F32, 7)
    a = d.load(x, d.var("i") * 12 + d.var("j") // 3)
    b = d.load(y, (d.var("j") + 3) % 7)
    d.store(d.op(Op.ADD, a, b), "i j")
    check(d.region("divided", "map", parallel="i j"), settings)


def test_negative_base_of_a_division(settings: Settings) -> None:
    d = Draft(i=20)
    x = d.slot("x", F32, 20)
    e = (d.var("i") - 7) // 3
    d.store(d.load(x, e + 4), "i")
    v = d.add(IndexValue((d.var("i") - 9) % 4, dt.int64))
    d.store(v, "i", "rest")
    check(d.region("floor", "map", parallel="i"), settings)


def test_index_values_and_conditions(settings: Settings) -> None:
    """A triangular mask made of iota."""
    d = Draft(i=11, j=19)
    x = d.input("x", "i j")
    inside = d.add(Inside((Bound(d.var("j") - d.var("i"), -100, 1),)))
    low = d.add(Const(float("-inf"), F32))
    d.store(d.add(Compute(Op.WHERE, (inside, x, low), F32)), "i j")
    d.store(d.add(IndexValue(d.var("i") * 100 + d.var("j"), dt.int32)), "i j", "number")
    check(d.region("tril", "map", parallel="i j"), settings)


def test_gather(settings: Settings) -> None:
    d = Draft(i=13, j=24)
    index = d.input("index", "i", dt.int64)
    table = d.slot("table", F32, 5 * 24)
    d.store(d.load(table, loaded(index, 0, 4) * 24 + d.var("j")), "i j")
    check(d.region("gather", "map", parallel="i j"), settings)


@pytest.mark.parametrize("combine", ["set", "add", "max", "min", "mul"])
@pytest.mark.parametrize("n", [40, 5000])
def test_scatter(settings: Settings, combine: str, n: int) -> None:
    d = Draft(i=n, j=8)
    index = d.input("index", "i", dt.int64)
    x = d.input("x", "i j")
    d.store(x, loaded(index, 0, 4) * 8 + d.var("j"), size=40, combine=combine)
    region = d.region(f"scatter_{combine}", "scatter", parallel="i j")
    arrays = random_slots(region)
    if combine == "mul":
        arrays[1] = np.sign(arrays[1])
    check(region, settings, arrays, tolerance=1e-3)


def test_scatter_along_the_last_axis(settings: Settings) -> None:
    d = Draft(i=6, j=50)
    index = d.input("index", "i j", dt.int64)
    x = d.input("x", "i j")
    d.store(x, d.var("i") * 5 + loaded(index, 0, 4), size=30, combine="add")
    check(d.region("scatter_last", "scatter", parallel="i j"), settings, tolerance=1e-4)


def test_scatter_of_one_value_walks_the_axes_of_its_places(settings: Settings) -> None:
    d = Draft(i=6, j=50)
    index, x = d.input("index", "i j", dt.int64), d.input("x", "")
    d.store(x, d.var("i") * 5 + loaded(index, 0, 4), size=30, combine="add")
    check(d.region("scatter_one", "scatter", parallel="i j"), settings, tolerance=1e-4)


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_small_floats_round_after_each_op(settings: Settings, dtype: dt.DType) -> None:
    d = Draft(i=1000)
    x, y = d.input("x", "i", dtype), d.input("y", "i", dtype)
    d.store(d.op(Op.MUL, d.op(Op.ADD, x, y), d.op(Op.EXP, x)), "i")
    have = check(d.region("small", "map", parallel="i"), settings, tolerance=0)
    assert have[2].dtype == dtype.numpy


def test_large_index(settings: Settings) -> None:
    """Addresses beyond 32 bits are computed in 64; nothing is loaded, the slot is not that big."""
    d = Draft(i=3)
    v = d.add(IndexValue(d.var("i") * (1 << 40) + 5, dt.int64))
    d.store(v, "i")
    check(d.region("large", "map", parallel="i"), settings)
