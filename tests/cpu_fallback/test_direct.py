"""Convolutions of few channels, whose windows are read where the image lies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.cpu_fallback.cases import call, compare, convolution, random_slots
from tgrad import cpu_fallback
from tgrad.fusion.evaluate import evaluate_region
from tgrad.settings import Settings

WIDE = dataclasses.replace(cpu_fallback.detect_machine(), vector_bytes=64, vector_registers=32)
"""The machine with registers of 64 bytes; a compiler makes these of what there is."""


@pytest.mark.parametrize(
    "n, c, o, h, k, pad, is_direct",
    [
        pytest.param(4, 1, 32, 28, 5, 0, True, id="tiles of two rows"),
        pytest.param(3, 1, 8, 34, 3, 0, True, id="registers of one row"),
        pytest.param(3, 2, 9, 21, 3, 0, True, id="parts of tiles and of channels"),
        pytest.param(1, 3, 5, 40, 2, 0, True, id="even window"),
        pytest.param(2, 3, 16, 32, 3, 1, True, id="padded"),
        pytest.param(2, 1, 6, 33, 5, 2, True, id="padded, odd"),
        pytest.param(3, 1, 8, 16, 3, 1, True, id="padded, registers of one row"),
        pytest.param(1, 2, 8, 48, 3, 1, True, id="padded, tiles of one row"),
        pytest.param(1, 1, 3, 80, 3, 0, True, id="long rows"),
        pytest.param(2, 3, 7, 23, 6, 0, True, id="steps of k in a loop"),
        pytest.param(2, 1, 8, 17, 3, 0, False, id="short rows"),
        pytest.param(1, 3, 200, 20, 3, 1, False, id="padded, many channels"),
        pytest.param(2, 40, 8, 22, 2, 0, False, id="many steps of k"),
    ],
)
def test_windows_of_few_channels(
    settings: Settings, n: int, c: int, o: int, h: int, k: int, pad: int, is_direct: bool
) -> None:
    region = convolution("forward", n, c, o, h, k, pad)
    [draft] = cpu_fallback.draft([region], machine=WIDE)
    assert ("float tile[" in draft.source) == is_direct
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    given = random_slots(region)
    have = call(artifact.entry, given)
    compare(have[2], evaluate_region(region, given)[2], 1e-5, draft.source)


@pytest.mark.parametrize("h, k, pad", [(28, 5, 0), (26, 3, 0), (32, 3, 1), (47, 3, 1)])
def test_what_follows_the_sums(h: int, k: int, pad: int) -> None:
    """A bias of channels, a residual, two results, one of them with channels last."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(h)
    n, c, o, s = 3, 2, 20, h + 2 * pad - k + 1
    shapes = [(n, c, h, h), (o, c, k, k), (o,), (n, o, s, s)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    @tgrad.compile
    def run(x, w, b, r):
        y = F.conv2d(x, w, b, padding=pad)
        return F.gelu(y) + r, F.relu(y).permute(0, 2, 3, 1).contiguous()

    have = run(*(tgrad.tensor(a, device="cpu") for a in arrays))
    x, w, b, r = (torch.from_numpy(a).double() for a in arrays)
    y = torch.nn.functional.conv2d(x, w, b, padding=pad)
    want = torch.nn.functional.gelu(y) + r, torch.relu(y).permute(0, 2, 3, 1)
    for a, exact in zip(have, want):
        np.testing.assert_allclose(a.numpy(), exact.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_windows(value: float) -> None:
    x = np.ones((1, 1, 30, 30), np.float32)
    x[0, 0, 11, 13] = value
    w = np.ones((4, 1, 3, 3), np.float32)
    have = F.conv2d(*(tgrad.tensor(a, device="cpu") for a in (x, w))).numpy()
    want = np.full((1, 4, 28, 28), 9.0, np.float32)
    want[:, :, 9:12, 11:14] = value
    np.testing.assert_array_equal(have, want)
