"""What windows, shifts, repeats and lookups read is computed once where that is cheaper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.fusion.device_limits import CPU_LIMITS, GPU_LIMITS, Limits
from tgrad.tensor import Tensor, tensor

rng = np.random.default_rng(11)
Function = Callable[[Tensor], Tensor]


def draw(*shape: int) -> Tensor:
    return tensor(rng.standard_normal(shape).astype(np.float32))


def shifts(y: Tensor, count: int) -> Tensor:
    width = y.shape[-1] - count + 1
    return sum((y[:, n : n + width] for n in range(1, count)), y[:, :width])


PLACES = tensor(rng.integers(0, 80, 400))
EXPONENTIALS: dict[str, tuple[Function, int, int]] = {
    "shifts": (lambda x: shifts(x.exp(), 3), 2, 1),
    "many shifts": (lambda x: shifts(x.exp(), 12), 2, 2),
    "shifts of sums": (lambda x: shifts(x + 1, 12), 1, 1),
    "one part": (lambda x: x.exp()[:, 3:] + 1, 1, 1),
    "windows": (lambda x: x.exp().unfold(1, 9, 1).sum(2), 2, 1),
    "apart": (lambda x: x.exp().unfold(1, 8, 8).sum(2), 1, 1),
    "repeats": (lambda x: x.exp().repeat(4, 1) * 2, 2, 1),
    "of rows": (lambda x: (x - x.logsumexp(0)).exp(), 1, 1),
    "all rows, and more": (lambda x: x.exp()[PLACES], 2, 1),
    "few rows": (lambda x: x.exp()[PLACES[:10]], 1, 1),
    "pairs": (lambda x: (x.exp()[:, None] - x.exp()[None]).abs().sum(2), 2, 2),
    "shifts of softmax": (lambda x: shifts(x.softmax(1), 2), 2, 2),
}


@pytest.mark.parametrize("limits", [CPU_LIMITS, GPU_LIMITS], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", EXPONENTIALS)
def test_exponentials(name: str, limits: Limits) -> None:
    function, *kernels = EXPONENTIALS[name]
    assert len(cut([function(draw(80, 96))], limits)) == kernels[limits is GPU_LIMITS]


def test_planes_of_windows_compute_an_element_once() -> None:
    """So C needs no second kernel where the window has two directions."""
    x, w = draw(2, 4, 32, 32), draw(4, 1, 3, 3)
    assert len(cut([F.conv2d(x.exp(), w, padding=1, groups=4)])) == 1
    assert len(cut([F.avg_pool2d(x.exp(), 3, 1)])) == 1
    assert len(cut([F.conv2d(x.exp(), w, stride=(7, 5), groups=4)])) == 1  # few are read at all


RANDOM: dict[str, Function] = {
    "product": lambda x: x @ draw(128, 400),
    "product with itself": lambda x: x @ x.t(),
    "convolution": lambda x: F.conv2d(x.reshape(1, 2, 64, 64), draw(4, 2, 3, 3)),
    "shifts": lambda x: shifts(x, 3),
    "repeats": lambda x: x.repeat(4, 1),
    "pools": lambda x: F.avg_pool2d(x.reshape(1, 2, 64, 64), 3, 1),
}


@pytest.mark.parametrize("limits", [CPU_LIMITS, GPU_LIMITS], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_drawn_once(name: str, limits: Limits) -> None:
    kernels = cut([RANDOM[name](tgrad.rand(64, 128))], limits)
    assert len(kernels) == 2
    assert any("computed again" in r or "compute" in r for k in kernels for r in k.reasons)
