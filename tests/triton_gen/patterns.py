"""Regions of the sizes that training and inference have, for tests that only compile."""

from __future__ import annotations

from dataclasses import replace

from tests.triton_gen.builder import Builder
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.region import Dot, Load, Region, Scan, Sort, Table
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import OPS, SCAN, Op


def gelu(n: int, dtype: DType) -> Region:
    b = Builder(i=n)
    x = b.load("i", dtype)
    cdf = b.op(Op.ADD, b.op(Op.ERF, b.op(Op.MUL, x, b.const(0.7071, dtype))), b.const(1.0, dtype))
    b.store(b.op(Op.MUL, b.op(Op.MUL, x, b.const(0.5, dtype)), cdf), "i")
    return b.region(f"gelu_{n}_{dtype.short}")


def bias(rows: int, columns: int, dtype: DType) -> Region:
    b = Builder(i=rows, j=columns)
    b.store(b.op(Op.ADD, b.load("i j", dtype), b.load("j", dtype)), "i j")
    return b.region(f"bias_{rows}x{columns}_{dtype.short}")


def transpose(i: int, j: int, dtype: DType) -> Region:
    b = Builder(j=j, i=i)
    b.store(b.load("i j", dtype), "j i")
    return b.region(f"transpose_{i}x{j}_{dtype.short}")


def softmax(i: int, j: int, dtype: DType) -> Region:
    b = Builder(i=i, j=j)
    x = b.op(Op.CAST, b.load("i j", dtype), dtype=dt.float32)
    e = b.op(Op.EXP, b.op(Op.SUB, x, b.reduce(Op.REDUCE_MAX, x, "j")))
    out = b.op(Op.DIV, e, b.reduce(Op.REDUCE_SUM, e, "j"))
    b.store(b.op(Op.CAST, out, dtype=dtype), "i j")
    return b.region(f"softmax_{i}x{j}_{dtype.short}", "reduce", row="j")


def cumulative(op: Op, i: int, j: int, dtype: DType, axis: str = "j") -> Region:
    b = Builder(i=i, j=j)
    args = tuple(b.load("i j", dtype) for _ in range(OPS[op].arity))
    b.store(b.add(Scan(op, args, (axis,), dtype)), "i j")
    return b.region(f"{op}_{i}x{j}_{dtype.short}_{axis}", "scan", row=axis)


def argsort(i: int, j: int, dtype: DType = dt.uint32) -> Region:
    """Places and values of the rows in order."""
    b = Builder(i=i, j=j)
    places = b.add(Sort(b.load("i j", dtype), ("j",)))
    ordered = b.add(Load(0, b.var("i") * j + loaded(places, 0, j - 1), (), dtype))
    b.store(b.op(Op.CAST, places, dtype=dt.int64), "i j")
    b.store(ordered, "i j")
    return b.region(f"argsort_{i}x{j}_{dtype.short}", "sort", row="j")


def scans_and_sorts() -> list[Region]:
    f32, f64, linear = dt.float32, dt.float64, Op.SCAN_LINEAR
    return [
        *(cumulative(op, 300, 1000, f32) for op in (linear, Op.SCAN_SUM)),
        *(cumulative(op, 300, 8192, f32) for op in sorted(SCAN)),
        cumulative(linear, 300, 8192, f64), cumulative(Op.SCAN_SUM, 300, 8192, dt.int64),
        cumulative(linear, 300, 50257, f32), cumulative(linear, 50257, 1000, f32, "i"),
        argsort(300, 20), argsort(300, 200, dt.uint16), argsort(300, 4096),
    ]  # fmt: skip


def layer_norm(i: int, j: int, dtype: DType) -> Region:
    b = Builder(i=i, j=j)
    x = b.op(Op.CAST, b.load("i j", dtype), dtype=dt.float32)
    share = b.const(1 / j)
    mean = b.op(Op.MUL, b.reduce(Op.REDUCE_SUM, x, "j"), share)
    d = b.op(Op.SUB, x, mean)
    variance = b.op(Op.MUL, b.reduce(Op.REDUCE_SUM, b.op(Op.MUL, d, d), "j"), share)
    scale = b.op(Op.RSQRT, b.op(Op.ADD, variance, b.const(1e-5)))
    w, c = (b.op(Op.CAST, b.load("j", dtype), dtype=dt.float32) for _ in range(2))
    out = b.op(Op.ADD, b.op(Op.MUL, b.op(Op.MUL, d, scale), w), c)
    b.store(b.op(Op.CAST, out, dtype=dtype), "i j")
    return b.region(f"layer_norm_{i}x{j}_{dtype.short}", "reduce", row="j")


def update(lengths: tuple[int, ...], dtype: DType) -> Region:
    """w = w - g * rate for tensors of these lengths, as one launch."""
    b = Builder(i=max(lengths))
    w, g = b.load("i", dtype), b.load("i", dtype)
    b.store(b.op(Op.SUB, w, b.op(Op.MUL, g, b.load("", dtype))), "i")
    region = b.region(f"update_{dtype.short}_x{len(lengths)}")
    return replace(region, table=Table(len(lengths), (0, 1, 3), lengths))


def squares(lengths: tuple[int, ...], dtype: DType) -> Region:
    """The sum of the squares of each of several tensors."""
    b = Builder(i=max(lengths))
    x = b.op(Op.CAST, b.load("i", dtype), dtype=dt.float32)
    b.store(b.reduce(Op.REDUCE_SUM, b.op(Op.MUL, x, x), "i"), "")
    region = b.region(f"squares_{dtype.short}_x{len(lengths)}", "reduce", row="i")
    return replace(region, table=Table(len(lengths), (0, 1), lengths))


def column_sums(members: int, i: int, j: int, dtype: DType) -> Region:
    region = column_sum(i, j, dtype)
    return replace(region, name=f"{region.name}_x{members}", table=Table(members, (0, 1)))


def column_sum(i: int, j: int, dtype: DType) -> Region:
    b = Builder(i=i, j=j)
    b.store(b.reduce(Op.REDUCE_SUM, b.load("i j", dtype), "i"), "j")
    return b.region(f"column_sum_{i}x{j}_{dtype.short}", "reduce", row="i")


def channel_statistics(n: int, c: int, hw: int) -> Region:
    """Sum and sum of squares of each channel: batch norm's forward."""
    b = Builder(n=n, c=c, s=hw)
    x = b.load("n c s")
    b.store(b.reduce(Op.REDUCE_SUM, x, "n s"), "c")
    b.store(b.reduce(Op.REDUCE_SUM, b.op(Op.MUL, x, x), "n s"), "c")
    return b.region(f"statistics_{n}x{c}x{hw}", "reduce", row="n s")


def embedding_gradient(tokens: int, rows: int, width: int) -> Region:
    b = Builder(i=tokens, j=width)
    row = b.load("i", dt.int64)
    at = loaded(row, 0, rows - 1) * width + b.var("j")
    b.store(b.load("i j"), at, size=rows * width, combine="add")
    return b.region(f"embedding_gradient_{tokens}x{width}", "scatter")


def dropout(n: int) -> Region:
    b = Builder(i=n)
    offset, seed = (b.load(b.index(""), dt.int64, 1) for _ in range(2))
    bits = b.op(Op.PHILOX, b.iota(b.var("i")), offset, seed, dtype=dt.uint32)
    keep = b.op(Op.LT, bits, b.const(2**31, dt.uint32), dtype=dt.bool_)
    b.store(b.op(Op.WHERE, keep, b.load("i"), b.const(0.0)), "i")
    return b.region(f"dropout_{n}")


def linear(m: int, k: int, n: int, dtype: DType) -> Region:
    """matmul + bias + relu, the weight as PyTorch keeps it (n rows of k)."""
    b = Builder(m=m, k=k, n=n)
    d = b.dot(b.load("m k", dtype), b.load("n k", dtype), "k", dt.float32)
    y = b.op(Op.CAST, d, dtype=dtype)
    y = b.op(Op.MAXIMUM, b.op(Op.ADD, y, b.load("n", dtype)), b.const(0.0, dtype))
    b.store(y, "m n")
    return b.region(f"linear_{m}x{k}x{n}_{dtype.short}", "dot", m="m", n="n", k="k")


def gated(m: int, k: int, n: int, dtype: DType) -> Region:
    """relu(x g) * (x u): two accumulators over one tile of x."""
    b = Builder(m=m, k=k, n=n)
    x = b.load("m k", dtype)
    gate, up = (b.dot(x, b.load("n k", dtype), "k", dt.float32) for _ in range(2))
    b.store(b.op(Op.MUL, b.op(Op.MAXIMUM, gate, b.const(0.0)), up), "m n", dtype)
    return b.region(f"gated_{m}x{k}x{n}_{dtype.short}", "dot", m="m", n="n", k="k")


def summed(m: int, ks: tuple[int, int], n: int, dtype: DType) -> Region:
    """a b + c d: two loops into one accumulator."""
    b = Builder(m=m, j=ks[0], k=ks[1], n=n)
    first = b.dot(b.load("m j", dtype), b.load("j n", dtype), "j", dt.float32)
    pair = b.load("m k", dtype), b.load("k n", dtype)
    b.store(b.add(Dot(*pair, ("k",), dt.float32, first)), "m n", dtype)
    return b.region(f"summed_{m}x{n}_{dtype.short}", "dot", m="m", n="n", k="k", inner="j")


def scaled_product(m: int, k: int, n: int, dtype: DType) -> Region:
    """A product of 8-bit floats with a scale a row and a column, rounded to bfloat16."""
    b = Builder(m=m, k=k, n=n)
    d = b.dot(b.load("m k", dtype), b.load("n k", dtype), "k", dt.float32)
    y = b.op(Op.MUL, b.op(Op.MUL, d, b.load("m", dt.float32)), b.load("n", dt.float32))
    b.store(b.op(Op.CAST, y, dtype=dt.bfloat16), "m n")
    return b.region(f"scaled_{m}x{k}x{n}_{dtype.short}", "dot", m="m", n="n", k="k")


def convolution(n: int, c: int, size: int, o: int, kernel: int, dtype: DType) -> Region:
    """y = relu(conv(x, w) + b), padded to the same size."""
    b = Builder(b=n, y=size, x=size, c=c, p=kernel, q=kernel, o=o)
    v = {a: b.var(a) for a in "byxcpqo"}
    pad = kernel // 2
    row, col = v["y"] + v["p"] - pad, v["x"] + v["q"] - pad
    inside = (Bound(row, 0, size), Bound(col, 0, size))
    image = ((v["b"] * c + v["c"]) * size + row) * size + col
    a = b.load(image, dtype, n * c * size * size, inside)
    weight = ((v["o"] * c + v["c"]) * kernel + v["p"]) * kernel + v["q"]
    w = b.load(weight, dtype, o * c * kernel * kernel)
    d = b.op(Op.CAST, b.dot(a, w, "c p q", dt.float32), dtype=dtype)
    y = b.op(Op.MAXIMUM, b.op(Op.ADD, d, b.load("o", dtype)), b.const(0.0, dtype))
    out = ((v["b"] * o + v["o"]) * size + v["y"]) * size + v["x"]
    b.store(y, out, size=n * o * size * size)
    name = f"conv_{n}x{c}x{size}_{o}_{dtype.short}"
    return b.region(name, "dot", m="b y x", n="o", k="c p q")


def convolution_weight_gradient(
    n: int, c: int, size: int, o: int, kernel: int, dtype: DType
) -> Region:
    b = Builder(b=n, y=size, x=size, c=c, p=kernel, q=kernel, o=o)
    v = {a: b.var(a) for a in "byxcpqo"}
    pad = kernel // 2
    row, col = v["y"] + v["p"] - pad, v["x"] + v["q"] - pad
    inside = (Bound(row, 0, size), Bound(col, 0, size))
    dy = b.load(((v["b"] * o + v["o"]) * size + v["y"]) * size + v["x"], dtype, n * o * size**2)
    image = ((v["b"] * c + v["c"]) * size + row) * size + col
    x = b.load(image, dtype, n * c * size**2, inside)
    d = b.op(Op.CAST, b.dot(dy, x, "b y x", dt.float32), dtype=dtype)
    weight = ((v["o"] * c + v["c"]) * kernel + v["p"]) * kernel + v["q"]
    b.store(d, weight, size=o * c * kernel**2)
    return b.region(f"conv_dw_{n}x{c}x{size}_{dtype.short}", "dot", m="o", n="c p q", k="b y x")


def pointwise_and_reductions() -> list[Region]:
    f32, bf16 = dt.float32, dt.bfloat16
    return [
        gelu(1 << 22, f32), gelu(1 << 22, bf16), gelu(1_000_003, f32), bias(4096, 1024, f32),
        transpose(4096, 4096, f32), transpose(1000, 77, bf16), dropout(1 << 20),
        softmax(4096, 1024, f32), softmax(64, 10, f32), softmax(128, 16384, f32),
        softmax(128, 50257, bf16), layer_norm(4096, 768, bf16), layer_norm(512, 8192, f32),
        layer_norm(512, 12000, f32), column_sum(4096, 1024, f32), column_sum(100, 37, f32),
        channel_statistics(64, 32, 784), embedding_gradient(4096, 50257, 768),
    ]  # fmt: skip


def dots(dtype: DType) -> list[Region]:
    return [
        linear(4096, 1024, 4096, dtype), linear(1024, 1024, 1024, dtype),
        linear(64, 576, 10, dtype), linear(257, 129, 65, dtype), linear(16, 4096, 4096, dtype),
        convolution(64, 1, 28, 32, 5, dtype), convolution(64, 32, 28, 32, 5, dtype),
        convolution(512, 64, 14, 64, 3, dtype),
        convolution_weight_gradient(64, 32, 28, 32, 5, dtype),
    ]  # fmt: skip
