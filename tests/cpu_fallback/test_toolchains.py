"""Kernels from other compilers, for other processors, and under sanitizers, against the oracle."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.cpu_fallback.cases import (
    F32,
    Draft,
    compare,
    convolution,
    depthwise,
    dot_region,
    matmul,
    pooling,
    random_slots,
)
from tests.cpu_fallback.standalone import Toolchain, run_standalone
from tests.cpu_fallback.test_ops import PLAIN, op_region
from tests.cpu_fallback.test_patterns import argsort, chain, cumulative, reduction, softmax
from tgrad import dtype as dt
from tgrad.cpu_fallback import Machine, detect_machine
from tgrad.cpu_fallback.compile import FLAGS
from tgrad.cpu_fallback.preamble import preamble
from tgrad.dtype import DTYPES
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import SCAN, Op, takes

CACHES = (2, 48 << 10, 1 << 20, 4 << 10)
"""Cores and bytes of cache; with so small a third level, large results are streamed past it."""
AVX512 = Machine("linux-x86_64-avx512", 64, 32, *CACHES)
WORDS = replace(
    AVX512,
    isa="linux-x86_64-words",
    has_bf16_dots=True,
    has_byte_dots=True,
    has_f16_words=True,
)
AVX2 = Machine("linux-x86_64-avx2", 32, 16, *CACHES)
SSE2 = Machine("linux-x86_64-sse2", 16, 16, *CACHES)
NEON = Machine("linux-aarch64-neon", 16, 32, *CACHES)

SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""clang, where it is, takes half as long as gcc to put them in."""


def find_compiler(*names: str) -> str:
    """The first of the compilers that can make a program with threads; skips without one."""
    for name in names:
        path = shutil.which(name)
        if path and compiles(path, "-fopenmp"):
            return path
    pytest.skip(f"none of {', '.join(names)} with OpenMP is installed")


def compiles(compiler: str, *flags: str) -> bool:
    text = "int main(void) {\n#pragma omp parallel\n{}\nreturn 0; }"
    command = [compiler, *flags, "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=text, capture_output=True, text=True).returncode == 0


def needs_flag(flag: str) -> None:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    if flag not in flags:
        pytest.skip(f"this processor has no {flag}")


def _memory_regions() -> Iterator[Region]:
    """Maps, reductions, masks, gathers and scatters of awkward sizes."""
    yield chain(7, 67)
    yield chain(64, 1000)
    yield softmax(17, 100)
    for which in ("row", "column", "full"):
        yield reduction(Op.REDUCE_SUM, F32, which, 33, 12_905)
        yield reduction(Op.REDUCE_MAX, F32, which, 33, 129)
    for n, m in ((5, 7), (100, 333), (64, 96)):
        d = Draft(i=n, j=m)
        d.store(d.input("x", "i j"), d.flat("j i"), size=n * m)
        yield d.region("transpose", "map", parallel="i j")
    d = Draft(i=9, j=21)
    row, column = d.var("i") - 1, d.var("j") - 2
    mask = (Bound(row, 0, 7), Bound(column, 0, 18))
    d.store(d.load(d.slot("x", F32, 7 * 18), row * 18 + column, mask), "i j")
    yield d.region("pad", "map", parallel="i j")
    d = Draft(i=13, j=24)
    index = d.input("index", "i", dt.int64)
    d.store(d.load(d.slot("table", F32, 5 * 24), loaded(index, 0, 4) * 24 + d.var("j")), "i j")
    yield d.region("gather", "map", parallel="i j")
    d = Draft(i=400, j=8)
    index, x = d.input("index", "i", dt.int64), d.input("x", "i j")
    d.store(x, loaded(index, 0, 4) * 8 + d.var("j"), size=40, combine="add")
    yield d.region("scatter", "scatter", parallel="i j")
    for op in sorted(SCAN):
        yield cumulative(op, 7, 67)
        yield cumulative(op, 33, 129, "i")
    for n, m in ((5, 7), (3, 129), (2, 5000)):
        yield argsort(n, m)
    yield argsort(3, 300, dt.uint8)
    for dtype in (dt.uint8, dt.uint32, dt.uint64):
        yield argsort(3, 9, dtype, 9)
        yield argsort(3, 1300, dtype, 70)
    for dtype in (dt.float16, dt.bfloat16):
        d = Draft(i=1000)
        a, b = d.input("x", "i", dtype), d.input("y", "i", dtype)
        d.store(d.op(Op.MUL, d.op(Op.ADD, a, b), d.op(Op.EXP, a)), "i")
        yield d.region("small", "map", parallel="i")


def _dot_regions() -> Iterator[Region]:
    """Products whose micro-kernels, packing and transposes meet ragged ends."""
    for a in ("m k", "k m"):
        for b in ("k n", "n k"):
            yield dot_region(matmul(37, 50, 70, a, b))
    yield dot_region(matmul(130, 3, 500))
    yield dot_region(matmul(200, 150, 400, "m k", "n k"))
    yield dot_region(matmul(21, 35, 18, dtype=dt.float64))
    yield dot_region(matmul(21, 35, 18, dtype=dt.bfloat16))
    yield dot_region(matmul(20, 30, 40, batch=5), batch=True)
    for kind in ("forward", "weight", "input"):
        yield convolution(kind, 2, 3, 4, 7, 3)
        yield convolution(kind, 3, 20, 17, 12, 3)
    yield convolution("forward", 3, 6, 10, 14, 3, pad=1)
    yield convolution("forward", 2, 1, 10, 21, 3)
    yield convolution("forward", 2, 2, 9, 24, 5, pad=2)
    yield convolution("forward", 2, 32, 30, 14, 3, pad=1)
    yield convolution("forward", 2, 20, 48, 15, 3, stride=2)
    yield convolution("input", 3, 32, 16, 12, 5)
    yield convolution("weight", 5, 1, 32, 14, 5)
    yield convolution("weight", 40, 33, 48, 11, 3, pad=1)
    yield convolution("forward", 3, 16, 20, 11, 5, pad=2)
    yield convolution("weight", 4, 16, 20, 11, 3, pad=1)


def _plane_regions() -> Iterator[Region]:
    """Depthwise convolutions and pools: rows that fill registers and do not, several bands,
    strides."""
    for kind in ("forward", "weight"):
        yield depthwise(kind, 2, 5, 14, 28, 7, pad=3)
        yield depthwise(kind, 3, 8, 9, 7, 3, pad=1)
        yield depthwise(kind, 4, 9, 8, 8, 7, pad=3)
        yield depthwise(kind, 1, 8, 11, 70, 5)
        yield depthwise(kind, 2, 9, 19, 33, 5, pad=2, stride=2)
        yield depthwise(kind, 1, 8, 300, 130, 3, pad=1)
    yield pooling(2, 5, 14, 14, 3, pad=1)
    yield pooling(3, 8, 9, 7, 5, pad=2)
    yield pooling(2, 9, 19, 33, 3, pad=1, stride=2)
    yield pooling(1, 3, 300, 130, 3, pad=1)
    yield pooling(2, 8, 13, 17, 11)
    yield pooling(2, 8, 13, 7, 3, pad=1, columns="x y")


def _op_cases() -> Iterator[tuple[Region, list[np.ndarray]]]:
    for dtype in DTYPES.values():
        for op in PLAIN:
            if takes(op, dtype):
                yield op_region(op, dtype)


@cache
def _checked() -> list[tuple[Region, list[np.ndarray], list[np.ndarray]]]:
    """Regions, with what is in their slots before and after: the oracle is asked once for all
    toolchains."""
    regions = [*_memory_regions(), *_dot_regions(), *_plane_regions()]
    given = [(region, random_slots(region)) for region in regions]
    return [(region, arrays, evaluate_region(region, arrays)) for region, arrays in given]


def _verify(tools: Toolchain, folder: Path) -> None:
    cases = [(region, arrays) for region, arrays, _ in _checked()]
    for (region, _, want), have in zip(_checked(), run_standalone(cases, tools, folder)):
        for a, b in zip(have, want):
            tolerance = 1e-12 if b.dtype == np.float64 else 2e-4
            compare(a, b, tolerance, region.name)


@pytest.mark.parametrize("compiler", [("gcc",), ("clang", "clang-19", "clang-16", "clang-14")])
@pytest.mark.parametrize(
    "machine, arch, flag",
    [
        (AVX512, "x86-64-v4", "avx512f"),
        (AVX2, "x86-64-v3", "avx2"),
        (SSE2, "x86-64", "sse2"),
    ],
    ids=["avx512", "avx2", "sse2"],
)
def test_x86(
    compiler: tuple[str, ...], machine: Machine, arch: str, flag: str, tmp_path: Path
) -> None:
    needs_flag(flag)
    tools = Toolchain(find_compiler(*compiler), ("-O2", "-fopenmp", f"-march={arch}"), machine)
    _verify(tools, tmp_path)


@pytest.mark.parametrize("machine", [AVX512, SSE2], ids=["avx512", "sse2"])
def test_sanitizers_report_nothing(machine: Machine, tmp_path: Path) -> None:
    needs_flag("avx512f" if machine is AVX512 else "sse2")
    compiler = find_compiler("clang", "clang-19", "gcc")
    if not compiles(compiler, *SANITIZERS):
        pytest.skip("the compiler has no sanitizers")
    arch = "x86-64-v4" if machine is AVX512 else "x86-64"
    tools = Toolchain(compiler, ("-O0", "-fopenmp", f"-march={arch}", *SANITIZERS), machine)
    _verify(tools, tmp_path)


def test_sanitizers_report_nothing_of_any_op(tmp_path: Path) -> None:
    """NaN, infinities, the least and largest integers, divisions by zero, wide shifts."""
    compiler = find_compiler("clang", "clang-19", "gcc")
    if not compiles(compiler, *SANITIZERS):
        pytest.skip("the compiler has no sanitizers")
    tools = Toolchain(compiler, ("-O0", "-fopenmp", *SANITIZERS), detect_machine())
    run_standalone(list(_op_cases()), tools, tmp_path)


def test_sanitizers_see_an_element_outside(tmp_path: Path) -> None:
    compiler = find_compiler("clang", "clang-19", "gcc")
    if not compiles(compiler, *SANITIZERS):
        pytest.skip("the compiler has no sanitizers")
    tools = Toolchain(compiler, ("-O0", "-fopenmp", *SANITIZERS), SSE2)
    region = chain(7, 67)
    x, *others = random_slots(region)
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run_standalone([(region, [x[:-1], *others])], tools, tmp_path)


def test_arm64(tmp_path: Path) -> None:
    """Cross-compiled for 16-byte vectors and run by an emulator."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if compiler is None or emulator is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    if not compiles(compiler, "-fopenmp", "-static"):
        pytest.skip("the cross compiler has no static OpenMP library")
    tools = Toolchain(compiler, ("-O2", "-fopenmp", "-static"), NEON, (emulator,))
    _verify(tools, tmp_path)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 assembly")
@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6])
def test_a_register_tile_loads_each_vector_once(rows: int) -> None:
    """gcc would read the vector operand from memory again in each of few multiply-adds."""
    name = f"tg_dot_float_{rows}x2x8_64_1"
    call = f"void f(long n, float *a, float *b, float *c) {{ {name}(n, a, b, c, 16, 1); }}"
    command = ["gcc", *FLAGS, "-march=haswell", "-mtune=znver3", "-S", "-x", "c", "-", "-o", "-"]
    answer = subprocess.run(
        command, input=preamble(call) + call, capture_output=True, text=True, check=True
    )
    added = [line for line in answer.stdout.splitlines() if "vfmadd" in line]
    assert len(added) == 2 * rows
    assert not [line for line in added if "(" in line]
