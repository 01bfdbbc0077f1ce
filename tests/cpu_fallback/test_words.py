"""Products of words of bfloat16 and bytes, with the instructions for them and in plain C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.cpu_fallback.cases import Draft, compare, convolution, dot_region, random_slots, sums_of
from tests.cpu_fallback.standalone import Toolchain, run_standalone
from tests.cpu_fallback.test_toolchains import (
    AVX512,
    SANITIZERS,
    WORDS,
    compiles,
    find_compiler,
    needs_flag,
)
from tgrad import dtype as dt
from tgrad.cpu_fallback.dot_words import words_of
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.preamble import preamble
from tgrad.cpu_fallback.window_plan import match_window
from tgrad.dtype import DType
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Const, Region
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower

PAIRS = [
    (dt.bfloat16, dt.bfloat16),
    (dt.int8, dt.int8),
    (dt.int8, dt.uint8),
    (dt.uint8, dt.int8),
    (dt.uint8, dt.uint8),
]
SIZES = [(37, 50, 70), (96, 192, 64), (130, 3, 501), (64, 33, 1), (2, 20, 35), (60, 100, 1801)]

WINDOWS = [
    ("forward", 2, 32, 30, 14, 3, 1, 1),
    ("forward", 3, 10, 48, 15, 4, 2, 2),
    ("input", 2, 32, 16, 12, 5, 0, 1),
]
"""Convolutions whose image is packed with channels last."""


def product(sizes: tuple[int, int, int], a: str, b: str, pair: tuple[DType, DType]) -> Region:
    m, n, k = sizes
    d = Draft(m=m, n=n, k=k)
    d.dot(d.input("a", a, pair[0]), d.input("b", b, pair[1]), "k", sums_of(pair[0]))
    return dot_region(d)


def _products(pair: tuple[DType, DType]) -> Iterator[Region]:
    """Ragged and whole sizes, either operand contiguous along either axis, and what is computed
    while packing."""
    for sizes in SIZES:
        for a in ("m k", "k m"):
            for b in ("k n", "n k"):
                yield product(sizes, a, b, pair)
    d = Draft(z=5, m=21, n=35, k=18)
    d.dot(d.input("a", "z m k", pair[0]), d.input("b", "z k n", pair[1]), "k", sums_of(pair[0]))
    yield dot_region(d, batch=True)
    d = Draft(m=45, n=33, k=70)
    zero = d.add(Const(0, pair[0]))
    a = d.op(Op.MAXIMUM, d.input("a", "m k", pair[0]), zero)
    d.dot(a, d.op(Op.ADD, *2 * [d.input("b", "n k", pair[1])]), "k", sums_of(pair[0]))
    yield dot_region(d)
    for k in (33, 36):  # rows looked up; columns of which a part is zeros
        d = Draft(m=40, n=24, k=k)
        index = d.input("index", "m", dt.int64)
        table, columns = d.slot("table", pair[0], 5 * k), d.slot("b", pair[1], 20 * k)
        a = d.load(table, loaded(index, 0, 4) * k + d.var("k"))
        mask = (Bound(d.var("n") - 2, 0, 20),)
        b = d.load(columns, (d.var("n") - 2) * k + d.var("k"), mask)
        d.dot(a, b, "k", sums_of(pair[0]))
        yield dot_region(d)


def _convolutions(dtype: DType) -> Iterator[Region]:
    for kind in ("forward", "weight", "input"):
        yield convolution(kind, 2, 3, 4, 7, 3, dtype=dtype)
        yield convolution(kind, 3, 20, 17, 12, 3, dtype=dtype)
    yield convolution("forward", 2, 6, 10, 14, 3, pad=1, dtype=dtype)
    yield convolution("forward", 2, 1, 32, 21, 5, pad=2, dtype=dtype)
    yield convolution("forward", 2, 20, 48, 15, 3, stride=2, dtype=dtype)
    yield convolution("weight", 4, 16, 20, 11, 3, pad=1, dtype=dtype)
    for kind, n, c, o, h, k, pad, stride in WINDOWS:
        yield convolution(kind, n, c, o, h, k, pad, stride, dtype)


def _arrays(region: Region, seed: int) -> list[np.ndarray]:
    """Bytes of the whole range."""
    rng, arrays = np.random.default_rng(seed), random_slots(region, seed)
    for n, slot in enumerate(region.slots):
        if slot.dtype in (dt.int8, dt.uint8) and slot.role == "in":
            ends = np.iinfo(slot.dtype.numpy)
            arrays[n] = rng.integers(ends.min, ends.max + 1, slot.size).astype(slot.dtype.numpy)
    return arrays


@cache
def _checked() -> list[tuple[Region, list[np.ndarray], list[np.ndarray]]]:
    """Regions, with what is in their slots before and after: the oracle is asked once for all
    toolchains."""
    regions = [region for pair in PAIRS for region in _products(pair)]
    regions += [*_convolutions(dt.bfloat16), *_convolutions(dt.int8)]
    for region in regions:
        config = choose_config(region, WORDS)
        source = emit(lower(region, config), config, WORDS)
        assert "tg_add_" in preamble(source), region.name
    given = [(region, _arrays(region, n)) for n, region in enumerate(regions)]
    return [(region, arrays, evaluate_region(region, arrays)) for region, arrays in given]


def _verify(compiler: str, flags: tuple[str, ...], folder: Path) -> None:
    tools = Toolchain(compiler, (*flags, "-fopenmp"), WORDS)
    cases = [(region, arrays) for region, arrays, _ in _checked()]
    for (region, _, want), have in zip(_checked(), run_standalone(cases, tools, folder)):
        for a, b in zip(have, want):
            compare(a, b, 2e-4, region.name)


@pytest.mark.parametrize("compiler", [("gcc",), ("clang", "clang-19", "clang-16", "clang-14")])
@pytest.mark.parametrize(
    "arch, flag", [("cooperlake", "avx512_bf16"), ("x86-64-v4", "avx512f")], ids=["words", "plain"]
)
def test_products(compiler: tuple[str, ...], arch: str, flag: str, tmp_path: Path) -> None:
    needs_flag(flag)
    _verify(find_compiler(*compiler), ("-O2", f"-march={arch}"), tmp_path)


def test_sanitizers_report_nothing(tmp_path: Path) -> None:
    needs_flag("avx512f")
    compiler = find_compiler("clang", "clang-19", "gcc")
    if not compiles(compiler, *SANITIZERS):
        pytest.skip("the compiler has no sanitizers")
    _verify(compiler, ("-O0", "-march=x86-64-v4", *SANITIZERS), tmp_path)


def test_nan_and_infinity(tmp_path: Path) -> None:
    """Each appears in its row or column alone, as in float32; padding adds none."""
    needs_flag("avx512f")
    region = product((20, 40, 35), "m k", "k n", PAIRS[0])
    arrays = _arrays(region, 0)
    for place, value in ((3, np.inf), (40, np.nan), (71, -np.inf), (699, 3e38)):
        arrays[0][place] = value
    arrays[1][-1] = np.nan
    tools = Toolchain(find_compiler("gcc"), ("-O2", "-fopenmp", "-march=native"), WORDS)
    [have] = run_standalone([(region, arrays)], tools, tmp_path)
    want = evaluate_region(region, arrays)
    compare(have[-1], want[-1], 2e-4, region.name)
    assert 20 < np.isnan(want[-1]).sum() < 100


@pytest.mark.parametrize("kind, n, c, o, h, k, pad, stride", WINDOWS)
def test_windows_of_words(
    kind: str, n: int, c: int, o: int, h: int, k: int, pad: int, stride: int
) -> None:
    """Channels are paired and no patch is copied; with an odd number of them patches are."""
    for less in (0, 1):
        region = convolution(kind, n, c - less, o - less, h, k, pad, stride, dt.bfloat16)
        kernel = lower(region, choose_config(region, WORDS))
        window = match_window(kernel, WORDS)
        assert (window is None) == bool(less)
        assert less or window.words is not None
        assert match_window(kernel, AVX512) is None


@pytest.mark.parametrize("row", [-128, 127])
@pytest.mark.parametrize("lane", [-128, 127])
def test_sums_of_the_largest_bytes(row: int, lane: int, tmp_path: Path) -> None:
    """No sum of four products is cut off at 16 bits."""
    needs_flag("avx512f")
    region = product((13, 40, 901), "m k", "n k", PAIRS[1])
    arrays = [np.full(13 * 901, row, np.int8), np.full(40 * 901, lane, np.int8)]
    arrays.append(np.zeros(13 * 40, np.int32))
    tools = Toolchain(find_compiler("gcc"), ("-O2", "-fopenmp", "-march=native"), WORDS)
    [have] = run_standalone([(region, arrays)], tools, tmp_path)
    assert (have[-1] == row * lane * 901).all()


def test_which_operands_are_words() -> None:
    """Those whose products and sums an instruction of the machine takes."""
    for row, vector in PAIRS:
        assert words_of(row, vector, sums_of(row), WORDS) is not None
        assert words_of(row, vector, sums_of(row), AVX512) is None
    assert words_of(dt.bfloat16, dt.float32, dt.float32, WORDS) is None
    assert words_of(dt.float16, dt.float16, dt.float32, WORDS) is None
    assert words_of(dt.int8, dt.int8, dt.int64, WORDS) is None
    only_bytes = replace(WORDS, has_bf16_dots=False)
    assert words_of(dt.bfloat16, dt.bfloat16, dt.float32, only_bytes) is None
