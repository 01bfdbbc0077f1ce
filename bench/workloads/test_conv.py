"""Convolutions, forward and backward."""

from __future__ import annotations

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal

GRADIENT = pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), by_dtype((4, 16, 14, 16), (32, 64, 28, 64)))
def test_3x3(timed: Timed, size: tuple[int, ...], dtype: str, gradient: bool) -> None:
    batch, channels, side, out = size
    x, weight = normal(batch, channels, side, side), normal(out, channels, 3, 3, scale=0.1)
    timed(lambda x, w: F.conv2d(x, w, padding=1), x, weight, dtype=dtype, gradient=gradient)


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), by_dtype((8, 1, 28, 32), (128, 1, 28, 32)))
def test_5x5_and_relu(timed: Timed, size: tuple[int, ...], dtype: str, gradient: bool) -> None:
    batch, channels, side, out = size
    x, weight = normal(batch, channels, side, side), normal(out, channels, 5, 5, scale=0.1)
    timed(lambda x, w: F.relu(F.conv2d(x, w)), x, weight, dtype=dtype, gradient=gradient)


@pytest.mark.parametrize(("size", "dtype"), by_dtype((4, 32, 14), (32, 128, 56)))
def test_depthwise(timed: Timed, size: tuple[int, int, int], dtype: str) -> None:
    batch, channels, side = size
    x, weight = normal(batch, channels, side, side), normal(channels, 1, 3, 3)
    timed(lambda x, w: F.conv2d(x, w, padding=1, groups=channels), x, weight, dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), by_dtype((4, 16, 28), (32, 64, 112)))
def test_max_pool(timed: Timed, size: tuple[int, int, int], dtype: str) -> None:
    batch, channels, side = size
    x = normal(batch, channels, side, side)
    timed(lambda x: F.max_pool2d(x, 2), x, dtype=dtype, gradient=True)
