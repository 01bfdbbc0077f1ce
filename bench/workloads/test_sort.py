"""Sorts of rows: all of a row, its order, the largest of it."""

from __future__ import annotations

import pytest

from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, integers, normal, sizes

ROWS = by_dtype((64, 512), (4096, 4096), (16, 1048576))


@pytest.mark.parametrize(("size", "dtype"), ROWS)
def test_sort(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.sort(1).values, normal(*size), dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), ROWS)
def test_argsort(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.argsort(1), normal(*size), dtype=dtype)


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize(("size", "dtype"), by_dtype((64, 512), (4096, 4096), (64, 50257)))
def test_topk(timed: Timed, size: tuple[int, int], dtype: str, count: int) -> None:
    timed(lambda x: x.topk(count, 1).values, normal(*size), dtype=dtype)


@pytest.mark.parametrize("size", sizes((64, 512), (4096, 4096)))
def test_sort_of_integers(timed: Timed, size: tuple[int, int]) -> None:
    timed(lambda x: x.sort(1).values, integers(1 << 31, *size))


@pytest.mark.parametrize(("size", "dtype"), by_dtype((64, 512), (4096, 4096)))
def test_sort_and_its_gradient(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.sort(1).values, normal(*size), dtype=dtype, gradient=True)
