"""Matrix products: square, batched, skinny, with an epilogue."""

from __future__ import annotations

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal


@pytest.mark.parametrize(("size", "dtype"), by_dtype(256, 1024, 2048))
def test_square(timed: Timed, size: int, dtype: str) -> None:
    timed(lambda a, b: a @ b, normal(size, size), normal(size, size), dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), by_dtype((8, 64, 64, 64), (48, 256, 64, 256)))
def test_batched(timed: Timed, size: tuple[int, ...], dtype: str) -> None:
    batch, m, k, n = size
    timed(lambda a, b: a @ b, normal(batch, m, k), normal(batch, k, n), dtype=dtype)


@pytest.mark.parametrize(
    ("size", "dtype"),
    by_dtype((1, 512, 512), (1, 4096, 4096), (8, 4096, 4096), (4096, 4096, 8), (64, 65536, 64)),
)
def test_skinny(timed: Timed, size: tuple[int, int, int], dtype: str) -> None:
    m, k, n = size
    timed(lambda a, b: a @ b, normal(m, k), normal(k, n), dtype=dtype)


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("size", "dtype"), by_dtype((128, 128, 128), (2048, 512, 2048)))
def test_linear_and_gelu(
    timed: Timed, size: tuple[int, int, int], dtype: str, gradient: bool
) -> None:
    m, k, n = size
    timed(lambda x, w, b: F.gelu(F.linear(x, w, b)), normal(m, k), normal(n, k, scale=0.1),
          normal(n), dtype=dtype, gradient=gradient)  # fmt: skip
