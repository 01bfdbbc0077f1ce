"""Python time of a compiled call: `python -m bench.replay [convnet gpt4 gpt12 many200]`.

In: names of models. Out: a row a model: tensors of state, launches, microseconds a call. Invariant:
the C entry that runs the kernels is replaced by nothing, so what is left is Python; AdamW; the
median of 400 calls with the same arguments.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

import numpy as np

import tgrad
import tgrad.nn.functional as F
from bench.models import GPTSizes, convnet, gpt
from tgrad import nn, optim

CALLS = 400


class Many(nn.Module):
    """Linear layers of two parameters each; with 2,000 parameters a plan takes minutes to make."""

    def __init__(self, parameters: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(parameters // 2)])

    def forward(self, x: tgrad.Tensor) -> tgrad.Tensor:
        total = x
        for layer in self.layers:
            total = total + layer(x)
        return total


def make(name: str) -> tuple[nn.Module, Any, Any]:
    """A model with a batch: inputs and labels."""
    labels = np.zeros(4, np.int64)
    if name == "convnet":
        return convnet(nn, F, tgrad), np.zeros((4, 1, 28, 28), np.float32), labels
    if name.startswith("many"):
        return Many(int(name.removeprefix("many"))), np.ones((4, 2), np.float32), labels
    sizes = GPTSizes(64, 32, 128, 4, int(name.removeprefix("gpt")))
    tokens = np.zeros((2, 32), np.int64)
    return gpt(nn, F, tgrad, sizes), tokens, tokens.reshape(-1)


def measure(name: str) -> str:
    """A row of the table."""
    model, inputs, labels = make(name)
    optimizer = optim.AdamW(model.parameters())
    x, y = tgrad.tensor(inputs), tgrad.tensor(labels)

    @tgrad.compile
    def step(x: tgrad.Tensor, y: tgrad.Tensor) -> tgrad.Tensor:
        logits = model(x)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(x, y)
    (entry,) = step._entries.values()
    (part,) = entry.parts
    part.program.runner = lambda call: None
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        step(x, y)
        times.append(time.perf_counter() - start)
    state, launches = len(entry.states), part.compiled.plan.launches
    return f"{name:8} {state:6} state {launches:5} launches {median(times) * 1e6:6.1f} us a call"


if __name__ == "__main__":
    for each in sys.argv[1:] or ("convnet", "gpt4", "gpt12", "many200"):
        print(measure(each), flush=True)
