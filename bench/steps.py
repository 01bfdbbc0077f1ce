"""Training steps: the models of bench/models.py with batch, loss and optimizer.

In: nothing. Out: `step_cases(sizes)`. Invariant: the full sizes do not change, so that figures of
different dates compare; the small ones are for tests and quick runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import models
from bench.case import Arrays, Case, StepCase
from bench.models import GPTSizes

Batch = Callable[[np.random.Generator], Arrays]


def classification_loss(functional: Any, model: Any, inputs: Any, targets: Any) -> Any:
    """Cross entropy of logits [..., classes] and targets [...]."""
    logits = model(inputs)
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def adam(optim: Any, parameters: Any, **options: Any) -> Any:
    return optim.Adam(parameters, lr=1e-4, **options)


def adamw(optim: Any, parameters: Any, **options: Any) -> Any:
    return optim.AdamW(parameters, lr=3e-4, **options)


def sgd(optim: Any, parameters: Any, **options: Any) -> Any:
    return optim.SGD(parameters, lr=1e-3, momentum=0.9, **options)


def images(count: int, shape: tuple[int, ...], classes: int) -> Batch:
    """Images [count, *shape] and labels [count]."""
    return lambda random: {
        "images": random.standard_normal((count, *shape), dtype=np.float32),
        "labels": random.integers(0, classes, count),
    }


def text(count: int, length: int, vocabulary: int, targets: int | None = None) -> Batch:
    """Tokens [count, length] and as many targets, or one a row where `targets` is 1."""
    return lambda random: {
        "tokens": random.integers(0, vocabulary, (count, length)),
        "targets": random.integers(0, vocabulary, count if targets == 1 else (count, length)),
    }


def _step(key: str, title: str, sizes: str, batch: Batch, model: Any, optimizer: Any) -> StepCase:
    text_of = f"training step of {title}"
    return StepCase(key, text_of, batch, model, optimizer, classification_loss, sizes=sizes)


def _convnet(sizes: str) -> StepCase:
    count = 4 if sizes == "small" else 512
    title = f"the MNIST convnet, batch {count}, Adam"
    batch = images(count, (1, 28, 28), 10)
    return _step("step_convnet", title, sizes, batch, models.convnet, adam)


def _gpt_of(key: str, name: str, sizes: str, shape: GPTSizes, count: int, length: int) -> StepCase:
    title = f"{name}, {shape.layers} layers x {shape.width}, batch {count} x {length}, AdamW"
    batch = text(count, length, shape.vocabulary)
    return _step(key, title, sizes, batch, partial(models.gpt, sizes=shape), adamw)


def _gpt(sizes: str) -> StepCase:
    small = sizes == "small"
    shape = GPTSizes(65, 8, 16, 2, 2) if small else GPTSizes(65, 64, 128, 4, 4)
    return _gpt_of("step_gpt", "a GPT", sizes, shape, *((2, 8) if small else (12, 64)))


def _gpt2(sizes: str) -> StepCase:
    """Twelve layers as GPT-2; narrower, so that it runs where there is no GPU."""
    small = sizes == "small"
    shape = GPTSizes(64, 8, 16, 2, 12) if small else GPTSizes(50304, 128, 384, 6, 12)
    return _gpt_of("step_gpt2", "a GPT-2", sizes, shape, *((2, 8) if small else (2, 128)))


def _mlp(sizes: str) -> StepCase:
    count = 16 if sizes == "small" else 512
    title = f"an MLP 784-512-512-10, batch {count}, SGD"
    return _step("step_mlp", title, sizes, images(count, (784,), 10), models.mlp, sgd)


def _resnet(sizes: str) -> StepCase:
    small = sizes == "small"
    count, side, classes = (2, 32, 10) if small else (8, 224, 1000)
    title = f"ResNet-18, batch {count} x {side}x{side}, SGD"
    model = partial(models.resnet18, classes=classes)
    return _step("step_resnet18", title, sizes, images(count, (3, side, side), classes), model, sgd)


def _vit(sizes: str) -> StepCase:
    small = sizes == "small"
    count, width, layers = (2, 48, 2) if small else (32, 192, 6)
    title = f"a ViT, {layers} layers x {width}, batch {count} x 32x32, AdamW"
    model = partial(models.vit, width=width, layers=layers)
    return _step("step_vit", title, sizes, images(count, (3, 32, 32), 10), model, adamw)


def _lstm(sizes: str) -> StepCase:
    small = sizes == "small"
    count, length, width = (2, 4, 16) if small else (32, 32, 128)
    title = f"an LSTM x {width}, batch {count} x {length}, Adam"
    model = partial(models.lstm, width=width)
    return _step("step_lstm", title, sizes, text(count, length, 65, targets=1), model, adam)


STEPS: dict[str, Callable[[str], StepCase]] = {
    "step_convnet": _convnet,
    "step_gpt": _gpt,
    "step_gpt2": _gpt2,
    "step_mlp": _mlp,
    "step_resnet18": _resnet,
    "step_vit": _vit,
    "step_lstm": _lstm,
}


def step_case(key: str, sizes: str = "full") -> StepCase:
    """The step of a key."""
    return STEPS[key](sizes)


def step_cases(sizes: str = "full") -> list[StepCase]:
    """All steps."""
    return [make(sizes) for make in STEPS.values()]


def cases(sizes: str = "full") -> list[Case]:
    """All steps, for a worker."""
    return [*step_cases(sizes)]
