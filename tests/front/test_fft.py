"""Fourier transforms against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import fft
from tgrad.errors import TgradError
from tgrad.fft.stages import radices

COMPLEX = ["fft", "ifft", "fft2", "ifft2", "fftn", "ifftn"]
FROM_REAL = ["rfft", "ihfft", "rfft2", "ihfft2", "rfftn", "ihfftn"]
TO_REAL = ["irfft", "hfft", "irfft2", "hfft2", "irfftn", "hfftn"]
KINDS = {"FROM": FROM_REAL, "TO_": TO_REAL, "": COMPLEX}

ONE_AXIS = [
    {"shape": (3, 8)},
    {"shape": (2, 5), "n": 9},
    {"shape": (2, 9), "n": 4, "norm": "ortho"},
    {"shape": (4, 15, 3), "dim": 1, "norm": "forward"},
    {"shape": (7,), "n": 1, "dim": 0, "norm": "backward"},
    {"shape": (6, 2), "dim": -2, "n": 30, "norm": "ortho"},
]
AXES = [
    {"shape": (4, 6)},
    {"shape": (3, 5, 4), "norm": "ortho"},
    {"shape": (3, 5, 4), "s": (7, 2), "dim": (0, -1), "norm": "forward"},
    {"shape": (2, 6, 3), "s": (-1, 8), "dim": (-1, 1)},
]


def cases(name):
    return ONE_AXIS if name.endswith("fft") else AXES


def leaves(name, shape):
    """Pairs, or real values, and what the transforms take of them, for both libraries."""
    values = normal(1, *shape) if name in FROM_REAL else normal(1, *shape, 2)
    ours = tgrad.tensor(values, device="numpy", requires_grad=True)
    theirs = torch.tensor(values, requires_grad=True)
    if name in FROM_REAL:
        return ours, theirs, ours, theirs
    return ours, theirs, tgrad.view_as_complex(ours), torch.view_as_complex(theirs)


def as_real(t, library=torch):
    return library.view_as_real(t) if t.is_complex() else t


def complex_of(pairs, **options):
    return tgrad.view_as_complex(tgrad.tensor(pairs, **options))


def check(name, settings, tolerance=1e-5):
    shape, options = settings["shape"], {k: v for k, v in settings.items() if k != "shape"}
    ours, theirs, given, their_given = leaves(name, shape)
    want = as_real(getattr(torch.fft, name)(their_given, **options).resolve_conj())
    have = as_real(getattr(fft, name)(given, **options), tgrad)
    assert have.shape == tuple(want.shape) and have.dtype is tgrad.float32
    scale = max(1.0, float(want.detach().abs().max()) if want.numel() else 1.0)
    np.testing.assert_allclose(have.numpy(), want.detach(), rtol=0, atol=tolerance * scale)
    weight = normal(2, *want.shape)
    (want * torch.tensor(weight)).sum().backward()
    (have * tgrad.tensor(weight, device="numpy")).sum().backward()
    scale = max(1.0, float(theirs.grad.abs().max()) if theirs.numel() else 1.0)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", COMPLEX + FROM_REAL + TO_REAL)
def test_values_and_gradients(name):
    for settings in cases(name):
        check(name, settings)


@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 97, 101, 127, 131, 262, 360, 509, 720, 1024])
def test_lengths(n):
    """Powers, products of small primes, primes, and primes that are a convolution with a chirp."""
    for name in ("fft", "ifft", "rfft", "irfft", "hfft"):
        check(name, {"shape": (2, n if name not in TO_REAL else n // 2 + 1), "n": n})


@pytest.mark.parametrize("n", [2**16, 2**16 - 1, 65537, 3**10])
def test_long_rows(n):
    """Within three times PyTorch's error, and with no matrix of n by n."""
    z = normal(3, n, 2)
    right = np.fft.fft(z[..., 0].astype(np.float64) + 1j * z[..., 1])
    have = fft.fft(complex_of(z, device="cpu"))
    theirs = torch.fft.fft(torch.view_as_complex(torch.tensor(z))).numpy()
    errors = [np.abs(x - right).max() for x in (have.numpy(), theirs)]
    assert errors[0] <= 3 * errors[1], errors
    again = fft.fft(complex_of(z, device="cpu"))
    assert tgrad.explain(again.real, again.imag).peak_bytes < 100 * n * 8


def test_devices(device):
    for n in (48, 131):
        z = normal(4, 3, n, 2)
        want = torch.fft.fft(torch.view_as_complex(torch.tensor(z)))
        have = fft.fft(complex_of(z, device=device))
        np.testing.assert_allclose(have.numpy(), want, atol=1e-4)
        back = fft.irfft(fft.rfft(tgrad.tensor(z[..., 0].copy(), device=device)), n)
        np.testing.assert_allclose(back.numpy(), z[..., 0], atol=1e-5)


@pytest.mark.parametrize("name", COMPLEX + FROM_REAL + TO_REAL)
def test_no_rows(name):
    """Where PyTorch's library fails."""
    dtype = tgrad.float32 if name in FROM_REAL else tgrad.complex64
    x = tgrad.zeros(0, 3, 4, dtype=dtype, requires_grad=True)
    have = getattr(fft, name)(x, norm="ortho", dim=(1, 2) if name[-1] != "t" else 2)
    length = {"FROM": 3, "TO_": 6, "": 4}[next(k for k, v in KINDS.items() if name in v)]
    assert have.shape == (0, 3, length)
    have.real.sum().backward() if have.is_complex() else have.sum().backward()
    assert x.grad.shape == x.shape


def test_float64_and_integers():
    z = np.random.default_rng(0).standard_normal((5, 36, 2))
    have = fft.fft(complex_of(z, device="numpy"))
    assert have.dtype is tgrad.complex128
    np.testing.assert_allclose(have.numpy(), np.fft.fft(z @ [1, 1j]), atol=1e-12)
    whole = fft.rfft(tgrad.arange(6, device="numpy"))
    np.testing.assert_allclose(whole.numpy(), np.fft.rfft(np.arange(6)), atol=1e-5)
    real = fft.fft(tgrad.arange(6.0, device="numpy"))
    np.testing.assert_allclose(real.numpy(), np.fft.fft(np.arange(6)), atol=1e-5)


def test_a_stage_is_a_kernel():
    """4096 values are two products; the factors between them are in the second one's prologue."""
    made = fft.fft(tgrad.view_as_complex(tgrad.zeros(16, 4096, 2).realize()))
    plan = tgrad.explain(made.pairs())
    assert radices(4096) == (64, 64)
    assert plan.launches == 2


def test_compiled():
    @tgrad.compile
    def filtered(x):
        z = fft.rfft(x)
        return fft.irfft(z * (fft.rfftfreq(30) < 0.2), 30)

    fft.irfft(fft.rfft(tgrad.zeros(4, 30)), 30).realize()  # the tables are there before the trace
    for seed in range(3):
        x = normal(seed, 4, 30)
        spectrum = np.fft.rfft(x) * (np.fft.rfftfreq(30) < 0.2)
        have = filtered(tgrad.tensor(x)).numpy()
        np.testing.assert_allclose(have, np.fft.irfft(spectrum, 30), atol=1e-5)
    assert filtered.traces == 1


@pytest.mark.parametrize("n", [1, 4, 7])
def test_frequencies_and_shifts(n):
    for name in ("fftfreq", "rfftfreq"):
        have = getattr(fft, name)(n, 0.5)
        np.testing.assert_allclose(have.numpy(), getattr(torch.fft, name)(n, 0.5), rtol=1e-6)
    x = normal(5, n, 3)
    for name in ("fftshift", "ifftshift"):
        for dim in (None, 0, (1,), (0, -1)):
            have = getattr(fft, name)(tgrad.tensor(x), dim)
            np.testing.assert_array_equal(
                have.numpy(), getattr(torch.fft, name)(torch.tensor(x), dim)
            )


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: fft.rfft(tgrad.ones(3) * 1j), "rfft of complex64. Give a real tensor."),
        (lambda: fft.fft(tgrad.ones(3, 2).half()), "fft of float16. Use float32 or float64."),
        (lambda: fft.rfft(tgrad.ones(3), norm="x"), "rfft: norm='x'."),
        (lambda: fft.rfft(tgrad.ones(3), n=0), "rfft of length 0. Give at least one element."),
        (lambda: fft.fft(tgrad.ones(3), dim=1), "fft: dim=1 of 1 axes. Count from 0"),
        (lambda: fft.fftn(tgrad.ones(3, 3), dim=(0, 0)), "one length for each of distinct axes"),
        (lambda: fft.irfft(tgrad.ones(1)), "irfft of length 0."),
    ],
)
def test_mistakes(make, what):
    with pytest.raises(TgradError) as caught:
        make()
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert what in " ".join(line for line in lines if not line.startswith("at "))
