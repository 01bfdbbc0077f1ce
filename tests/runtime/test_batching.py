"""A batch is one launch that counts as one, wherever its buffers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
from tests.devices.test_fuzz import needs_triton
from tgrad import optim, pipeline, realizing
from tgrad.device import Device
from tgrad.kernel.ir import Executable, PointerTable
from tgrad.runtime.cuda import KEPT_TABLES
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


def runtime_of_tables(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[tuple[int, ...]]]:
    """The runtime on torch's memory of the host, and what it copied to the device."""
    torch = pytest.importorskip("torch")
    from tgrad.runtime.cuda import CudaRuntime

    runtime, copied = object.__new__(CudaRuntime), []
    runtime.torch, runtime.torch_device = torch, torch.device("cpu")

    def pinned(self: CudaRuntime, contents: tuple[int, ...]) -> Any:
        copied.append(tuple(contents))
        return torch.tensor(contents, dtype=torch.int64)

    monkeypatch.setattr(CudaRuntime, "pinned", pinned)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return runtime, copied


def test_cuda_copies_a_table_once_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument list of a launch: buffers that lie elsewhere in turn have a table each."""
    runtime, copied = runtime_of_tables(monkeypatch)
    pointers = PointerTable(shared=(1,), own=(0, 2), numbers=(7, 8))
    artifact = Executable("batch", "", None, 2, pointers=pointers)
    for c in (300, 400, 300, 400, 300):
        shared, table = runtime.arguments(artifact, [100, 200, c])
        found = artifact.kept[100, c, 7, 8]
        assert (shared, table) == (200, found.data_ptr())
        assert found.tolist() == [100, c, 7, 8]
    assert copied == [(100, 300, 7, 8), (100, 400, 7, 8)]


def test_cuda_keeps_the_tables_that_were_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, copied = runtime_of_tables(monkeypatch)
    artifact = Executable("batch", "", None, 2, pointers=PointerTable((), (0,), ()))
    for address in range(2 * KEPT_TABLES):
        runtime.arguments(artifact, [0])
        runtime.arguments(artifact, [address])
    assert len(artifact.kept) == KEPT_TABLES and (0,) in artifact.kept
    assert len(copied) == 2 * KEPT_TABLES


def test_a_table_is_never_copied_into_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be copied again at each replay, from memory that others have by then."""
    runtime, copied = runtime_of_tables(monkeypatch)
    artifact = Executable("batch", "", None, 2, pointers=PointerTable((), (0,), ()))
    runtime.arguments(artifact, [4])
    monkeypatch.setattr(runtime.torch.cuda, "is_current_stream_capturing", lambda: True)
    runtime.arguments(artifact, [4])
    with pytest.raises(RuntimeError, match="did not have before"):
        runtime.arguments(artifact, [8])
    assert copied == [(4,)]
