"""Programs whose elements nobody needs end at once, and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.triton_gen.builder import run
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.runtime.planning import planning
from tgrad.settings import settings

pytest.importorskip("triton")
from tgrad.triton_gen import choose_config, compile_for, target_by_name

UNTOUCHED = np.frombuffer(b"\x5a" * 4, np.float32)[0]
"""What `run` leaves in memory that no program writes."""

WEIGHT = tgrad.tensor(np.random.default_rng(0).random((96, 80), np.float32))

Case = tuple[Callable[[tgrad.Tensor], tgrad.Tensor], tuple[int, ...], int]
CASES: dict[str, Case] = {
    "rows": (lambda x: F.layer_norm(x, (512,)), (3, 5, 512), 64),
    "elements": (lambda x: x.exp(), (2, 5, 48), 200),
    "tiles of a product": (lambda x: (x @ WEIGHT).exp(), (2, 5, 96), 600),
}


def region_of(case: Case, target: str) -> Region:
    function, shape, most = case
    with planning(target):
        compiled = tgrad.compile(function, dynamic={"x": {1: (1, most)}})
        compiled(tgrad.ones(*shape))
        kernels = compiled.plans[-1].kernels
    (region,) = (k.region for k in kernels if k.region is not None and k.region.limits)
    return region


@pytest.mark.parametrize("name", CASES)
def test_programs_beyond_the_size_write_nothing(name: str) -> None:
    case = CASES[name]
    _, (batch, _, _), most = case
    region = region_of(case, "sm_90")
    config = choose_config(region, target_by_name("sm_90"))
    (limit,) = region.limits
    random = np.random.default_rng(1)
    skipped = []
    for size in (1, most // 2 + 1, most):
        buffers = [
            np.full(s.size, size, s.dtype.numpy)
            if number == limit.slot
            else random.random(s.size).astype(s.dtype.numpy)
            for number, s in enumerate(region.slots)
        ]
        given = [x for s, x in zip(region.slots, buffers) if s.role == "in"]
        (found,) = run(region, given, config)
        want = evaluate_region(region, buffers)[-1].reshape(batch, most, -1)[:, :size]
        found = found.reshape(batch, most, -1)
        np.testing.assert_allclose(found[:, :size], want, rtol=1e-4, atol=1e-5)
        skipped.append(int((found == UNTOUCHED).all(-1).sum()))
    assert skipped[0] > skipped[1] > skipped[2] == 0


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_programs_that_end_at_once_compile(target: str, tmp_path: Path) -> None:
    regions = [region_of(CASES[name], target) for name in ("rows", "tiles of a product")]
    for artifact in compile_for(regions, target, dataclasses.replace(settings, cache_dir=tmp_path)):
        assert artifact.figures is not None and artifact.figures.spills == 0
        assert "        return\n" in artifact.source
