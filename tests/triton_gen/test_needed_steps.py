"""Loops that masks leave nothing to add in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.region import Region
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


def image_region() -> Region:
    with planning("sm_90"):

        @tgrad.compile
        def step(x: tgrad.Tensor, w: tgrad.Tensor, g: tgrad.Tensor) -> tgrad.Tensor | None:
            x = x.detach().requires_grad_()
            F.conv2d(x, w, stride=2).backward(g)
            return x.grad

        shapes = ((128, 64, 8, 8), (256, 64, 1, 1), (128, 256, 4, 4))
        step(*(tgrad.zeros(*s, dtype=tgrad.bfloat16) for s in shapes))
        (kernel,) = (k for k in step.plans[-1].kernels if k.flops)
    return kernel.region


def test_the_program() -> None:
    region = image_region()
    plain = lower(region, choose_config(region, target_by_name("sm_90")))
    changed = with_needed_steps(plain)
    verify_kernel(changed)
    before, after = (print_kernel(k).splitlines() for k in (plain, changed))
    made = [line.strip() for line in after if line not in before]
    loop, load = made
    assert loop == "loop k if 0 <= ((m // 2048) % 2) < 1 and 0 <= (m // 4096) < 1:"
    assert load.startswith("t1 : bf16[m k] = load in") and " if " not in load
    assert with_needed_steps(changed) == changed


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
