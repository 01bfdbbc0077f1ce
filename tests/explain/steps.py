"""Training steps to explain: the convnet of examples/mnist.py, and a small model of two lines."""

from __future__ import annotations

import tgrad
import tgrad.nn.functional as F
from tests.training.convnet import batches, twins
from tgrad import optim
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning

BATCH = 6
"""Not a size that other tests train with: they count the plans that are made."""


def convnet_step(optimizer: optim.Optimizer, model: tgrad.nn.Module) -> None:
    """Forward, backward and update, on the device cpu."""
    images, labels = batches(1, BATCH)[0]
    loss = F.cross_entropy(model(tgrad.tensor(images)), tgrad.tensor(labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def planned_convnet(target: str | None = None) -> Plan:
    """The plan of a training step; nothing runs."""
    plans: list[Plan] = []
    with planning(target, plans.append):
        model, _ = twins("cpu")
        convnet_step(optim.Adam(model.parameters(), lr=1e-3), model)
    return max(plans, key=lambda plan: plan.flops)


def small_plan(target: str | None = None, size: int = 64) -> Plan:
    """A linear layer and a softmax, with a temporary between them."""
    plans: list[Plan] = []
    with planning(target, plans.append):
        x, w = tgrad.ones(size, 32).realize(), tgrad.ones(16, 32).realize()
        hidden = F.linear(x, w).tanh()
        F.softmax(hidden @ hidden.T, dim=1).realize()
    return plans[-1]
