"""Every elementwise op of every dtype in C against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu_fallback.cases import Draft, call, check, compare
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.cpu_fallback.op_table import SPELLINGS
from tgrad.dtype import DTYPES, DType
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.graph.interpret import cast
from tgrad.graph.op import ELEMENTWISE, OPS, Op, takes
from tgrad.settings import Settings

OTHER = (Op.CAST, Op.BITCAST, Op.PHILOX)
PLAIN = sorted(ELEMENTWISE - set(OTHER), key=str)


def test_every_elementwise_op_is_spelled() -> None:
    assert set(SPELLINGS) == set(ELEMENTWISE)
    for op in PLAIN:
        for kind in OPS[op].domain:
            assert getattr(SPELLINGS[op], kind) is not None, f"{op} of kind {kind}"


def values_of(dtype: DType, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return rng.integers(0, 2, 200).astype(bool)
    if dtype.is_float:
        special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.5, np.inf, -np.inf, np.nan]
        pairs = np.array(special * len(special) if seed % 2 else np.repeat(special, len(special)))
        return cast(np.concatenate([pairs, rng.standard_normal(500) * 4]), dtype)
    info = np.iinfo(dtype.numpy)
    special = [0, 1, 2, 3, 7, int(info.max), int(info.min), int(info.max) - 1]
    special += [-1, -2, -7] if dtype.kind == "i" else [5, 11, 100]
    column = np.array(special, dtype.numpy)
    return np.tile(column, column.size) if seed % 2 else np.repeat(column, column.size)


def op_region(op: Op, dtype: DType) -> tuple[Region, list[np.ndarray]]:
    count = values_of(dtype, 0).size
    d = Draft(i=count)
    arity = OPS[op].arity
    dtypes = [dtype] * arity
    if op is Op.WHERE:
        dtypes[0] = dt.bool_
    arrays = [values_of(t, seed) for seed, t in enumerate(dtypes)]
    if op is Op.WHERE:
        arrays[0] = np.resize(arrays[0], count)
    if op in (Op.SHL, Op.SHR):
        arrays[1] = (np.arange(count) % (dtype.itemsize * 8)).astype(dtype.numpy)
    if op is Op.POW and not dtype.is_float:
        arrays[1] = (np.arange(count) % 9 - (4 if dtype.kind == "i" else 0)).astype(dtype.numpy)
    args = [d.input(f"x{n}", "i", t) for n, t in enumerate(dtypes)]
    result = dt.bool_ if OPS[op].result == "bool" else dtype
    d.store(d.op(op, *args, dtype=result), "i")
    region = d.region(f"{op}_{dtype.short}", "map", parallel="i")
    return region, [*arrays, np.zeros(count, result.numpy)]


def tolerance_of(op: Op, dtype: DType) -> float:
    if OPS[op].cost <= 4 and op is not Op.RSQRT:
        return 0
    return {8: 1e-14, 4: 1e-6, 2: 1e-2 if dtype is dt.bfloat16 else 1e-3}[dtype.itemsize]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_ops(settings: Settings, dtype: DType) -> None:
    cases = [(op, *op_region(op, dtype)) for op in PLAIN if takes(op, dtype)]
    artifacts = cpu_fallback.generate([region for _, region, _ in cases], settings)
    for (op, region, arrays), artifact in zip(cases, artifacts):
        have = call(artifact.entry, arrays)[-1]
        want = evaluate_region(region, arrays)[-1]
        if op in (Op.FLOORDIV, Op.MOD) and dtype.is_float:
            ordinary = np.isfinite(arrays[0].astype(float)) & np.isfinite(arrays[1].astype(float))
            ordinary &= arrays[1] != 0
            have, want = have[ordinary], want[ordinary]
        rounding = 1e-14 if dtype is dt.float64 else 1e-6
        exact = tolerance_of(op, dtype) if dtype.is_float else 0
        compare(have, want, exact or (rounding if dtype.is_float else 0), artifact.source)


@pytest.mark.parametrize("source", DTYPES.values(), ids=str)
def test_casts(settings: Settings, source: DType) -> None:
    array = values_of(source, 0)
    regions = []
    for target in DTYPES.values():
        d = Draft(i=array.size)
        d.store(d.op(Op.CAST, d.input("x", "i", source), dtype=target), "i")
        regions.append(d.region(f"to_{target.short}", "map", parallel="i"))
    artifacts = cpu_fallback.generate(regions, settings)
    for target, region, artifact in zip(DTYPES.values(), regions, artifacts):
        given = [array, np.zeros(array.size, target.numpy)]
        have, want = call(artifact.entry, given)[1], evaluate_region(region, given)[1]
        if source.is_float and target.is_int:  # NaN and infinity: C and PyTorch leave it open
            is_finite = np.isfinite(array.astype(float))
            have, want = have[is_finite], want[is_finite]
        compare(have, want, 0, artifact.source)


@pytest.mark.parametrize(
    "source, target",
    [("float32", "int32"), ("uint32", "float32"), ("float64", "int64"), ("int64", "float64"),
     ("float16", "int16"), ("uint16", "float16"), ("bfloat16", "uint16"), ("int16", "bfloat16"),
     ("uint8", "int8")],
)  # fmt: skip
def test_bitcasts(settings: Settings, source: str, target: str) -> None:
    a, b = dt.by_name(source), dt.by_name(target)
    rng = np.random.default_rng(0)
    d = Draft(i=300)
    d.store(d.op(Op.BITCAST, d.input("x", "i", a), dtype=b), "i")
    finite = rng.integers(0, 100, 300).astype(f"i{a.itemsize}").view(a.numpy)
    arrays = [finite, np.zeros(300, b.numpy)]
    check(d.region("bitcast", "map", parallel="i"), settings, arrays, tolerance=0)


def test_integer_division_by_zero_is_zero(settings: Settings) -> None:
    for op in (Op.FLOORDIV, Op.MOD):
        region, arrays = op_region(op, dt.int32)
        arrays[1][:] = 0
        assert (check(region, settings, arrays)[-1] == 0).all()


def test_shifts_by_too_much(settings: Settings) -> None:
    region, arrays = op_region(Op.SHL, dt.int32)
    arrays[1][:] = 40
    [artifact] = cpu_fallback.generate([region], settings)
    assert (call(artifact.entry, arrays)[-1] == 0).all()
    region, arrays = op_region(Op.SHR, dt.int32)
    arrays[1][:] = 40
    [artifact] = cpu_fallback.generate([region], settings)
    np.testing.assert_array_equal(call(artifact.entry, arrays)[-1], arrays[0] >> 31)


PHILOX_VECTORS = [  # kat_vectors of the Random123 distribution, philox4x32 10
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def test_philox_against_the_reference_vectors(settings: Settings) -> None:
    def join(low: int, high: int) -> np.ndarray:
        return np.array([low | high << 32], np.uint64).view(np.int64)

    d = Draft(i=1)
    args = [d.input(name, "i", dt.int64) for name in ("index", "offset", "key")]
    for word in range(4):
        d.store(d.op(Op.PHILOX, *args, dtype=dt.uint32, word=word), "i", f"word{word}")
    region = d.region("philox", "map", parallel="i")
    [artifact] = cpu_fallback.generate([region], settings)
    for counter, key, want in PHILOX_VECTORS:
        arrays = [join(*counter[:2]), join(*counter[2:]), join(*key)]
        arrays += [np.zeros(1, np.uint32) for _ in range(4)]
        assert [int(a[0]) for a in call(artifact.entry, arrays)[3:]] == want
