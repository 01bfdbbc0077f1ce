"""Generated C, word for word. TGRAD_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.attention import attention_regions
from tests.cpu_fallback.cases import Draft, convolution, dot_region, matmul, pooling
from tests.cpu_fallback.test_patterns import (
    argsort,
    chain,
    cumulative,
    of_costly_values,
    reduction,
    softmax,
)
from tgrad.cpu_fallback import Machine
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.dtype import bfloat16
from tgrad.fusion.region import Region, Table
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower

GOLDEN = Path(__file__).parent / "golden"

AVX512 = Machine("linux-x86_64-test", 64, 32, 2, 48 << 10, 1 << 20, 32 << 20)
WORDS = replace(AVX512, has_bf16_dots=True, has_byte_dots=True)
SSE2 = Machine("linux-x86_64-test", 16, 16, 4, 32 << 10, 256 << 10, 8 << 20)


def biased(m: int = 200, n: int = 96) -> Region:
    d = matmul(m, n, 500)
    d.op(Op.TANH, d.op(Op.ADD, 2, d.input("bias", "n")))
    return dot_region(d, "linear_tanh")


def linear_bf16(m: int, n: int, k: int) -> Region:
    d = matmul(m, n, k, b="n k", dtype=bfloat16)
    d.op(Op.CAST, 2, dtype=bfloat16)
    return dot_region(d, "linear_bf16")


def transpose() -> Region:
    d = Draft(i=3072, j=4096)
    d.store(d.input("x", "i j"), d.flat("j i"), size=3072 * 4096)
    return d.region("transpose", "map", parallel="i j")


def members(count: int) -> Region:
    region = reduction(Op.REDUCE_SUM, _f32(), "column", 330, 700)
    return replace(region, table=Table(count, (0, 1)))


def update() -> Region:
    """w = w - g * rate for three tensors."""
    d = Draft(i=20000)
    w, g = d.input("w", "i"), d.input("g", "i")
    d.store(d.op(Op.SUB, w, d.op(Op.MUL, g, d.input("rate", ""))), "i")
    region = d.region("update_x3", "map", parallel="i")
    return replace(region, table=Table(3, (0, 1, 3), (20000, 160, 48)))


def squares() -> Region:
    """The sum of the squares of each of three tensors."""
    d = Draft(i=20000)
    x = d.input("x", "i")
    d.store(d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, x, x), "i"), "")
    region = d.region("squares_x3", "reduce", row="i")
    return replace(region, table=Table(3, (0, 1), (20000, 160, 48)))


CASES = {
    "transpose_3072x4096": (transpose, AVX512),
    "update_x3": (update, AVX512),
    "squares_x3": (squares, AVX512),
    "column_sums_x4": (lambda: members(4), AVX512),
    "chain_64x1000": (lambda: chain(64, 1000), AVX512),
    "softmax_17x100": (lambda: softmax(17, 100), AVX512),
    "scan_330x700": (lambda: cumulative(Op.SCAN_SUM, 330, 700), AVX512),
    "scan_columns_330x700": (lambda: cumulative(Op.SCAN_LINEAR, 330, 700, "i"), AVX512),
    "scan_of_costly_values_17x700": (lambda: of_costly_values(17, 700), AVX512),
    "argsort_33x5000": (lambda: argsort(33, 5000), AVX512),
    "column_sum_330x700": (lambda: reduction(Op.REDUCE_SUM, _f32(), "column", 330, 700), AVX512),
    "full_sum_330x700": (lambda: reduction(Op.REDUCE_SUM, _f32(), "full", 330, 700), AVX512),
    "linear_tanh_200x96x500": (biased, AVX512),
    "linear_tanh_200x96x500_sse2": (biased, SSE2),
    "linear_bf16_words": (lambda: linear_bf16(200, 96, 301), WORDS),
    "convolution_window_words": (
        lambda: convolution("forward", 2, 20, 32, 14, 3, pad=1, dtype=bfloat16),
        WORDS,
    ),
    "convolution_window": (lambda: convolution("forward", 2, 20, 32, 14, 3, pad=1), AVX512),
    "convolution_winograd": (lambda: convolution("forward", 2, 32, 32, 14, 3, pad=1), AVX512),
    "convolution_weights_winograd": (lambda: convolution("weight", 9, 32, 32, 14, 3, 1), AVX512),
    "convolution_weights": (lambda: convolution("weight", 9, 20, 32, 14, 3, pad=1), AVX512),
    "attention_forward": (lambda: attention_regions(4, 200, 40, _f32())[0], AVX512),
    "attention_backward": (lambda: attention_regions(4, 200, 64, _f32())[2], AVX512),
    "pooling": (lambda: pooling(8, 3, 14, 14, 3, pad=1), AVX512),
    "convolution_dx": (lambda: convolution("input", 4, 20, 17, 12, 3), AVX512),
}


def _f32():
    from tgrad import dtype

    return dtype.float32


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    make, machine = CASES[name]
    region = make()
    config = choose_config(region, machine)
    text = emit(lower(region, config), config, machine)
    path = GOLDEN / f"{name}.c"
    if os.environ.get("TGRAD_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
