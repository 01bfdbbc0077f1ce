"""The device opencl: what a user does with it, against PyTorch and the oracle, and its mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.cpu_fallback.opencl import needs_opencl
from tgrad import nn, optim
from tgrad.cpu_fallback.opencl import build_drafts, draft_opencl
from tgrad.device import Device
from tgrad.errors import CompileError, DeviceError, OutOfMemoryError
from tgrad.runtime.device import allocate, open_device
from tgrad.runtime.opencl import OpenClRuntime
from tgrad.settings import read_settings

torch = pytest.importorskip("torch")


@needs_opencl
def test_names() -> None:
    x = tgrad.ones(3, device="opencl")
    assert x.device == Device("opencl:0") and str(x.device) == "opencl:0"
    with tgrad.device("opencl"):
        y = tgrad.arange(3)
    assert y.device == x.device
    assert (x + y).to("cpu").tolist() == [1, 2, 3]
    assert tgrad.tensor([1.5, 2.0]).to("opencl").numpy().tolist() == [1.5, 2.0]


def convnet(of: Any) -> Any:
    """Each kind of layer of a convnet, for images of 8 x 8."""
    return of.Sequential(
        of.Conv2d(1, 4, 3), of.BatchNorm2d(4), of.ReLU(), of.MaxPool2d(2), of.Flatten(),
        of.Linear(36, 10),
    )  # fmt: skip


@needs_opencl
def test_a_training_step_of_a_convnet() -> None:
    theirs, ours = convnet(torch.nn), convnet(nn)
    ours.load_state_dict({k: tgrad.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    ours.to("opencl")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((5, 1, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 10, 5)
    losses = []
    for model, of, f, make in (
        (ours, optim, F, lambda a: tgrad.tensor(a, device="opencl")),
        (theirs, torch.optim, torch.nn.functional, torch.from_numpy),
    ):
        optimizer = of.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loss = f.cross_entropy(model(make(images)), make(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in theirs.state_dict().items():
        have = ours.state_dict()[name].numpy()
        np.testing.assert_allclose(have, value.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)


@needs_opencl
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_and_its_gradients(is_causal: bool) -> None:
    """As kernels of their own: a work-item has no room for a chain of dots."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 3, 17, 8)).astype(np.float32) for _ in range(3)]
    ours = [tgrad.tensor(a, device="opencl").requires_grad_() for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    made = F.scaled_dot_product_attention(*ours, is_causal=is_causal)
    want = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=is_causal)
    made.square().sum().backward()
    want.square().sum().backward()
    np.testing.assert_allclose(made.numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-5)
    for x, y in zip(ours, theirs):
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-3, atol=1e-4)


@needs_opencl
def test_a_compiled_step_writes_its_state_in_place() -> None:
    w = tgrad.zeros(5, device="opencl").realize()

    @tgrad.compile
    def step(x: Any) -> Any:
        w.add_(x)
        return w.sum()

    x = tgrad.arange(5, dtype=tgrad.float32, device="opencl")
    assert [step(x).item() for _ in range(3)] == [10, 20, 30]
    assert w.tolist() == [0, 3, 6, 9, 12]


@needs_opencl
def test_random_bits_are_those_of_every_device() -> None:
    made = [
        tgrad.randint(0, 2**31 - 1, (3001,), generator=tgrad.Generator().manual_seed(7), device=d)
        for d in ("opencl", "numpy")
    ]
    np.testing.assert_array_equal(made[0].numpy(), made[1].numpy())
    made = [
        tgrad.rand(3001, generator=tgrad.Generator().manual_seed(7), device=d)
        for d in ("opencl", "numpy")
    ]
    np.testing.assert_array_equal(made[0].numpy(), made[1].numpy())


@needs_opencl
def test_empty_tensors_and_long_rows() -> None:
    empty = tgrad.zeros(0, 3, device="opencl")
    assert empty.sum(0).tolist() == [0, 0, 0] and (empty + 1).shape == (0, 3)
    assert (empty.T @ empty).tolist() == [[0, 0, 0]] * 3
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    ours = tgrad.tensor(x, device="opencl")
    wide = x.astype(np.float64)
    assert ours.sum().item() == pytest.approx(wide.sum(), abs=0.01)
    np.testing.assert_allclose(ours.cumsum(0).numpy(), wide.cumsum(), atol=0.01)
    np.testing.assert_array_equal(ours[:3001].sort().values.numpy(), np.sort(x[:3001]))


@needs_opencl
def test_library_calls_run_on_the_host() -> None:
    a = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    q, r = tgrad.linalg.qr(tgrad.tensor(a, device="opencl"))
    assert q.device.type == "opencl"
    np.testing.assert_allclose((q @ r).numpy(), a, atol=1e-5)


# -- mistakes -----------------------------------------------------------------------------------


def test_without_pyopencl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(DeviceError, match=r"needs pyopencl\.") as caught:
        OpenClRuntime()
    assert "pip install 'tgrad[opencl]'" in caught.value.hint


@needs_opencl
def test_without_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl

    monkeypatch.setattr(pyopencl, "get_platforms", list)
    with pytest.raises(DeviceError, match=r"finds no device\."):
        OpenClRuntime()


@needs_opencl
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match=r"(?s)opencl:99 is not there\..*finds \d+ devices"):
        tgrad.ones(2, device="opencl:99").realize()


@needs_opencl
def test_a_kernel_that_the_driver_refuses(tmp_path: Path, capfd: Any) -> None:
    """Among others that it takes: the message names it."""
    runtime = open_device(Device("opencl"))
    assert isinstance(runtime, OpenClRuntime)
    plan = tgrad.explain(tgrad.ones(7, device="opencl").exp() + tgrad.arange(7, device="opencl"))
    (draft,) = draft_opencl([k.region for k in plan.kernels])

    def broken(drafts: Any) -> str:
        return "__kernel void good() {}\n" + draft.source.replace("program", "nonsense", 1)

    with pytest.raises(CompileError, match=f"refused kernel {draft.kernel.name}") as caught:
        build_drafts([draft], read_settings(), lambda d, _, c: runtime.build(d, broken, c))
    assert caught.value.source == draft.kernel.source


@needs_opencl
def test_a_device_without_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = OpenClRuntime()
    monkeypatch.setattr(runtime, "opencl_device", Single(runtime.opencl_device))
    places = tgrad.zeros(4, dtype=tgrad.int64, device="opencl")
    for made, what in (
        (tgrad.ones(7, dtype=tgrad.float64, device="opencl").exp(), "computes in float64"),
        (places.scatter_add(0, places, places), "joins numbers of 64 bits"),
    ):
        drafts = draft_opencl([k.region for k in tgrad.explain(made).kernels])
        with pytest.raises(DeviceError, match=what):
            build_drafts(drafts, read_settings(), runtime.build)


class Single:
    """A device of OpenCL with no extensions."""

    extensions = ""

    def __init__(self, device: Any):
        self.device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)


@needs_opencl
def test_memory_that_is_not_there() -> None:
    with pytest.raises(OutOfMemoryError, match="opencl:0 has no memory for"):
        allocate(Device("opencl"), 1 << 50)


@needs_opencl
def test_dlpack_is_refused() -> None:
    x = tgrad.ones(3, device="opencl")
    for call in (x.__dlpack__, x.__dlpack_device__):
        with pytest.raises(BufferError, match=r"Use \.cpu\(\) first\."):
            call()
    assert not hasattr(x, "__array_interface__")
