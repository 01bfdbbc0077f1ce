"""A small training run that can be disturbed, and what it must look like undisturbed.

In: whether the step is compiled, a device. Out: `Training`, whose `attempt` makes a step or raises.
Invariant: an attempt that raised is made up for by the next one, so the losses are those of a run
that nothing disturbed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, optim

X = np.random.default_rng(8).standard_normal((4, 3)).astype(np.float32)

Facts = dict[str, Any]


class Training:
    """Linear layers, batch norm with running statistics, dropout, Adam with a learning rate that
    moves.

    Attributes:
        losses: of the steps that were made.
    """

    def __init__(self, compiled: bool, device: str = "cpu"):
        tgrad.manual_seed(11)
        self.compiled, self.device = compiled, device
        layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)]
        self.model = nn.Sequential(*layers).to(device)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.1)
        self.x = tgrad.tensor(X, device=device)
        self.losses: list[float] = []
        self.loss: tgrad.Tensor | None = None
        self.call = tgrad.compile(self._step)
        for p in self.model.parameters():
            p.realize()

    def _loss(self, x: tgrad.Tensor) -> tgrad.Tensor:
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.model(x), x[:, :2])
        loss.backward()
        return loss

    def _step(self, x: tgrad.Tensor) -> tgrad.Tensor:
        loss = self._loss(x)
        self.optimizer.step()
        return loss

    def attempt(self) -> None:
        """Make a step; uncompiled, one that failed goes on at `optimizer.step()`."""
        self.optimizer.param_groups[0]["lr"] = 0.1 * 0.9 ** len(self.losses)
        if self.compiled:
            made = self.call(self.x)
        else:
            if self.loss is None:
                self.loss = self._loss(self.x)
            self.optimizer.step()
            made, self.loss = self.loss, None
        self.losses.append(made.item())

    def facts(self) -> Facts:
        """Everything that a step changes, as values. Uncompiled, forward and backward pass happen
        before the step, so what they change is left out."""
        found: Facts = {n: p.tolist() for n, p in self.model.named_parameters()}
        for number, kept in enumerate(self.optimizer.state.values()):
            found |= {f"state {number} {name}": v.tolist() for name, v in kept.items()}
        if self.compiled:
            found |= {n: b.tolist() for n, b in self.model.named_buffers()}
            found["draws"] = tgrad.random.default_generator._draws
            found["gradients"] = [p.grad is None for p in self.model.parameters()]
        return found


_undisturbed: dict[tuple[bool, str], tuple[list[float], list[Facts]]] = {}


def undisturbed(compiled: bool, device: str = "cpu", steps: int = 6) -> tuple[Any, list[Facts]]:
    """Losses of `steps` steps, and the facts before the first one and after each."""
    known = _undisturbed.get((compiled, device))
    if known is None or len(known[0]) < steps:
        training = Training(compiled, device)
        facts = [training.facts()]
        for _ in range(steps):
            training.attempt()
            facts.append(training.facts())
        known = _undisturbed[compiled, device] = training.losses, facts
    return known[0][:steps], known[1]


def assert_same(found: Facts, want: Facts) -> None:
    """Equal names and, but for the rounding of another plan, equal values."""
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-7, err_msg=name)
