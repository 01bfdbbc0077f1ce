"""Models with complex numbers, trained beside PyTorch; their state, files and compiled steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import GradientError


def operator(library: Any) -> Any:
    """A small Fourier neural operator of either library (Li et al., arXiv 2010.08895)."""
    nn, functional = library.nn, library.nn.functional

    class Spectral(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, modes: int):
            super().__init__()
            self.modes = modes
            shape = (width, width, modes, modes)
            self.low = nn.Parameter(library.rand(*shape, dtype=library.cfloat) / width**2)
            self.high = nn.Parameter(library.rand(*shape, dtype=library.cfloat) / width**2)
            angles = library.arange(modes).float() * 0.1
            self.register_buffer("phase", library.polar(library.ones(modes), angles))

        def forward(self, x: Any) -> Any:
            m, (n, _, rows, columns) = self.modes, x.shape
            z = library.fft.rfft2(x)
            made = library.zeros(n, len(self.low), rows, columns // 2 + 1, dtype=library.cfloat)
            product = "bixy,ioxy->boxy"
            made[:, :, :m, :m] = library.einsum(product, z[:, :, :m, :m], self.low) * self.phase
            made[:, :, -m:, :m] = library.einsum(product, z[:, :, -m:, :m], self.high)
            return library.fft.irfft2(made, s=(rows, columns))

    class Operator(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.spectral = nn.Conv2d(1, 4, 1), Spectral(4, 3)
            self.beside, self.project = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Any) -> Any:
            x = self.lift(x)
            return self.project(functional.gelu(self.spectral(x) + self.beside(x)))

    return Operator()


def twins() -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs, ours = operator(torch), operator(tgrad)
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    return ours, theirs


def step_of(library: Any, model: Any, optimizer: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        library.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal((2, 1, 12, 12)).astype(np.float32)
    return x, np.roll(x, 1, -1)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_training_is_that_of_pytorch(is_compiled: bool) -> None:
    ours, theirs = twins()
    run = step_of(tgrad, ours, tgrad.optim.Adam(ours.parameters(), 1e-2))
    known = step_of(torch, theirs, torch.optim.Adam(theirs.parameters(), 1e-2))
    run = tgrad.compile(run) if is_compiled else run
    for seed in range(6):
        x, y = batch(seed)
        want = known(torch.tensor(x), torch.tensor(y)).item()
        assert run(tgrad.tensor(x), tgrad.tensor(y)).item() == pytest.approx(want, rel=1e-5)
    state = ours.state_dict()
    for name, t in theirs.state_dict().items():
        np.testing.assert_allclose(state[name].numpy(), t.numpy(), rtol=1e-4, atol=1e-5)
        assert str(state[name].dtype).removeprefix("tgrad.") == str(t.dtype).removeprefix("torch.")


def test_state_goes_through_files_and_copies(tmp_path) -> None:
    ours, _ = twins()
    x = tgrad.tensor(batch(1)[0])
    want = ours(x).detach().numpy()
    tgrad.save(ours.state_dict(), tmp_path / "model.safetensors")
    other = operator(tgrad)
    other.load_state_dict(tgrad.load(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(other(x).detach().numpy(), want)
    twin = copy.deepcopy(ours)
    with tgrad.no_grad():
        ours.spectral.low.mul_(2)
    np.testing.assert_array_equal(twin(x).detach().numpy(), want)
    assert not np.allclose(ours(x).detach().numpy(), want)


def test_parameters_are_complex_to_the_module_and_pairs_to_the_optimizer() -> None:
    ours, _ = twins()
    w = ours.spectral.low
    assert w.is_complex() and w.requires_grad and w.is_leaf and w.grad is None
    ours(tgrad.tensor(batch(0)[0])).sum().backward()
    pairs = dict(ours.named_parameters())["spectral.low"]
    assert pairs.shape == (4, 4, 3, 3, 2) and w.grad.shape == (4, 4, 3, 3)
    np.testing.assert_array_equal(tgrad.view_as_real(w.grad).numpy(), pairs.grad.numpy())
    ours.spectral.low.requires_grad_(False)
    assert not pairs.requires_grad and not ours.spectral.low.requires_grad
    assert ours.spectral.low.requires_grad_().requires_grad and pairs.requires_grad
    np.testing.assert_array_equal(ours.spectral.low.detach().numpy(), w.detach().numpy())
    assert ours.spectral.phase.is_complex() and "spectral.phase" in ours.state_dict()


def test_tensors_that_a_step_reaches_and_is_given() -> None:
    held = {"z": tgrad.tensor([1 + 1j, 2j])}
    seen = tgrad.view_as_complex(tgrad.tensor([[0.0, 1.0], [3.0, 0.0]]))

    @tgrad.compile
    def step(z: Any, scale: complex) -> Any:
        held["z"].add_(z)
        return {"made": z * scale * seen, "spectrum": tgrad.fft.fft(seen)}

    for number in (1.0, 2.0):
        z = tgrad.tensor([1j, number])
        made = step(z, 2j)
        np.testing.assert_allclose(made["made"].numpy(), z.numpy() * 2j * seen.numpy())
        np.testing.assert_allclose(made["spectrum"].numpy(), np.fft.fft(seen.numpy()))
    assert held["z"].tolist() == [1 + 3j, 3 + 2j] and step.traces == 1


def test_gradients_by_function() -> None:
    values = np.array([1 + 2j, 3 - 1j]), np.array([0.5 + 0j, 1j])

    def run(library: Any) -> list[np.ndarray]:
        z, w = (library.tensor(v, requires_grad=True) for v in values)
        y = library.fft.fft(z * w)
        weight = library.tensor(np.array([1 - 1j, 2j]))
        (gz, gw) = library.autograd.grad(y, [z, w], weight, create_graph=True)
        (again,) = library.autograd.grad((gz.abs() ** 2).sum(), w)
        pairs = library.tensor(np.ones((2, 2)), requires_grad=True)
        inner = library.view_as_complex(pairs * 2)
        (g,) = library.autograd.grad((library.fft.fft(inner).abs() ** 2).sum(), inner)
        return [t.detach().resolve_conj().numpy() for t in (gz, gw, again, g)]

    for have, want in zip(run(tgrad), run(torch)):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)
    z = tgrad.tensor([1j], requires_grad=True)
    with pytest.raises(GradientError, match="the gradient of a complex output"):
        tgrad.autograd.grad(z * 2, z)
    with pytest.raises(GradientError, match=r"an input of shape \(1,\) was not used"):
        tgrad.autograd.grad(tgrad.ones(1, requires_grad=True).sum(), z)
    one = tgrad.ones(1, requires_grad=True)
    assert tgrad.autograd.grad(one.sum(), z, allow_unused=True) == (None,)
