"""`python -m bench accuracy`: its units, and that every op that rounds is in its table."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.graph.node import toposort
from tgrad.graph.op import Op as GraphOp

pytest.importorskip("torch")

from bench import accuracy
from bench.accuracy import OPS, errors_of, measure, unit_of
from bench.tables import markdown

ROUNDING = {
    GraphOp.ADD, GraphOp.SUB, GraphOp.MUL, GraphOp.DIV, GraphOp.POW, GraphOp.SQRT, GraphOp.RSQRT,
    GraphOp.EXP, GraphOp.LOG, GraphOp.SIN, GraphOp.COS, GraphOp.TANH, GraphOp.ERF, GraphOp.DOT,
    GraphOp.SIGMOID, GraphOp.REDUCE_SUM, GraphOp.REDUCE_PROD,
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_units_are_numpys(dtype: str) -> None:
    values = np.array([1.0, 1.5, 3.0, 1e-3, 60000.0, 1e-7], dtype).astype(np.float64)
    np.testing.assert_array_equal(unit_of(values, dtype), np.spacing(values.astype(dtype)))


def test_a_correctly_rounded_result_is_off_by_half_a_unit_at_most() -> None:
    want = np.random.default_rng(0).uniform(1, 8, 1000)
    rounded = want.astype(np.float32).astype(np.float64)
    assert 0.4 < errors_of(rounded, want, "float32", is_sum=False).max() <= 0.5


def test_every_op_that_rounds_is_measured() -> None:
    found: set[GraphOp] = set()
    for op in OPS:
        inputs = [tgrad.tensor(a, dtype=tgrad.float32) for a in op.inputs(np.random.default_rng(0))]
        found |= {n.op for n in toposort([op.program(tgrad, F, *inputs)._node])}
    assert found >= ROUNDING


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["log2", "log10", "addcmul", "addcdiv", "lerp", "leaky_relu"])
def test_half_results_are_rounded_once(name: str, dtype: str) -> None:
    found = measure(next(op for op in OPS if op.name == name), dtype)
    assert found.ours <= 0.51


def test_both_libraries_are_measured() -> None:
    op = next(op for op in OPS if op.name == "sum")
    found = [measure(op, dtype) for dtype in ("float32", "bfloat16")]
    for a in found:
        assert 0 < a.ours_mean <= a.ours < 4
        assert 0 < a.theirs_mean <= a.theirs < 4
    assert "| sum | " in markdown(accuracy.table_of(found))
