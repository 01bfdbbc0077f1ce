"""The gradient of a weight that is used many times: products are added up as they come."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.devices.test_fuzz import needs_triton
from tgrad.runtime.plan import Plan
from tgrad.tensor import Tensor

SIZE = 48
DEVICES = pytest.mark.devices("cpu", pytest.param("interpret", marks=needs_triton))


def gradient(device: str, steps: int, dtype: tgrad.dtype = tgrad.float32) -> Tensor:
    random = np.random.default_rng(steps)
    x, w = random.standard_normal((2, SIZE, SIZE)).astype(np.float32) / SIZE**0.5
    weight = tgrad.tensor(w, device=device, dtype=dtype, requires_grad=True)
    y = tgrad.tensor(x, device=device, dtype=dtype)
    for _ in range(steps):
        y = (y @ weight.T).tanh()
    y.sum().backward()
    assert weight.grad is not None
    return weight.grad


def products(plan: Plan) -> list[int]:
    """For each kernel with a product of the weight's gradient, how many it computes."""
    dots = ([v for v in k.region.values if type(v).__name__ == "Dot"] for k in plan.kernels)
    return [len(found) for found in dots if found]


@DEVICES
@pytest.mark.parametrize("steps", [2, 3, 7, 12])
def test_equals_the_interpreter(device: str, steps: int) -> None:
    want = gradient("numpy", steps).numpy()
    np.testing.assert_allclose(gradient(device, steps).numpy(), want, rtol=1e-4, atol=1e-5)


@DEVICES
def test_memory_grows_with_activations_alone(device: str) -> None:
    """Not with a weight's gradient for each step beside them."""
    few, many = (tgrad.explain(gradient(device, steps)) for steps in (8, 16))
    assert many.arena_bytes - few.arena_bytes <= 8 * 4 * SIZE * SIZE + 4096


@DEVICES
def test_a_kernel_adds_as_many_products_as_it_computes_and_the_sum_so_far(device: str) -> None:
    plan = tgrad.explain(gradient(device, 12))
    most = 1 if device == "cpu" else 4
    assert max(products(plan)) == most
    slots = max(len(k.region.slots) for k in plan.kernels if k.region.space.kind == "dot")
    assert slots <= 2 * most + 2
    if device == "cpu":
        assert any("added up as they come" in r for k in plan.kernels for r in k.reasons)


@DEVICES
def test_sums_are_rounded_like_the_gradients_they_are(device: str) -> None:
    got = gradient(device, 6, tgrad.bfloat16)
    want = gradient("numpy", 6, tgrad.bfloat16).to(tgrad.float32).numpy()
    error = np.abs(got.to(tgrad.float32).numpy() - want).max()
    assert error <= 2**-6 * np.abs(want).max()
