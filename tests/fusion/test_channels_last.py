"""Copies of what convolutions read, with channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.arrays import from_torch
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, realize_tensors

torch = pytest.importorskip("torch")


def two_layers(library: Any, functional: Any, x: Any, first: Any, second: Any) -> Any:
    made = functional.relu(functional.conv2d(x, first, padding=1))
    return functional.conv2d(made, second, padding=1, stride=2)


def differentiated(library: Any, functional: Any, arrays: list[Any]) -> list[Any]:
    """The result and the gradients."""
    for a in arrays:
        a.requires_grad_()
    made = two_layers(library, functional, *arrays)
    (made * made).sum().backward()
    return [made, *(a.grad for a in arrays)]


def stored_on_the_way(
    shapes: list[tuple[int, ...]], target: str = "sm_90"
) -> list[tuple[int, ...]]:
    """Shapes of what copies of the inputs make."""
    with planning(target), record_plans() as plans:
        inputs = [tgrad.empty(*s, device="cuda").realize() for s in shapes]
        plans.clear()
        realize_tensors(differentiated(tgrad, F, inputs))
    found = []
    for plan in plans:
        for kernel in plan.kernels:
            values = kernel.region.values
            is_copy = kernel.region.space.kind == "map" and len(values) == 1
            members = 1 if kernel.region.table is None else kernel.region.table.members
            found += members * [tuple(a.extent for a in kernel.region.axes)] if is_copy else []
    return found


def test_weights_and_images_are_copied_once_for_both_passes() -> None:
    found = stored_on_the_way([(8, 32, 20, 20), (48, 32, 3, 3), (64, 48, 3, 3)])
    assert sorted(found) == [(8, 400, 32), (48, 9, 32), (64, 9, 48)]


@pytest.mark.parametrize(
    "shapes",
    [
        [(8, 3, 20, 20), (8, 3, 3, 3), (16, 8, 3, 3)],  # few channels
        [(1, 32, 6, 6), (32, 32, 3, 3), (32, 32, 3, 3)],  # few results
        [(8, 32, 20, 20), (48, 32, 1, 1), (64, 48, 1, 1)],  # no windows
    ],
)
def test_what_is_read_seldom_or_well_is_not_copied(shapes: list[tuple[int, ...]]) -> None:
    with planning("sm_90"), record_plans() as plans:
        x, first, second = (tgrad.empty(*s, device="cuda").realize() for s in shapes)
        plans.clear()
        pad = shapes[1][2] // 2
        F.conv2d(F.relu(F.conv2d(x, first, padding=pad)), second, padding=pad).realize()
    kernels = [k for plan in plans for k in plan.kernels]
    assert [k.region.space.kind for k in kernels] == ["dot", "dot"]


def test_what_lies_with_channels_last_is_not_copied() -> None:
    """And is seen with them second, as images and weights of PyTorch's channels_last."""

    def step(x: Tensor, w: Tensor, g: Tensor) -> Tensor:
        image, weight = (t.permute(0, 3, 1, 2) for t in (x, w))
        return F.conv2d(image, weight, padding=1).relu() * g.permute(0, 3, 1, 2)

    with planning("sm_90"), record_plans() as plans:
        shapes = (8, 20, 20, 32), (48, 3, 3, 32), (8, 20, 20, 48)
        inputs = [tgrad.empty(*s, device="cuda").realize().requires_grad_() for s in shapes]
        plans.clear()
        y = step(*inputs)
        realize_tensors([y, *tgrad.autograd.grad(y.sum(), inputs[:2])])
    kernels = [k for plan in plans for k in plan.kernels]
    assert not [
        k.name for k in kernels if k.region.space.kind == "map" and len(k.region.values) == 1
    ]
    assert sum(k.region.space.kind == "dot" for k in kernels) == 3


def test_values_and_gradients(device: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(s, np.float32) / 4
        for s in ((8, 16, 20, 20), (32, 16, 3, 3), (24, 32, 3, 3))
    ]
    theirs = [torch.from_numpy(a).double() for a in arrays]
    wants = differentiated(torch, torch.nn.functional, theirs)
    ours: list[Tensor] = [tgrad.tensor(a, device=device) for a in arrays]
    haves = differentiated(tgrad, F, ours)
    realize_tensors(haves)
    for have, want in zip(haves, wants):
        size = float(want.detach().abs().max())
        np.testing.assert_allclose(have.numpy(), from_torch(want), rtol=1e-4, atol=1e-5 * size)
