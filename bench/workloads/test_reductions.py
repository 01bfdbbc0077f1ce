"""Reductions over rows, columns and everything."""

from __future__ import annotations

import pytest

from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal

SQUARES = by_dtype((512, 512), (4096, 4096))


@pytest.mark.parametrize("axis", [0, 1, None], ids=["columns", "rows", "all"])
@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_sum(timed: Timed, size: tuple[int, int], dtype: str, axis: int | None) -> None:
    timed(lambda x: x.sum() if axis is None else x.sum(axis), normal(*size), dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_argmax_of_rows(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.argmax(1), normal(*size), dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_variance_of_rows(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.var(1), normal(*size), dtype=dtype)
