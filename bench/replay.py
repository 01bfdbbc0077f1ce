"""Python time of a compiled call: `python -m bench.replay [cuda] [convnet gpt4 gpt12 many200]`.

In: names of models, and of a device. Out: a row a model: tensors of state, launches, microseconds
of a call; on cuda those with CUDA's launch of the graph too. Invariant: what runs the kernels, a C
entry or the launch of a graph, is replaced by nothing, so what is left is Python; AdamW; the median
of 400 calls with the same arguments, for which graphs work in place (runtime/graph_capture.py).
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


def measure(name: str, device: str = "cpu") -> str:
    """A row of the table."""
    model, inputs, labels = make(name)
    model.to(device)
    optimizer = optim.AdamW(model.parameters())
    x, y = (tgrad.tensor(a, device=device) for a in (inputs, labels))

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
    whole = ""
    if device == "cuda":
        whole = f", {_microseconds(step, x, y):6.1f} us with the launch of its graph"
        part.program.start = lambda graph: None
    else:
        part.program.runner = lambda call: None
    python = _microseconds(step, x, y)
    state, launches = len(entry.states), part.compiled.plan.launches
    return f"{name:8} {state:6} state {launches:5} launches {python:6.1f} us a call{whole}"


def _microseconds(step: Any, *arguments: tgrad.Tensor) -> float:
    """Until a call returns."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        step(*arguments)
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


if __name__ == "__main__":
    named = [name for name in sys.argv[1:] if name != "cuda"]
    for each in named or ("convnet", "gpt4", "gpt12", "many200"):
        print(measure(each, "cuda" if "cuda" in sys.argv[1:] else "cpu"), flush=True)
