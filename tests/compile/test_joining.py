"""Compiled calls through which gradients flow are part of the graph around them, as in PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, optim
from tgrad.errors import UnsupportedError
from tgrad.tensor import Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(self.norm(self.first(x)).relu()))


def train(model: nn.Module, run: object, steps: int = 5) -> list[float]:
    """Losses of a loop as PyTorch's users write it, with an evaluation at its end."""
    random = np.random.default_rng(3)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    tgrad.manual_seed(11)
    losses = []
    for _ in range(steps):
        x = tgrad.tensor(random.standard_normal((16, 6)).astype(np.float32))
        y = tgrad.tensor(random.integers(0, 3, 16))
        loss = F.cross_entropy(run(x), y)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with tgrad.no_grad():
        losses.append(F.cross_entropy(run(x), y).item())  # type: ignore[operator]
    return losses


def test_a_loop_with_backward_outside_trains_as_uncompiled() -> None:
    model = Net()
    twin = copy.deepcopy(model)
    compiled = tgrad.compile(model)
    np.testing.assert_array_equal(train(model, compiled), train(twin, twin))
    for ours, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert compiled.joined == 5, "the evaluation is a plan of its own"
    assert compiled.traces == 2


def test_gradients_flow_into_arguments() -> None:
    w = tgrad.tensor([1.0, 2.0], requires_grad=True)
    square = tgrad.compile(lambda x: (x * x).sum())
    square(w * 3).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [18.0, 36.0]
    assert square.joined == 1
    assert square(tgrad.tensor([1.0, 2.0])).item() == 5.0
    assert square.joined == 1


def test_what_is_promised_of_one_plan_raises() -> None:
    w = tgrad.ones(2, requires_grad=True)
    for options in ({"memory_limit": "1GiB"}, {"dynamic": {"x": {0: (1, 4)}}}, {"autotune": "1s"}):
        f = tgrad.compile(lambda x: (x * w[0]).sum(), **options)
        with pytest.raises(UnsupportedError, match="requires a gradient"):
            f(tgrad.ones(2))
        assert f.joined == 0
