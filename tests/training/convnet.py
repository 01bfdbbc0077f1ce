"""The convnet of examples/mnist.py, in tgrad and in PyTorch, with equal weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tgrad import nn


def layers(of: Any) -> Any:
    """The model with the modules of `tgrad.nn` or `torch.nn`."""
    return of.Sequential(
        of.Conv2d(1, 32, 5),
        of.ReLU(),
        of.Conv2d(32, 32, 5),
        of.ReLU(),
        of.BatchNorm2d(32),
        of.MaxPool2d(2),
        of.Conv2d(32, 64, 3),
        of.ReLU(),
        of.Conv2d(64, 64, 3),
        of.ReLU(),
        of.BatchNorm2d(64),
        of.MaxPool2d(2),
        of.Flatten(),
        of.Linear(576, 10),
    )


def twins(device: str) -> tuple[nn.Module, Any]:
    """The model in tgrad on a device and in PyTorch, with PyTorch's initial weights."""
    import torch

    import tgrad

    torch.manual_seed(3)
    theirs = layers(torch.nn)
    ours = layers(nn)
    state = {k: tgrad.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return ours.to(device), theirs


def batches(count: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images [N, 1, 28, 28] and labels [N], the same for both."""
    rng = np.random.default_rng(5)
    return [
        (
            rng.standard_normal((size, 1, 28, 28)).astype(np.float32),
            rng.integers(0, 10, size),
        )
        for _ in range(count)
    ]
