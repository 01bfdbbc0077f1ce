"""How many kernels each pattern takes, and that the kernels compute the pattern."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad import nn, optim
from tgrad.autograd import grad
from tgrad.dtype import bfloat16, float32
from tgrad.fusion.device_limits import GPU_LIMITS, Limits
from tgrad.fusion.region import Const, indices_of
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.fusion.structure import RegionBuilder
from tgrad.runtime.plan import record_plans
from tgrad.tensor import Tensor, tensor


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def draw(rng: np.random.Generator, *shape: int, grad: bool = False) -> Tensor:
    data = rng.standard_normal(shape).astype(np.float32)
    return tensor(data, device="numpy", requires_grad=grad)


def test_elementwise_chain_is_one_kernel(rng: np.random.Generator) -> None:
    x = draw(rng, 8, 12)
    assert len(cut([(x * 2 + 1).exp() - x])) == 1


def test_two_outputs_of_one_chain_are_one_kernel(rng: np.random.Generator) -> None:
    x = draw(rng, 8, 12)
    y = (x * 2).exp()
    (kernel,) = cut([y, y + x])
    assert len(kernel.outputs) == 2


def test_a_sum_of_many_buffers_is_stored_on_the_way(rng: np.random.Generator) -> None:
    total = draw(rng, 3)
    for _ in range(80):
        total = total + draw(rng, 3)
    kernels = cut([total])
    assert len(kernels) == 3
    assert all(len(k.inputs) + len(k.outputs) <= GPU_LIMITS.slots for k in kernels)


def test_joined_batches_of_many_buffers_are_stored_on_the_way(rng: np.random.Generator) -> None:
    """As where transitions of a replay memory become one batch: what is wide lies below a move."""
    batches = [tgrad.cat([draw(rng, 1, 3) + 1 for _ in range(20)]) for _ in range(2)]
    for joined in (tgrad.cat(batches), batches[0].flip(0) - batches[1].t().reshape(20, 3)):
        kernels = cut([joined])
        assert all(len(k.inputs) + len(k.outputs) <= GPU_LIMITS.slots for k in kernels)


@pytest.mark.parametrize("dim", [0, 1, (0, 1), None])
def test_reduction_with_prologue_and_epilogue_is_one_kernel(
    rng: np.random.Generator, dim: object
) -> None:
    x = draw(rng, 8, 12)
    assert len(cut([(x * x).sum(dim).sqrt()])) == 1  # type: ignore[arg-type]


def test_softmax_is_one_kernel(rng: np.random.Generator) -> None:
    (kernel,) = cut([F.softmax(draw(rng, 8, 12), dim=-1)])
    assert "softmax" in kernel.region.name


def test_softmax_over_the_first_axis_is_one_kernel(rng: np.random.Generator) -> None:
    assert len(cut([F.softmax(draw(rng, 8, 12), dim=0)])) == 1


def test_layer_norm_is_one_kernel(rng: np.random.Generator) -> None:
    x, w, b = draw(rng, 8, 12), draw(rng, 12), draw(rng, 12)
    assert len(cut([F.layer_norm(x, (12,), w, b)])) == 1


def test_rms_norm_is_one_kernel(rng: np.random.Generator) -> None:
    assert len(cut([F.rms_norm(draw(rng, 8, 12), (12,), draw(rng, 12))])) == 1


def test_var_mean_is_one_kernel(rng: np.random.Generator) -> None:
    assert len(cut(list(draw(rng, 8, 12).var_mean(1)))) == 1
    assert len(cut(list(draw(rng, 4, 3, 5, 5).var_mean((0, 2, 3))))) == 1


def test_cross_entropy_forward_is_one_kernel(rng: np.random.Generator) -> None:
    labels = tensor(rng.integers(0, 12, 8), device="numpy")
    assert len(cut([F.cross_entropy(draw(rng, 8, 12), labels)])) == 1
    assert len(cut([F.cross_entropy(draw(rng, 8, 12), labels)], GPU_LIMITS)) == 1


def test_matmul_bias_gelu_is_one_kernel(rng: np.random.Generator) -> None:
    x, w, b = draw(rng, 16, 20), draw(rng, 24, 20), draw(rng, 24)
    assert len(cut([F.gelu(F.linear(x, w, b))])) == 1


def test_a_dot_is_stored_before_it_is_widened(rng: np.random.Generator) -> None:
    """Layer norm reads the bfloat16 result in float32, which need not be stored."""
    x, w = (draw(rng, 64, 64).to(bfloat16) for _ in range(2))
    kernels = cut([F.layer_norm(x @ w, (64,))])
    assert [s.dtype.name for k in kernels for s in k.region.slots if s.role == "out"] == [
        "bfloat16",
        "bfloat16",
    ]


def test_convolution_bias_relu_is_one_kernel_without_a_copy(rng: np.random.Generator) -> None:
    x, w, b = draw(rng, 2, 3, 8, 8), draw(rng, 4, 3, 3, 3), draw(rng, 4)
    (kernel,) = cut([F.relu(F.conv2d(x, w, b, padding=1))])
    assert kernel.region.space.kind == "dot"


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width", "stride"), [(8, 10, 2), (6, 4, 2)])
def test_gradients_of_strided_windows_are_stored_where_they_belong(
    height: int, width: int, stride: int, channels_last: bool, rng: np.random.Generator
) -> None:
    """A product gives the pixels of each kind, and its kernel puts them beside each other."""
    x, w = draw(rng, 2, 3, height, width, grad=True), draw(rng, 4, 3, 3, 3)
    y = F.conv2d(x, w, stride=stride, padding=1)
    (gradient,) = grad(y, [x], [draw(rng, *y.shape)])
    (kernel,) = cut([gradient.permute(0, 2, 3, 1) if channels_last else gradient])
    assert kernel.region.space.kind == "dot"


def test_linear_forward_and_backward(rng: np.random.Generator) -> None:
    x, w, b = draw(rng, 8, 12), draw(rng, 6, 12, grad=True), draw(rng, 6, grad=True)
    loss = F.linear(x, w, b).square().mean()
    loss.backward()
    assert w.grad is not None and b.grad is not None
    assert len(cut([loss, w.grad, b.grad])) <= 4


def test_gather_is_one_kernel(rng: np.random.Generator) -> None:
    rows = tensor(np.array([3, 1, 1, 0]), device="numpy")
    assert len(cut([draw(rng, 8, 12)[rows] * 2])) == 1


def test_scatter_fills_its_base_then_scatters(rng: np.random.Generator) -> None:
    index = tensor(rng.integers(0, 8, (5, 12)), device="numpy")
    kernels = cut([draw(rng, 8, 12).scatter_add(0, index, draw(rng, 5, 12))])
    assert [k.region.space.kind for k in kernels] == ["map", "scatter"]


def test_embedding_backward(rng: np.random.Generator) -> None:
    table = draw(rng, 9, 4, grad=True)
    index = tensor(rng.integers(0, 9, (3, 5)), device="numpy")
    F.embedding(index, table).square().sum().backward()
    assert table.grad is not None
    cut([table.grad])


def test_a_row_that_does_not_fit_is_refused_with_a_reason(rng: np.random.Generator) -> None:
    x = draw(rng, 4, 64)
    limits = Limits(row_elements=32, busy_rows=8)
    kernels = cut([F.softmax(x, dim=-1)], limits)
    assert len(kernels) > 1
    assert any("does not fit on chip" in r for k in kernels for r in k.reasons)


def test_reduction_after_a_dot_is_refused_with_a_reason(rng: np.random.Generator) -> None:
    kernels = cut([F.softmax(draw(rng, 8, 12) @ draw(rng, 12, 6), dim=-1)])
    assert len(kernels) == 2
    assert any("reduction beside a dot" in r for k in kernels for r in k.reasons)


def test_movement_alone_becomes_affine(rng: np.random.Generator) -> None:
    x = draw(rng, 2, 3, 4)._pad_zero((0, 1, 1), (0, 1, 1)).permute(2, 0, 1).reshape(6, 10)
    (kernel,) = cut([x * 2])
    indices = [e for v in (*kernel.region.values, *kernel.region.stores) for e in indices_of(v)]
    assert indices and all(
        e.stride(a.name) is not None for e in indices for a in kernel.region.axes
    )


def test_mask_of_an_outer_pad_is_not_captured_by_a_reduction(rng: np.random.Generator) -> None:
    x = draw(rng, 5, 7)
    y = x.sum(0, keepdim=True)._pad_zero((1, 1), (0, 0))
    cut([y + draw(rng, 2, 8)])


def test_max_pool_backward(rng: np.random.Generator) -> None:
    x = draw(rng, 2, 3, 6, 6, grad=True)
    F.max_pool2d(F.relu(x), 2).square().sum().backward()
    assert x.grad is not None
    cut([x.grad])


def test_linear_forward_backward_and_adamw_is_at_most_nine_kernels(
    rng: np.random.Generator,
) -> None:
    model = nn.Linear(12, 6)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    x = tensor(rng.standard_normal((8, 12)).astype(np.float32))
    for _ in range(2):
        with record_plans() as plans:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        if plans:
            step = plans[-1]
    assert step.launches <= 9


def test_cross_entropy_with_its_gradient_reads_the_logits_once(rng: np.random.Generator) -> None:
    """Maximum, sum, the logit that is picked, and the gradient: one kernel over the rows; the
    count of targets before it and the mean after it are small."""
    logits = draw(rng, 64, 512, grad=True)
    targets = tensor(rng.integers(0, 512, 64), device="numpy")
    loss = F.cross_entropy(logits, targets)
    (gradient,) = grad(loss, [logits])
    kernels = cut([loss, gradient])
    assert len(kernels) == 3
    assert sum(any(n.shape == logits.shape for n in k.inputs) for k in kernels) == 1


def test_work_grows_no_faster_than_the_graph(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of many independent tensors cannot share a kernel; few of the pairs are even tried."""

    def builds(count: int) -> int:
        asked = []
        real = RegionBuilder.build

        def counted(*args: object, **kwargs: object) -> object:
            asked.append(None)
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(RegionBuilder, "build", counted)
            x = draw(rng, 4, 8)
            cut([(x * draw(rng, 4, 8)).sum() for _ in range(count)])
        return len(asked)

    few, many = builds(50), builds(200)
    assert many < 4.5 * few


@pytest.mark.parametrize(("columns", "kernels"), [(512, 2), (96, 1)])
def test_a_dot_does_not_compute_a_long_operand_for_each_tile(
    rng: np.random.Generator, columns: int, kernels: int
) -> None:
    fused = cut([F.gelu(draw(rng, 256, 96)) @ draw(rng, 96, columns)])
    assert len(fused) == kernels
    if kernels == 2:
        assert any("again for each of its tiles" in r for r in fused[1].reasons)


def test_a_short_operand_is_computed_in_the_dot(rng: np.random.Generator) -> None:
    assert len(cut([F.relu(draw(rng, 256, 96) * 2) @ draw(rng, 96, 512)])) == 1


def test_an_index_that_nothing_depends_on_leaves_no_axis() -> None:
    """Every element of a filled tensor is the same: a sum of its rows walks no index of theirs."""
    rows = tensor(np.array([1, 0, 2]), device="numpy")
    filled = tgrad.full((3, 4), 0.5, device="numpy").index_select(0, rows)
    (kernel,) = cut([filled.sum(0)])
    assert [a.extent for a in kernel.region.axes] == [4]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.0, 0.0])
def test_a_region_with_any_constant_reads_back_as_itself(number: float) -> None:
    (kernel,) = cut([tgrad.full((3,), number, device="numpy")])
    assert region_from_json(json.loads(json.dumps(region_to_json(kernel.region)))) == kernel.region


def test_constants_are_equal_if_they_are_written_alike() -> None:
    numbers = [Const(x, float32) for x in (float("nan"), 0.0, -0.0, 1.0, 1, True)]
    assert len({*numbers, Const(float("nan"), float32)}) == len(numbers)
