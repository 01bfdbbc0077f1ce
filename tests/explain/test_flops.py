"""FLOPs of convolutions and matrix products: those that torch.utils.flop_counter counts.

One difference has a reason. For the gradient of a convolution's input, torch counts the products
that are not with padding: as many as forward. tgrad computes that gradient as a convolution of the
padded gradient, and counts what it executes, zeros of the padding included: each of the H x W
elements of the input sums over all taps, where torch counts Ho x Wo elements of the output. Neither
counts a gradient for the images, which nobody asks for.

Another is attention. Its gradient's two kernels compute the scores again, and the one that owns
keys the weights' gradient as well: three products that torch, which stores both, does not count.
Both count what a causal mask leaves nothing of.
"""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from bench.models import convnet
from tests.explain.steps import BATCH, planned_convnet
from tests.training.convnet import batches
from tgrad.runtime.report import report_plan

torch = pytest.importorskip("torch")

CONVOLUTIONS = ((1, 32, 5, 28), (32, 32, 5, 24), (32, 64, 3, 10), (64, 64, 3, 8))
"""Channels in and out, kernel, size of the input."""


def padding_products() -> int:
    """FLOPs of the gradients of the inputs that torch does not count; none for the first layer."""
    return sum(
        2 * BATCH * c_in * c_out * k * k * (size**2 - (size - k + 1) ** 2)
        for c_in, c_out, k, size in CONVOLUTIONS[1:]
    )


def test_the_convnets_step() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = convnet(torch.nn, torch.nn.functional, torch)
    images, labels = (torch.from_numpy(a) for a in batches(1, BATCH)[0])
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
    ours = report_plan(planned_convnet()).dot_flops
    assert ours == counter.get_total_flops() + padding_products()


def test_matrix_products_forward_and_backward() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    a, b = np.ones((3, 24, 48), np.float32), np.ones((3, 48, 40), np.float32)
    w = np.ones((20, 40), np.float32)
    with FlopCounterMode(display=False) as counter:
        theirs = [torch.from_numpy(x).requires_grad_() for x in (a, b, w)]
        torch.nn.functional.linear(theirs[0] @ theirs[1], theirs[2]).tanh().sum().backward()
    ours = [tgrad.tensor(x).requires_grad_() for x in (a, b, w)]
    F.linear(ours[0] @ ours[1], ours[2]).tanh().sum().backward()
    plan = tgrad.explain(*(t.grad for t in ours))
    assert report_plan(plan).dot_flops == counter.get_total_flops()


def test_attention_forward_and_backward() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    batch, length, size = 2 * 4, 32, 16
    q, k, v = (np.ones((2, 4, length, size), np.float32) * x for x in (0.1, 0.2, 0.3))
    theirs = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        attend = torch.nn.functional.scaled_dot_product_attention
        (attend(*theirs, is_causal=True) ** 2).sum().backward()
    ours = [tgrad.tensor(x).requires_grad_() for x in (q, k, v)]
    (F.scaled_dot_product_attention(*ours, is_causal=True) ** 2).sum().backward()
    plan = tgrad.explain(*(t.grad for t in ours))
    again = 3 * 2 * batch * length * length * size
    assert report_plan(plan).dot_flops == counter.get_total_flops() + again
