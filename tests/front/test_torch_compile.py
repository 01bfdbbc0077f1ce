"""torch.compile(model, backend="tgrad"): PyTorch's results, in training and in inference."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import tgrad
from tgrad.errors import UnsupportedError
from tgrad.interop.operators import operator
from tgrad.interop.torch_compile import backend

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _forget() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width)
        )
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, width = x.shape
        q, k, v = (
            t.view(batch, steps, self.heads, -1).transpose(1, 2)
            for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, steps, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(17, 16), nn.Embedding(12, 16)
        self.blocks = nn.Sequential(Block(16, 2), Block(16, 2))
        self.head = nn.Linear(16, 17, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        return self.head(self.blocks(x))


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.GroupNorm(2, 8), nn.SiLU(), nn.AvgPool2d(2),
            nn.Upsample(scale_factor=2), nn.ConvTranspose2d(8, 4, 2, 2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def gpt_batch(size: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, 17, (size, steps)), torch.randint(0, 17, (size, steps))


def image_batch(size: int, _: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, 3, 24, 24), torch.randint(0, 5, (size,))


@pytest.mark.parametrize(("make", "batch"), [(GPT, gpt_batch), (ConvNet, image_batch)])
def test_training_equals_eager(make: Callable[[], nn.Module], batch: Callable[..., Any]) -> None:
    """Losses, parameters and running statistics over steps of two shapes, then inference."""
    model = make()
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in (model, eager)]
    for step in range(6):
        x, target = batch(4 + step % 2, 8 + step % 2)
        losses = []
        for run, own, optimizer in zip((compiled, eager), (model, eager), optimizers):
            y = run(x)
            loss = F.cross_entropy(y.flatten(0, -2), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(own.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for mine, theirs in zip(model.state_dict().values(), eager.state_dict().values()):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-4)
    model.eval(), eager.eval()
    with torch.no_grad():
        x, _ = batch(3, 5)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-3, atol=1e-4)


def put(x: torch.Tensor, at: Any, value: float) -> torch.Tensor:
    x[at] = value
    return x


def masked(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[torch.tensor([0, 2]), :, torch.tensor([1, 3])] = 0.5
    x[:, :, 0][x[:, :, 0] > 1] = 1.0
    return x.masked_scatter(x < -1, x.flip(0)) + torch.where(x > 0, x, 0)


def solved(x: torch.Tensor) -> torch.Tensor:
    a, b = x @ x.T + 8 * torch.eye(8), x[:, :3]
    factor = torch.linalg.cholesky(a)
    y = torch.linalg.solve(a, b) + torch.linalg.inv(a) @ b + torch.cholesky_solve(b, factor)
    y = y + torch.linalg.solve_triangular(factor, b, upper=False)
    return y + torch.linalg.det(a / 16) + torch.linalg.slogdet(a.mT)[1]


def factorised(x: torch.Tensor) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(x[:, :4], full_matrices=False)
    q, r = torch.linalg.qr(x[:, :3])
    values, vectors = torch.linalg.eigh(x[:4, :4] + x[:4, :4].T)
    rebuilt = (vectors * values.exp()) @ vectors.T
    return (u * s.sqrt()) @ vh + rebuilt.sum() + (q @ (r * r)).sum() + torch.linalg.svdvals(x).sum()


def bagged(x: torch.Tensor) -> torch.Tensor:
    rows, starts = torch.tensor([1, 2, 4, 4, 3, 2, 7]), torch.tensor([0, 3, 3, 7])
    bags = [F.embedding_bag(rows, x, starts, mode=m, padding_idx=2) for m in ("sum", "mean", "max")]
    weights = x[0, :7].sigmoid()
    last = {"per_sample_weights": weights, "include_last_offset": True}
    return torch.cat([*bags, F.embedding_bag(rows, x, starts, mode="sum", **last)])


LSTM, ATTENTION = nn.LSTM(8, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)

FUNCTIONS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: F.softmax(x, -1) + F.log_softmax(x, 0),
    lambda x: x.cumsum(0) + x.flip(1) + torch.tril(x) - 2 - x * 3,
    lambda x: torch.where(x > 0, x, -x).clamp(0.1, 1) / (1 + x.abs()),
    lambda x: F.softplus(x) + F.hardtanh(x) + F.elu(x) + F.leaky_relu(x) + F.mish(x),
    lambda x: x.var(0) + x.std(1, keepdim=True) + x.amax(1, keepdim=True) + x.norm(),
    lambda x: x[:, [1, 2, 3]].sum(1) + x[1:7:2].sum(0) + x[[0, 2], [1, 1]].sum(),
    lambda x: torch.cat([x, x.T])[4:12] + torch.stack([x, x * 2], 1)[:, 1],
    lambda x: torch.topk(x, 3)[0].sum() + torch.sort(x, 1)[0] * x,
    lambda x: F.pad(x, (1, 2), value=2.0)[:, 1:-2] + torch.einsum("ij,kj->ik", x, x),
    lambda x: F.smooth_l1_loss(x, x * 0.5) + F.mse_loss(x, x.sin() ** 2) + F.huber_loss(x, 2 * x),
    lambda x: F.layer_norm(x, (8,)) + F.normalize(x, dim=1) + x.masked_fill(x > 1, 0.0),
    lambda x: F.conv1d(x[None], x[:, :, None].repeat(1, 1, 3), padding=1)[0],
    lambda x: x.gather(1, x.argsort(1)) + x.scatter(1, x.argmax(1, keepdim=True), 2.0),
    lambda x: x.roll(2, 1) + x.unfold(1, 2, 2).sum(-1).repeat_interleave(2, 1) + x.prod(1),
    lambda x: (x.double() @ x.double().T).float() + x.to(torch.bfloat16).float(),
    lambda x: F.elu(x, 0.5) + F.selu(x) + F.celu(x, 2.0) + F.hardswish(x) + F.softsign(x),
    lambda x: F.adaptive_max_pool2d(x[None, None], 4).sum() + F.max_pool2d(x[None, None], 2).sum()
    + F.avg_pool2d(x[None, None], 2).sum() * F.local_response_norm(x.view(1, 2, 4, 8), 2),
    lambda x: F.grid_sample(x[None, None], x.tanh().view(1, 4, 8, 2), align_corners=False)
    + F.interpolate(x[None, None], size=(4, 8), mode="bilinear")
    + F.interpolate(x[None, None], size=(4, 8), mode="bilinear", antialias=True)
    + F.interpolate(x[None, None], scale_factor=(0.5, 1.5), mode="bicubic", antialias=True).sum(),
    lambda x: F.instance_norm(x.view(1, 2, 4, 8)) + F.group_norm(x.view(1, 2, 4, 8), 2),
    lambda x: F.cross_entropy(x, torch.arange(8), torch.arange(8.0) + 1, label_smoothing=0.1)
    + F.kl_div(F.log_softmax(x, 1), F.softmax(2 * x, 1), reduction="batchmean"),
    lambda x: LSTM(x[None])[0] + ATTENTION(x[None], x[None], x[None], need_weights=False)[0],
    lambda x: torch.slice_scatter(x, x[:, :3] * 2, 1, 2, 5)
    + torch.slice_scatter(x, x[:4] * 3, 0, 1, 8, 2) + torch.select_scatter(x, x[0] ** 2, 1, -1),
    lambda x: x.view(2, 4, 8)[:, [1, 1, 3]].sum((0, 1)) + put(x * 1, (slice(None), [1, 4]), 2.0)
    + torch.index_put(x.view(2, 4, 8), (torch.tensor([1]), torch.tensor([[0, 2]])), x[:2])[1].sum(),
    lambda x: x @ F.one_hot(torch.arange(8), 8).float() + torch.maximum(x, x * 0.5),
    lambda x: torch.cdist(x, 2 * x[:5]).sum(1) + torch.cdist(x, x[1:], 1.0).sum(1)
    + F.pdist(x).sum(),
    lambda x: torch.special.erfcx(x) + torch.special.log_ndtr(x) + torch.digamma(x.abs() + 1)
    + torch.special.i0e(x) + torch.special.ndtri(x.sigmoid()),
    lambda x: F.pad(x[None], (1, 2), "replicate") + F.pad(x[None], (2, 1), "reflect")
    + F.pad(x[None, None], (1, 0, 2, 1), "replicate").sum()
    + F.pad(x.view(1, 1, 2, 4, 8), (1, 1, 1, 1, 1, 1), "replicate").sum(),
    lambda x: F.bilinear(x, x, x.view(2, 4, 8)[:, :, None].expand(2, 4, 2, 8).reshape(2, 8, 8))
    + F.rrelu(x, 0.3, 0.3, training=True).sum() + F.rrelu(x).sum()
    + F.fractional_max_pool2d(x[None, None], 2, 3, _random_samples=torch.zeros(1, 1, 2)).sum(),
    lambda x: torch.repeat_interleave(x, torch.tensor([1, 2] * 4), 0, output_size=12)
    + torch._weight_norm(x[:, :1] * torch.ones(8, 8), x[:, :1], 0).sum(),
    lambda x: masked(x.view(4, 2, 8)),
    lambda x: x.t().as_strided((3, 2), (1, 9)),
    lambda x: x[2:].as_strided((3, 2), (5, 1)),
    lambda x: x.view(2, 4, 8).permute(1, 0, 2).sin().as_strided((3, 3, 2), (20, 5, 2)),
    lambda x: x * torch.as_strided_scatter(x, x[0, :6].view(2, 3), (2, 3), (7, 2), 3).detach(),
    solved, factorised, bagged,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_functions_and_their_gradients(number: int) -> None:
    function = FUNCTIONS[number]
    found = []
    x = torch.randn(8, 8)
    for run in (torch.compile(function, backend=backend), function):
        given = x.clone().requires_grad_()
        y = run(given)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        found.append((y.detach(), given.grad))
    for mine, theirs in zip(*found):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


ATTENTIONS: dict[str, tuple[Callable[[], tuple[Any, ...]], Callable[..., tuple[Any, ...]]]] = {
    # the arguments after q, k, v; those of the backward after q, k, v, from the results
    "flash": (lambda: (0.0, True), lambda o: (*o[:6], 0.0, True, *o[6:8])),
    "cudnn": (
        lambda: (None, True, 0.0, True),
        lambda o: (*o[:2], *o[6:8], None, *o[2:6], 0.0, True),
    ),
    "efficient": (
        lambda: (None, True, 0.0, True),
        lambda o: (None, *o, 0.0, (True, True, True, False), True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("heads", [(3, 3), (4, 2)])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_of_each_kernel_of_a_gpu(kind: str, heads: tuple[int, int]) -> None:
    """The operators that PyTorch takes on a GPU, with the numbers of arguments and results that it
    gives them there; keys and values may have fewer heads."""
    more, kept = ATTENTIONS[kind]
    name = f"_scaled_dot_product_{kind}_attention"
    forward, backward = (getattr(torch.ops.aten, n).default for n in (name, f"{name}_backward"))
    q, k, v, g = (torch.randn(2, heads[n], 9, 8) for n in (0, 1, 1, 0))
    mine = [tgrad.tensor(t.numpy()) for t in (q, k, v)]
    out = operator(forward)(*mine, *more())
    assert len(out) == len(forward._schema.returns)
    given = (tgrad.tensor(g.numpy()), *mine, *kept(out))
    assert len(given) == sum(not a.kwarg_only for a in backward._schema.arguments)
    found = operator(backward)(*given)
    assert len(found) == len(backward._schema.returns)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    want = F.scaled_dot_product_attention(*leaves, is_causal=True, enable_gqa=True)
    want.backward(g)
    for got, theirs in zip((out[0], *found[:3]), (want.detach(), *(t.grad for t in leaves))):
        torch.testing.assert_close(torch.from_dlpack(got), theirs, rtol=1e-4, atol=1e-5)


def test_a_matrix_without_an_inverse_raises_as_in_pytorch() -> None:
    """An older PyTorch may leave the check out of what a backend gets; then none can raise."""
    run = torch.compile(torch.linalg.inv, backend=backend)
    assert torch.equal(run(2 * torch.eye(2)), torch.eye(2) / 2)
    theirs = torch.compile(torch.linalg.inv, backend="aot_eager")
    try:
        theirs(torch.zeros(2, 2))
    except torch.linalg.LinAlgError:
        with pytest.raises(torch.linalg.LinAlgError, match="singular"):
            run(torch.zeros(2, 2))


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_in_inference(norm_first: bool) -> None:
    """PyTorch has one operator for the layer there."""
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, 0.1, "gelu", batch_first=True, norm_first=norm_first
    )
    layer.eval()
    run = torch.compile(layer, backend=backend)
    x, padding = torch.randn(2, 3, 8), torch.tensor([[False, False, True], [False, False, False]])
    causal = torch.ones(3, 3, dtype=torch.bool).triu(1)
    with torch.no_grad():
        for masks in ({}, {"src_mask": causal}, {"src_key_padding_mask": padding}):
            torch.testing.assert_close(run(x, **masks), layer(x, **masks), rtol=1e-4, atol=1e-5)


def test_an_optimizer_that_goes_through_its_tensors_together() -> None:
    found = []
    for wrap in (lambda f: torch.compile(f, backend=backend), lambda f: f):
        weights = [torch.linspace(-1, 1, 3).requires_grad_(), torch.ones(2, 2).requires_grad_()]
        optimizer = torch.optim.AdamW(weights, 0.1, foreach=True)
        step = wrap(optimizer.step)
        for number in range(3):
            for w in weights:
                w.grad = w.detach().cos() * (number + 1)
            step()
        found.append([w.detach() for w in weights])
    for mine, theirs in zip(*found):
        torch.testing.assert_close(mine, theirs)


def test_numbers_are_drawn_from_pytorchs_distributions() -> None:
    def draw(x: torch.Tensor) -> list[torch.Tensor]:
        names = ("uniform_", "normal_", "exponential_", "log_normal_", "cauchy_", "bernoulli_")
        return [getattr(torch.empty_like(x), n)() for n in names] + [
            torch.zeros(4000).geometric_(0.5)
        ]

    drawn = torch.compile(draw, backend=backend)(torch.empty(4000))
    medians = [0.5, 0.0, math.log(2), math.e, 0.0]
    for values, median in zip(drawn, medians):
        assert (values < median).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert drawn[5].mean().item() == pytest.approx(0.5, abs=0.04)
    assert drawn[6].min().item() == 1 and drawn[6].mean().item() == pytest.approx(2, abs=0.2)


def test_rows_are_scaled_to_a_norm_in_place() -> None:
    table = nn.Embedding(5, 3, max_norm=1.0)
    eager = copy.deepcopy(table)
    rows = torch.tensor([[1, 3], [3, 0]])
    torch.testing.assert_close(torch.compile(table, backend=backend)(rows), eager(rows))
    torch.testing.assert_close(table.weight, eager.weight)


def test_state_is_changed_in_place() -> None:
    """What a function does to its arguments is done to them."""

    @torch.compile(backend=backend)
    def step(x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        total.add_(x.sum())
        x[0] = 7.0
        return x * 2

    x, total = torch.ones(3, 2), torch.zeros(())
    for calls in (1, 2):
        doubled = step(x, total)
        assert (doubled == 2 * x).all() and (x[0] == 7).all()
        assert total.item() == {1: 6.0, 2: 24.0}[calls]


def test_dropout_is_of_tgrads_generator() -> None:
    run = torch.compile(lambda x: F.dropout(x, 0.25), backend=backend)
    x = torch.ones(4000, requires_grad=True)
    drawn = []
    for seed in (1, 1, 2):
        tgrad.manual_seed(seed)
        drawn.append(run(x))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert (drawn[0] != 0).float().mean().item() == pytest.approx(0.75, abs=0.03)
    drawn[2].sum().backward()
    assert torch.equal(x.grad, drawn[2].detach())


def test_a_checkpoint_draws_the_same_numbers_again() -> None:
    layers = nn.Sequential(nn.Dropout(0.5), nn.Tanh(), nn.Dropout(0.25))
    run = torch.compile(lambda x: checkpoint(layers, x.exp(), use_reentrant=False), backend=backend)
    x = torch.zeros(400, requires_grad=True)
    drawn = []
    for _ in range(2):
        x.grad = None
        y = run(x)
        y.sum().backward()
        kept = math.tanh(2.0) / 0.75
        torch.testing.assert_close(y.detach(), torch.where(y == 0, 0.0, kept))
        slope = 2 * (1 - math.tanh(2.0) ** 2) / 0.75
        torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, slope), rtol=1e-4, atol=1e-6)
        drawn.append(y.detach())
    assert not torch.equal(*drawn)
    assert (drawn[0] != 0).float().mean().item() == pytest.approx(0.375, abs=0.1)


def test_results_stay_valid_and_inputs_untouched() -> None:
    run = torch.compile(lambda x: x.exp() + 1, backend=backend)
    xs = [torch.randn(5) for _ in range(3)]
    ys = [run(x) for x in xs]
    for x, y in zip(xs, ys):
        torch.testing.assert_close(y, x.exp() + 1)


def test_results_share_no_memory() -> None:
    """Torch may write to each of them, though equal values are one value to tgrad: two biases of
    one gradient would get it twice at the second backward."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.clone(), x * 2, x * 2, x * 1, torch.zeros(2), torch.zeros(2)

    x = torch.ones(2)
    results = torch.compile(function, backend=backend)(x)
    for number, y in enumerate(results):
        y.add_(number)
    assert x.tolist() == [1, 1]
    assert [y[0].item() for y in results] == [1, 3, 4, 4, 4, 5]
    cell = nn.GRUCell(2, 2)
    eager = copy.deepcopy(cell)
    run = torch.compile(cell, backend=backend)
    for _ in range(2):
        run(x[None]).sum().backward()
        eager(x[None]).sum().backward()
    for mine, theirs in zip(cell.parameters(), eager.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.t() * 3,  # lies as PyTorch's, transposed
        lambda x: x.to(torch.bfloat16) * 2,
        lambda x: torch.complex(x, x * 2),
        lambda x: (x.sin(), x.sin())[1],
        lambda x: (x.clone(), x.clone())[0],
    ],
)
def test_a_model_may_write_to_results(make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """As it does behind what torch.compile cannot trace; at the first call and at later ones."""
    network = torch.compile(lambda x: (make(x), x.cos()), backend="tgrad", fullgraph=True)
    for _ in range(3):
        leaves = [torch.randn(4, 6, requires_grad=True) for _ in range(2)]
        leaves[1].data.copy_(leaves[0])
        for leaf, function in zip(leaves, (make, lambda x: network(x)[0])):
            result = function(leaf * 1)
            result[0] = result[1] * 5
            result.mul_(2)
            result.abs().sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: (y := x.clone(), y.relu_()),  # one tensor twice
        lambda x: (y := x.sin(), y[::2]),
        lambda x: (y := x.sin(), y.t()[1:], y.flatten()),
        lambda x: (x, x[1:]),
        lambda x: (x.view(2, -1), x.cos()),
    ],
)
def test_results_share_what_pytorchs_share(
    make: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], requires_grad: bool
) -> None:
    """What is written to one is in the other; equal values of two calls are apart (above)."""
    network = torch.compile(make, backend="tgrad", fullgraph=True)
    for _ in range(3):
        x = torch.randn(4, 6, requires_grad=requires_grad)
        seen = []
        for function in (make, network):
            results = function(x * 1)
            with torch.no_grad():
                for number, result in enumerate(results):
                    result.mul_(number + 2)
            seen.append([r.detach() for r in results])
        torch.testing.assert_close(*seen)


def test_strides_of_sizes_that_change() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = (x * 2).transpose(0, 1)
        return torch.empty_strided(y.shape, y.stride()).fill_(1.0) + (y @ y.mT).stride(0) * y

    network = torch.compile(function, backend="tgrad", fullgraph=True, dynamic=True)
    for rows in (4, 5, 7):
        x = torch.randn(rows, rows + 1, 3)
        torch.testing.assert_close(network(x), function(x))


def test_gradients_of_the_trace_of_a_matrix_whose_size_changes() -> None:
    """PyTorch asks for the number of its elements."""
    function = lambda x: torch.trace(x @ x.T) * x  # noqa: E731
    network = torch.compile(function, backend="tgrad", fullgraph=True, dynamic=True)
    for rows in (4, 5, 7):
        x = torch.randn(rows, 3, dtype=torch.float64)
        mine, theirs = (x.clone().requires_grad_() for _ in range(2))
        network(mine).sum().backward()
        function(theirs).sum().backward()
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("holds", [0, 1, 3])
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_value_for_each_element_that_a_mask_names(holds: int, accumulate: bool) -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask.view(-1)[:holds] = True
    x, values = torch.randn(2, 3, 4), torch.randn(holds, 4)
    function = lambda x, values: x.index_put((mask,), values, accumulate)  # noqa: E731
    torch.testing.assert_close(
        torch.compile(function, backend=backend)(x, values), function(x, values)
    )


def test_what_pytorch_chooses_by_a_value() -> None:
    """torch.cond becomes tgrad's."""
    run = torch.compile(
        lambda x: torch.cond(x.sum() > 0, lambda x: x * torch.tensor(2.0), torch.exp, (x,)),
        backend=backend,
    )
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    torch.testing.assert_close(run(-x).detach(), -2 * x.detach())
    y = run(x)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), x.detach().exp())
    torch.testing.assert_close(x.grad, x.detach().exp())


def test_pytorch_runs_what_has_no_counterpart_where_it_may() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (torch.linalg.eigvals(x @ x.T).abs() * x.sin()).sum(0)

    x = torch.randn(3, 3, requires_grad=True)
    run = torch.compile(function, backend=backend, options={"fallback": True})
    with pytest.warns(UserWarning, match=r"PyTorch runs .* at test_torch_compile.py:") as got:
        y = run(x)
        (mine,) = torch.autograd.grad(y.sum(), x)
    assert len(got) == 2 and "aten.linalg_eig.default" in str(got[0].message)  # forward, backward
    (theirs,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(y, function(x))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_operators_of_other_libraries_are_run_by_their_kernels() -> None:
    """With gradients, and in place; PyTorch's own without a counterpart raise beside them."""

    @torch.library.custom_op("tgrad_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @torch.library.custom_op("tgrad_tests::add_one", mutates_args=("x",))
    def add_one(x: torch.Tensor) -> None:
        x += 1

    twice.register_fake(torch.empty_like)
    twice.register_autograd(lambda context, g: g * 2)

    def function(x: torch.Tensor) -> torch.Tensor:
        y = twice(x.sin()) + x
        z = y.detach() * 3
        add_one(z)
        return y * z.cos()

    run = torch.compile(function, backend=backend)
    x = torch.randn(5, requires_grad=True)
    with pytest.warns(UserWarning, match=r"runs tgrad_tests.twice.* at .*tgrad_tests.add_one"):
        run(x)
    for _ in range(3):
        found = [(y, *torch.autograd.grad(y.sum(), x)) for y in (run(x), function(x))]
        for mine, theirs in zip(*found):
            torch.testing.assert_close(mine, theirs)
    with pytest.raises(Exception, match=r"linalg_eig.* has no counterpart"):
        torch.compile(lambda x: torch.linalg.eigvals(twice(x)), backend=backend)(torch.eye(2))


def test_an_operator_of_another_library_is_none_of_pytorchs_by_its_name() -> None:
    @torch.library.custom_op("tgrad_tests::relu", mutates_args=())
    def relu(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    relu.register_fake(torch.empty_like)
    run = torch.compile(lambda x: relu(x) + 1, backend=backend)
    with pytest.warns(UserWarning, match=r"runs tgrad_tests.relu"):
        assert run(torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 5.0]


@pytest.mark.filterwarnings("error")
def test_operators_made_of_pytorchs_after_the_first_graph_are_taken_apart() -> None:
    torch.compile(lambda x: x * 2, backend=backend)(torch.ones(2))
    with torch.library._scoped_library("tgrad_tests", "FRAGMENT") as library:
        library.define("plus_two(Tensor x) -> Tensor")
        library.impl("plus_two", lambda x: x + 2, "CompositeImplicitAutograd")
        run = torch.compile(lambda x: torch.ops.tgrad_tests.plus_two(x) * 3, backend=backend)
        assert run(torch.tensor([-1.0, 2.0])).tolist() == [3.0, 12.0]


def test_mixtures_of_experts_are_whole_plans() -> None:
    """Rows sorted by expert, and PyTorch's product of groups."""
    torch.manual_seed(0)
    experts, width = 5, 16
    rows = torch.randn(37, width, dtype=torch.bfloat16, requires_grad=True)
    up = torch.randn(experts, width, 32, dtype=torch.bfloat16, requires_grad=True)
    down = torch.randn(experts, 32, width, dtype=torch.bfloat16, requires_grad=True)
    router = torch.randn(width, experts, dtype=torch.bfloat16)

    def function(rows: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        chosen = (rows @ router).argmax(1)
        order = chosen.argsort(stable=True)
        counts = torch.histc(chosen.float(), experts, 0, experts - 1)
        ends = counts.cumsum(0).to(torch.int32)
        grouped = torch.nn.functional.grouped_mm
        inside = torch.nn.functional.silu(grouped(rows[order], up, offs=ends))
        made = grouped(inside, down, offs=ends)
        return torch.zeros_like(made).index_copy(0, order, made)

    run, arguments = torch.compile(function, backend=backend, fullgraph=True), (rows, up, down)
    g = torch.randn(37, width, dtype=torch.bfloat16)
    for _ in range(2):
        found = [(y, *torch.autograd.grad(y, arguments, g)) for y in
                 (run(*arguments), function(*arguments))]  # fmt: skip
        for mine, theirs in zip(*found):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=2e-2, atol=1e-2)


def test_what_is_not_supported_is_said() -> None:
    x = torch.ones(2)
    with pytest.raises(Exception, match="max-autotune"):
        torch.compile(lambda x: x + 1, backend=backend, mode="max-autotune")(x)
    with pytest.raises(Exception, match="options speed"):
        torch.compile(lambda x: x + 1, backend=backend, options={"speed": 1})(x)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="has no counterpart") as caught:
        torch.compile(lambda x: torch.linalg.eigvals(x), backend=backend)(torch.eye(2))
    error = caught.value.inner_exception
    assert isinstance(error, UnsupportedError)
    assert "linalg.eigvals" in error.source.text and "fallback" in error.hint


def test_an_operator_of_other_arguments_is_no_function_of_its_name() -> None:
    """aten.elu's third argument is a scale, where F.elu's is `inplace`."""
    x = tgrad.tensor([-1.0, 2.0])
    scaled = operator(torch.ops.aten.elu.default)(x, 1.0, 3.0)
    torch.testing.assert_close(torch.from_dlpack(scaled), torch.tensor([-1.8963614, 6.0]))
    with pytest.raises(UnsupportedError, match="no counterpart"):
        operator(torch.ops.aten.bmm.dtype)


def test_half_precision_crosses_both_ways() -> None:
    layer = nn.Linear(8, 8)
    run = torch.compile(layer, backend=backend)
    x = torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = run(x), layer(x)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


def test_options_reach_the_plan() -> None:
    run = torch.compile(lambda x: x * 2, backend=backend, options={"memory_limit": "1KiB"})
    with pytest.raises(tgrad.errors.MemoryLimitError):
        run(torch.ones(4096))


def test_torch_finds_it_by_name() -> None:
    """The entry point that is installed with the package."""
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    value = lines[lines.index("torch_dynamo_backends =") + 1].split("=")[1].strip()
    assert EntryPoint("tgrad", value, "torch_dynamo_backends").load() is backend
