"""Images lie with channels last from one convolution to the next, and results are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from bench import architectures
from bench.case import StepCase
from bench.planned import planned_step
from bench.steps import classification_loss, images, sgd
from tgrad.fusion import region as rg
from tgrad.fusion.memory_order import keep_order_of_dots
from tgrad.fusion.region import Region
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op
from tgrad.pipeline import canonical_bases
from tgrad.runtime.plan import Plan
from tgrad.tensor import Tensor

Model = Callable[[Tensor, Tensor, Tensor], Tensor]


def residual(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    y = F.conv2d(x, w, padding=1)
    y = F.relu(F.batch_norm(y, None, None, training=True))
    return F.relu(F.conv2d(y, v, stride=2, padding=1) + F.avg_pool2d(y, 3, 2, 1)).mean((2, 3))


def pooled(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    y = F.max_pool2d(F.gelu(F.conv2d(x, w, stride=2)), 2)
    return F.conv2d(y, v, padding=2, dilation=2).flatten(1)


def up_and_joined(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    y = F.conv2d(x, w, padding=1)
    y = F.interpolate(F.group_norm(y, 3), scale_factor=2, mode="nearest")
    return F.conv2d(y.flip((2,))[:, :, 1:, :-2], v).amax(3)


def read_in_two_orders(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    y = F.conv2d(x, w, padding=1)
    z = F.conv2d(F.softmax(y.reshape(y.shape[0], -1), 1).reshape(y.shape), v)
    return z.cumsum(1) + y.transpose(2, 3).sum(3, keepdim=True)[:, :, :7].transpose(2, 3)


MODELS: list[Model] = [residual, pooled, up_and_joined, read_in_two_orders]


def results(model: Model, device: str) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    shapes = ((2, 3, 11, 9), (6, 3, 3, 3), (6, 6, 3, 3))
    x, w, v = (
        tgrad.tensor(random.standard_normal(s, dtype=np.float32), device=device, requires_grad=True)
        for s in shapes
    )
    y = model(x, w, v)
    gradient = tgrad.tensor(random.standard_normal(y.shape, dtype=np.float32), device=device)
    return [t.numpy() for t in (y, *tgrad.autograd.grad((y * gradient).sum(), (x, w, v)))]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_results_and_gradients(model: Model) -> None:
    for got, want in zip(results(model, "interpret"), results(model, "numpy")):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def bases_of(*tensors: Tensor) -> list[Node]:
    return keep_order_of_dots(canonical_bases([t._node for t in tensors]))


def test_what_follows_a_dot_has_its_order() -> None:
    x, w = tgrad.ones(2, 3, 8, 8, device="numpy"), tgrad.ones(5, 3, 3, 3, device="numpy")
    y = F.relu(F.conv2d(x, w))
    (out,) = bases_of(F.conv2d(y, tgrad.ones(7, 5, 1, 1, device="numpy")).sum((2, 3)))
    (relu,) = (n for n in toposort([out]) if n.op is Op.MAXIMUM)
    assert relu.shape == (2, 6, 6, 5)


def test_outputs_keep_their_order() -> None:
    x, w = tgrad.ones(2, 3, 8, 8, device="numpy"), tgrad.ones(5, 3, 3, 3, device="numpy")
    (out,) = bases_of(F.relu(F.conv2d(x, w)))
    assert out.shape == (2, 5, 6, 6)


# -- a training step of ResNet-50, planned for a GPU -----------------------------------------------

BATCH, SIDE = 8, 224


@pytest.fixture(scope="module")
def plan() -> Plan:
    batch = images(BATCH, (3, SIDE, SIDE), 1000)
    case = StepCase(
        "resnet50", "", batch, architectures.resnet50, sgd, classification_loss, dtype="bfloat16"
    )
    return planned_step(case, "sm_90")


LARGEST = BATCH * 64 * 112 * 112
"""Elements of ResNet-50's largest activations, those of its first convolution."""
SMALLEST = BATCH * 512 * 7 * 7
"""Of the smallest one between convolutions."""


def is_activation(size: int) -> bool:
    """All have sides of 7 or more times a power of two; no weight but the first has a 7."""
    return size >= SMALLEST and size % (BATCH * 49) == 0


def arithmetic(region: Region) -> list[rg.Value]:
    free = (Op.CAST, Op.BITCAST)
    return [
        v
        for v in region.values
        if isinstance(v, (rg.Reduce, rg.Dot, rg.Scan))
        or (isinstance(v, rg.Compute) and v.op not in free)
    ]


def contiguous_axis(region: Region, index: Any) -> str | None:
    found = (a.name for a in region.axes if a.extent > 1 and index.stride(a.name) == 1)
    return next(found, None)


def test_no_buffer_holds_patches(plan: Plan) -> None:
    for kernel in plan.kernels:
        written = [s.size for s in kernel.region.slots if s.role != "in"]
        assert max(written) <= LARGEST, kernel.region


def test_no_activation_is_copied(plan: Plan) -> None:
    """No kernel only moves elements."""
    for kernel in plan.kernels:
        if any(is_activation(s.size) for s in kernel.region.slots):
            assert arithmetic(kernel.region), kernel.region


def test_no_activation_is_transposed(plan: Plan) -> None:
    """Where an image is read and one is written, both are contiguous along one axis, and a
    convolution reads channels that lie together; but for the images that the user gives."""
    for kernel in plan.kernels:
        region = kernel.region
        stores = {contiguous_axis(region, s.index) for s in region.stores}
        for v in region.values:
            if not isinstance(v, rg.Load) or not is_activation(region.slots[v.slot].size):
                continue
            if region.slots[v.slot].size == BATCH * 3 * SIDE * SIDE:
                continue
            axis = contiguous_axis(region, v.index)
            assert axis is not None, region
            if region.space.kind == "map":
                assert axis in stores, region
