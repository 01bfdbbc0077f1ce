"""Parts of one buffer: kernels that differ in where they begin are one kernel."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.devices.test_fuzz import needs_triton
from tgrad import nn, pipeline
from tgrad.device import Device
from tgrad.runtime.plan import Plan
from tgrad.tensor import Tensor

DEVICES = pytest.mark.devices("cpu", pytest.param("interpret", marks=needs_triton))


def plan_of(*tensors: Tensor) -> Plan:
    device = tensors[0].device
    return pipeline.compile_graph([t._node for t in tensors], Device(str(device)))[0].plan


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rows_of(x: Tensor, steps: int) -> list[Tensor]:
    """Step t reads row t, and what the step before it made."""
    made = [x[0].exp()]
    for t in range(1, steps):
        made.append((made[-1] @ x[t]).tanh() + x[t])
    return made


@DEVICES
def test_steps_on_rows_of_one_buffer_are_one_kernel(device: str) -> None:
    data = normal(0, 7, 16, 16)
    x = tgrad.tensor(data, device=device)
    made = rows_of(x, 7)
    plan = plan_of(*made)
    steps = [s for s in plan.steps if plan.kernels[s.kernel].region.space.kind == "dot"]
    assert len({plan.kernels[s.kernel].region for s in steps}) == 1
    assert [sorted(s.starts)[-1] for s in steps] == [t * 16 * 16 * 4 for t in range(1, 7)]
    for got, want in zip(made, rows_of(tgrad.tensor(data, device="numpy"), 7)):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5, atol=1e-5)


@DEVICES
@pytest.mark.parametrize("size", [5, 64, 100])
def test_windows_begin_where_buffers_may(device: str, size: int) -> None:
    """At multiples of 256 bytes; what is left stands in the index."""
    data = normal(1, 9, size)
    x = tgrad.tensor(data, device=device)
    made = [x[0].flip(0)]
    for row in x[1:]:
        made.append(made[-1].amax() + row.flip(0))
    starts = {start for s in plan_of(*made).steps for start in s.starts}
    assert starts == ({0} | {4 * size * t // 256 * 256 for t in range(1, 9)} if size > 5 else set())
    want = data[0]
    for got, row in zip(made[1:], data[1:]):
        want = want.max() + row[::-1]
        np.testing.assert_array_equal(got.numpy(), want)


@DEVICES
def test_a_part_of_a_result_of_the_plan_is_a_window_of_the_arena(device: str) -> None:
    data = normal(2, 4, 300)
    x = tgrad.tensor(data, device=device)
    parts = x.softmax(1).cumsum(1).chunk(4)
    made = [p.sum() * p for p in parts]
    want = np.cumsum(np.exp(data) / np.exp(data).sum(1, keepdims=True), 1)
    for row, got in zip(want, made):
        np.testing.assert_allclose(got.numpy()[0], row.sum() * row, rtol=1e-4)


@DEVICES
@pytest.mark.parametrize("before", [3, 200])
def test_masked_loads_stay_in_their_buffer(device: str, before: int) -> None:
    """What is padded is read at places before the window, or the buffer, and beyond both."""
    data = normal(3, 512)
    x = tgrad.tensor(data, device=device)
    padded = tgrad.nn.functional.pad(x[256:], (before, 3)) * 2
    np.testing.assert_array_equal(padded.numpy(), 2 * np.pad(data[256:], (before, 3)))


@DEVICES
def test_a_window_is_not_written_in_place(device: str) -> None:
    """The upper half is overwritten by a kernel that reads the lower one, and its own."""
    data = normal(4, 2, 128)
    x = tgrad.tensor(data, device=device)

    @tgrad.compile
    def step(x: Tensor) -> None:
        x[1] = x[1] * 3 + x[0]

    for _ in range(3):
        step(x)
        data[1] = data[1] * 3 + data[0]
    np.testing.assert_allclose(x.numpy(), data, rtol=1e-5, atol=1e-6)


@DEVICES
def test_sorts_of_parts_are_one_kernel(device: str) -> None:
    """They gather from the window that they sort."""
    data = normal(5, 6, 2, 128)
    x = tgrad.tensor(data, device=device)
    made = [x[t].sort().values for t in range(6)]
    plan = plan_of(*made)
    assert len({k.region for k in plan.kernels}) == 1 and plan.launches == 6
    for t, got in enumerate(made):
        np.testing.assert_array_equal(got.numpy(), np.sort(data[t]))


@DEVICES
def test_members_of_a_batch_have_windows_of_their_own(device: str) -> None:
    data = normal(5, 6, 6, 16, 80)
    made = [tgrad.tensor(x, device=device)[t].exp().sum(0) for t, x in enumerate(data)]
    plan = plan_of(*made)
    (table,) = (k.region.table for k in plan.kernels)
    assert table is not None and table.members == 6
    assert plan.steps[0].starts[:6] == tuple(t * 16 * 80 * 4 for t in range(6))
    for t, (got, x) in enumerate(zip(made, data)):
        np.testing.assert_allclose(got.numpy(), np.exp(x[t]).sum(0), rtol=1e-5)


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_kernels_of_a_recurrent_net_do_not_grow_with_its_steps(cell: str) -> None:
    """Forward and backward of 9 steps are compiled once for those of 6."""
    kernels = []
    for steps in (6, 9):
        net = getattr(nn, cell)(16, 16)
        out, _ = net(tgrad.tensor(normal(6, steps, 4, 16)))
        grads = tgrad.autograd.grad(out[-1].sum(), list(net.parameters()))
        plan = plan_of(out, *grads)
        kernels.append(len({k.region for k in plan.kernels}))
    assert kernels[1] <= kernels[0]
