"""Plans say what runs; running them does exactly that."""

from __future__ import annotations

import numpy as np
import pytest

from tgrad import pipeline, realizing
from tgrad.device import Device
from tgrad.runtime.device import counters, release_arena
from tgrad.runtime.plan import record_plans
from tgrad.tensor import Tensor, tensor

CPU = Device("cpu")


def two_products(seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    a, b = (tensor(rng.standard_normal((32, 32)).astype(np.float32)) for _ in range(2))
    hidden = (a @ b).tanh()
    return [(hidden @ b).exp().sum(1), hidden.sum(0)]


def test_predicted_launches_and_bytes_are_executed() -> None:
    nodes = [t._node for t in two_products(0)]
    plan = pipeline.compile_graph(nodes, CPU)[0].plan
    assert plan.arena_bytes > 0
    release_arena(CPU)
    before = counters(CPU).launches, counters(CPU).allocated_bytes
    realizing.realize(nodes, CPU)
    assert counters(CPU).launches - before[0] == plan.launches
    assert counters(CPU).allocated_bytes - before[1] == plan.peak_bytes


def test_an_equal_graph_on_other_data_compiles_nothing() -> None:
    with record_plans() as plans:
        for seed in range(3):
            for t in two_products(seed):
                t.realize()
    assert len(plans) == 2


def test_an_output_that_is_a_buffer_shares_its_memory() -> None:
    x = tensor(np.arange(6, dtype=np.float32))
    (storage,) = realizing.realize([x.reshape(2, 3)._node], CPU)
    assert storage.memory is x._storage.memory  # type: ignore[union-attr]
    assert storage.shape == (2, 3)


def test_totals_are_sums_over_kernels() -> None:
    plan = pipeline.compile_graph([t._node for t in two_products(0)], CPU)[0].plan
    assert plan.flops == sum(k.flops for k in plan.kernels) >= 2 * 2 * 32**3
    assert plan.bytes == sum(k.bytes for k in plan.kernels)
    assert plan.peak_bytes == plan.arena_bytes + plan.output_bytes
    data = plan.to_json()
    assert data["launches"] == len(data["kernels"]) == plan.launches


def test_kernels_name_the_line_of_the_user() -> None:
    plan = pipeline.compile_graph([t._node for t in two_products(0)], CPU)[0].plan
    assert all(k.line.startswith("test_plan.py:") for k in plan.kernels)
    text = plan.explain()
    assert "peak memory" in text and plan.kernels[0].name in text


def test_an_empty_result_needs_no_kernel() -> None:
    x = tensor(np.zeros((0, 4), np.float32))
    assert (x * 2).numpy().shape == (0, 4)
    assert x.sum().item() == 0.0


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_values_outlive_later_runs(device: str) -> None:
    x = tensor(np.arange(4, dtype=np.float32), device=device)
    y = (x + 1).realize()
    for _ in range(3):
        (x * 3).realize()
    np.testing.assert_array_equal(y.numpy(), [1, 2, 3, 4])
