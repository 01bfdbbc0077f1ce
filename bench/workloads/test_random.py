"""Random numbers, made in the kernel that uses them."""

from __future__ import annotations

import pytest

import tgrad
import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import normal, sizes


@pytest.mark.parametrize("size", sizes((512, 512), (4096, 4096)))
def test_uniform(timed: Timed, size: tuple[int, int], device: str) -> None:
    timed(lambda: tgrad.rand(*size, device=device))


@pytest.mark.parametrize("size", sizes((512, 512), (4096, 4096)))
def test_normal(timed: Timed, size: tuple[int, int], device: str) -> None:
    timed(lambda: tgrad.randn(*size, device=device))


@pytest.mark.parametrize("size", sizes((512, 512), (4096, 4096)))
def test_dropout(timed: Timed, size: tuple[int, int]) -> None:
    timed(lambda x: F.dropout(x, 0.1), normal(*size))
