"""Gradients of convolutions' weights: what is the same in a tile is no tile."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.triton_gen import compile_for

pytest.importorskip("triton")


def gradient_of_weight(channels: int, target: str = "sm_90") -> tuple[str, object]:
    """Source and region of the product of a 3x3 window's gradient, in bfloat16; images come from
    another convolution, so that they lie with channels last."""
    with planning(target), record_plans() as plans:
        x = tgrad.zeros(8, 16, 56, 56, dtype=tgrad.bfloat16).realize()
        first = tgrad.zeros(channels, 16, 1, 1, dtype=tgrad.bfloat16).realize()
        w = tgrad.zeros(64, channels, 3, 3, dtype=tgrad.bfloat16).realize().requires_grad_()
        F.conv2d(F.conv2d(x, first).relu(), w, padding=1).square().sum().backward()
        assert w.grad is not None
        w.grad.realize()
        kernels = [k for plan in plans for k in plan.kernels if k.region.space.kind == "dot"]
    return kernels[-1].source, kernels[-1].region


@pytest.mark.parametrize("channels", [64, 128, 256])
def test_masks_of_a_window_are_of_rows(channels: int) -> None:
    """A tile of columns lies at one place of the window, so that masks differ along pixels alone;
    element by element they took longer than the products."""
    source, region = gradient_of_weight(channels)
    (mask,) = re.findall(r"mask=(.+?), other", source)
    text = mask
    if mask.endswith("_ok"):
        (text,) = re.findall(rf"{mask} = (.+)", source)
    assert "n0 //" in text and text.count("[:, None]") + text.count("[None, :]") == 1, text
    (artifact,) = compile_for([region], "sm_90", settings)  # type: ignore[list-item]
    assert artifact.figures.spills == 0 and artifact.figures.async_copies
    assert (artifact.figures.matrix_instruction or "").startswith("wgmma")


def test_masks_of_what_is_not_loaded_know_where_a_tile_begins() -> None:
    """A padded constant: nothing but the mask asks for the row of a tile."""
    with planning("sm_90"), record_plans() as plans:
        x = tgrad.zeros(66, 4096).realize()
        (F.pad(tgrad.ones(64, 4096), (0, 0, 1, 1)) + x).realize()
    kernel = plans[-1].kernels[-1]
    assert "x0 = " in kernel.source and "(x0 // 4096) - 1 >= 0" in kernel.source
    (artifact,) = compile_for([kernel.region], "sm_90", settings)
    assert artifact.figures.widest_load == 128


@pytest.mark.parametrize(("channels", "size"), [(64, 6), (128, 5), (40, 7)])
def test_gradients_in_the_interpreter(channels: int, size: int) -> None:
    random = np.random.default_rng(channels)
    x = random.standard_normal((2, channels, size, size), dtype=np.float32)
    w = random.standard_normal((16, channels, 3, 3), dtype=np.float32)

    def gradients(device: str) -> list[np.ndarray]:
        inputs = [tgrad.tensor(a, device=device).requires_grad_() for a in (x, w)]
        F.conv2d(*inputs, padding=1).sin().sum().backward()
        return [t.grad.numpy() for t in inputs if t.grad is not None]

    for got, want in zip(gradients("interpret"), gradients("numpy"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
