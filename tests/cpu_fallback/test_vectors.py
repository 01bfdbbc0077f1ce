"""Loops that gcc makes vectors of, by its own report."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cpu_fallback.cases import Draft, settings_in
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.cpu_fallback.compile import find_compiler
from tgrad.cpu_fallback.preamble import preamble
from tgrad.fusion.region import Const, Region
from tgrad.graph.op import OPS, Op

FUNCTIONS = (
    Op.EXP, Op.LOG, Op.SIN, Op.COS, Op.TANH, Op.ERF, Op.SIGMOID, Op.SQRT, Op.RSQRT, Op.POW,
    Op.MAXIMUM, Op.DIV, Op.FLOOR, Op.ROUND,
)  # fmt: skip
OF_DOUBLES = (
    Op.EXP, Op.LOG, Op.TANH, Op.ERF, Op.SIGMOID, Op.SQRT, Op.MAXIMUM, Op.DIV, Op.POW,
)  # fmt: skip


def of_functions(op: Op, dtype: dt.DType) -> Region:
    """A function of two tensors each, and the sum of each row of both."""
    d = Draft(i=32, j=512)
    x, y = d.input("x", "i j", dtype), d.input("y", "i j", dtype)
    both = d.op(Op.ADD, *(d.op(op, *args[: OPS[op].arity]) for args in ((x, y), (y, x))))
    d.store(d.reduce(Op.REDUCE_SUM, both, "j"), "i")
    return d.region(f"{op.value}_{dtype.short}", "reduce", parallel="i", row="j")


def of_booleans(source: dt.DType, target: dt.DType) -> Region:
    """How many are equal to the row's first, as another dtype counts."""
    d = Draft(i=32, j=512)
    x = d.input("x", "i j", source)
    first = d.load(0, d.var("i") * 512)
    equal = d.op(Op.EQ, x, first)
    d.store(d.reduce(Op.REDUCE_SUM, d.op(Op.CAST, equal, dtype=target), "j"), "i")
    return d.region(f"equal_{source.short}_{target.short}", "reduce", parallel="i", row="j")


REGIONS = [
    *(of_functions(op, dtype) for op in FUNCTIONS for dtype in (dt.float32, dt.bfloat16)),
    *(of_functions(op, dt.float64) for op in OF_DOUBLES),
    *(of_functions(op, dt.float32) for op in (Op.MOD, Op.FLOORDIV)),
    *(of_booleans(a, b) for a in (dt.float32, dt.int64, dt.int8) for b in (dt.float32, dt.int64)),
]


@pytest.mark.parametrize("region", REGIONS, ids=lambda r: r.name)
def test_all_loops_are_vectors(region: Region, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    compiler = find_compiler(settings)
    version = subprocess.run([compiler.path, "--version"], capture_output=True, text=True)
    if "Free Software Foundation" not in version.stdout:
        pytest.skip("the compiler is not gcc, whose report is read")
    [artifact] = cpu_fallback.generate([region], settings)
    command = [compiler.path, *compiler.flags, "-fopt-info-vec-optimized", "-c", "-x", "c", "-"]
    report = subprocess.run(
        [*command, "-o", str(tmp_path / "kernel.o")],
        input=preamble(artifact.source) + artifact.source,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    vectors = set(re.findall(r"(\d+:\d+): optimized: loop vectorized", report))
    assert len(vectors) >= artifact.source.count("omp simd") > 0


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64, dt.bfloat16], ids=str)
def test_powers_of_two_are_a_function_of_their_own(dtype: dt.DType, tmp_path: Path) -> None:
    d = Draft(i=4096)
    d.store(d.op(Op.POW, d.add(Const(2.0, dtype)), d.input("x", "i", dtype)), "i")
    region = d.region("powers", "map", parallel="i")
    [artifact] = cpu_fallback.generate([region], settings_in(tmp_path))
    assert "tg_exp2" in artifact.source
    assert "tg_pow" not in artifact.source


@pytest.mark.parametrize("ctype, bits", [("int32_t", 32), ("int64_t", 64)])
def test_signs_of_remainders_are_not_branched_on(ctype: str, bits: int) -> None:
    name = f"tg_mod_i{bits}"
    function = f"{ctype} f({ctype} a, {ctype} b) {{ return {name}(a, b); }}"
    text = preamble(function)
    assert "return r + (b & -" in text[text.index(name) :]
