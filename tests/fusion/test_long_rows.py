"""Rows in pieces compute what whole rows do, on the oracle; and what is cut."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graph.oracle import leaf, value
from tgrad import dtype as dt
from tgrad.fusion.device_limits import CPU_LIMITS, Limits
from tgrad.fusion.long_rows import split_long_rows
from tgrad.graph.node import make, toposort
from tgrad.graph.op import ROWWISE, SCAN, Op
from tgrad.graph.verify import verify

SHORT = Limits(sort_row=4, scan_block=4, scan_rows=100)


def longest_row(outputs: list) -> int:
    rows = [n.shape[n.attr("axis")] for n in toposort(outputs) if n.op in ROWWISE]
    return max(rows, default=0)


@pytest.mark.parametrize("op", sorted(SCAN))
@pytest.mark.parametrize("shape, axis", [((16,), 0), ((3, 17), 1), ((63, 2), 0), ((2, 19, 3), 1)])
def test_scans_of_blocks(op: Op, shape: tuple[int, ...], axis: int) -> None:
    random = np.random.default_rng(0)
    inputs = [leaf(random.normal(size=shape)) for _ in range(2 if op is Op.SCAN_LINEAR else 1)]
    node = make(op, *inputs, axis=axis)
    cut = split_long_rows([node], SHORT)
    verify(cut, lowered=True)
    assert longest_row(cut) <= max(4, -(-shape[axis] // 4))
    np.testing.assert_allclose(value(cut[0]), value(node), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [5, 8, 11, 16, 37])
@pytest.mark.parametrize("most", [3, 100])
def test_merged_blocks_are_sorted_and_stable(n: int, most: int) -> None:
    keys = np.random.default_rng(n).integers(0, most, (3, n, 2))
    keys[0, : n // 2] = 255
    node = make(Op.ARGSORT, leaf(keys, dt.uint8), axis=1)
    cut = split_long_rows([node], SHORT)
    verify(cut, lowered=True)
    assert longest_row(cut) == 4
    np.testing.assert_array_equal(value(cut[0]), np.argsort(keys, 1, kind="stable"))


def test_short_rows_are_left_alone() -> None:
    node = make(Op.SCAN_SUM, leaf(np.ones((2, 15))), axis=1)
    assert split_long_rows([node], SHORT) == [node]
    many = make(Op.SCAN_SUM, leaf(np.ones((100, 16))), axis=1)
    assert split_long_rows([many], SHORT) == [many]
    sort = make(Op.ARGSORT, leaf(np.ones(1 << 14), dt.uint32), axis=0)
    assert split_long_rows([sort], CPU_LIMITS) == [sort]
