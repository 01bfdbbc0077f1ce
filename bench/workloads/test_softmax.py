"""Softmax of rows: several reductions in one kernel."""

from __future__ import annotations

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("size", "dtype"), by_dtype((256, 512), (4096, 4096), (256, 50257)))
def test_softmax(timed: Timed, size: tuple[int, int], dtype: str, gradient: bool) -> None:
    timed(lambda x: F.softmax(x, dim=1), normal(*size), dtype=dtype, gradient=gradient)


@pytest.mark.parametrize(("size", "dtype"), by_dtype((256, 512), (4096, 4096)))
def test_log_softmax(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: F.log_softmax(x, dim=1), normal(*size), dtype=dtype)
