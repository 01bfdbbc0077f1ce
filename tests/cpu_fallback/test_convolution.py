"""Convolutions of random shapes in C against PyTorch, forward and backward.

Sizes are such that all ways to compute one are taken: patches, pixels and weights; register tiles
at the left, at the right and across the image.
"""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F

torch = pytest.importorskip("torch")

NAMED = [
    # image, weight, stride, padding, dilation
    pytest.param((1, 16, 11, 5), (48, 16, 5, 5), 2, 2, 1, id="rows of the image in a tile"),
    pytest.param((2, 32, 9, 3), (32, 32, 3, 3), 1, 2, 1, id="less than a tile across"),
    pytest.param((2, 8, 6, 40), (16, 8, 5, 5), 1, 5, 1, id="all of a column outside"),
]


def compare(
    image: tuple[int, ...],
    weight: tuple[int, ...],
    stride: object,
    padding: object,
    dilation: object,
) -> None:
    rng = np.random.default_rng(sum(image) + sum(weight))
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (image, weight)]
    ours = [tgrad.tensor(a, device="cpu", requires_grad=True) for a in arrays]
    theirs = [torch.from_numpy(a).double().requires_grad_() for a in arrays]
    y = F.conv2d(*ours, None, stride, padding, dilation)
    want = torch.nn.functional.conv2d(*theirs, None, stride, padding, dilation)
    slope = rng.standard_normal(y.shape).astype(np.float32)
    (y * tgrad.tensor(slope, device="cpu")).sum().backward()
    (want * torch.from_numpy(slope)).sum().backward()
    pairs = [(y, want), *((a.grad, b.grad) for a, b in zip(ours, theirs))]
    for have, exact in pairs:
        exact = exact.detach().numpy()
        np.testing.assert_allclose(have.numpy(), exact, rtol=0, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize("image, weight, stride, padding, dilation", NAMED)
def test_named(image, weight, stride, padding, dilation) -> None:
    compare(image, weight, stride, padding, dilation)


@pytest.mark.parametrize("seed", range(12))
def test_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, out = int(rng.choice([4, 8, 16, 20, 32])), int(rng.choice([8, 16, 24, 32, 48]))
    window = rng.integers(1, 6, 2)
    stride, padding = rng.integers(1, 3, 2), [int(rng.integers(0, n + 1)) for n in window]
    dilation = (int(rng.integers(1, 3)), 1)
    sizes = [int(rng.integers(9, 34)) for _ in range(2)]
    compare(
        (int(rng.integers(1, 5)), channels, *sizes),
        (out, channels, *map(int, window)),
        tuple(map(int, stride)),
        tuple(padding),
        dilation,
    )


@pytest.mark.parametrize("size, taps", [((6, 8, 13, 13), 3), ((4, 16, 20, 20), 5)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 0, 1, 3)])
def test_results_in_another_order(size: tuple[int, ...], taps: int, order: tuple[int, ...]) -> None:
    """Channels apart or side by side in memory, with a second operand after the sum."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(size, np.float32)
    w = rng.standard_normal((32, size[1], taps, taps), np.float32)
    z = rng.standard_normal((size[0], 32, *[n - taps + 1 for n in size[2:]]), np.float32)
    y = tgrad.tensor(z, device="cpu")
    have = F.relu(F.conv2d(tgrad.tensor(x, device="cpu"), tgrad.tensor(w, device="cpu")) + y)
    wide = [torch.tensor(a, dtype=torch.float64) for a in (x, w, z)]
    want = torch.relu(torch.nn.functional.conv2d(wide[0], wide[1]) + wide[2])
    np.testing.assert_allclose(
        have.permute(*order).contiguous().numpy(), want.permute(*order).numpy(), atol=2e-4
    )
