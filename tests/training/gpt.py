"""A small GPT, in tgrad and in PyTorch, with equal weights: 4 layers of width 128."""

from __future__ import annotations

from typing import Any

import numpy as np

import tgrad
from tgrad import nn

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 64, 32, 128, 4, 4


def gpt(of: Any, functional: Any, library: Any, dropout: float = 0.0, layers: int = LAYERS) -> Any:
    """The model with the modules of `tgrad.nn` or `torch.nn`.

    Args:
        of: the module of layers.
        functional: the module of functions.
        library: tgrad or torch.
    """

    class Block(of.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = of.LayerNorm(WIDTH), of.LayerNorm(WIDTH)
            self.attend = of.Linear(WIDTH, 3 * WIDTH)
            self.project = of.Linear(WIDTH, WIDTH)
            self.mlp = of.Sequential(
                of.Linear(WIDTH, 4 * WIDTH),
                of.GELU(),
                of.Linear(4 * WIDTH, WIDTH),
                of.Dropout(dropout),
            )

        def attention(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (
                part.reshape(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
                for part in self.attend(x).split(WIDTH, 2)
            )
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.project(y.transpose(1, 2).reshape(batch, length, WIDTH))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class GPT(of.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = of.Embedding(VOCABULARY, WIDTH)
            self.positions = of.Embedding(CONTEXT, WIDTH)
            self.blocks = of.ModuleList([Block() for _ in range(layers)])
            self.norm = of.LayerNorm(WIDTH)
            self.head = of.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, tokens: Any, targets: Any = None) -> Any:
            places = library.arange(tokens.shape[1], device=tokens.device)
            x = self.tokens(tokens) + self.positions(places)
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x))
            if targets is None:
                return logits
            return functional.cross_entropy(logits.reshape(-1, VOCABULARY), targets.reshape(-1))

    return GPT()


def twins(device: str = "cpu", dropout: float = 0.0, layers: int = LAYERS) -> tuple[nn.Module, Any]:
    """The model in tgrad on a device and in PyTorch, with PyTorch's initial weights, scaled as
    nanoGPT's: embeddings and matrices with a deviation of 0.02."""
    import torch

    import tgrad.nn.functional as ours_functional

    torch.manual_seed(4)
    theirs = gpt(torch.nn, torch.nn.functional, torch, dropout, layers)
    with torch.no_grad():
        for p in theirs.parameters():
            if p.ndim == 2:
                p.normal_(0.0, 0.02)
    ours = gpt(nn, ours_functional, tgrad, dropout, layers)
    ours.load_state_dict({k: tgrad.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours.to(device), theirs


def batches(count: int, size: int, length: int = CONTEXT) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and the tokens after them, int64 [size, length]; each token mostly follows from the
    one before, so there is something to learn."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(count):
        rows = np.zeros((size, length + 1), np.int64)
        rows[:, 0] = rng.integers(0, VOCABULARY, size)
        for i in range(length):
            random = rng.integers(0, VOCABULARY, size)
            rows[:, i + 1] = np.where(
                rng.random(size) < 0.9, (rows[:, i] * 5 + 3) % VOCABULARY, random
            )
        found.append((rows[:, :-1].copy(), rows[:, 1:].copy()))
    return found
