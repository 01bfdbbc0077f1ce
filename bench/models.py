"""Models, written once with the modules of `tgrad.nn` or `torch.nn`.

In: `of` (tgrad.nn or torch.nn), `functional`, `library` (tgrad or torch). Out: a module.
Invariant: nothing but names that both have, so both build the same model with the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.case import Repeated

BRANCH = 0.2
"""Scale of a residual branch of ResNet-50 at first."""


@dataclass(frozen=True)
class GPTSizes:
    """Sizes of a GPT."""

    vocabulary: int
    context: int
    width: int
    heads: int
    layers: int


def convnet(of: Any, functional: Any, library: Any) -> Any:
    """The convnet of examples/mnist.py: images [N, 1, 28, 28] in, logits [N, 10] out."""
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


def mlp(of: Any, functional: Any, library: Any) -> Any:
    """Three layers: vectors [N, 784] in, logits [N, 10] out."""
    return of.Sequential(
        of.Linear(784, 512),
        of.ReLU(),
        of.Linear(512, 512),
        of.ReLU(),
        of.Linear(512, 10),
    )


def gpt(of: Any, functional: Any, library: Any, sizes: GPTSizes) -> Any:
    """nanoGPT with a head of its own: tokens [N, T] in, logits [N, T, vocabulary] out."""
    width, heads = sizes.width, sizes.heads

    class Block(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = of.LayerNorm(width), of.LayerNorm(width)
            self.attend = of.Linear(width, 3 * width)
            self.project = of.Linear(width, width)
            self.mlp = of.Sequential(
                of.Linear(width, 4 * width), of.GELU(), of.Linear(4 * width, width)
            )

        def attention(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (
                part.reshape(batch, length, heads, width // heads).transpose(1, 2)
                for part in self.attend(x).split(width, 2)
            )
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.project(y.transpose(1, 2).reshape(batch, length, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class GPT(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = of.Embedding(sizes.vocabulary, width)
            self.positions = of.Embedding(sizes.context, width)
            self.blocks = of.ModuleList([Block() for _ in range(sizes.layers)])
            self.norm = of.LayerNorm(width)
            self.head = of.Linear(width, sizes.vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            places = library.arange(tokens.shape[1], device=tokens.device)
            x = self.tokens(tokens) + self.positions(places)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return GPT()


def resnet18(of: Any, functional: Any, library: Any, classes: int = 1000) -> Any:
    """ResNet-18 (He et al. 2015): images [N, 3, H, W] in, logits [N, classes] out."""

    class Block(of.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = of.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
            self.norm1 = of.BatchNorm2d(channels)
            self.conv2 = of.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm2 = of.BatchNorm2d(channels)
            self.shortcut = (
                of.Identity()
                if stride == 1 and channels_in == channels
                else of.Sequential(
                    of.Conv2d(channels_in, channels, 1, stride=stride, bias=False),
                    of.BatchNorm2d(channels),
                )
            )

        def forward(self, x: Any) -> Any:
            y = functional.relu(self.norm1(self.conv1(x)))
            return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    stem = (
        of.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        of.BatchNorm2d(64),
        of.ReLU(),
        of.MaxPool2d(3, stride=2, padding=1),
    )
    blocks = []
    for channels_in, channels, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        blocks += [Block(channels_in, channels, stride), Block(channels, channels, 1)]
    return of.Sequential(
        *stem, *blocks, of.AdaptiveAvgPool2d(1), of.Flatten(), of.Linear(512, classes)
    )


def vit(
    of: Any,
    functional: Any,
    library: Any,
    size: int = 32,
    patch: int = 4,
    width: int = 192,
    heads: int = 3,
    layers: int = 4,
    classes: int = 10,
) -> Any:
    """A vision transformer with mean pooling: images [N, 3, size, size] in, logits out."""

    class Block(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = of.LayerNorm(width), of.LayerNorm(width)
            self.attend, self.project = of.Linear(width, 3 * width), of.Linear(width, width)
            self.mlp = of.Sequential(
                of.Linear(width, 4 * width), of.GELU(), of.Linear(4 * width, width)
            )

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (
                part.reshape(batch, length, heads, width // heads).transpose(1, 2)
                for part in self.attend(self.norm1(x)).split(width, 2)
            )
            y = functional.scaled_dot_product_attention(q, k, v)
            x = x + self.project(y.transpose(1, 2).reshape(batch, length, width))
            return x + self.mlp(self.norm2(x))

    class ViT(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = of.Conv2d(3, width, patch, stride=patch)
            self.positions = of.Embedding((size // patch) ** 2, width)
            self.blocks = of.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = of.LayerNorm(width), of.Linear(width, classes)

        def forward(self, images: Any) -> Any:
            x = self.patches(images).flatten(2).transpose(1, 2)
            x = x + self.positions(library.arange(x.shape[1], device=x.device))
            return self.head(self.norm(self.blocks(x)).mean(1))

    return ViT()


def lstm(of: Any, functional: Any, library: Any, width: int = 128, vocabulary: int = 65) -> Any:
    """A character LSTM: tokens [N, T] in, logits [N, vocabulary] of the one after the last out."""

    class LSTM(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = of.Embedding(vocabulary, width)
            self.lstm = of.LSTM(width, width, batch_first=True)
            self.head = of.Linear(width, vocabulary)

        def forward(self, tokens: Any) -> Any:
            _, (h, _) = self.lstm(self.tokens(tokens))
            return self.head(h[-1])

    return LSTM()


def initial_state(model: Any, seed: int, block: int | None = None) -> dict[str, Any]:
    """Values for the state of a module of tgrad, from a seed: matrices normal with a deviation of
    1/sqrt(fan in), scales 1, the rest 0.

    The last norm of a bottleneck, norm3, begins at `BRANCH`: with 1 the gradients of ResNet-50 are
    thousands, and three steps in float32 have nothing to do with those in float64.

    Args:
        model: the module.
        seed: of the random numbers.
        block: matrices with more elements are `Repeated` blocks of so many; None for none.
    """
    random = np.random.default_rng(seed)
    state: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        dtype = tensor.dtype.numpy
        if len(shape) > 1:
            scale = np.prod(shape[1:]) ** -0.5
            if block is None or tensor.numel() <= block:
                state[name] = (scale * random.standard_normal(shape)).astype(dtype)
            else:
                values = (scale * random.standard_normal(block)).astype(dtype)
                state[name] = Repeated(values, shape)
        else:
            is_scale = name.endswith(("weight", "running_var"))
            scale = BRANCH if name.endswith("norm3.weight") else float(is_scale)
            state[name] = np.full(shape, scale, dtype)
    return state
