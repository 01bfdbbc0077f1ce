"""torch.compile(model, backend="tgrad") with tensors of a device: `--device cuda` for a GPU's,
whose graphs have operators that the CPU's have not."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.front.test_torch_compile import Block
from tgrad.interop.torch_compile import backend

pytestmark = pytest.mark.devices("cpu")


@pytest.fixture(autouse=True)
def _exact(device: str) -> Iterator[None]:
    """Convolutions of PyTorch's in float32 as they are, as products are by default."""
    if device not in ("cpu", "cuda"):
        pytest.skip("no device of torch")
    torch._dynamo.reset()
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def close(found: torch.Tensor | None, wanted: torch.Tensor | None, tolerance: float) -> None:
    assert found is not None and wanted is not None
    assert (found.device, found.dtype, found.shape) == (wanted.device, wanted.dtype, wanted.shape)
    scale = float(wanted.detach().abs().max()) or 1.0
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * scale)


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.second, self.down = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 64, 1, stride=2)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(self.down(x + self.second(x)), 2)
        return self.head(x.mean((2, 3)))


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    return {
        "layers": (
            nn.Sequential(nn.Linear(20, 48), nn.GELU(), nn.Linear(48, 10)), torch.randn(33, 20)
        ),
        "attention": (Block(64, 4), torch.randn(2, 48, 64)),
        "images": (Images(), torch.randn(8, 3, 16, 16)),
        "images with channels last": (
            Images().to(memory_format=torch.channels_last),
            torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last),
        ),
        "lstm": (nn.LSTMCell(12, 16), torch.randn(5, 12)),
    }  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_training_steps(device: str, name: str) -> None:
    """Losses, gradients, statistics and parameters of three steps of AdamW are PyTorch's."""
    model, x = models()[name]
    model, x = model.to(device), x.to(device)
    other = copy.deepcopy(model)
    run = torch.compile(model, backend=backend)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (model, other)]
    for _ in range(3):
        losses = []
        for call, optimizer in zip((run, other), optimizers):
            optimizer.zero_grad()
            out = call(x)
            loss = (torch.stack(out) if isinstance(out, tuple) else out).square().mean()
            loss.backward()
            losses.append(loss.detach())
        close(*losses, 1e-5)
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            close(mine.grad, theirs.grad, 1e-4)
            mine.grad = theirs.grad.clone()  # AdamW divides small differences by small roots
        for optimizer in optimizers:
            optimizer.step()
    for mine, theirs in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        if mine.is_floating_point():
            close(mine, theirs, 1e-4)
        else:
            assert torch.equal(mine, theirs)


def test_half_types(device: str) -> None:
    model, x = Block(64, 4).to(device, torch.bfloat16), torch.randn(2, 64, 64)
    x = x.to(device, torch.bfloat16)
    exact = copy.deepcopy(model).float()
    out = torch.compile(model, backend=backend)(x)
    out.float().square().sum().backward()
    wanted = exact(x.float())
    wanted.square().sum().backward()
    close(out.float(), wanted, 0.03)
    for mine, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None
        close(mine.grad.float(), theirs.grad, 0.05)


def test_arguments_that_are_written_and_results_that_are_views(device: str) -> None:
    def step(x: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total.add_(x.sum(0))
        return x.t()[1:], (x * 2).relu_()

    x, run = torch.randn(6, 5, device=device), torch.compile(step, backend=backend)
    totals = [torch.zeros(5, device=device) for _ in range(2)]
    for _ in range(4):
        found, wanted = (f(x, total) for f, total in zip((run, step), totals))
        close(*totals, 1e-6)
        for mine, theirs in zip(found, wanted):
            close(mine, theirs, 0)
            assert mine.stride() == theirs.stride()
        assert found[0].data_ptr() == wanted[0].data_ptr(), "a view of the argument"


def test_sizes_that_change(device: str) -> None:
    model = Block(32, 2).to(device)
    run = torch.compile(model, backend=backend, dynamic=True)
    for steps in (7, 12, 33):
        x = torch.randn(2, steps, 32, device=device)
        with torch.no_grad():
            close(run(x), model(x), 1e-5)


def test_results_stay_when_the_plan_runs_again(device: str) -> None:
    run = torch.compile(lambda x: (x.exp().sum(1), x + 1), backend=backend)
    inputs = [torch.randn(17, 9, device=device) for _ in range(4)]
    for (total, more), x in zip([run(x) for x in inputs], inputs, strict=True):
        close(total, x.exp().sum(1), 1e-6)
        close(more, x + 1, 1e-6)
