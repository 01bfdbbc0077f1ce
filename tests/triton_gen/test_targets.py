"""Kernels of each kind, compiled for the GPUs that bench/results/static does not hold."""

from __future__ import annotations

from dataclasses import replace

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
from tgrad.settings import settings
from tgrad.triton_gen import build, choose_config, compile_for, target_by_name

pytest.importorskip("triton")

MATRIX = {"sm_80": "mma.sync", "sm_100": "tcgen05.mma", "gfx1100": "v_wmma"}
HALF = dt.bfloat16


def dots() -> list[Region]:
    return [
        linear(4096, 1024, 4096, HALF),
        convolution(512, 64, 14, 64, 3, HALF),
        gated(4096, 2048, 5632, HALF),
        summed(4096, (512, 2048), 2048, HALF),
        *attention_regions(8, 1024, 128, HALF),
    ]


@pytest.mark.parametrize("target", MATRIX)
def test_dots_use_matrix_units_and_do_not_spill(target: str) -> None:
    for a in compile_for(dots(), target):
        assert a.figures.spills == 0, a.name
        assert str(a.figures.matrix_instruction).startswith(MATRIX[target]), a.name


def test_kernels_take_no_more_shared_memory_than_there_is() -> None:
    """A configuration whose stages do not fit gets fewer."""
    region = linear(4096, 4096, 4096, HALF)
    target = replace(target_by_name("sm_90"), shared_memory=100 * 1024)
    config = choose_config(region, target_by_name("sm_90"))
    (made,) = build([(region, config)], settings, target)
    assert config.num_stages == 4 and made.config.num_stages == 2
    assert made.figures.shared is not None and made.figures.shared <= target.shared_memory
    assert "num_stages=2" in made.source


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
