"""Transforms of frames against PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad.errors import TgradError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about windows

FRAMES = [(8, None, None), (9, 2, None), (16, 3, 11), (7, 4, 6)]
WINDOWS = ["none", "real", "pairs"]
REAL = {"return_complex": True}


def window_of(kind, length):
    if kind == "none":
        return None
    rng = np.random.default_rng(7)
    return rng.uniform(0.2, 1, length) if kind == "real" else rng.normal(size=(length, 2))


def leaves(array):
    """Leaves, pairs or real, of both libraries, and what the functions take of them."""
    if array is None:
        return None, None, None, None
    ours = tgrad.tensor(array, device="numpy", requires_grad=True)
    theirs = torch.tensor(array, requires_grad=True)
    if array.shape[-1] != 2:
        return ours, theirs, ours, theirs
    return ours, theirs, tgrad.view_as_complex(ours), torch.view_as_complex(theirs)


def as_real(t, library=torch):
    return library.view_as_real(t.resolve_conj()) if t.is_complex() else t


def assert_same(have, want, pairs):
    """Values, and gradients of the leaves (ours, theirs)."""
    have, want = as_real(have, tgrad), as_real(want)
    assert have.shape == tuple(want.shape) and have.dtype is tgrad.float64
    np.testing.assert_allclose(have.numpy(), want.detach(), rtol=0, atol=1e-11)
    weight = np.random.default_rng(3).normal(size=tuple(want.shape))
    (have * tgrad.tensor(weight, device="numpy")).sum().backward()
    (want * torch.tensor(weight)).sum().backward()
    for ours, theirs in pairs:
        if ours is not None:
            scale = max(1.0, float(theirs.grad.abs().max()))
            np.testing.assert_allclose(ours.grad.numpy(), theirs.grad, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("kind", WINDOWS)
def test_stft(frames, kind):
    n_fft, hop, win = frames
    choices = itertools.product(
        [(True, p) for p in ("reflect", "constant", "replicate", "circular")]
        + [(False, None), (False, True)],
        [False, True],
        [None, False] if kind == "pairs" else [None, True, False],
        [(37,), (1, 37), (3, 37), (37, 2), (3, 37, 2)],
        [True, False],
    )
    for choice in itertools.islice(choices, 0, None, 7):
        (center, how), normalized, onesided, shape, returns = choice
        if onesided and shape[-1] == 2:
            continue
        x, x_, signal, signal_ = leaves(np.random.default_rng(0).normal(size=shape))
        w, w_, window, window_ = leaves(window_of(kind, win or n_fft))
        options = {"pad_mode": how} if center else {"align_to_window": how}
        options |= {"normalized": normalized, "onesided": onesided, "return_complex": returns}
        have = signal.stft(n_fft, hop, win, window, center, **options)
        want = torch.stft(signal_, n_fft, hop, win, window_, center, **options)
        assert_same(have, want, [(x, x_), (w, w_)])


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("kind", WINDOWS)
def test_istft(frames, kind):
    """And both refuse the same."""
    n_fft, hop, win = frames
    choices = itertools.product(
        [True, False],
        [False, True],
        [None, True, False],
        [(), (3,)],
        [None, 1, 20, 33, 60],
        [False, True],
    )
    done = 0
    for choice in itertools.islice(choices, 0, None, 7):
        center, normalized, onesided, lead, length, return_complex = choice
        rows = n_fft if onesided is False or (return_complex and done % 2) else n_fft // 2 + 1
        z, z_, given, given_ = leaves(np.random.default_rng(1).normal(size=(*lead, rows, 9, 2)))
        w, w_, window, window_ = leaves(window_of(kind, win or n_fft))
        options = center, normalized, onesided, length, return_complex
        try:
            want = torch.istft(given_, n_fft, hop, win, window_, *options)
        except RuntimeError:
            with pytest.raises(TgradError):
                tgrad.istft(given, n_fft, hop, win, window, *options)
            continue
        have = given.istft(n_fft, hop, win, window, *options)
        assert_same(have, want, [(z, z_), (w, w_)])
        done += 1
    assert done


def test_signals_come_back(device):
    x, window = normal(0, 2, 200), tgrad.hann_window(32, device=device)
    z = tgrad.stft(tgrad.tensor(x, device=device), 32, 8, window=window, return_complex=True)
    want = torch.stft(torch.tensor(x), 32, 8, window=torch.hann_window(32), return_complex=True)
    np.testing.assert_allclose(z.numpy(), want, atol=1e-5)
    back = tgrad.istft(z, 32, 8, window=window, length=200)
    np.testing.assert_allclose(back.numpy(), x, atol=1e-5)


def test_compiled_with_gradients():
    window = tgrad.hann_window(16)

    @tgrad.compile
    def loss_of(x):
        z = tgrad.stft(x, 16, 4, window=window, return_complex=True)
        loss = (tgrad.istft(z * 0.5, 16, 4, window=window) ** 2).sum()
        return loss, *tgrad.autograd.grad(loss, x)

    for seed in range(2):
        x = normal(seed, 2, 64)
        have = loss_of(tgrad.tensor(x, requires_grad=True))
        np.testing.assert_allclose(have[0].item(), (x * 0.5).__pow__(2).sum(), rtol=1e-5)
        np.testing.assert_allclose(have[1].numpy(), x * 0.5, atol=1e-5)
    assert loss_of.traces == 1


def test_pytorch_s_function_takes_tensors_of_tgrad():
    x = normal(0, 40)
    have = torch.stft(tgrad.tensor(x), 8, return_complex=True)
    want = torch.stft(torch.tensor(x), 8, return_complex=True)
    np.testing.assert_allclose(have.numpy(), want, atol=1e-5)


def test_undetermined_samples_are_not_numbers():
    z = tgrad.ones(5, 4, dtype=tgrad.complex64)
    have = tgrad.istft(z, 8, 2, window=tgrad.hann_window(8), center=False).numpy()
    assert np.isnan(have[0]) and np.isfinite(have[2:-2]).all()


def test_no_signals_and_both_dtypes():
    assert tgrad.stft(tgrad.ones(0, 40), 8, return_complex=True).shape == (0, 5, 21)
    x, window = tgrad.ones(40), tgrad.ones(8, dtype=tgrad.float64)
    assert tgrad.stft(x, 8, window=window, return_complex=True).dtype is tgrad.complex128


@pytest.mark.parametrize("size", [(100, 40, 7), (100, 34, 33), (257, 64, 16), (41, 40, 3)])
def test_gradients_of_long_windows(size):
    """What frames add up to."""
    n, length, step = size
    x, x_, *_ = leaves(np.random.default_rng(0).normal(size=(2, n, 3)))
    assert_same(x.unfold(1, length, step), x_.unfold(1, length, step), [(x, x_)])


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda x, z: x.stft(80, **REAL), "pad by 40 and 40 of an axis of size 40"),
        (
            lambda x, z: x.stft(50, center=False, **REAL),
            "stft of 40 samples with frames of n_fft=50.",
        ),
        (lambda x, z: x.stft(0), "stft: n_fft=0. Give at least 1."),
        (lambda x, z: x.stft(3), "stft: hop_length=0. Give at least 1."),
        (lambda x, z: x.stft(8, win_length=9), "stft: win_length=9. Give 1 to n_fft=8."),
        (lambda x, z: x.stft(8, window=tgrad.ones(7)), "window of shape (7,), win_length=8."),
        (lambda x, z: x.int().stft(8), "stft of int32. Use float32 or float64."),
        (lambda x, z: z.unsqueeze(0).stft(8), "stft of shape (1, 5, 4). The shape is (length) or"),
        (lambda x, z: x.stft(8), "stft without return_complex. Say True or False."),
        (lambda x, z: x.stft(8, pad_mode="x", **REAL), "stft: pad_mode='x'. Use \"constant\","),
        (
            lambda x, z: x.stft(8, align_to_window=True, **REAL),
            "align_to_window=True with center=True.",
        ),
        (lambda x, z: x.istft(8), "istft of float32. Give complex values."),
        (lambda x, z: z.istft(11), "istft of 5 frequencies with n_fft=11, onesided=True. Give 6."),
        (lambda x, z: z.istft(8, 9), "istft: hop_length=9. Give 1 to 8."),
        (lambda x, z: z.istft(8, return_complex=True), "return_complex=True with onesided=True."),
        (lambda x, z: z.istft(8, 2, 4, center=False), "leave samples at the ends undetermined."),
        (lambda x, z: z.istft(8, length=0), "no samples are left."),
        (lambda x, z: z[:, :0].istft(8), "istft of shape (5, 0)."),
    ],
)
def test_mistakes(make, what):
    with pytest.raises(TgradError) as caught:
        make(tgrad.ones(40), tgrad.ones(5, 4, dtype=tgrad.complex64))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    said = " ".join(line for line in lines if not line.startswith("at "))
    assert what in said, said


def test_what_excludes_each_other():
    window = tgrad.ones(8, dtype=tgrad.complex64)
    with pytest.raises(UnsupportedError, match="onesided=True of complex values"):
        tgrad.stft(tgrad.ones(40), 8, window=window, onesided=True)
    with pytest.raises(UnsupportedError, match="return_complex=False with a complex window"):
        tgrad.istft(tgrad.ones(8, 4, dtype=tgrad.complex64), 8, window=window)
