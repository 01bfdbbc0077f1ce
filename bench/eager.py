"""CPU time of eager steps of small models: `python -m bench.eager [gpt mlp convnet lstm ...]`.

In: names of models. Out: a row a model: milliseconds of a training step and of an evaluation, for
tgrad and for PyTorch. Invariant: one source with either library, equal inputs, one thread; models
are so small that what is left is Python and dispatch; the median of 30 steps after 30 others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from bench.models import GPTSizes, gpt

STEPS = 30

Made = tuple[Any, Any, Any]
"""A model, its inputs, and the classes that it learns."""


def _classes(library: Any, count: int) -> Any:
    return library.tensor(np.arange(count) % 3)


def _random(library: Any, *shape: int) -> Any:
    return library.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def make_gpt(library: Any) -> Made:
    """12 layers of 32."""
    nn = library.nn
    model = gpt(nn, nn.functional, library, GPTSizes(64, 16, 32, 2, 12))
    tokens = library.tensor(np.arange(32).reshape(2, 16))
    return model, tokens, _classes(library, 32)


def make_mlp(library: Any) -> Made:
    """Three linear layers."""
    nn = library.nn
    layers = (nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return nn.Sequential(*layers), _random(library, 8, 16), _classes(library, 8)


def make_convnet(library: Any) -> Made:
    """Two convolutions, a batch norm and two pools."""
    nn = library.nn
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    return model, _random(library, 8, 1, 14, 14), _classes(library, 8)


def make_lstm(library: Any) -> Made:
    """One layer over ten steps."""
    nn = library.nn

    class Last(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0][:, -1])

    return Last(), _random(library, 8, 10, 4), _classes(library, 8)


def make_encoder(library: Any) -> Made:
    """Two layers of a transformer."""
    nn = library.nn
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(0, 1))
    return model, _random(library, 2, 8, 16), _classes(library, 16)


def make_resnet(library: Any) -> Made:
    """18 layers of 4 to 8 channels."""
    nn = library.nn

    class Block(nn.Module):  # type: ignore[name-defined]
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            conv, norm = nn.Conv2d, nn.BatchNorm2d
            first = conv(channels_in, channels, 3, stride, 1, bias=False)
            second = conv(channels, channels, 3, 1, 1, bias=False)
            self.long = nn.Sequential(first, norm(channels), nn.ReLU(), second, norm(channels))
            other = conv(channels_in, channels, 1, stride, bias=False)
            is_same = stride == 1
            self.short = nn.Identity() if is_same else nn.Sequential(other, norm(channels))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.long(x) + self.short(x))

    sizes = (4, 4, 8, 8, 8)
    blocks = [
        Block(before if number == 0 else after, after, 2 if number == 0 and stage else 1)
        for stage, (before, after) in enumerate(pairwise(sizes))
        for number in range(2)
    ]
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), *blocks, *ends)
    return model, _random(library, 8, 3, 16, 16), _classes(library, 8)


MODELS: dict[str, Callable[[Any], Made]] = {
    "gpt": make_gpt, "mlp": make_mlp, "convnet": make_convnet, "lstm": make_lstm,
    "encoder": make_encoder, "resnet": make_resnet,
}  # fmt: skip


def measure(name: str, library: Any) -> tuple[float, float]:
    """Milliseconds of a training step with AdamW, and of an evaluation."""
    model, x, y = MODELS[name](library)
    optimizer = library.optim.AdamW(model.parameters())

    def train() -> None:
        optimizer.zero_grad()
        logits = model(x)
        loss = library.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y)
        loss.backward()
        optimizer.step()
        loss.item()

    def evaluate() -> None:
        with library.no_grad():
            model(x).sum().item()

    trained = _milliseconds(train)
    model.eval()
    return trained, _milliseconds(evaluate)


def _milliseconds(step: Callable[[], None]) -> float:
    seconds = []
    for _ in range(2 * STEPS):
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
    return 1e3 * median(seconds[STEPS:])


def main(arguments: list[str]) -> None:
    """Print the table."""
    import torch

    import tgrad

    torch.set_num_threads(1)
    tgrad.set_num_threads(1)
    print(f"{'':8} {'tgrad':>16} {'PyTorch':>16}   ms of a training step, of an evaluation")
    for name in arguments or MODELS:
        rows = [measure(name, library) for library in (tgrad, torch)]
        print(f"{name:8} " + " ".join(f"{a:8.2f} {b:7.2f}" for a, b in rows))


if __name__ == "__main__":
    main(sys.argv[1:])
