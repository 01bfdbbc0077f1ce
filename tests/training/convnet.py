"""The convnet of examples/mnist.py, in tgrad and in PyTorch, with equal weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.models import convnet
from tgrad import nn


def twins(device: str) -> tuple[nn.Module, Any]:
    """The model in tgrad on a device and in PyTorch, with PyTorch's initial weights."""
    import torch

    import tgrad

    torch.manual_seed(3)
    theirs = convnet(torch.nn, torch.nn.functional, torch)
    ours = convnet(nn, tgrad.nn.functional, tgrad)
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
