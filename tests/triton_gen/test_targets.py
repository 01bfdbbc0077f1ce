"""Kernels of each kind, compiled for the GPUs that bench/results/static does not hold."""

from __future__ import annotations

import pytest

from tests.attention import attention_regions
from tests.triton_gen.patterns import (
    column_sum,
    convolution,
    convolution_weight_gradient,
    gated,
    gelu,
    linear,
    softmax,
    summed,
    transpose,
)
from tgrad import dtype as dt
from tgrad.fusion.region import Region
from tgrad.triton_gen import compile_for

pytest.importorskip("triton")

MATRIX = {"sm_80": "mma.sync", "sm_100": "tcgen05.mma", "gfx1100": "v_wmma"}
HALF = dt.bfloat16


def dots() -> list[Region]:
    return [
        linear(4096, 1024, 4096, HALF),
        convolution(512, 64, 14, 64, 3, HALF),
        gated(4096, 2048, 5632, HALF),
        summed(4096, (512, 2048), 2048, HALF),
        *attention_regions(8, 1024, 64, HALF),
        *attention_regions(8, 1024, 128, HALF),
    ]


@pytest.mark.parametrize("target", MATRIX)
def test_dots_use_matrix_units_and_do_not_spill(target: str) -> None:
    for a in compile_for(dots(), target):
        assert a.figures.spills == 0, a.name
        assert str(a.figures.matrix_instruction).startswith(MATRIX[target]), a.name


@pytest.mark.parametrize("target", MATRIX)
def test_small_dots_use_some_matrix_unit(target: str) -> None:
    """Tiles of fewer than 64 rows are beyond tcgen05."""
    regions = [
        linear(257, 129, 65, HALF),
        linear(16, 4096, 4096, HALF),
        convolution_weight_gradient(64, 32, 28, 32, 5, HALF),
    ]
    for a in compile_for(regions, target):
        assert a.figures.spills == 0 and a.figures.matrix_instruction, a.name


@pytest.mark.parametrize("target", MATRIX)
def test_other_kernels_load_wide_and_do_not_spill(target: str) -> None:
    regions = [
        gelu(1 << 22, HALF),
        softmax(4096, 1024, HALF),
        transpose(2048, 2048, HALF),
        column_sum(4096, 1024, HALF),
    ]
    for a in compile_for(regions, target):
        assert a.figures.spills == 0 and a.figures.widest_load == 128, a.name
