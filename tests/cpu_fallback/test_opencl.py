"""Generated OpenCL C: word for word, and run by whatever driver there is (PoCL in CI)."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest

import tgrad
from tests.cpu_fallback.cases import Draft, compare, convolution, dot_region, matmul, random_slots
from tests.cpu_fallback.opencl import needs_opencl, run_regions
from tests.cpu_fallback.test_golden import GOLDEN, biased
from tests.cpu_fallback.test_ops import PHILOX_VECTORS, PLAIN, tolerance_of, values_of
from tests.cpu_fallback.test_patterns import argsort, cumulative, reduction, softmax
from tgrad import dtype as dt
from tgrad.cpu_fallback.emit_opencl import emit_opencl
from tgrad.cpu_fallback.opencl import text_of
from tgrad.cpu_fallback.opencl_heuristics import choose_opencl_config
from tgrad.cpu_fallback.opencl_words import to_opencl
from tgrad.dtype import DTYPES, DType
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import AxisLimit, Region
from tgrad.graph import index as ix
from tgrad.graph.op import OPS, Op, takes
from tgrad.kernel.ir import Draft as Source
from tgrad.kernel.lower import lower
from tgrad.runtime.planning import planning

F32 = dt.float32


def embedding_gradient() -> Region:
    """dw[ids[i], j] += dy[i, j]"""
    d = Draft(i=300, j=5)
    row = d.input("ids", "i", dt.int32)
    place = ix.loaded(row, 0, 9) * 5 + d.var("j")
    d.store(d.input("dy", "i j"), place, "dw", size=50, combine="add")
    return d.region("embedding_gradient", "scatter", parallel="i j")


# -- sources ------------------------------------------------------------------------------------

SOURCES = {
    "softmax_17x12": lambda: softmax(17, 12),
    "sum_of_rows_17x100": lambda: reduction(Op.REDUCE_SUM, F32, "row", 17, 100),
    "linear_tanh_40x30x500": lambda: biased(40, 30),
    "embedding_gradient": embedding_gradient,
}


@pytest.mark.parametrize("name", SOURCES)
def test_golden(name: str) -> None:
    region = SOURCES[name]()
    config = choose_opencl_config(region)
    kernel = lower(region, config)
    source = emit_opencl(kernel)
    text = source if name != "embedding_gradient" else text_of([Source(kernel, config, source)])
    path = GOLDEN / f"{name}.cl"
    if os.environ.get("TGRAD_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_words() -> None:
    text = "(int64_t)x * 5ll + 7ull - __builtin_sqrtf(y) + __builtin_erf(z) + INT32_MIN"
    assert to_opencl(text) == "(long)x * 5L + 7UL - sqrt(y) + erf(z) + INT_MIN"
    assert to_opencl("#pragma omp a \\\n  b\nint8_t c;") == "char c;"
    assert to_opencl("tg_argsort_uint32_t_8") == "tg_argsort_uint32_t_8"


def test_sources_need_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with planning("opencl"):
        (kernel,) = tgrad.explain(tgrad.ones(100, 100).cumsum(1)).kernels
    assert f"__kernel void {kernel.name}(" in kernel.source


# -- values -------------------------------------------------------------------------------------


KEEP_ZEROS = (Op.NEG, Op.ABS, Op.FLOOR, Op.ROUND, Op.TRUNC, Op.WHERE, Op.SQRT, Op.MUL)
"""0.0 and -0.0 are told apart."""


def table_of(dtype: DType) -> tuple[Region, list[np.ndarray], list[Op]]:
    """All elementwise ops that take a dtype, as one kernel over odd and special values."""
    spelled = [op for op in PLAIN if takes(op, dtype) and OPS[op].arity <= 2]
    count = values_of(dtype, 0).size
    d = Draft(i=count)
    x, y, few = (d.input(name, "i", dtype) for name in ("x", "y", "few"))
    condition = d.input("condition", "i", dt.bool_)
    for op in spelled:
        result = dt.bool_ if OPS[op].result == "bool" else dtype
        second = few if op in (Op.SHL, Op.SHR) or (op is Op.POW and dtype.is_int) else y
        d.store(d.op(op, *(x, second)[: OPS[op].arity], dtype=result), "i", str(op))
    d.store(d.op(Op.WHERE, condition, x, y, dtype=dtype), "i", "where")
    for target in DTYPES.values():
        d.store(d.op(Op.CAST, x, dtype=target), "i", f"to_{target.short}")
    region = d.region(f"ops_{dtype.short}", "map", parallel="i")
    arrays = [values_of(dtype, 0), values_of(dtype, 1), (np.arange(count) % 8).astype(dtype.numpy)]
    arrays.append(np.resize(values_of(dt.bool_, 2), count))
    arrays += [np.zeros(s.size, s.dtype.numpy) for s in region.slots[4:]]
    return region, arrays, [*spelled, Op.WHERE, *([Op.CAST] * len(DTYPES))]


@needs_opencl
def test_every_op_of_every_dtype() -> None:
    """Infinite, NaN, -0.0 and the least and the greatest integers are among the values."""
    cases = [table_of(dtype) for dtype in DTYPES.values()]
    found = run_regions([c[0] for c in cases], [c[1] for c in cases])
    for dtype, (region, arrays, ops), outputs in zip(DTYPES.values(), cases, found):
        with np.errstate(all="ignore"):
            wanted = evaluate_region(region, arrays)
        for op, slot, have, want in zip(ops, region.slots[4:], outputs[4:], wanted[4:]):
            open_ended = op is Op.CAST and dtype.is_float and slot.dtype.is_int
            if open_ended or (op in (Op.FLOORDIV, Op.MOD) and dtype.is_float):
                x, y = (a.astype(np.float64) for a in arrays[:2])
                ordinary = np.isfinite(x) & (np.isfinite(y) & (y != 0) | open_ended)
                have, want = have[ordinary], want[ordinary]
            rounding = 0.0
            if dtype.is_float and slot.dtype.is_float and op not in (Op.CAST, Op.WHERE):
                rounding = max(tolerance_of(op, dtype), 1e-14 if dtype is dt.float64 else 1e-6)
            compare(have, want, rounding, f"{op} of {dtype}: {slot.name}")
            if dtype.is_float and op in KEEP_ZEROS:
                signs = (np.signbit(a[~np.isnan(a)]) for a in (have, want))
                np.testing.assert_array_equal(*signs, err_msg=f"{op} of {dtype}")


@needs_opencl
def test_philox_against_the_reference_vectors() -> None:
    d = Draft(i=1)
    args = [d.input(name, "i", dt.int64) for name in ("index", "offset", "key")]
    for word in range(4):
        d.store(d.op(Op.PHILOX, *args, dtype=dt.uint32, word=word), "i", f"word{word}")
    region = d.region("philox", "map", parallel="i")
    pairs = [(c[:2], c[2:], key) for c, key, _ in PHILOX_VECTORS]
    given = [
        [np.array([low | high << 32], np.uint64).view(np.int64) for low, high in three]
        + [np.zeros(1, np.uint32)] * 4
        for three in pairs
    ]
    found = [[int(a[0]) for a in run_regions([region], [arrays])[0][3:]] for arrays in given]
    assert found == [want for *_, want in PHILOX_VECTORS]


def joined(dtype: DType, combine: str) -> Region:
    """out[at[i]] = combine(out[at[i]], x[i]) for 1,001 elements of 7 places."""
    d = Draft(i=1001)
    at = d.input("at", "i", dt.int32)
    d.store(d.input("x", "i", dtype), ix.loaded(at, 0, 6), "out", size=7, combine=combine)
    return d.region(f"{combine}_{dtype.short}", "scatter", parallel="i")


@needs_opencl
def test_scatters_that_collide() -> None:
    """Whole numbers, so that the order of the additions does not matter."""
    rng = np.random.default_rng(0)
    regions, arrays = [], []
    for dtype in DTYPES.values():
        for combine in (
            ("max", "min") if dtype.is_bool or dtype.is_narrow else ("add", "max", "min")
        ):
            regions.append(joined(dtype, combine))
            at, low = rng.integers(0, 7, 1001, np.int32), -2 if dtype.kind in "if" else 0
            x = rng.integers(low, 2 if dtype.is_bool else 6, 1001).astype(dtype.numpy)
            arrays.append([at, x, np.ones(7, dtype.numpy)])
    for region, given, found in zip(regions, arrays, run_regions(regions, arrays), strict=True):
        compare(found[-1], evaluate_region(region, given)[-1], 0, region.name)


REGIONS = {
    "sum": lambda: reduction(Op.REDUCE_SUM, F32, "row", 33, 70),
    "product of columns": lambda: reduction(Op.REDUCE_PROD, F32, "column", 9, 33),
    "sums of many columns": lambda: reduction(Op.REDUCE_SUM, F32, "column", 7, 4096),
    "maximum of bfloat16": lambda: reduction(Op.REDUCE_MAX, dt.bfloat16, "full", 13, 17),
    "softmax": lambda: softmax(5, 61),
    "scan along rows": lambda: cumulative(Op.SCAN_SUM, 3, 65),
    "scan along columns": lambda: cumulative(Op.SCAN_LINEAR, 33, 12, "i"),
    "sort": lambda: argsort(3, 133),
    "dot of odd sizes": lambda: dot_region(matmul(17, 33, 9)),
    "large dot": lambda: dot_region(matmul(130, 136, 21)),
    "batch of half dots": lambda: dot_region(
        matmul(7, 5, 12, "k m", "n k", dt.float16, 3), batch=True
    ),
    "convolution": lambda: convolution("forward", 2, 3, 5, 9, 3, pad=1),
    "gradient of weights": lambda: convolution("weight", 3, 4, 5, 8, 3, pad=1),
    "gradient of images": lambda: convolution("input", 2, 3, 4, 7, 3),
}  # fmt: skip


@needs_opencl
def test_loops_of_every_kind() -> None:
    regions = [replace(make(), name=f"kernel{n}") for n, make in enumerate(REGIONS.values())]
    arrays = [random_slots(r) for r in regions]
    for name, r, given, found in zip(REGIONS, regions, arrays, run_regions(regions, arrays)):
        is_half = any(s.dtype.itemsize == 2 for s in r.slots)
        tolerance = 1e-2 if is_half else 1e-4
        compare(found[-1], evaluate_region(r, given)[-1], tolerance, name)


@needs_opencl
def test_a_transposition_in_squares() -> None:
    d = Draft(i=72, j=136)
    d.store(d.input("x", "i j"), d.flat("j i"), size=72 * 136)
    region = d.region("transpose", "map", parallel="i j")
    assert [a.block for a in choose_opencl_config(region).axes] == [8, 8]
    x = np.arange(72 * 136, dtype=np.float32)
    [[_, y]] = run_regions([region], [[x, np.zeros_like(x)]])
    np.testing.assert_array_equal(y.reshape(136, 72), x.reshape(72, 136).T)


@needs_opencl
def test_programs_beyond_a_size_return() -> None:
    d = Draft(i=100)
    x, size = d.input("x", "i"), d.slot("size", dt.int64, 1)
    d.store(x, "i")
    region = replace(
        d.region("limited", "map", parallel="i"), limits=(AxisLimit("i", 1, 100, size),)
    )
    given = [np.ones(100, np.float32), np.array([37]), np.zeros(100, np.float32)]
    [[*_, y]] = run_regions([region], [given])
    assert y.sum() == 37 and y[:37].all()
