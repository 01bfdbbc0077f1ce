"""The simulated GPU: what it must find, and training there beside the device cpu. Here are a few
programs; `pytest --simulated-gpu --device cuda` runs any test so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("triton")

import tgrad
from tests.fuzzing import check_nodes, graphs, with_gradients
from tests.simulated_gpu import install
from tests.simulated_torch import SimulatedTorch
from tgrad import many_sizes, nn, optim, pipeline, realizing, triton_gen
from tgrad.device import Device
from tgrad.errors import DeviceError
from tgrad.nn import functional as F
from tgrad.runtime import device as devices
from tgrad.runtime.plan import record_plans

GPU = Device("cuda")
WORDS, LENGTH, WIDTH = 50, 24, 32


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> SimulatedTorch:
    """A GPU while the test runs, with no plan and no memory of another."""
    if tgrad.cuda.is_available() or request.config.getoption("simulated_gpu"):
        pytest.skip("there is a GPU")
    for place, name in ((devices, "_open"), (devices, "_arenas"), (devices, "_counters")):
        monkeypatch.setattr(place, name, {})
    for place, name in ((pipeline, "_plans"), (realizing, "_seen"), (many_sizes, "_families")):
        monkeypatch.setattr(place, name, OrderedDict())
    return install(monkeypatch.setattr)


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 9, 10),
    )  # fmt: skip


class Transformer(nn.Module):
    """One causal layer over words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 64, 0.0, batch_first=True)

    def forward(self, tokens: tgrad.Tensor) -> tgrad.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, device=tokens.device)
        hidden: tgrad.Tensor = self.layer(self.words(tokens), mask, is_causal=True)
        return self.head(hidden)


def images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((4, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 4)


def texts(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    tokens = rng.integers(0, WORDS, (2, LENGTH + 1))
    return tokens[:, :-1], tokens[:, 1:]


MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "convnet": (convnet, images),
    "transformer": (Transformer, texts),
}


def losses(model: str, device: str, is_compiled: bool, steps: int = 4) -> list[float]:
    """Of a few steps from the same weights on the same data."""
    make, draw = MODELS[model]
    tgrad.manual_seed(1)
    module, rng = make().to(device), np.random.default_rng(7)
    optimizer = optim.AdamW(module.parameters(), lr=1e-3)

    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        optimizer.zero_grad()
        scores = module(x)
        loss = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    call: Callable[..., Any] = tgrad.compile(step) if is_compiled else step
    data = [[tgrad.tensor(a, device=device) for a in draw(rng)] for _ in range(steps)]
    return [call(*batch).item() for batch in data]


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("model", list(MODELS))
def test_training(model: str, is_compiled: bool, gpu: SimulatedTorch) -> None:
    with record_plans() as plans:
        found = losses(model, "cuda", is_compiled)
    assert any(p.device == GPU and p.launches > 4 for p in plans)
    np.testing.assert_allclose(found, losses(model, "cpu", is_compiled), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "channels", "width", "side", "optimizer"),
    [
        (64, 16, 20, 12, partial(optim.SGD, momentum=0.9)),
        (2, 176, 176, 5, partial(optim.Adam, eps=1e-3)),
    ],
    ids=["parts", "whole"],
)
def test_weights_of_windows(
    images: int, channels: int, width: int, side: int, optimizer: Any, gpu: SimulatedTorch
) -> None:
    """Their gradients come in parts, or are stored, as they are computed; optimizers turn them."""

    def trained(device: str) -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        tgrad.manual_seed(2)
        layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 8, 1)
        ).to(device)
        steps = optimizer(layers.parameters(), lr=1e-2)
        x = rng.standard_normal((images, channels, side, side)).astype(np.float32)
        layers(tgrad.tensor(x, device=device)).square().mean().backward()
        steps.step()
        return [p.detach().numpy() for p in layers.parameters()]

    for got, want in zip(trained("cuda"), trained("cpu")):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_random_graphs(gpu: SimulatedTorch) -> None:
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(st.lists(graphs("cuda", requires_grad=True), min_size=5, max_size=5))
    def check(drawn: list[Any]) -> None:
        check_nodes([n for outputs in drawn for n in with_gradients(outputs)], "cuda")

    check()


def test_replays_take_kernels_in_any_order(gpu: SimulatedTorch) -> None:
    """Eight branches that meet, over state that is written in place."""
    state = tgrad.zeros(8, 600, device="cuda").realize()

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        parts = [(x * n).cumsum(0) @ x.mT for n in range(8)]
        state.add_(x)
        return sum((p.softmax(1) for p in parts), state.sum())

    rng, total = np.random.default_rng(2), np.zeros((8, 600))
    for _ in range(5):
        array = rng.standard_normal((8, 600)).astype(np.float32)
        total += array
        got = step(tgrad.tensor(array, device="cuda")).numpy()
        x = array.astype(np.float64)
        scores = [np.cumsum(x * n, 0) @ x.T for n in range(8)]
        raised = [np.exp(s - s.max(1, keepdims=True)) for s in scores]
        want = sum(e / e.sum(1, keepdims=True) for e in raised) + total.sum()
        np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("access", ["tl.load(in0_ptr", "tl.store(out0_ptr"])
def test_accesses_beyond_a_buffer_are_found(
    access: str, gpu: SimulatedTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = triton_gen.emit
    monkeypatch.setattr(triton_gen, "emit", lambda *of: emit(*of).replace(access, f"{access} + 7"))
    x = tgrad.tensor(np.ones(1000, np.float32), device="cuda")
    with pytest.raises(DeviceError, match="beyond its buffers"):
        (x * 3).numpy()


def test_memory_that_nobody_has_written_is_nan(gpu: SimulatedTorch) -> None:
    runtime = devices.open_device(GPU)
    assert np.isnan(runtime.read(runtime.allocate(12), tgrad.float32, (3,))).all()


@pytest.mark.parametrize("dtype", [tgrad.float32, tgrad.bool, tgrad.float8_e4m3fn])
def test_small_tensors_are_joined_in_its_memory(dtype: tgrad.dtype, gpu: SimulatedTorch) -> None:
    """Draws from a replay memory make no plan each."""
    rows = [tgrad.full((2, 3), n % 2 or 0.5, dtype=dtype, device="cuda") for n in range(12)]
    rows = [r.realize() for r in rows]
    for axis, drawn in ((0, [n // 2 for n in range(12)]), (1, range(12)), (-1, range(8))):
        got = tgrad.cat([rows[n] for n in drawn], axis)
        assert got._storage is not None and got.dtype is dtype and got.device == GPU
        want = np.concatenate([rows[n].float().numpy() for n in drawn], axis)
        np.testing.assert_array_equal(got.float().numpy(), want)
