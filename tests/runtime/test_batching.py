"""A batch is one launch that counts as one, wherever its buffers are."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.devices.test_fuzz import needs_triton
from tgrad import optim, pipeline, realizing
from tgrad.device import Device
from tgrad.kernel.ir import Executable, PointerTable
from tgrad.runtime.device import counters, release_arena
from tgrad.runtime.plan import record_plans
from tgrad.tensor import Tensor, realize_tensors

SHAPES = [(64, 48), (48,), (5,), (7, 3)]
BOTH = pytest.mark.devices("cpu", pytest.param("interpret", marks=needs_triton))


def sums(device: str, seed: int) -> list[Tensor]:
    random = np.random.default_rng(seed)
    xs = [
        tgrad.tensor(random.standard_normal((9, 80)).astype(np.float32), device=device)
        for _ in range(6)
    ]
    parts = [(x * x).sum() for x in xs]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return [*(x.exp().sum(0) for x in xs), total]


@BOTH
def test_predicted_launches_and_bytes_are_executed(device: str) -> None:
    nodes = [t._node for t in sums(device, 0)]
    place = Device(device)
    plan = pipeline.compile_graph(nodes, place)[0].plan
    tables = [k.region.table for k in plan.kernels if k.region.table is not None]
    assert len(tables) == 2 and all(t.members == 6 for t in tables)
    assert [len(s.buffers) for s in plan.steps] == [len(k.region.buffers) for k in plan.kernels]
    release_arena(place)
    before = counters(place).launches, counters(place).allocated_bytes
    realizing.realize(nodes, place)
    assert counters(place).launches - before[0] == plan.launches
    assert counters(place).allocated_bytes - before[1] == plan.peak_bytes


@BOTH
def test_buffers_may_move_between_runs(device: str) -> None:
    """One plan, other tensors and outputs each time, the arena moved."""
    with record_plans() as plans:
        for seed in range(3):
            made = sums(device, seed)
            wanted = sums("numpy", seed)
            release_arena(Device(device))
            realize_tensors(made)
            for got, want in zip(made, wanted):
                np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5)
    assert len({id(p) for p in plans if p.device.type == device}) <= 1


@BOTH
def test_replays_update_in_place(device: str) -> None:
    random = np.random.default_rng(1)
    params = [
        tgrad.tensor(random.standard_normal(s).astype(np.float32), device=device) for s in SHAPES
    ]
    for p in params:
        p.requires_grad_()
    optimizer = optim.SGD(params, lr=0.5)

    @tgrad.compile
    def step(scale: Tensor) -> None:
        optimizer.zero_grad()
        sum((p * scale).sum() for p in params).backward()
        optimizer.step()

    wanted = [p.numpy() for p in params]
    with record_plans() as plans:
        for n in range(1, 4):
            step(tgrad.tensor(np.float32(n), device=device))
            wanted = [w - np.float32(0.5 * n) for w in wanted]
    for p, want in zip(params, wanted):
        np.testing.assert_allclose(p.numpy(), want, rtol=1e-6)
    assert max(p.launches for p in plans) <= 2


def test_a_report_names_each_buffer() -> None:
    nodes = [t._node for t in sums("cpu", 5)]
    plan = pipeline.compile_graph(nodes, Device("cpu"))[0].plan
    data = plan.to_json()
    shared = [k for k in data["kernels"] if k["name"].endswith("_x6")]
    assert len(shared) == 2
    for kernel in shared:
        assert len(kernel["reads"]) == 6 and len(kernel["writes"]) == 6
        assert kernel["domain"].startswith("6 members")
        assert "6 steps of one form share this launch" in kernel["reasons"]
        assert kernel["line"].startswith("test_batching.py:")
    assert "6 members x" in plan.explain()


def test_cuda_writes_a_table_only_when_a_buffer_moves() -> None:
    """The argument list of a launch, on torch's memory of the host."""
    torch = pytest.importorskip("torch")
    from tgrad.runtime.cuda import CudaRuntime

    runtime = object.__new__(CudaRuntime)
    runtime.torch, runtime.torch_device = torch, torch.device("cpu")
    pointers = PointerTable(shared=(1,), own=(0, 2), numbers=(7, 8))
    artifact = Executable("batch", "", None, 2, pointers=pointers)
    held = [torch.zeros(4, dtype=torch.uint8) for _ in range(4)]
    a, b, c, d = (m.data_ptr() for m in held)
    shared, table = runtime.arguments(artifact, [a, b, c])
    assert shared == b
    kept = artifact.kept["table"]
    assert table == kept.data_ptr()
    assert kept.tolist() == [a, c, 7, 8]
    kept[2] = -1  # a mark that writing again would remove
    assert runtime.arguments(artifact, [a, b, c]) == [shared, table]
    assert kept[2] == -1
    assert runtime.arguments(artifact, [a, b, d]) == [shared, table]
    assert kept.tolist() == [a, d, 7, 8]
