"""Random training steps over a range of sizes: models of 2 to 6 layers, a loss, an optimizer and
what stands around it, written once for PyTorch and tgrad."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tgrad

WIDTH, LONGEST = 4, 6
Layer = tuple[Callable[[Any], list[Any]], Callable[..., Any]]
"""Modules made of m.nn, and what is done with m, x [B, T, 4], and these."""


def _one(make: Callable[[Any], Any]) -> Layer:
    return lambda m: [make(m.nn)], lambda m, x, layer: layer(x)


def _none(function: Callable[[Any, Any], Any]) -> Layer:
    return lambda m: [], function


def _causal(m: Any, x: Any) -> Any:
    length = x.shape[1]
    ahead = m.triu(m.ones(length, length, dtype=m.bool), 1)
    scores = (x @ x.mT / 2).masked_fill(ahead, float("-inf"))
    return m.nn.functional.softmax(scores, -1) @ x


def _padded(m: Any, x: Any) -> Any:
    lengths = m.arange(x.shape[0]).clamp(max=2) + 1
    there = m.arange(x.shape[1])[None] < lengths[:, None]
    kept = x * there.unsqueeze(-1)
    return kept - kept.sum(1, keepdim=True) / there.sum(1)[:, None, None]


def _cached(m: Any, x: Any) -> Any:
    cache = m.zeros(x.shape[0], LONGEST + 2, WIDTH, dtype=x.dtype)
    cache[:, : x.shape[1]] = x
    cache[:, x.shape[1] :].add_(0.5)
    return x + cache.mean(1, keepdim=True)


def _written(m: Any, x: Any) -> Any:
    y = x * 1
    y[:, 1:].mul_(0.5)
    y[:, :-1, 1:3] += x[:, 1:, 1:3]
    y[0] = 0.25
    return y


LAYERS: dict[str, Layer] = {
    "linear": _one(lambda nn: nn.Linear(WIDTH, WIDTH)),
    "layer norm": _one(lambda nn: nn.LayerNorm(WIDTH)),
    "encoder": _one(lambda nn: nn.TransformerEncoderLayer(WIDTH, 2, 8, 0.0, batch_first=True)),
    "attention": (
        lambda m: [m.nn.MultiheadAttention(WIDTH, 2, batch_first=True)],
        lambda m, x, layer: sum(t.sum(-1, keepdim=True) for t in layer(x, x, x)) + x,
    ),
    "batch norm": (
        lambda m: [m.nn.BatchNorm1d(WIDTH)],
        lambda m, x, layer: layer(x.reshape(-1, WIDTH)).reshape(x.shape),
    ),
    "batch norm of channels": (
        lambda m: [m.nn.BatchNorm1d(WIDTH, momentum=None)],
        lambda m, x, layer: layer(x.mT).mT,
    ),
    "flattened": (
        lambda m: [m.nn.Linear(WIDTH, WIDTH)],
        lambda m, x, layer: layer(x.flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[1])),
    ),
    "convolution": (
        lambda m: [m.nn.Conv1d(WIDTH, WIDTH, 3, padding=1)],
        lambda m, x, layer: layer(x.mT).mT,
    ),
    "recurrent over rows": (
        lambda m: [m.nn.GRUCell(WIDTH, WIDTH)],
        lambda m, x, layer: x + layer(x[:, -1]).unsqueeze(1),
    ),
    "positions": (
        lambda m: [m.nn.Embedding(LONGEST, WIDTH)],
        lambda m, x, layer: x + layer(m.arange(x.shape[1])) - layer.weight[: x.shape[1]] * 2,
    ),
    "rows by number": (
        lambda m: [m.nn.Embedding(16, WIDTH)],
        lambda m, x, layer: x + layer(m.arange(x.shape[0])).unsqueeze(1),
    ),
    "causal": _none(_causal),
    "causal by flag": _none(
        lambda m, x: m.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    ),
    "padded": _none(_padded),
    "cached": _none(_cached),
    "written": _none(_written),
    "sizes": _none(lambda m, x: x * x.shape[0] / (x.shape[1] + 1) + 1.0 / x.shape[1]),
    "running sums": _none(lambda m, x: x.cumsum(1) / 3 + x.logcumsumexp(0) / 3),
    "sorted": _none(lambda m, x: x.sort(0).values + x.gather(1, x.detach().argsort(1))),
    "rolled": _none(lambda m, x: x.roll(1, 1) - x.flip(0)),
    "best row": _none(
        lambda m, x: x + x[m.arange(x.shape[0]), x.detach().sum(2).argmax(1)].unsqueeze(1)
    ),
    "put": _none(lambda m, x: m.zeros_like(x).index_add(0, m.arange(x.shape[0]).flip(0), x)),
    "pooled": _none(lambda m, x: m.nn.functional.max_pool1d(x.mT, 3, 1, 1).mT),
    "shifted": _none(lambda m, x: m.cat([m.zeros_like(x[:, :1]), x[:, :-1]], 1)),
    "normalised over all": _none(lambda m, x: x / (x.std(correction=0) + 1)),
    "gelu": _none(lambda m, x: m.nn.functional.gelu(x)),
}  # fmt: skip

LOSSES: dict[str, Callable[..., Any]] = {
    "squares": lambda m, y, tokens: m.nn.functional.mse_loss(y, y.detach().flip(1) * 0.5),
    "by hand": lambda m, y, tokens: (y**2).sum() / (y.shape[0] * y.shape[1]),
    "cross entropy": lambda m, y, tokens: m.nn.functional.cross_entropy(
        y.reshape(-1, WIDTH), tokens.reshape(-1), ignore_index=0, reduction="sum"
    ),
    "of the next": lambda m, y, tokens: m.nn.functional.cross_entropy(
        y[:, :-1].reshape(-1, WIDTH), tokens[:, 1:].reshape(-1), reduction="sum"
    ),
    "smoothed": lambda m, y, tokens: m.nn.functional.cross_entropy(
        y.mT, tokens, label_smoothing=0.1
    ),
    "masked": lambda m, y, tokens: (
        ((y**2).sum(-1) * (tokens > 0)).sum() / (tokens > 0).sum().clamp(min=1)
    ),
}

OPTIMIZERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True}),
    ("Adagrad", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01}),
)


@dataclass
class Step:
    """A training step.

    Attributes:
        model, optimizer: whose state it changes.
        run: (x, tokens) to the loss and the outputs.
        schedule: what follows each step.
    """

    model: Any
    optimizer: Any
    run: Callable[..., Any]
    schedule: Callable[[], None]

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, running statistics and moments."""
        found = {
            name: np.asarray(t.detach().numpy()) for name, t in self.model.state_dict().items()
        }
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"{number} {name}": np.asarray(value) for name, value in moments.items()}
        return found


class Program:
    """What a seed chooses, the same for every package that it is built with."""

    def __init__(self, seed: int):
        chance = random.Random(seed)
        self.seed, self.accumulates = seed, chance.random() < 0.3
        self.layers = [chance.choice(list(LAYERS)) for _ in range(chance.randint(2, 6))]
        self.loss, self.optimizer = chance.choice(list(LOSSES)), chance.choice(OPTIMIZERS)
        self.clips = chance.choice(("not", "norm", "value"))
        low, high = (2, 2), (chance.randint(4, 7), LONGEST)
        self.shapes = [low, high, low] + [
            (chance.randint(2, high[0]), chance.randint(2, high[1])) for _ in range(2)
        ]
        rows, length = tgrad.Dim("rows", 2, high[0]), tgrad.Dim("length", 2, high[1])
        self.dynamic = {name: {0: rows, 1: length} for name in ("x", "tokens")}

    def __str__(self) -> str:
        return f"{self.seed}: {', '.join(self.layers)}; {self.loss}; {self.optimizer[0]}"

    def arguments(self, m: Any, call: int) -> tuple[Any, Any]:
        """x and tokens of a call."""
        rng, shape = np.random.default_rng(call), self.shapes[call]
        x, tokens = rng.standard_normal((*shape, WIDTH)), rng.integers(0, WIDTH, shape)
        return m.tensor(x), m.tensor(tokens)

    def build(self, m: Any) -> Step:
        """The step with tgrad or torch."""
        made = [LAYERS[name][0](m) for name in self.layers]
        modules = m.nn.ModuleList([each for group in made for each in group])
        head = m.nn.Linear(WIDTH, WIDTH)
        model = m.nn.ModuleList([modules, head]).to(m.float64)
        rng = np.random.default_rng(self.seed)
        with m.no_grad():
            for parameter in model.parameters():
                parameter.copy_(m.tensor(rng.standard_normal(tuple(parameter.shape)) * 0.5))
        name, settings = self.optimizer
        optimizer = getattr(m.optim, name)(model.parameters(), **settings)
        scheduler = m.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

        def run(x: Any, tokens: Any) -> Any:
            optimizer.zero_grad()
            for part in (x, x * 0.5) if self.accumulates else (x,):
                y = part
                for name, group in zip(self.layers, made):
                    y = LAYERS[name][1](m, y, *group)
                y = head(y)
                loss = LOSSES[self.loss](m, y, tokens)
                loss.backward()
            if self.clips == "norm":
                m.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            elif self.clips == "value":
                m.nn.utils.clip_grad_value_(model.parameters(), 0.05)
            optimizer.step()
            return loss.detach(), y.detach()

        return Step(model, optimizer, run, scheduler.step)
