"""`torch.compile` with tgrad of models that compute with complex numbers, against PyTorch: results,
gradients, and later calls, which run on the memory of torch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tgrad.errors import UnsupportedError

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


class Rotary(nn.Module):
    """Queries turned by a buffer of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(32, 32)
        angles = torch.outer(torch.arange(16.0), 100 ** -torch.arange(0, 1, 0.25))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = self.query(x).reshape(2, 16, 4, 4, 2)
        turned = torch.view_as_complex(pairs) * self.turns[None, :, None, :]
        return torch.view_as_real(turned).flatten(3).type_as(x)


class Fourier(nn.Module):
    """A layer of a Fourier neural operator: complex parameters, assignments to parts."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.randn(4, 6, 3, 3, dtype=torch.complex64))
        self.high = nn.Parameter(torch.randn(4, 6, 3, 3, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.fft.rfft2(x)
        made = found.new_zeros(x.shape[0], 6, *found.shape[2:])
        for rows, weight in ((slice(3), self.low), (slice(-3, None), self.high)):
            part = found[:, :, rows, :3]
            made[:, :, rows, :3] = torch.einsum("bixy,ioxy->boxy", part, weight)
        return torch.fft.irfft2(made, s=x.shape[-2:])


def spectrogram_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(32)
    a, b = (torch.stft(t, 32, 8, window=window, return_complex=True).abs() for t in (x, y))
    return (a - b).norm() / b.norm() + (a.clamp(min=1e-5).log() - b.clamp(min=1e-5).log()).mean()


def there_and_back(x: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(32)
    z = torch.stft(x, 32, 8, window=window, return_complex=True)
    return torch.istft(z * 0.5j, 32, 8, window=window, length=x.shape[-1])


def arithmetic(x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (
        (z * x + 1j * z.conj() / (2 + x)).sum(0),
        (z @ z.mT / 4).exp(),
        torch.where(x > 0, z, 0.0),
        torch.cat([z, z * 2]).abs() ** 2,
        z**3 - z.mean(),
        (z - x).reciprocal() + z / (z + 3j),
        z.real.t() @ z.imag,
        torch.complex(x, x * 2).log(),
        z.angle().cos() * z.sgn().real,
    )


def norms(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    names = ("backward", "ortho", "forward")
    forth = [torch.fft.fftn(x, norm=n) for n in names]
    return (
        *(torch.fft.ifftn(z, norm=n) for z in forth for n in names),
        *(torch.fft.irfftn(torch.fft.rfftn(x, norm=n), s=x.shape, norm=n) for n in names),
        torch.fft.hfft(torch.fft.ihfft(x)),
    )


def real(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, requires_grad=True)


CASES: dict[str, tuple[Callable[[], Function], Callable[[], Sequence[torch.Tensor]]]] = {
    "rotary": (Rotary, lambda: [real(2, 16, 32)]),
    "fourier": (Fourier, lambda: [real(2, 4, 12, 10)]),
    "spectrogram": (lambda: spectrogram_loss, lambda: [real(2, 128), real(2, 128)]),
    "there and back": (lambda: there_and_back, lambda: [real(2, 128)]),
    "arithmetic": (lambda: arithmetic, lambda: [real(4, 4), real(4, 4, dtype=torch.complex64)]),
    "double": (lambda: arithmetic, lambda: [real(4, 4, dtype=torch.float64),
                                            real(4, 4, dtype=torch.complex128)]),
    "norms": (lambda: norms, lambda: [real(3, 4, 6)]),
}  # fmt: skip


def results(function: Function, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What it gives, and gradients."""
    made = function(*inputs)
    made = made if isinstance(made, tuple) else (made,)
    weights = function.parameters() if isinstance(function, nn.Module) else ()
    loss = sum((t.abs() ** 2).sum() for t in made)
    return [*made, *torch.autograd.grad(loss, (*inputs, *weights))]


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients(name: str) -> None:
    make, inputs_of = CASES[name]
    function = make()
    run = torch.compile(function, backend="tgrad", fullgraph=True)
    for _ in range(3):
        inputs = inputs_of()
        own = [t.detach().clone().requires_grad_() for t in inputs]
        for mine, theirs in zip(results(run, own), results(function, inputs), strict=True):
            assert mine.dtype is theirs.dtype and mine.shape == theirs.shape
            scale = theirs.abs().max()
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=1e-4, atol=1e-4)


def test_what_is_conjugate_in_name_alone() -> None:
    """An argument whose memory is not conjugate yet, and memory that is not contiguous."""
    run = torch.compile(lambda z: z * 2 + 1, backend="tgrad")
    for z in (real(4, 3, dtype=torch.complex64).detach(),) * 2:
        for given in (z.conj(), z.mT, z[:, 1:].conj()):
            torch.testing.assert_close(run(given), given * 2 + 1)


def test_a_result_has_memory_of_its_own() -> None:
    run = torch.compile(lambda z: (z * 1j, z), backend="tgrad")
    z = torch.ones(3, dtype=torch.complex64)
    for _ in range(3):
        made, same = run(z)
        made += 5
        assert same.tolist() == z.tolist() == [1, 1, 1]


def test_what_has_no_counterpart_is_said() -> None:
    with pytest.raises(Exception, match=r"aten\.tan\.default of complex numbers has no") as caught:
        torch.compile(lambda z: z.tan(), backend="tgrad")(torch.ones(2, dtype=torch.complex64))
    assert isinstance(caught.value.inner_exception, UnsupportedError)


def test_sums_in_another_dtype() -> None:
    """Of more bits."""
    z = real(3, 4, dtype=torch.complex64).detach()
    run = torch.compile(lambda z: z.sum(0, dtype=torch.complex128), backend="tgrad")
    for _ in range(2):
        found, want = run(z), z.sum(0, dtype=torch.complex128)
        assert found.dtype is want.dtype
        torch.testing.assert_close(found, want)
