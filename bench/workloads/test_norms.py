"""Layer, RMS, batch and group norm, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal

ROWS = by_dtype((512, 256), (8192, 1024))
IMAGES = by_dtype((8, 32, 14, 14), (64, 64, 56, 56))
GRADIENT = pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), ROWS)
def test_layer_norm(timed: Timed, size: tuple[int, int], dtype: str, gradient: bool) -> None:
    def function(x: Any, weight: Any, bias: Any) -> Any:
        return F.layer_norm(x, (size[1],), weight, bias)

    timed(function, normal(*size), normal(size[1]), normal(size[1]), dtype=dtype,
          gradient=gradient)  # fmt: skip


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), ROWS)
def test_rms_norm(timed: Timed, size: tuple[int, int], dtype: str, gradient: bool) -> None:
    def function(x: Any, weight: Any) -> Any:
        return F.rms_norm(x, (size[1],), weight)

    timed(function, normal(*size), normal(size[1]), dtype=dtype, gradient=gradient)


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), IMAGES)
def test_batch_norm(timed: Timed, size: tuple[int, ...], dtype: str, gradient: bool) -> None:
    def function(x: Any, weight: Any, bias: Any) -> Any:
        return F.batch_norm(x, None, None, weight, bias, training=True)

    timed(function, normal(*size), normal(size[1]), normal(size[1]), dtype=dtype, gradient=gradient)


@GRADIENT
@pytest.mark.parametrize(("size", "dtype"), IMAGES)
def test_group_norm(timed: Timed, size: tuple[int, ...], dtype: str, gradient: bool) -> None:
    def function(x: Any, weight: Any, bias: Any) -> Any:
        return F.group_norm(x, 8, weight, bias)

    timed(function, normal(*size), normal(size[1]), normal(size[1]), dtype=dtype, gradient=gradient)
