"""`torch.compile` with tgrad of models that compute with complex numbers, against PyTorch: results,
gradients, and later calls, which run on the memory of torch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
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


def products(x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (
        z.prod(0), z.prod(1, keepdim=True), z[:, :3].prod(), z.cumprod(1),
        torch.addmm(z, z * 0.1, z, beta=2j, alpha=0.5), torch.add(x, z, alpha=1j),
        torch.linalg.inv(z + 5 * torch.eye(4)), torch.matrix_exp(z / 4), z.var(0), z.std(),
        torch.dist(z, z * 2j, 1), z**2.5, z ** (1 + 1j), 2**z, z**-3, z ** (x * 0.5), z**0.5,
    )  # fmt: skip


def moves(x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
    index = torch.tensor([[0, 1, 1, 3]])
    return (
        torch.cat([z, x]), torch.block_diag(z, x), F.pad(z, (1, 1), value=2.0),
        F.pad(z[None], (1, 1), "replicate"), F.pad(z[None], (1, 1), "reflect"), z.gather(0, index),
        z.scatter_add(0, index, z[:1]), z.index_add(0, index[0], z), z.masked_scatter(x > 0, z * 2),
        z.take(index), z.put(index, z[:1]), z.masked_fill(x > 0, 1j), z.tril() + z.diagonal(),
        torch.full_like(x, 2j, dtype=torch.complex64) * z, z.diagonal_scatter(z[0]),
        torch.complex(x, x[0]), torch.nn.functional.linear(z, z, z[0]),
    )  # fmt: skip


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
    "products": (lambda: products, lambda: [real(4, 4), real(4, 4, dtype=torch.complex64)]),
    "moves": (lambda: moves, lambda: [real(4, 4), real(4, 4, dtype=torch.complex64)]),
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
    with pytest.raises(
        Exception, match=r"aten\._linalg_det\.default of complex numbers has no"
    ) as caught:
        torch.compile(lambda z: torch.linalg.det(z), backend="tgrad")(
            torch.ones(2, 2, dtype=torch.complex64)
        )
    assert isinstance(caught.value.inner_exception, UnsupportedError)


def test_sums_in_another_dtype() -> None:
    """Of more bits."""
    z = real(3, 4, dtype=torch.complex64).detach()
    run = torch.compile(lambda z: z.sum(0, dtype=torch.complex128), backend="tgrad")
    for _ in range(2):
        found, want = run(z), z.sum(0, dtype=torch.complex128)
        assert found.dtype is want.dtype
        torch.testing.assert_close(found, want)


ELEMENTWISE = (
    "acos", "acosh", "angle", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "exp2",
    "expm1",
    "log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sgn", "sigmoid", "sin", "sinh", "sqrt",
    "square", "tan", "tanh",
)  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions(name: str) -> None:
    """Within a few roundings of float64's, near their zeros, their branch cuts and far away too."""
    function = getattr(torch, name)
    ends = [0.0, 1.0, 1e-4, 1e-7, 0.5, 2.0, 30.0]
    grid = [complex(x * s, y * t) for x in ends for y in ends for s in (1, -1) for t in (1, -1)]
    z = torch.cat([torch.tensor(grid), torch.randn(500, dtype=torch.complex64) * 2])
    z = z.to(torch.complex64)
    found = torch.compile(lambda z: function(z), backend="tgrad", fullgraph=True)(z)
    want = function(z.to(torch.complex128))
    assert found.dtype is function(z).dtype
    is_known = want.isfinite() & (want.abs() < 1e38)
    bound = 4e-6 * want.abs()[is_known]
    assert ((found - want).abs()[is_known] <= bound).all()


def test_division() -> None:
    """By what is 0, and by what has a square out of range."""
    z = torch.tensor([1 + 2j, 0j, 3.0, 1e-30j, 1e30 + 1e30j])
    for other in (0j, 2e-30 + 1e-30j, 1e30j, z.flip(0), 1 + 3j):
        run = torch.compile(lambda z: z / other, backend="tgrad", fullgraph=True)  # noqa: B023
        torch.testing.assert_close(run(z), z / other, equal_nan=True)


def test_questions() -> None:
    """What is asked of numbers, and dtypes that are asked for."""

    def function(z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            z.any(0), z.all(), z.logical_not(), z.logical_and(z[0]), z.isnan(), z.isinf(),
            z.isfinite(), z.bool(), torch.zeros_like(z, dtype=torch.float32), z == z[0],
            torch.ones_like(z), torch.isclose(z, z + 1e-9), torch.nonzero_static(z, size=4),
        )  # fmt: skip

    z = torch.tensor([[0j, 1j, 2.0], [complex("nan"), complex(0, float("inf")), 0]])
    run = torch.compile(function, backend="tgrad", fullgraph=True)
    for mine, theirs in zip(run(z), function(z), strict=True):
        assert mine.dtype is theirs.dtype
        assert torch.equal(mine, theirs)
