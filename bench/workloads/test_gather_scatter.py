"""Gathers and scatters: rows of tables, and their gradients."""

from __future__ import annotations

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, integers, normal

TABLES = by_dtype((1024, 64, 256), (32768, 256, 8192))


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("size", "dtype"), TABLES)
def test_embedding(timed: Timed, size: tuple[int, int, int], dtype: str, gradient: bool) -> None:
    rows, width, count = size
    index, table = integers(rows, count), normal(rows, width)
    timed(lambda table, index: F.embedding(index, table), table, index, dtype=dtype,
          gradient=gradient)  # fmt: skip


@pytest.mark.parametrize(("size", "dtype"), TABLES)
def test_gather_along_rows(timed: Timed, size: tuple[int, int, int], dtype: str) -> None:
    rows, width, _ = size
    timed(lambda x, i: x.gather(1, i), normal(rows, width), integers(width, rows, width),
          dtype=dtype)  # fmt: skip


@pytest.mark.parametrize(("size", "dtype"), TABLES)
def test_scatter_add(timed: Timed, size: tuple[int, int, int], dtype: str) -> None:
    rows, width, count = size
    index = integers(rows, count, width)
    timed(lambda x, i, y: x.scatter_add(0, i, y), normal(rows, width), index, normal(count, width),
          dtype=dtype)  # fmt: skip
