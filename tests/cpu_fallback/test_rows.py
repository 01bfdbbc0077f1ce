"""Rows read under a condition of the whole row, where compilers have been wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

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
