"""Cross entropy of classes, forward and backward."""

from __future__ import annotations

import pytest

import tgrad.nn.functional as F
from bench.conftest import Timed
from bench.workloads.inputs import by_dtype, integers, normal


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("size", "dtype"), by_dtype((256, 512), (1024, 50304)))
def test_cross_entropy(timed: Timed, size: tuple[int, int], dtype: str, gradient: bool) -> None:
    labels = integers(size[1], size[0])
    timed(F.cross_entropy, normal(*size), labels, dtype=dtype, gradient=gradient)
