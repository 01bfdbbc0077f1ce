"""Every kernel of the convnet's training step, compiled for GPUs that need not be there."""

from __future__ import annotations

import pytest

import tgrad
import tgrad.nn.functional as F
from tests.training.convnet import batches, twins
from tgrad import optim
from tgrad.dtype import DType
from tgrad.fusion.region import Dot, Region, extent_of
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.settings import settings

pytest.importorskip("torch")
pytest.importorskip("triton")
triton_gen = pytest.importorskip("tgrad.triton_gen")

BATCH = 64


def step_regions(dtype: DType) -> list[Region]:
    """The regions of forward, backward and Adam, for a batch of 64; nothing runs."""
    plans: list[Plan] = []
    with planning(None, plans.append):
        model, _ = twins("interpret")
        model.to(dtype)
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        images, labels = batches(1, BATCH)[0]
        x = tgrad.tensor(images, dtype=dtype, device="interpret")
        y = tgrad.tensor(labels, device="interpret")
        loss = F.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
    return [k.region for k in max(plans, key=lambda p: p.flops).kernels]


def fits_matrix_units(region: Region) -> bool:
    """Whether a dot is at least one instruction large in every direction."""
    space = region.space
    return all(extent_of(axes) >= 16 for axes in (space.m, space.n, space.k))


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("dtype", [tgrad.float32, tgrad.bfloat16], ids=["f32", "bf16"])
def test_no_spills_and_matrix_instructions(target: str, dtype: DType) -> None:
    regions = step_regions(dtype)
    dots = [r for r in regions if any(isinstance(v, Dot) for v in r.values)]
    assert len(regions) > 20 and len(dots) >= 10
    for region, artifact in zip(regions, triton_gen.compile_for(regions, target, settings)):
        assert artifact.figures.spills == 0, artifact.source
        # NVIDIA has no matrix instruction for float32 in full precision, which is the default.
        has_units = target == "gfx942" or dtype is tgrad.bfloat16
        if region in dots and has_units and fits_matrix_units(region):
            assert artifact.figures.matrix_instruction, artifact.source
