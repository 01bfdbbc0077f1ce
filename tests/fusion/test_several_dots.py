"""Several dots in one kernel: side by side over a shared operand, or summed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.autograd import grad
from tgrad.fusion.device_limits import CPU_LIMITS, GPU_LIMITS
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import Dot
from tgrad.runtime.plan import record_plans
from tgrad.tensor import Tensor, tensor

rng = np.random.default_rng(11)


def draw(*shape: int, device: str = "numpy") -> Tensor:
    data = rng.standard_normal(shape).astype(np.float32)
    return tensor(data, device=device, requires_grad=True)


def dots(kernel: Fused) -> list[Dot]:
    return [v for v in kernel.region.values if isinstance(v, Dot)]


def gated(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(x @ gate.T) * (x @ up.T)


def projected(x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    return [x @ w.T for w in weights]


def test_a_gated_product_is_one_kernel() -> None:
    (kernel,) = cut([gated(draw(9, 12), draw(20, 12), draw(20, 12))], GPU_LIMITS)
    assert len(kernel.inputs) == 3 and len(kernel.outputs) == 1
    assert len({d.a for d in dots(kernel)}) == 1, "x is loaded once"


def test_on_a_cpu_dots_stand_alone() -> None:
    kernels = cut([gated(draw(9, 12), draw(20, 12), draw(20, 12))], CPU_LIMITS)
    assert len(kernels) == 2
    assert any("two dots in one kernel" in reason for k in kernels for reason in k.reasons)


def test_equal_projections_of_one_input_are_one_kernel() -> None:
    x, weights = draw(9, 12), [draw(20, 12) for _ in range(3)]
    (kernel,) = cut(projected(x, weights), GPU_LIMITS)
    assert len(dots(kernel)) == len(kernel.outputs) == 3


def test_grouped_queries_share_no_domain_with_keys_and_values() -> None:
    x, weights = draw(9, 12), [draw(24, 12), draw(8, 12), draw(8, 12)]
    kernels = cut(projected(x, weights), GPU_LIMITS)
    assert sorted(len(dots(k)) for k in kernels) == [1, 2]


def test_the_gradient_of_what_projections_share_is_one_sum() -> None:
    """dx = dq Wq + dk Wk + dv Wv, with as many loops as there are products."""
    x, weights = draw(9, 12), [draw(24, 12), draw(8, 12), draw(8, 12)]
    loss = sum((y.sin().sum() for y in projected(x, weights)), start=tensor(0.0, device="numpy"))
    kernels = cut(grad(loss, [x]), GPU_LIMITS)
    (summed,) = (k for k in kernels if k.outputs[0].shape == (9, 12))
    first, second, third = dots(summed)
    assert [first.start, second.start >= 0, third.start >= 0] == [-1, True, True]
    assert len({d.axes for d in dots(summed)}) == 3


def test_gradients_of_weights_share_the_input() -> None:
    x, weights = draw(9, 12), [draw(8, 12), draw(8, 12)]
    loss = sum((y.sin().sum() for y in projected(x, weights)), start=tensor(0.0, device="numpy"))
    kernels = cut(grad(loss, weights), GPU_LIMITS)
    assert [len(dots(k)) for k in kernels if k.outputs[0].shape == (8, 12)] == [2]


def test_products_that_share_nothing_stay_apart() -> None:
    kernels = cut([(draw(9, 12) @ draw(12, 20)).sin() * (draw(9, 6) @ draw(6, 20))], GPU_LIMITS)
    assert len(kernels) == 2
    reason = "dots that neither share an operand nor are summed"
    assert any(reason in r for k in kernels for r in k.reasons)


def test_a_product_of_a_product_stays_apart() -> None:
    x = draw(12, 12)
    assert len(cut([x @ (x @ draw(12, 12))], GPU_LIMITS)) == 2


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_product_with_a_constant_is_no_accumulator_of_another(value: float) -> None:
    """It has no columns."""
    for device in ("numpy", "interpret"):
        a, b, c = (draw(*s, device=device).detach() for s in ((3, 15), (3, 15), (15, 4)))
        made = a @ tensor(value, device=device).expand(15, 4) + b @ c
        want = a.numpy().sum(1, keepdims=True) * value + b.numpy() @ c.numpy()
        if device == "numpy":
            cut([made], GPU_LIMITS)
        np.testing.assert_allclose(made.numpy(), want, rtol=1e-5, atol=1e-5)


def test_a_sum_whose_part_is_read_twice_keeps_it() -> None:
    """Two accumulators would share nothing, so the products are two kernels."""
    part = draw(9, 12) @ draw(12, 20)
    kernels = cut([part + draw(9, 6) @ draw(6, 20), part.exp()], GPU_LIMITS)
    assert all(d.start < 0 for k in kernels for d in dots(k))


@pytest.mark.parametrize("inner", [(40, 24, 24), (300, 16, 5), (16, 300, 7), (8, 8, 8)])
def test_the_interpreter_sums_products_of_any_length(inner: tuple[int, ...]) -> None:
    pytest.importorskip("triton")
    pairs = [(draw(33, k, device="interpret"), draw(k, 18, device="interpret")) for k in inner]
    products = [a @ b for a, b in pairs]
    total = products[0] + products[1] + products[2]
    with record_plans() as plans:
        got = total.numpy()
    assert [p.launches for p in plans] == [1]
    want = sum(a.numpy().astype(np.float64) @ b.numpy().astype(np.float64) for a, b in pairs)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_the_interpreter_runs_a_gated_product_and_its_gradients() -> None:
    pytest.importorskip("triton")
    leaves = [draw(rows, 40, device="interpret") for rows in (33, 50, 50)]
    results = [gated(*leaves), *grad(gated(*leaves).square().mean(), leaves)]
    same = [tensor(t.numpy(), device="numpy", requires_grad=True) for t in leaves]
    wanted = [gated(*same), *grad(gated(*same).square().mean(), same)]
    for got, want in zip(results, wanted):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=2e-4, atol=2e-4)
