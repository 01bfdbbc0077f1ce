"""Scaled dot product attention, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, normal


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(
    ("size", "dtype"), by_dtype((2, 4, 64, 32), (8, 8, 256, 64), (1, 8, 2048, 64))
)
def test_attention(
    timed: Timed, size: tuple[int, ...], dtype: str, is_causal: bool, gradient: bool
) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    timed(function, *(normal(*size) for _ in range(3)), dtype=dtype, gradient=gradient)
