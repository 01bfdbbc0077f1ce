"""More models, written once with the modules of `tgrad.nn` or `torch.nn`: see bench/models.py.

In: `of` (tgrad.nn or torch.nn), `functional`, `library` (tgrad or torch). Out: a module.
Invariant: nothing but names that both have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def resnet50(of: Any, functional: Any, library: Any, classes: int = 1000) -> Any:
    """ResNet-50 (He et al. 2015), strides in the 3x3 as everybody has them: images [N, 3, H, W] in,
    logits [N, classes] out."""

    class Bottleneck(of.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            wide = 4 * channels
            self.conv1 = of.Conv2d(channels_in, channels, 1, bias=False)
            self.norm1 = of.BatchNorm2d(channels)
            self.conv2 = of.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
            self.norm2 = of.BatchNorm2d(channels)
            self.conv3 = of.Conv2d(channels, wide, 1, bias=False)
            self.norm3 = of.BatchNorm2d(wide)
            self.shortcut = (
                of.Identity()
                if channels_in == wide
                else of.Sequential(
                    of.Conv2d(channels_in, wide, 1, stride=stride, bias=False),
                    of.BatchNorm2d(wide),
                )
            )

        def forward(self, x: Any) -> Any:
            y = functional.relu(self.norm1(self.conv1(x)))
            y = functional.relu(self.norm2(self.conv2(y)))
            return functional.relu(self.norm3(self.conv3(y)) + self.shortcut(x))

    blocks = []
    channels_in = 64
    for channels, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for at in range(count):
            blocks.append(Bottleneck(channels_in, channels, stride if at == 0 else 1))
            channels_in = 4 * channels
    return of.Sequential(
        of.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        of.BatchNorm2d(64),
        of.ReLU(),
        of.MaxPool2d(3, stride=2, padding=1),
        *blocks,
        of.AdaptiveAvgPool2d(1),
        of.Flatten(),
        of.Linear(2048, classes),
    )


@dataclass(frozen=True)
class LlamaSizes:
    """Sizes of a Llama-style decoder."""

    vocabulary: int
    width: int
    heads: int
    key_heads: int
    inner: int
    layers: int


def rotated(library: Any, x: Any, cosine: Any, sine: Any) -> Any:
    """Rotary positions (Su et al. 2021) on x [N, heads, T, D]; tables [T, D]."""
    left, right = x.chunk(2, -1)
    return x * cosine + library.cat((-right, left), -1) * sine


def llama(of: Any, functional: Any, library: Any, sizes: LlamaSizes) -> Any:
    """RMS norm, rotary positions, grouped heads, gated SiLU: tokens [N, T] in, logits out."""
    width, size = sizes.width, sizes.width // sizes.heads

    def linear(inputs: int, outputs: int) -> Any:
        return of.Linear(inputs, outputs, bias=False)

    class Block(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = of.RMSNorm(width, eps=1e-5), of.RMSNorm(width, eps=1e-5)
            self.q, self.k = linear(width, width), linear(width, sizes.key_heads * size)
            self.v, self.o = linear(width, sizes.key_heads * size), linear(width, width)
            self.gate, self.up = linear(width, sizes.inner), linear(width, sizes.inner)
            self.down = linear(sizes.inner, width)

        def attention(self, x: Any, cosine: Any, sine: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (
                y.reshape(batch, length, -1, size).transpose(1, 2)
                for y in (self.q(x), self.k(x), self.v(x))
            )
            q, k = rotated(library, q, cosine, sine), rotated(library, k, cosine, sine)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return self.o(y.transpose(1, 2).reshape(batch, length, width))

        def forward(self, x: Any, cosine: Any, sine: Any) -> Any:
            x = x + self.attention(self.norm1(x), cosine, sine)
            y = self.norm2(x)
            return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    class Llama(of.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = of.Embedding(sizes.vocabulary, width)
            self.blocks = of.ModuleList([Block() for _ in range(sizes.layers)])
            self.norm = of.RMSNorm(width, eps=1e-5)
            self.head = linear(width, sizes.vocabulary)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens)
            places = library.arange(tokens.shape[1], device=tokens.device)
            rates = library.arange(0, size, 2, device=tokens.device) / size
            angles = places[:, None] * 10000.0 ** (-rates)
            angles = library.cat((angles, angles), 1)
            cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
            for block in self.blocks:
                x = block(x, cosine, sine)
            return self.head(self.norm(x))

    return Llama()


def unet_block(
    of: Any, functional: Any, library: Any, channels: int = 128, groups: int = 32, heads: int = 4
) -> Any:
    """A level of a diffusion UNet: residual block, attention, down, residual block, up, and the
    skipped image joined: images [N, channels, H, W] in and out."""

    class Residual(of.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = of.GroupNorm(groups, inputs), of.GroupNorm(groups, outputs)
            self.conv1 = of.Conv2d(inputs, outputs, 3, padding=1)
            self.conv2 = of.Conv2d(outputs, outputs, 3, padding=1)
            self.shortcut = of.Identity() if inputs == outputs else of.Conv2d(inputs, outputs, 1)

        def forward(self, x: Any) -> Any:
            y = self.conv1(functional.silu(self.norm1(x)))
            y = self.conv2(functional.silu(self.norm2(y)))
            return y + self.shortcut(x)

    class Attention(of.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.norm = of.GroupNorm(groups, inputs)
            self.attend, self.project = of.Linear(inputs, 3 * inputs), of.Linear(inputs, inputs)

        def forward(self, x: Any) -> Any:
            batch, inputs, height, width = x.shape
            y = self.norm(x).flatten(2).transpose(1, 2)
            q, k, v = (
                part.reshape(batch, height * width, heads, inputs // heads).transpose(1, 2)
                for part in self.attend(y).split(inputs, 2)
            )
            y = functional.scaled_dot_product_attention(q, k, v)
            y = self.project(y.transpose(1, 2).reshape(batch, height * width, inputs))
            return x + y.transpose(1, 2).reshape(batch, inputs, height, width)

    class Level(of.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = 2 * channels
            self.enter, self.attend = Residual(channels, channels), Attention(channels)
            self.down = of.Conv2d(channels, wide, 3, stride=2, padding=1)
            self.middle = Residual(wide, wide)
            self.up = of.Conv2d(wide, channels, 3, padding=1)
            self.leave = Residual(2 * channels, channels)

        def forward(self, x: Any) -> Any:
            kept = self.attend(self.enter(x))
            y = self.middle(self.down(kept))
            y = self.up(functional.interpolate(y, scale_factor=2, mode="nearest"))
            return self.leave(library.cat((y, kept), 1))

    return Level()
