"""What plans say about themselves, with nothing run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import tgrad
from tests.explain.steps import convnet_step, planned_convnet, small_plan
from tests.training.convnet import twins
from tgrad import optim
from tgrad.backend import backend_by_name
from tgrad.device import Device
from tgrad.errors import DeviceError
from tgrad.fusion.cost import Cost, DeviceFigures, predict
from tgrad.runtime.device import counters, release_arena
from tgrad.runtime.memory import ALIGNMENT
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import current_planning, planning
from tgrad.runtime.profile import profiling
from tgrad.runtime.report import report_plan

pytest.importorskip("torch")
CPU = Device("cpu")
TARGETS = [None, "cpu", "sm_90", "gfx942"]


@pytest.fixture(scope="module", params=TARGETS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return planned_convnet(request.param)


def test_planning_runs_and_allocates_nothing_on_the_device() -> None:
    before = replace(counters(CPU))
    planned_convnet("sm_90")
    after = counters(CPU)
    assert (after.launches, after.plans) == (before.launches, before.plans)
    assert current_planning() is None


def test_planning_for_a_gpu_that_is_not_there() -> None:
    with planning("gfx942"), record_plans() as plans:
        x = tgrad.tensor([1.0, 2.0], device="cuda")
        assert (x * 2).sum().item() == 0.0
        assert x.numpy().tolist() == [1.0, 2.0]
    assert [p.target for p in plans] == ["gfx942"]
    assert "@triton.jit" in plans[0].kernels[0].source


def test_a_target_of_another_name_is_refused() -> None:
    with pytest.raises(DeviceError, match="'sm_9' is not a target of tgrad"):
        backend_by_name("sm_9")


def test_plans_of_targets_are_kept_apart() -> None:
    sources = {target: small_plan(target).kernels[0].source for target in TARGETS}
    assert "@triton.jit" in sources["sm_90"] and "@triton.jit" not in sources["cpu"]
    assert sources[None] == sources["cpu"]


def test_the_largest_of_the_timeline_is_the_peak(plan: Plan) -> None:
    report = report_plan(plan)
    assert len(report.memory) == plan.launches
    assert max(m.held for m in report.memory) == plan.peak_bytes
    assert report.memory[report.peak_step].held == plan.peak_bytes
    assert all(m.live <= m.held for m in report.memory)


def test_temporaries_that_live_together_do_not_overlap(plan: Plan) -> None:
    temps = [b for b in report_plan(plan).buffers if b.kind == "temp"]
    for i, a in enumerate(temps):
        assert a.spec.offset % ALIGNMENT == 0
        assert a.spec.offset + a.aligned <= plan.arena_bytes
        for b in temps[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.spec.offset + a.nbytes <= b.spec.offset or (
                    b.spec.offset + b.nbytes <= a.spec.offset
                )


def test_buffers_at_the_peak_name_their_lines(plan: Plan) -> None:
    live = [b for b in report_plan(plan).live_at_peak if b.kind != "input"]
    assert [b.nbytes for b in live] == sorted((b.nbytes for b in live), reverse=True)
    assert live[0].line.startswith("steps.py:") and live[0].call
    report = report_plan(plan)
    assert sum(b.nbytes for b in live) == report.memory[report.peak_step].live


def test_predicted_is_executed() -> None:
    planned = planned_convnet(None)
    model, _ = twins("cpu")
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    release_arena(CPU)
    before = replace(counters(CPU))
    with profiling() as profile:
        convnet_step(optimizer, model)
    ran = {id(launch.plan): launch.plan for launch in profile.launches}
    executed = max(ran.values(), key=lambda p: p.flops)
    launches = [launch for launch in profile.launches if launch.plan is executed]
    assert len(launches) == executed.launches == planned.launches
    assert sum(executed.kernels[x.step].flops for x in launches) == planned.flops
    assert sum(executed.kernels[x.step].bytes for x in launches) == planned.bytes
    assert counters(CPU).launches - before.launches == len(profile.launches)
    assert executed.peak_bytes == planned.peak_bytes


def test_allocated_bytes_are_the_peak() -> None:
    x = tgrad.ones(64, 32).realize()
    y = (x @ x.T).softmax(1).sum(0)
    planned = tgrad.explain(y)
    release_arena(CPU)
    before = counters(CPU).allocated_bytes
    y.realize()
    assert counters(CPU).allocated_bytes - before == planned.peak_bytes


def test_times_follow_the_cost_model(plan: Plan) -> None:
    report = report_plan(plan)
    figures = plan.figures
    assert figures is not None
    for k in report.kernels:
        assert k.time is not None
        assert k.time.bound >= k.info.bytes / figures.bandwidth * (1 - 1e-12)
        assert k.time.seconds >= k.time.bound + figures.launch * (1 - 1e-12)
    assert report.seconds >= report.bound + plan.launches * figures.launch * (1 - 1e-12)


GPU = DeviceFigures("gpu", 1e12, 50e12, 500e12, 100, 4e-6, "an example")


def test_a_grid_that_fills_half_the_device_takes_twice_as_long() -> None:
    whole = predict(Cost(10**9, 10**6), 100, GPU)
    half = predict(Cost(10**9, 10**6), 50, GPU)
    assert whole.limit == "compute" and whole.bound == half.bound == 2e-5
    assert half.seconds - GPU.launch == pytest.approx(2 * (whole.seconds - GPU.launch))


def test_matrix_units_are_for_operands_of_two_bytes() -> None:
    half = predict(Cost(10**9, 1, dot_flops=10**9, matrix_flops=10**9), 100, GPU)
    single = predict(Cost(10**9, 1, dot_flops=10**9), 100, GPU)
    assert single.bound == pytest.approx(10 * half.bound)


@pytest.mark.parametrize(("limit", "answer"), [(1 << 30, "yes"), (1000, "no")])
def test_fits(limit: int, answer: str) -> None:
    plan = small_plan()
    needed = plan.input_bytes + plan.arena_bytes + plan.output_bytes
    text = plan.explain(memory_limit=limit)
    assert f": {answer}; inputs, arena and outputs are {needed:,} bytes" in text
    assert plan.to_json(memory_limit=limit)["fits"] is (answer == "yes")


def test_fits_exactly() -> None:
    plan = small_plan()
    needed = plan.input_bytes + plan.peak_bytes
    assert report_plan(plan, needed).fits is True
    assert report_plan(plan, needed - 1).fits is False
    assert report_plan(plan).fits is None
    assert f"{1:,} bytes too many" in plan.explain(memory_limit=needed - 1)


def test_text_names_lines_equations_and_tiles() -> None:
    text = small_plan("sm_90").explain()
    assert "steps.py:" in text and "dot[r0](" in text and "sum[" in text
    assert "tiles: " in text and "(heuristic)" in text and "warps" in text
    assert "peak memory" in text and "at the peak, step" in text
    assert "peak figures of the data sheet" in text


def test_cpu_says_that_its_figures_are_assumed() -> None:
    text = small_plan("cpu").explain()
    assert "assumed: a core does 2 multiply-adds" in text and "warps" not in text


PLAN_KEYS = {
    "version", "device", "target", "figures", "replay", "launches", "flops", "dot_flops", "bytes",
    "intensity", "bound_seconds", "predicted_seconds", "peak_bytes", "arena_bytes", "output_bytes",
    "input_bytes", "needed_bytes", "memory_limit", "fits", "peak_step", "kernels", "memory",
    "live_at_peak", "choices",
}  # fmt: skip
KERNEL_KEYS = {
    "name", "line", "call", "code", "equations", "domain", "flops", "dot_flops", "bytes",
    "intensity", "bound_seconds", "predicted_seconds", "limit", "programs", "tiles", "origin",
    "static", "reads", "writes", "reasons", "region", "source",
}  # fmt: skip


def test_json_has_all_fields(plan: Plan) -> None:
    data = json.loads(json.dumps(plan.to_json()))
    assert set(data) == PLAN_KEYS and data["version"] == 1
    assert len(data["kernels"]) == len(data["memory"]) == data["launches"] == plan.launches
    for kernel in data["kernels"]:
        assert set(kernel) == KERNEL_KEYS
        assert kernel["origin"] == "heuristic" and kernel["equations"] and kernel["source"]
        assert kernel["line"].startswith("steps.py:") and kernel["writes"]
    assert data["flops"] == sum(k["flops"] for k in data["kernels"])
    assert data["needed_bytes"] == data["input_bytes"] + data["peak_bytes"]
    assert set(data["memory"][0]) == {"step", "live", "held"}
    assert set(data["live_at_peak"][0]) == {
        "name", "kind", "type", "bytes", "line", "call", "first", "last",
    }  # fmt: skip


def test_a_plan_on_numpy_has_no_kernels() -> None:
    x = tgrad.ones(4, 4, device="numpy")
    plan = tgrad.explain(x @ x)
    assert plan.launches == 0 and "peak memory" in plan.explain()
    assert plan.to_json()["kernels"] == []
    assert "<table>" in plan._repr_html_() and "<svg" in plan.to_html()


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_static_figures_without_a_gpu(target: str) -> None:
    pytest.importorskip("triton")
    kernels = report_plan(small_plan(target, 256), compiled=True).kernels
    assert kernels and all(k.static is not None and k.static.spills == 0 for k in kernels)
    assert all(k.static and k.static.registers for k in kernels)
