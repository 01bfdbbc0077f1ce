"""One kernel per pattern that fusion hands over, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.triton_gen.builder import Builder, devices, run
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.region import Region
from tgrad.graph.index import Bound, constant, loaded, var
from tgrad.graph.op import OPS, Op
from tgrad.kernel.ir import Config, Role, TileAxis

pytest.importorskip("triton")
pytestmark = pytest.mark.parametrize("device", devices())

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def tiles(region: Region, **blocks: tuple[str, int, Role]) -> Config:
    """A config by hand: name=(group of the region's space, block, role)."""
    axes = tuple(
        TileAxis(name, getattr(region.space, group), block, role)
        for name, (group, block, role) in blocks.items()
    )
    return Config(axes)


# -- elementwise ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 128, 1000, 5000])
def test_chain(n: int, device: str) -> None:
    b = Builder(i=n)
    x, y = b.load("i"), b.load("i")
    half = b.op(Op.MUL, b.op(Op.ADD, x, y), b.const(0.5))
    b.store(b.op(Op.MAXIMUM, b.op(Op.TANH, half), x), "i")
    b.store(half, "i")
    p, q = normal(n), normal(n)
    p[: min(n, 3)] = [np.nan, np.inf, -np.inf][: min(n, 3)]
    got = run(b.region("chain"), [p, q], device=device)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got[0], np.maximum(np.tanh((p + q) * 0.5), p), rtol=1e-6)
    np.testing.assert_array_equal(got[1], (p + q) * np.float32(0.5))


def test_scalar_kernel(device: str) -> None:
    b = Builder()
    b.store(b.op(Op.ADD, b.load(constant(2), size=5), b.const(1.0)), constant(0), size=1)
    (got,) = run(b.region("scalar"), [np.arange(5, dtype=np.float32)], device=device)
    assert got[0] == 3.0


@pytest.mark.parametrize("shape", [(33, 70), (64, 64), (1, 200)])
def test_transpose(shape: tuple[int, int], device: str) -> None:
    i, j = shape
    b = Builder(j=j, i=i)
    b.store(b.load("i j"), "j i")
    x = normal(i, j)
    region = b.region("transpose")
    (got,) = run(region, [x], device=device)
    np.testing.assert_array_equal(got.reshape(j, i), x.T)
    square = Config(
        (
            TileAxis("y", region.axes[:1], 16, Role.GRID),
            TileAxis("z", region.axes[1:], 32, Role.GRID),
        )
    )
    (got,) = run(region, [x], square, device=device)
    np.testing.assert_array_equal(got.reshape(j, i), x.T)


def test_pad_reads_nothing_outside(device: str) -> None:
    b = Builder(i=5, j=9)
    i, j = b.var("i"), b.var("j")
    inside = (Bound(i - 1, 0, 3), Bound(j - 2, 0, 4))
    x = b.load((i - 1) * 4 + (j - 2), size=12, mask=inside)
    b.store(x, "i j")
    b.store(b.op(Op.CAST, b.inside(inside), dtype=dt.int32), "i j")
    data = normal(3, 4)
    got = run(b.region("pad"), [data], device=device)
    np.testing.assert_array_equal(got[0].reshape(5, 9), np.pad(data, [(1, 1), (2, 3)]))
    np.testing.assert_array_equal(got[1].reshape(5, 9), np.pad(np.ones((3, 4)), [(1, 1), (2, 3)]))


def test_flip_and_negative_bases_of_division(device: str) -> None:
    b = Builder(i=40)
    i = b.var("i")
    b.store(b.load((i * -1) + 39, size=40), "i")
    b.store(b.iota((i - 20) // 7), "i")
    b.store(b.iota((i - 20) % 7, dt.int32), "i")
    x = normal(40)
    got = run(b.region("flip"), [x], device=device)
    np.testing.assert_array_equal(got[0], x[::-1])
    np.testing.assert_array_equal(got[1], (np.arange(40) - 20) // 7)
    np.testing.assert_array_equal(got[2], (np.arange(40) - 20) % 7)


def test_indices_beyond_32_bits(device: str) -> None:
    b = Builder(i=100)
    far = b.var("i") * 2**33 + 5
    b.store(b.iota(far), "i")
    b.store(b.iota((far // 2**31) % 1000), "i")
    got = run(b.region("far"), [], device=device)
    want = np.arange(100, dtype=np.int64) * 2**33 + 5
    np.testing.assert_array_equal(got[0], want)
    np.testing.assert_array_equal(got[1], (want // 2**31) % 1000)


@pytest.mark.parametrize("dtype", [dt.int64, dt.int32, dt.uint8], ids=lambda d: d.short)
def test_gather(dtype: DType, device: str) -> None:
    b = Builder(i=6, j=50)
    index = b.load("i j", dtype)
    at = loaded(index, 0, 9) * 50 + b.var("j")
    b.store(b.load(at, size=500), "i j")
    x, where = normal(10, 50), rng.integers(0, 10, (6, 50)).astype(dtype.numpy)
    (got,) = run(b.region("gather"), [where, x], device=device)
    np.testing.assert_array_equal(got.reshape(6, 50), x[where.astype(int), np.arange(50)])


@pytest.mark.parametrize("dtype", [dt.float32, dt.int32, dt.int64], ids=lambda d: d.short)
@pytest.mark.parametrize("combine", ["set", "add", "max", "min"])
def test_scatter(combine: str, dtype: DType, device: str) -> None:
    b = Builder(i=300)
    where, x = b.load("i", dt.int64), b.load("i", dtype)
    b.store(x, loaded(where, 0, 319 if combine == "set" else 15), size=320, combine=combine)
    region = b.region("scatter", "scatter")
    data = rng.integers(-50, 50, 300).astype(dtype.numpy)
    base = rng.integers(-5, 5, 320).astype(dtype.numpy)
    index = rng.permutation(320)[:300] if combine == "set" else rng.integers(0, 16, 300)
    want = base.copy()
    ufunc = {"add": np.add, "max": np.maximum, "min": np.minimum}
    if combine == "set":
        want[index] = data
    else:
        ufunc[combine].at(want, index, data)
    (got,) = run(region, [index, data], device=device, before=[base])
    if combine == "set":
        got, want = got[index], want[index]
    np.testing.assert_array_equal(got, want)


def test_sum_by_atomics(device: str) -> None:
    """A store whose index lacks the axes of its value."""
    b = Builder(i=3, j=70)
    b.store(b.load("i j"), "i", combine="add")
    x = normal(3, 70)
    (got,) = run(b.region("sums", "scatter"), [x], device=device, before=[np.zeros(3, np.float32)])
    np.testing.assert_allclose(got, x.sum(1), rtol=1e-5)


def test_bool_memory(device: str) -> None:
    b = Builder(i=90)
    x, y = b.load("i", dt.bool_), b.load("i", dt.bool_)
    b.store(b.op(Op.AND, b.op(Op.NOT, x), y), "i")
    b.store(b.op(Op.CAST, x, dtype=dt.float32), "i")
    p, q = rng.integers(0, 2, (2, 90)).astype(bool)
    got = run(b.region("bools"), [p, q], device=device)
    np.testing.assert_array_equal(got[0], ~p & q)
    np.testing.assert_array_equal(got[1], p.astype(np.float32))


# -- reductions -------------------------------------------------------------------------------

NUMPY: dict[Op, Callable[..., np.ndarray]] = {
    Op.REDUCE_SUM: np.sum,
    Op.REDUCE_PROD: np.prod,
    Op.REDUCE_MAX: np.max,
    Op.REDUCE_MIN: np.min,
}
LAYOUTS = {
    "row": ("i", "j", "FULL"),
    "row-loop": ("i", "j", "LOOP"),
    "column": ("j", "i", "FULL"),
    "column-loop": ("j", "i", "LOOP"),
    "all": ("", "i j", "FULL"),
    "all-loop": ("", "i j", "LOOP"),
}


REDUCED = (dt.float32, dt.float16, dt.bfloat16, dt.int64, dt.int32, dt.bool_)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("op", "dtype"), [(op, d) for op in NUMPY for d in REDUCED if d.kind in OPS[op].domain]
)
def test_reduce(dtype: DType, op: Op, layout: str, device: str) -> None:
    kept, row, role = LAYOUTS[layout]
    b = Builder(i=5, j=11)
    b.store(b.reduce(op, b.load("i j", dtype), row), kept or constant(0), size=1)
    region = b.region(f"{op}_{dtype.short}", "reduce", row=row)
    blocks = {"r": ("row", 4 if role == "LOOP" else 64, Role[role])}
    if kept:
        blocks = {"i": ("parallel", 4, Role.GRID)} | blocks
        if layout.startswith("column"):
            blocks = dict(reversed(blocks.items()))
    data = rng.integers(-3, 4, (5, 11)).astype(dtype.numpy)
    if dtype.is_float:
        data = (data * 0.5 + 1.25).astype(dtype.numpy)
    axes = tuple("ij".index(a) for a in row.split())
    wide = data.astype(np.float64) if dtype.is_float else data
    want = NUMPY[op](wide, axis=axes).reshape(-1)
    for config in (None, tiles(region, **blocks)):
        (got,) = run(region, [data], config, device=device)
        np.testing.assert_allclose(got.astype(want.dtype), want, rtol=1e-5)


@pytest.mark.parametrize("role", [Role.FULL, Role.LOOP], ids=["full", "loop"])
@pytest.mark.parametrize("op", [Op.REDUCE_MAX, Op.REDUCE_MIN, Op.REDUCE_SUM], ids=str)
def test_reductions_pass_nan_and_infinity(op: Op, role: Role, device: str) -> None:
    x = normal(6, 50)
    x[0, 3], x[1, 49], x[2, 0], x[3, 7] = np.nan, np.nan, np.inf, -np.inf
    x[4] = -np.inf
    b = Builder(i=6, j=50)
    b.store(b.reduce(op, b.load("i j"), "j"), "i")
    region = b.region("nan", "reduce", row="j")
    blocks = {"i": ("parallel", 8, Role.GRID), "r": ("row", 64 if role is Role.FULL else 16, role)}
    (got,) = run(region, [x], tiles(region, **blocks), device=device)
    np.testing.assert_allclose(got, NUMPY[op](x, axis=1), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_reduce_of_short_rows(n: int, device: str) -> None:
    b = Builder(i=4, j=n)
    index = b.var("i") * n + var("j", n)
    x = b.load(index, size=max(4 * n, 1)) if n else b.const(0.0)
    b.store(b.reduce(Op.REDUCE_SUM, x, "j"), "i")
    data = normal(4, n) if n else np.zeros(1, np.float32)
    region = b.region("short", "reduce", row="j")
    (got,) = run(region, [data] if n else [], device=device)
    np.testing.assert_allclose(got, (data if n else np.zeros((4, 1))).sum(1), rtol=1e-6, atol=1e-6)


def softmax_region(i: int, j: int, dtype: DType = dt.float32) -> Region:
    b = Builder(i=i, j=j)
    x = b.load("i j", dtype)
    wide = x if dtype is dt.float32 else b.op(Op.CAST, x, dtype=dt.float32)
    m = b.reduce(Op.REDUCE_MAX, wide, "j")
    e = b.op(Op.EXP, b.op(Op.SUB, wide, m))
    out = b.op(Op.DIV, e, b.reduce(Op.REDUCE_SUM, e, "j"))
    b.store(out if dtype is dt.float32 else b.op(Op.CAST, out, dtype=dtype), "i j")
    return b.region(f"softmax_{i}x{j}_{dtype.short}", "reduce", row="j")


@pytest.mark.parametrize("shape", [(3, 100), (5, 64), (1, 1), (9, 3)])
@pytest.mark.parametrize("role", ["heuristic", "full", "loop"])
def test_softmax(role: str, shape: tuple[int, int], device: str) -> None:
    region = softmax_region(*shape)
    config = None
    if role == "full":
        config = tiles(region, i=("parallel", 2, Role.GRID), r=("row", 128, Role.FULL))
    if role == "loop":
        config = tiles(region, i=("parallel", 1, Role.GRID), r=("row", 32, Role.LOOP))
    x = normal(*shape) * 5
    e = np.exp(x - x.max(1, keepdims=True))
    (got,) = run(region, [x], config, device=device)
    np.testing.assert_allclose(got.reshape(shape), e / e.sum(1, keepdims=True), rtol=2e-6)


@pytest.mark.parametrize("role", [Role.FULL, Role.LOOP], ids=["full", "loop"])
def test_mean_of_row_losses(role: Role, device: str) -> None:
    """Cross entropy: rows reduced, then the rows themselves, in one program."""
    n, c = 13, 10
    b = Builder(i=n, j=c)
    x = b.load("i j")
    m = b.reduce(Op.REDUCE_MAX, x, "j")
    s = b.reduce(Op.REDUCE_SUM, b.op(Op.EXP, b.op(Op.SUB, x, m)), "j")
    label = b.load("i", dt.int64)
    b.values.append(
        b.values[x].__class__(0, b.var("i") * c + loaded(label, 0, c - 1), (), dt.float32)
    )
    picked = len(b.values) - 1
    loss = b.op(Op.SUB, b.op(Op.ADD, m, b.op(Op.LOG, s)), picked)
    total = b.reduce(Op.REDUCE_SUM, loss, "i")
    b.store(b.op(Op.MUL, total, b.const(1 / n)), constant(0), size=1)
    region = b.region("cross_entropy", "reduce", row="j", outer="i")
    data, labels = normal(n, c), rng.integers(0, c, n)
    e = np.exp(data - data.max(1, keepdims=True))
    want = -np.log((e / e.sum(1, keepdims=True))[np.arange(n), labels]).mean()
    config = tiles(
        region, o=("outer", 4, Role.LOOP), r=("row", 16 if role is Role.FULL else 4, role)
    )
    for c_ in (None, config):
        (got,) = run(region, [data, labels], c_, device=device)
        np.testing.assert_allclose(got[0], want, rtol=1e-5)


# -- dots -------------------------------------------------------------------------------------


def dot_region(
    m: int, k: int, n: int, dtype: DType = dt.float32, out: DType | None = None, batch: int = 0
) -> Region:
    extents = ({"b": batch} if batch else {}) | {"m": m, "k": k, "n": n}
    b = Builder(**extents)
    lead = "b " if batch else ""
    d = b.dot(b.load(lead + "m k", dtype), b.load(lead + "k n", dtype), "k", out)
    b.store(d, lead + "m n")
    groups = {"batch": "b"} if batch else {}
    return b.region(f"dot_{m}x{k}x{n}_{dtype.short}", "dot", m="m", n="n", k="k", **groups)


SMALL = Config((), num_warps=4, num_stages=1, group_m=2)


def small_dot(region: Region) -> Config:
    s = region.space
    groups = (("b", s.batch, 1, Role.GRID), ("m", s.m, 16, Role.GRID), ("k", s.k, 16, Role.LOOP),
              ("n", s.n, 16, Role.GRID))  # fmt: skip
    return Config(tuple(TileAxis(*g) for g in groups if g[1]), group_m=2)


@pytest.mark.parametrize("shape", [(37, 53, 29), (16, 16, 16), (5, 3, 10), (64, 100, 33)])
@pytest.mark.parametrize(
    "dtype, out",
    [(dt.float32, None), (dt.float16, None), (dt.bfloat16, None), (dt.int8, dt.int32),
     (dt.float64, None), (dt.int64, None), (dt.int32, None)],
    ids=lambda d: d.short if d else "",
)  # fmt: skip
def test_dot(dtype: DType, out: DType | None, shape: tuple[int, int, int], device: str) -> None:
    m, k, n = shape
    region = dot_region(m, k, n, dtype, out)
    if dtype.is_float:
        p, q = normal(m, k).astype(dtype.numpy), normal(k, n).astype(dtype.numpy)
    else:
        p, q = (rng.integers(-9, 9, s).astype(dtype.numpy) for s in ((m, k), (k, n)))
    want = p.astype(np.float64) @ q.astype(np.float64)
    for config in (None, small_dot(region)):
        if dtype.itemsize == 1 and config is not None:
            continue
        (got,) = run(region, [p, q], config, device=device)
        np.testing.assert_allclose(got.reshape(m, n), want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 50, 40), (40, 50, 1), (1, 50, 1), (20, 1, 20)])
def test_dot_with_an_axis_of_one(shape: tuple[int, int, int], device: str) -> None:
    m, k, n = shape
    p, q = normal(m, k), normal(k, n)
    (got,) = run(dot_region(m, k, n), [p, q], device=device)
    np.testing.assert_allclose(got.reshape(m, n), p @ q, rtol=1e-5, atol=1e-5)


def test_batched_dot(device: str) -> None:
    region = dot_region(18, 20, 22, batch=3)
    p, q = normal(3, 18, 20), normal(3, 20, 22)
    for config in (None, small_dot(region)):
        (got,) = run(region, [p, q], config, device=device)
        np.testing.assert_allclose(got.reshape(3, 18, 22), p @ q, rtol=1e-5, atol=1e-5)


def test_dot_ignores_what_lies_beyond_k(device: str) -> None:
    """exp as prologue makes 1 of a zero-filled lane, and infinity elsewhere stays where it is."""
    b = Builder(m=20, k=21, n=24)
    a = b.op(Op.EXP, b.load("m k"))
    scale = b.load("k")
    w = b.op(Op.MUL, b.load("k n"), scale)
    d = b.dot(a, w, "k")
    b.store(b.op(Op.MAXIMUM, b.op(Op.ADD, d, b.load("n")), b.const(0.0)), "m n")
    region = b.region("linear", "dot", m="m", n="n", k="k")
    p, s, q, bias = normal(20, 21), normal(21), normal(21, 24), normal(24)
    p[3, 20] = np.inf
    with np.errstate(all="ignore"):
        want = np.maximum(np.exp(p) @ (q * s[:, None]) + bias, 0)
    for config in (None, small_dot(region)):
        (got,) = run(region, [p, s, q, bias], config, device=device)
        np.testing.assert_allclose(got.reshape(20, 24), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("role", [Role.LOOP, Role.FULL], ids=lambda r: r.value)
def test_epilogue_in_parts(role: Role, parts: int, device: str) -> None:
    """What lies along the columns is read part by part, also what the prologue needs too."""
    m, k, n = 37, 45, 77
    b = Builder(m=m, k=k, n=n)
    scale = b.load("n")
    d = b.dot(b.load("m k"), b.op(Op.MUL, b.load("k n"), scale), "k")
    y = b.op(Op.MUL, b.op(Op.ADD, d, b.load("m n")), scale)
    b.store(b.op(Op.ADD, y, b.op(Op.CAST, b.iota(b.var("n")), dtype=dt.float32)), "m n")
    b.store(d, "m n")
    region = b.region("gated", "dot", m="m", n="n", k="k")
    s, p, q, r = normal(n), normal(m, k), normal(k, n), normal(m, n)
    axes = tuple(
        TileAxis(name, getattr(region.space, name), block, each)
        for name, block, each in (
            ("m", 32, Role.GRID),
            ("k", 64 if role is Role.FULL else 16, role),
            ("n", 64, Role.GRID),
        )
    )
    config = Config(axes, num_stages=1, epilogue_parts=parts)
    got = run(region, [s, p, q, r], config, device=device)
    product = p @ (q * s)
    want = (product + r) * s + np.arange(n)
    np.testing.assert_allclose(got[0].reshape(m, n), want, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(got[1].reshape(m, n), product, rtol=1e-5, atol=1e-4)


def test_dot_with_broadcast_operands(device: str) -> None:
    b = Builder(m=20, k=21, n=24)
    b.store(b.dot(b.load("k"), b.load("k n"), "k"), "n")
    p, q = normal(21), normal(21, 24)
    region = b.region("vector", "dot", m="m", n="n", k="k")
    (got,) = run(region, [p, q], small_dot(region), device=device)
    np.testing.assert_allclose(got, p @ q, rtol=1e-5, atol=1e-5)
    b = Builder(m=20, k=21, n=24)
    b.store(b.dot(b.load("m k"), b.load("n"), "k"), "m n")
    p, q = normal(20, 21), normal(24)
    region = b.region("outer", "dot", m="m", n="n", k="k")
    for config in (None, small_dot(region)):
        (got,) = run(region, [p, q], config, device=device)
        want = p.sum(1)[:, None] * q
        np.testing.assert_allclose(got.reshape(20, 24), want, rtol=1e-4, atol=1e-4)


def test_convolution(device: str) -> None:
    """3x3, padded by 1: the window is index arithmetic, m = (batch, y, x), k = (c, ky, kx)."""
    n, c, h, w, o = 2, 3, 6, 7, 5
    b = Builder(b=n, y=h, x=w, c=c, p=3, q=3, o=o)
    v = {a: b.var(a) for a in "byxcpqo"}
    row, col = v["y"] + v["p"] - 1, v["x"] + v["q"] - 1
    image = ((v["b"] * c + v["c"]) * h + row) * w + col
    a = b.load(image, size=n * c * h * w, mask=(Bound(row, 0, h), Bound(col, 0, w)))
    weight = b.load(((v["o"] * c + v["c"]) * 3 + v["p"]) * 3 + v["q"], size=o * c * 9)
    d = b.op(Op.ADD, b.dot(a, weight, "c p q"), b.load("o"))
    out = ((v["b"] * o + v["o"]) * h + v["y"]) * w + v["x"]
    b.store(b.op(Op.MAXIMUM, d, b.const(0.0)), out, size=n * o * h * w)
    region = b.region("conv", "dot", m="b y x", n="o", k="c p q")
    x, k, bias = normal(n, c, h, w), normal(o, c, 3, 3), normal(o)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    want = np.maximum(np.einsum("nchwpq,ocpq->nohw", windows, k) + bias[:, None, None], 0)
    for config in (None, small_dot(region)):
        (got,) = run(region, [x, k, bias], config, device=device)
        np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-5, atol=1e-5)


def test_dropout_from_philox(device: str) -> None:
    """Random bits made in the kernel, one counter per element."""
    n = 200
    b = Builder(i=n)
    bits = b.op(
        Op.PHILOX, b.iota(b.var("i")), b.load(constant(0), dt.int64, 1),
        b.load(constant(0), dt.int64, 1), dtype=dt.uint32,
    )  # fmt: skip
    top = b.op(Op.CAST, b.op(Op.SHR, bits, b.const(8, dt.uint32)), dtype=dt.float32)
    uniform = b.op(Op.MUL, top, b.const(2.0**-24))
    keep = b.op(Op.LT, uniform, b.const(0.25), dtype=dt.bool_)
    b.store(b.op(Op.WHERE, keep, b.load("i"), b.const(0.0)), "i")
    b.store(uniform, "i")
    offset, seed, x = np.array([1], np.int64), np.array([1234], np.int64), normal(n)
    out, u = run(b.region("dropout"), [offset, seed, x], device=device)
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(out, np.where(u < 0.25, x, 0))
