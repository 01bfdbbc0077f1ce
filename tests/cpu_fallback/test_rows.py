"""Rows read under a condition of the whole row, where compilers have been wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("columns", [6, 16, 21])
def test_a_selected_row_of_a_quotient(row: int, columns: int) -> None:
    """gcc 12 read other rows than the first from wrong addresses."""
    x = np.random.default_rng(columns).standard_normal((2, 4, columns)).astype(np.float32)
    e = (tgrad.tensor(x, device="cpu") - 1.0).exp()
    y = (e / e.sum(1, keepdim=True)).index_select(0, tgrad.tensor([row], device="cpu"))
    exact = np.exp(x.astype(np.float64) - 1.0)
    want = (exact / exact.sum(1, keepdims=True))[row : row + 1]
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-5)


def test_rows_of_two_loops_have_nothing_in_common() -> None:
    """Their copies have the same numbers; only the carries, and what both loops share, lie in
    memory, and the source is the same each time."""
    x = tgrad.zeros(2, 128, 784).realize()
    variance = ((x - x.mean(1, keepdim=True)) ** 2).mean(1)
    sources = {tgrad.explain(variance).kernels[-1].source for _ in range(3)}
    assert len(sources) == 1
    [source] = sources
    assert source.count("+= 8)") >= 2
    assert len(re.findall(r"float t\d+\[", source)) <= 4


REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda library, x: x.sum(-1),
    "amax": lambda library, x: x.amax(-1),
    "amin": lambda library, x: x.amin(-1),
    "argmax": lambda library, x: x.argmax(-1),
    "prod": lambda library, x: x.prod(-1),
    "softmax": lambda library, x: x.softmax(-1),
    "logsumexp": lambda library, x: x.logsumexp(-1),
    "norm": lambda library, x: library.nn.functional.layer_norm(x, x.shape[-1:]),
}


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 10, 16, 24, 31, 32, 39, 40, 47, 48, 71, 100])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows_of_any_length(name: str, columns: int) -> None:
    """Short ones have lanes across rows, longer ones of their own, with rests of any size."""
    rng = np.random.default_rng(columns)
    for rows in (1, 31, 700):
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        x[rng.random(x.shape) < 0.01] = np.inf
        x[rng.random(x.shape) < 0.01] = -np.inf
        x[rng.random(x.shape) < 0.01] = np.nan
        got = REDUCTIONS[name](tgrad, tgrad.tensor(x, device="cpu")).numpy()
        want = REDUCTIONS[name](torch, torch.tensor(x).double()).numpy()
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("columns, is_across", [(10, True), (24, True), (31, True), (32, False)])
def test_lanes_go_across_short_rows(columns: int, is_across: bool) -> None:
    x = tgrad.zeros(700, columns, device="cpu").realize()
    for result in (x.amax(-1), x.softmax(-1)):
        [kernel] = tgrad.explain(result).kernels
        assert ("#pragma omp simd\n    for (int i0 = i0_lo" in kernel.source) is is_across


@pytest.mark.parametrize("name", ["amax", "sum", "argmax"])
def test_lanes_go_across_rows_of_an_axis_that_is_long_enough(name: str) -> None:
    """The axis that is nearest in memory is as short as the rows."""
    x = np.random.default_rng(3).standard_normal((300, 5, 3), np.float32)
    x[7, 2, 1] = np.nan
    y = getattr(tgrad.tensor(x, device="cpu").transpose(0, 1), name)(-1)
    (kernel,) = tgrad.explain(y).kernels
    assert {axis.block for axis in kernel.config.axes if axis.extent == 300} == {300}
    want = getattr(torch.tensor(x).transpose(0, 1), name)(-1)
    np.testing.assert_allclose(y.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
