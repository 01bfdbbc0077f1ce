"""Dots over runs of rows: the loop goes from where a run begins to where it ends, operands are
loads with masks, and nothing is copied for each run."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.cost import cost_of
from tgrad.fusion.region import Load, Region
from tgrad.runtime.plan import KernelInfo, Plan
from tgrad.runtime.planning import planning
from tgrad.triton_gen import compile_for

GROUPS, ROWS, K, N = 8, 1024, 256, 512


def step(target: str | None, dtype: tgrad.DType = tgrad.bfloat16) -> Plan:
    """Forward and both gradients."""
    device = "cpu" if target is None else "cuda"
    with planning(target):
        shapes = (ROWS, K), (GROUPS, K, N), (ROWS, N)
        x, w, g = (tgrad.zeros(s, dtype=dtype, device=device).realize() for s in shapes)
        offs = tgrad.zeros(GROUPS, dtype=tgrad.int32, device=device).realize()

        @tgrad.compile
        def call(x: tgrad.Tensor, w: tgrad.Tensor, g: tgrad.Tensor, offs: tgrad.Tensor) -> object:
            x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
            y = F.grouped_mm(x, w, offs=offs)
            return y, tgrad.autograd.grad(y, (x, w), g)

        call(x, w, g, offs)
        (plan,) = call.plans
        return plan


def dots(plan: Plan) -> list[KernelInfo]:
    return [k for k in plan.kernels if k.region.space.kind == "dot"]


def of_runs(plan: Plan) -> KernelInfo:
    (found,) = (k for k in dots(plan) if k.region.space.live)
    return found


def masks(region: Region) -> list[int]:
    """How many bounds of loaded integers each load has."""
    loads = [v for v in region.values if isinstance(v, Load)]
    return [sum(bool(b.index.loaded()) for b in v.mask) for v in loads]


@pytest.mark.parametrize("target", [None, "sm_90", "gfx942"])
def test_only_what_is_needed_is_stored(target: str | None) -> None:
    """Two dots over tiles of rows, whose operands are gathered in their loops; one over runs."""
    plan = step(target)
    assert len(dots(plan)) == 3
    largest = max(t.nbytes for t in plan.temps)
    assert largest <= (ROWS + GROUPS * 128) * N * 2


@pytest.mark.parametrize("target", [None, "sm_90"])
def test_the_loop_ends_where_the_run_does(target: str | None) -> None:
    kernel = of_runs(step(target))
    assert len(kernel.region.space.live) == 2
    assert sorted(masks(kernel.region))[-2:] == [2, 2]
    assert kernel.region.values and cost_of(kernel.region).dot_flops == 2 * ROWS * K * N
    loop = "r0_lo = r0_start; r0_lo < r0_stop;" if target is None else "tl.range(k_start, k_stop"
    assert loop in kernel.source


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_kernels_are_those_of_plain_dots(target: str) -> None:
    pytest.importorskip("triton")
    for artifact in compile_for([k.region for k in dots(step(target))], target):
        found = artifact.figures
        assert found.spills == 0 and found.widest_load == 128 and found.matrix_instruction
        if target != "gfx942":
            assert (found.async_copies or 0) >= 8
        if target == "sm_90":
            assert found.matrix_instruction.startswith("wgmma")


def test_a_mask_of_other_values_stays_a_choice() -> None:
    """No bounds of the loop: which rows count is told by a value of each."""
    with planning("sm_90"):
        x, y = (tgrad.zeros(64, 32, device="cuda").realize() for _ in range(2))
        keep = tgrad.zeros(64, dtype=tgrad.int32, device="cuda").realize()
        call = tgrad.compile(lambda x, y, keep: x.where(keep.unsqueeze(1) > 2, 0).mT @ y)
        call(x, y, keep)
        (plan,) = call.plans
    assert not any(k.region.space.live for k in plan.kernels)


def test_one_mask_alone_bounds_nothing() -> None:
    """0 times NaN is NaN."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((3, 40, 8), dtype=np.float32) for _ in range(2))
    y[1, 30] = np.nan
    ends = np.array([40, 20, 35], np.int32)

    def function(x: tgrad.Tensor, y: tgrad.Tensor, ends: tgrad.Tensor) -> tgrad.Tensor:
        live = tgrad.arange(40, dtype=tgrad.int32) < ends.unsqueeze(1)
        return x.where(live.unsqueeze(2), 0).mT @ y

    compiled = tgrad.compile(function)
    found = compiled(*map(tgrad.tensor, (x, y, ends))).numpy()
    masked = np.where((np.arange(40) < ends[:, None])[..., None], x, 0)
    np.testing.assert_allclose(found, masked.transpose(0, 2, 1) @ y, rtol=1e-4, atol=1e-4)
    assert np.isnan(found[1]).all() and not np.isnan(found[[0, 2]]).any()
    assert not any(k.region.space.live for k in compiled.plans[0].kernels)


@pytest.mark.parametrize("k", [40, 700])
def test_values_between_bounds_that_are_no_loads(k: int, device: str) -> None:
    """The loop has its bounds, and the masks stay choices."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((3, k, n), dtype=np.float32) for n in (8, 24))
    ends = np.array([k, k // 3, 0], np.int32)

    def function(x: tgrad.Tensor, y: tgrad.Tensor, ends: tgrad.Tensor) -> tgrad.Tensor:
        place = tgrad.arange(k, dtype=tgrad.int32, device=x.device)
        live = (place < ends.unsqueeze(1)).unsqueeze(2)
        return (x * 2).where(live, 0).mT @ (y + 1).where(live, 0)

    compiled = tgrad.compile(function)
    found = compiled(*(tgrad.tensor(a, device=device) for a in (x, y, ends))).numpy()
    live = (np.arange(k) < ends[:, None])[..., None]
    want = np.where(live, x * 2, 0).transpose(0, 2, 1) @ np.where(live, y + 1, 0)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-3)
