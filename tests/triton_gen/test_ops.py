"""Every elementwise op on every dtype of its domain, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.arrays import from_torch, to_torch
from tests.triton_gen.builder import Builder, devices, run
from tgrad import dtype as dt
from tgrad.dtype import DTYPES, DType
from tgrad.graph.op import ELEMENTWISE, OPS, Op, takes
from tgrad.triton_gen import op_table

pytest.importorskip("triton")
torch = pytest.importorskip("torch")

SPECIAL = {Op.CAST, Op.BITCAST, Op.PHILOX, Op.WHERE}
FLOATS = [dt.float16, dt.bfloat16, dt.float32, dt.float64]


def samples(dtype: DType, seed: int = 0) -> np.ndarray:
    """100 values, the awkward ones first."""
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return rng.integers(0, 2, 100).astype(bool)
    if dtype.is_int:
        low = max(int(dtype.min), -1000)
        x = rng.integers(low, min(int(dtype.max), 1000), 100)
        x[:5] = [0, 1, 2, 3, 5]
        if dtype.kind == "i":
            x[5:8] = [-1, -2, -3]
        return x.astype(dtype.numpy)
    x = rng.normal(size=100) * np.exp(rng.normal(size=100) * 2)
    x[:16] = [
        0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1,
        -1,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        -2.5,
        1e-3,
        60,
        -60,
    ]
    with np.errstate(all="ignore"):
        return x.astype(dtype.numpy)


def reference(op: Op, *x: Any) -> Any:
    table = {
        Op.NEG: torch.neg, Op.ABS: torch.abs, Op.EXP: torch.exp, Op.LOG: torch.log,
        Op.SIN: torch.sin, Op.COS: torch.cos, Op.TANH: torch.tanh, Op.ERF: torch.erf,
        Op.SIGMOID: torch.sigmoid,
        Op.SQRT: torch.sqrt, Op.RSQRT: torch.rsqrt, Op.FLOOR: torch.floor,
        Op.ROUND: torch.round, Op.TRUNC: torch.trunc, Op.NOT: torch.bitwise_not,
        Op.ADD: torch.add, Op.SUB: torch.sub, Op.MUL: torch.mul, Op.DIV: torch.div,
        Op.FLOORDIV: torch.floor_divide, Op.MOD: torch.remainder, Op.POW: torch.pow,
        Op.MAXIMUM: torch.maximum, Op.MINIMUM: torch.minimum,
        Op.AND: torch.bitwise_and, Op.OR: torch.bitwise_or, Op.XOR: torch.bitwise_xor,
        Op.SHL: torch.bitwise_left_shift, Op.SHR: torch.bitwise_right_shift,
        Op.LT: torch.lt, Op.LE: torch.le, Op.EQ: torch.eq, Op.NE: torch.ne,
    }  # fmt: skip
    return table[op](*x)


def test_every_op_is_spelled() -> None:
    kinds = {"f": [op_table.FLOAT, op_table.templates(dt.float64)], "i": [op_table.SIGNED],
             "u": [op_table.UNSIGNED], "b": [op_table.BOOL]}  # fmt: skip
    for op in ELEMENTWISE - {Op.CAST, Op.BITCAST}:
        for kind in OPS[op].domain:
            if op is Op.PHILOX or (kind == "u" and op is Op.NEG):
                continue
            for table in kinds[kind]:
                assert op in table, f"{op} has no Triton spelling for kind {kind}"


def cases() -> list[Any]:
    found = []
    for op in sorted(ELEMENTWISE - SPECIAL):
        for dtype in DTYPES.values():
            unsigned = dtype.kind == "u" and dtype.itemsize > 1
            if takes(op, dtype) and not unsigned:
                found.append(pytest.param(op, dtype, id=f"{op}-{dtype.short}"))
    return found


def tolerance(op: Op, dtype: DType) -> float:
    if op is Op.POW and dtype is dt.float64:
        return 1e-13
    if dtype.is_float8:
        return 0  # what it takes is exact
    one = {"f16": 2**-10, "bf16": 2**-7, "f32": 2**-23, "f64": 2**-52}[dtype.short]
    return one * (2 if dtype.itemsize == 2 else 8)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("op, dtype", cases())
def test_op(op: Op, dtype: DType, device: str) -> None:
    arity = OPS[op].arity
    x = samples(dtype)
    pairs = [x]
    if arity == 2:
        pairs = [np.repeat(x[:30], 30), np.tile(x[:30], 30)]
    if op in (Op.SHL, Op.SHR):
        pairs[1] = np.abs(pairs[1]) % (dtype.itemsize * 8)
    if op is Op.POW and dtype.is_int:
        pairs[1] = np.abs(pairs[1] % 6).astype(dtype.numpy)
    n = pairs[0].size
    b = Builder(i=n)
    out = dt.bool_ if OPS[op].result == "bool" else dtype
    b.store(b.op(op, *(b.load("i", dtype) for _ in pairs), dtype=out), "i")
    zero = (pairs[1] == 0) if dtype.is_int and op in (Op.FLOORDIV, Op.MOD) else np.zeros(n, bool)
    safe = [p.copy() for p in pairs]
    if arity == 2:
        safe[1][zero] = 1
    want = from_torch(reference(op, *(to_torch(p) for p in safe)))
    want = np.where(zero, np.zeros_like(want), want)
    (got,) = run(b.region(f"{op}_{dtype.short}"), pairs, device=device)
    if not out.is_float:
        np.testing.assert_array_equal(got, want)
        return
    rtol = tolerance(op, dtype)
    near = 1e-7 if op in (Op.SIN, Op.COS) and dtype.itemsize < 8 else 0
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=near, equal_nan=True
    )


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("op", [Op.NEG, Op.ROUND, Op.TRUNC, Op.FLOOR, Op.SQRT], ids=str)
def test_sign_of_zero(op: Op, device: str) -> None:
    x = np.array([0.0, -0.0, 0.25, -0.25, -0.5, 0.5], np.float32)
    if op is Op.SQRT:
        x = x[:2]
    b = Builder(i=x.size)
    b.store(b.op(op, b.load("i")), "i")
    (got,) = run(b.region("zero"), [x], device=device)
    want = reference(op, torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("device", devices())
def test_tanh_is_accurate_everywhere(device: str) -> None:
    x = np.concatenate([np.linspace(-12, 12, 4001), np.logspace(-30, 1, 500)])
    for dtype in (dt.float32, dt.float64):
        b = Builder(i=x.size)
        b.store(b.op(Op.TANH, b.load("i", dtype)), "i")
        data = x.astype(dtype.numpy)
        (got,) = run(b.region("tanh"), [data], device=device)
        want = np.tanh(data.astype(np.float64))
        np.testing.assert_allclose(got, want, rtol=4e-7 if dtype is dt.float32 else 2e-15)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("target", DTYPES.values(), ids=lambda d: d.short)
@pytest.mark.parametrize("source", DTYPES.values(), ids=lambda d: d.short)
def test_cast(source: DType, target: DType, device: str) -> None:
    x = samples(source)
    if source.is_float and not target.is_float:
        x = x[np.isfinite(x.astype(np.float64))]
        if not target.is_bool:
            x = np.abs(np.clip(x.astype(np.float64), -100, 100)).astype(source.numpy)
    b = Builder(i=x.size)
    b.store(b.op(Op.CAST, b.load("i", source), dtype=target), "i")
    (got,) = run(b.region("cast"), [x], device=device)
    with np.errstate(all="ignore"):
        middle = x.astype(np.float32) if target.is_narrow else x
        want = dt.saturated(middle, target).astype(target.numpy)
    if target.is_float:
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize(
    "source, target",
    [(dt.float32, dt.int32), (dt.uint32, dt.float32), (dt.bfloat16, dt.int16),
     (dt.int64, dt.float64), (dt.float16, dt.uint16), (dt.int8, dt.uint8)],
    ids=lambda d: d.short,
)  # fmt: skip
def test_bitcast(source: DType, target: DType, device: str) -> None:
    x = samples(source)
    b = Builder(i=x.size)
    b.store(b.op(Op.BITCAST, b.load("i", source), dtype=target), "i")
    (got,) = run(b.region("bitcast"), [x], device=device)
    np.testing.assert_array_equal(got.view(np.uint8), x.view(np.uint8))


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=lambda d: d.short)
def test_where_and_constants(dtype: DType, device: str) -> None:
    """Constants on either side, of both sides, and folded into arithmetic."""
    x = samples(dtype)
    number: bool | int | float = True if dtype.is_bool else 3 if dtype.is_int else 0.7
    b = Builder(i=x.size)
    v, c = b.load("i", dtype), b.const(number, dtype)
    even = b.op(Op.EQ, b.iota(b.var("i") % 2), b.const(0, dt.int64), dtype=dt.bool_)
    b.store(b.op(Op.WHERE, even, v, c), "i")
    b.store(b.op(Op.WHERE, even, c, v), "i")
    b.store(b.op(Op.WHERE, even, c, b.const(0, dtype)), "i")
    b.store(c, "i")
    if not dtype.is_float8:
        b.store(b.op(Op.MAXIMUM, v, c), "i")
    if not (dtype.is_bool or dtype.is_float8):
        b.store(b.op(Op.MUL, c, v), "i")
        b.store(b.op(Op.ADD, c, c), "i")
    got = run(b.region("where"), [x], device=device)
    k = np.array(number).astype(dtype.numpy)
    even_np = np.arange(x.size) % 2 == 0
    with np.errstate(all="ignore"):
        want = [np.where(even_np, x, k), np.where(even_np, k, x),
                np.where(even_np, k, np.zeros_like(x)), np.full_like(x, k)]  # fmt: skip
        if not dtype.is_float8:
            want += [np.maximum(x, k)]
        if not (dtype.is_bool or dtype.is_float8):
            want += [k * x, np.full_like(x, k + k)]
    for g, w in zip(got, want):
        if dtype.is_float:
            g, w = g.astype(np.float64), w.astype(np.float64)
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("device", devices())
def test_float_floor_division_of_awkward_pairs(device: str) -> None:
    a = np.array([7, -7, 7, -7, 0.0, 5, -5, 1e30, 3, np.inf, 0.1, 1], np.float32)
    c = np.array([2, 2, -2, -2, 3, np.inf, np.inf, 3, 0, 2, 0.01, 0.1], np.float32)
    for op in (Op.FLOORDIV, Op.MOD):
        b = Builder(i=a.size)
        b.store(b.op(op, b.load("i"), b.load("i")), "i")
        (got,) = run(b.region("pairs"), [a, c], device=device)
        want = reference(op, torch.from_numpy(a), torch.from_numpy(c)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-6, equal_nan=True)


# Known answers of Random123 (kat_vectors: philox4x32, 10 rounds): counter, key, result.
PHILOX = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
]  # fmt: skip


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("counter, key, want", PHILOX)
def test_philox(counter: list[int], key: list[int], want: list[int], device: str) -> None:
    words = [np.array([lo | hi << 32], np.uint64).view(np.int64)
             for lo, hi in (counter[:2], counter[2:], key)]  # fmt: skip
    b = Builder(i=1)
    values = [b.load("i", dt.int64) for _ in words]
    for word in range(4):
        b.store(b.op(Op.PHILOX, *values, dtype=dt.uint32, word=word), "i")
    got = run(b.region("philox"), words, device=device)
    assert [int(g[0]) for g in got] == want
