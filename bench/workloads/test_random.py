"""Random numbers, made in the kernel that uses them."""

from __future__ import annotations

import pytest

import tgrad
import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal

SQUARES = by_dtype((512, 512), (4096, 4096))


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_uniform(timed: Timed, size: tuple[int, int], dtype: str, device: str) -> None:
    timed(lambda: tgrad.rand(*size, dtype=getattr(tgrad, dtype), device=device))


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_normal(timed: Timed, size: tuple[int, int], dtype: str, device: str) -> None:
    timed(lambda: tgrad.randn(*size, dtype=getattr(tgrad, dtype), device=device))


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_dropout(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: F.dropout(x, 0.1), normal(*size), dtype=dtype)
