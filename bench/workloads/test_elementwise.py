"""Elementwise chains: bound by memory, one kernel each."""

from __future__ import annotations

import pytest

import tgrad
import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal

SQUARES = by_dtype((512, 512), (4096, 4096))


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_chain(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    a, b = normal(*size), normal(*size)
    timed(lambda a, b: (a * b + a).tanh() * b.sigmoid() - a, a, b, dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_gelu_and_its_gradient(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(F.gelu, normal(*size), dtype=dtype, gradient=True)


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_transpose(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda x: x.t().contiguous(), normal(*size), dtype=dtype)


@pytest.mark.parametrize(("size", "dtype"), SQUARES)
def test_cat(timed: Timed, size: tuple[int, int], dtype: str) -> None:
    timed(lambda a, b: tgrad.cat((a, b), 1), normal(*size), normal(*size), dtype=dtype)
