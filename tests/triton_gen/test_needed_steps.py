"""Loops that masks leave nothing to add in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.triton_gen.builder import run
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.kernel.lower import lower
from tgrad.kernel.printer import print_kernel
from tgrad.kernel.verify import verify_kernel
from tgrad.runtime.planning import planning
from tgrad.triton_gen import choose_config, target_by_name
from tgrad.triton_gen.needed_steps import with_needed_steps

pytest.importorskip("triton")


def gradients(device: str | None, batch: int, kernel: int) -> list[tgrad.Tensor]:
    """Of an image and of weights, through a convolution of stride 2."""
    random = np.random.default_rng(3)
    x, w = (
        tgrad.tensor(random.standard_normal(s).astype(np.float32), device=device)
        .to(tgrad.bfloat16 if device is None else tgrad.float32)
        .requires_grad_()
        for s in ((batch, 16, 8, 8), (96, 16, kernel, kernel))
    )
    out = F.conv2d(x, w, stride=2, padding=kernel // 2)
    g = random.standard_normal(out.shape).astype(np.float32)
    out.backward(tgrad.tensor(g, device=device).to(out.dtype))
    return [x.grad, w.grad]  # type: ignore[list-item]


def regions(kernel: int, stride: int, side: int, channels: int, images: int = 128) -> list[Region]:
    """Of the products of a step: the convolution and the gradients of its image and weights, images
    with channels last."""
    with planning("sm_90"):

        @tgrad.compile
        def step(x: tgrad.Tensor, w: tgrad.Tensor, g: tgrad.Tensor) -> list[tgrad.Tensor | None]:
            images, weights = (t.permute(0, 3, 1, 2).detach().requires_grad_() for t in (x, w))
            out = F.conv2d(images, weights, stride=stride, padding=kernel // 2)
            out.backward(g.permute(0, 3, 1, 2))
            assert images.grad is not None
            return [*(t.permute(0, 2, 3, 1) for t in (out, images.grad)), weights.grad]

        less = -(-side // stride)
        shapes = (
            (images, side, side, channels),
            (channels, kernel, kernel, channels),
            (images, less, less, channels),
        )
        step(*(tgrad.zeros(*s, dtype=tgrad.bfloat16) for s in shapes))
        found = [k for k in step.plans[-1].kernels if k.region.space.kind == "dot"]
    return [k.region for k in found]


def changed_lines(region: Region) -> tuple[list[str], list[str]]:
    """What the pass takes away and what it makes."""
    plain = lower(region, choose_config(region, SM_90))
    changed = with_needed_steps(plain)
    verify_kernel(changed)
    assert with_needed_steps(changed) == changed
    before, after = (print_kernel(k).splitlines() for k in (plain, changed))
    gone = [line.strip() for line in before if line not in after]
    return gone, [line.strip() for line in after if line not in before]


SM_90 = target_by_name("sm_90")


def as_listed(region: Region, config: Config) -> Config:
    """The configuration with tile axes that cover a region's axes in their order."""
    order = {a.name: n for n, a in enumerate(region.axes)}
    axes = (
        replace(a, covers=tuple(sorted(a.covers, key=lambda c: order[c.name]))) for a in config.axes
    )
    return replace(config, axes=tuple(axes))


@pytest.mark.devices("interpret")
@pytest.mark.parametrize("kernel, stride, side", [(3, 1, 3), (3, 2, 4), (1, 2, 4), (5, 1, 2)])
def test_tiles_of_one_pixel_have_the_same_sums(
    device: str, kernel: int, stride: int, side: int
) -> None:
    """Beside tiles of many pixels, whose loops have all steps."""
    if device not in ("interpret", "cuda"):
        pytest.skip("Triton's alone")
    orders = 0
    for region in regions(kernel, stride, side, 32, images=64):
        rng = np.random.default_rng(kernel)
        inputs = [
            rng.standard_normal(s.size).astype(np.float32).astype(s.dtype.numpy)
            for s in region.slots
            if s.role == "in"
        ]
        config = choose_config(region, SM_90)
        orders += config != as_listed(region, config)
        have = run(region, inputs, config, device)
        want = run(region, inputs, as_listed(region, config), device)
        for mine, other in zip(have, want, strict=True):
            other = other.astype(np.float32)
            np.testing.assert_allclose(
                mine.astype(np.float32), other, rtol=1e-2, atol=1e-2 * np.abs(other).max()
            )
    assert orders >= (1 if kernel == 1 else 2)


def test_pixels_that_get_nothing() -> None:
    """Of the image of a 1x1 convolution of stride 2, three in four."""
    image = regions(1, 2, 8, 256)[1]
    gone, made = changed_lines(image)
    assert "if 0 <= ((m // 2048) % 2) < 1 and 0 <= (m // 4096) < 1" in gone[-1]
    assert made[0] == "loop k if 0 <= ((m // 2048) % 2) < 1 and 0 <= (m // 4096) < 1:"
    assert " if " not in made[1] and len(made) == 2


def test_rows_of_a_window_beyond_the_edge() -> None:
    out = regions(3, 1, 8, 128)[0]
    gone, made = changed_lines(out)
    assert "0 <= ((k // 384) + (m // 1024) + -1) < 8" in gone[-1]
    assert made[0] == (
        "loop k from max(0, ((m // 1024)*-384 + 384)) to min(1152, ((m // 1024)*-384 + 3456)):"
    )
    assert " if 0 <= (" in made[1] and "k // 384" not in made[1].split(" if ")[1]


@pytest.mark.devices("interpret")
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_gradients_of_strided_convolutions(device: str, batch: int, kernel: int) -> None:
    found = gradients(device, batch, kernel)
    random = np.random.default_rng(3)
    x, w = (
        torch.from_numpy(random.standard_normal(s).astype(np.float32)).requires_grad_()
        for s in ((batch, 16, 8, 8), (96, 16, kernel, kernel))
    )
    out = torch.nn.functional.conv2d(x, w, stride=2, padding=kernel // 2)
    out.backward(torch.from_numpy(random.standard_normal(out.shape).astype(np.float32)))
    for mine, theirs in zip(found, (x.grad, w.grad)):
        assert theirs is not None
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_taps_of_a_phase() -> None:
    """Rows of an image's gradient through stride 2 have one row of taps and two in turn."""
    image = regions(3, 2, 8, 128)[1]
    assert sum(a.covers[0].extent == 2 for a in choose_config(image, SM_90).axes) == 2
    gone, made = changed_lines(image)
    (load,) = [line for line in gone if "*-2" in line]
    assert "0 <= ((k // 256)*-2 + (n // 256) + 1) < 3" in load
    assert made[0].endswith(
        "to min(512, ((m // 512)*-256 + 1024), ((((n // 256) + 1) // 2)*256 + 256)):"
    )
