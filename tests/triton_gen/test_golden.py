"""Generated source, byte for byte. TGRAD_UPDATE_GOLDEN=1 rewrites the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attention import attention_regions
from tests.triton_gen.patterns import argsort, cumulative, linear, scaled_product, softmax, update
from tgrad import dtype as dt
from tgrad.fusion.region import Region
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower
from tgrad.triton_gen import choose_config, dialect_of, emit
from tgrad.triton_gen.target import Target, target_by_name

GOLDEN = Path(__file__).parent / "golden"

CASES = {
    "attention_forward": (attention_regions(8, 1024, 64, dt.bfloat16)[0], "sm_90"),
    "attention_backward": (attention_regions(8, 1024, 64, dt.bfloat16)[2], "sm_90"),
    "softmax_full": (softmax(64, 1000, dt.bfloat16), "sm_90"),
    "softmax_loop": (softmax(64, 50257, dt.float32), "sm_90"),
    "scan_full": (cumulative(Op.SCAN_MAX, 64, 1000, dt.int8), "sm_90"),
    "scan_loop": (cumulative(Op.SCAN_LINEAR, 64, 50257, dt.float32), "sm_90"),
    "sort": (argsort(64, 1000), "sm_90"),
    "sort_interpret": (argsort(64, 100, dt.uint16), "interpret"),
    "linear_bf16": (linear(1024, 500, 1024, dt.bfloat16), "sm_90"),
    "update_x3": (update((4096, 160, 48), dt.float32), "sm_90"),
    "scaled_e4m3": (scaled_product(1024, 500, 1024, dt.float8_e4m3fn), "sm_90"),
    "scaled_e4m3_interpret": (scaled_product(20, 50, 10, dt.float8_e4m3fn), "interpret"),
    "linear_bf16_interpret": (linear(20, 50, 10, dt.bfloat16), "interpret"),
}


def source_of(region: Region, target: Target) -> str:
    config = choose_config(region, target)
    return emit(lower(region, config), config, dialect_of(target))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    region, target = CASES[name]
    source = source_of(region, target_by_name(target))
    path = GOLDEN / f"{name}.py.txt"
    if os.environ.get("TGRAD_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    assert source == path.read_text(), f"{path} differs; TGRAD_UPDATE_GOLDEN=1 rewrites it"


def test_source_is_stable() -> None:
    region, target = CASES["softmax_full"]
    assert len({source_of(region, target_by_name(target)) for _ in range(3)}) == 1
