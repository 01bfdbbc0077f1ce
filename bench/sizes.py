"""Steps whose sizes depend on data: `python -m bench.sizes [experts padded images alone cache]`.

In: names of programs. Out: a row a program and library: the first steps in all, and the median of
later ones, for PyTorch, for tgrad, and for the step in `tgrad.compile`. Invariant: one source with
either library and equal inputs, in one process, and losses that agree; each step has other sizes,
most of which come again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

FIRST = 8
"""Steps in which plans are made."""
WIDTH, HEADS, WORDS = 64, 4, 100

Step = Callable[[int], Any]
"""The step of a number; returns a 0-d tensor."""


@dataclass
class Library:
    """A library as an import gives it, and random numbers that are the same for each."""

    torch: Any

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.F, self.nn = self.torch.nn.functional, self.torch.nn

    def weight(self, *shape: int) -> Any:
        """A parameter."""
        return self.numbers(*shape).mul_(0.1).requires_grad_()

    def numbers(self, *shape: int) -> Any:
        return self.torch.tensor(self.rng.standard_normal(shape, dtype=np.float32))

    def integers(self, most: int, *shape: int) -> Any:
        return self.torch.tensor(self.rng.integers(0, most, shape))

    def trained(self, loss_of: Callable[..., Any], weights: list[Any]) -> Callable[..., Any]:
        """Gradients of a loss, and a step of AdamW."""
        optimizer = self.torch.optim.AdamW(weights, lr=1e-3)

        def step(*batch: Any) -> Any:
            loss = loss_of(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step


def experts(lib: Library, wrap: Callable[..., Any]) -> Step:
    """Eight experts, to each of which a router gives other tokens in each step. Which, is known
    when it has run, so there is nothing to compile as a whole."""
    torch, F, count = lib.torch, lib.F, 8
    router = lib.weight(WIDTH, count)
    layers = [(lib.weight(WIDTH, 128), lib.weight(128, WIDTH)) for _ in range(count)]

    def loss_of(x: Any, y: Any) -> Any:
        shares, chosen = F.softmax(x @ router, -1).topk(2, -1)
        shares = shares / shares.sum(-1, keepdim=True)
        out = torch.zeros(*x.shape)
        for number, (up, down) in enumerate(layers):
            token, slot = torch.where(chosen == number)
            if token.numel():
                made = F.relu(x[token] @ up) @ down
                out = out.index_add(0, token, made * shares[token, slot].unsqueeze(-1))
        return ((x + out - y) ** 2).mean()

    step = lib.trained(loss_of, [router, *(w for pair in layers for w in pair)])
    return lambda _: step(lib.numbers(256, WIDTH), lib.numbers(256, WIDTH))


def padded(lib: Library, wrap: Callable[..., Any]) -> Step:
    """A transformer's layer over batches of sentences, padded to the longest of each."""
    torch, nn, F = lib.torch, lib.nn, lib.F
    words, head = lib.weight(WORDS, WIDTH), lib.weight(WIDTH, 2)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 128, dropout=0.0, batch_first=True)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(lib.numbers(*p.shape) * 0.1)

    def loss_of(tokens: Any, is_padding: Any, labels: Any) -> Any:
        x = layer(F.embedding(tokens, words), src_key_padding_mask=is_padding)
        there = (~is_padding).unsqueeze(-1).float()
        return F.cross_entropy((x * there).sum(1) / there.sum(1) @ head, labels)

    step = wrap(lib.trained(loss_of, [words, head, *layer.parameters()]))

    def run(_: int) -> Any:
        longest = int(lib.rng.integers(10, 40))
        lengths = lib.rng.integers(3, longest + 1, 8)
        lengths[0] = longest
        is_padding = torch.tensor(np.arange(longest) >= lengths[:, None])
        return step(lib.integers(WORDS, 8, longest), is_padding, lib.integers(2, 8))

    return run


def images(lib: Library, wrap: Callable[..., Any]) -> Step:
    """Convolutions over batches of images, whose number, height and width are others each time."""
    F = lib.F
    weights = [lib.weight(16, 3, 3, 3), lib.weight(32, 16, 3, 3), lib.weight(32, 10)]

    def loss_of(x: Any, labels: Any) -> Any:
        for w in weights[:2]:
            x = F.relu(F.conv2d(x, w, stride=2, padding=1))
        return F.cross_entropy(x.mean((2, 3)) @ weights[2], labels)

    step = wrap(lib.trained(loss_of, weights))

    def run(_: int) -> Any:
        rows, height, width = (int(lib.rng.integers(low, 2 * low)) for low in (4, 33, 33))
        return step(lib.numbers(rows, 3, height, width), lib.integers(10, rows))

    return run


def decoder(lib: Library, wrap: Callable[..., Any], with_cache: bool) -> Step:
    """A token after the other of a decoder that reads all before it, or their keys and values."""
    torch, F = lib.torch, lib.F
    shapes = (WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)
    words, places = lib.weight(WORDS, WIDTH), lib.weight(256, WIDTH)
    layers = [[lib.weight(*shape) for shape in shapes] for _ in range(2)]
    cache: list[Any] = [None, None]
    state: list[Any] = [lib.integers(WORDS, 1, 5), 0]

    def split(x: Any) -> Any:
        return x.reshape(1, x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)

    @torch.no_grad()
    def forward(tokens: Any, places: Any, before: list[Any]) -> Any:
        x, after = F.embedding(tokens, words) + places, []
        for (qkv, out, up, down), past in zip(layers, before):
            q, k, v = map(split, (F.layer_norm(x, (WIDTH,)) @ qkv).chunk(3, -1))
            if past is not None:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            after.append((k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
            x = x + y.transpose(1, 2).reshape(*x.shape) @ out
            x = x + F.gelu(F.layer_norm(x, (WIDTH,)) @ up) @ down
        scores = x[:, -1] @ words.T
        return scores.argmax(-1, keepdim=True), scores.amax(), after

    forward = wrap(forward)

    def run(_: int) -> Any:
        tokens, start = state
        end = start + tokens.shape[1]
        token, best, after = forward(tokens, places[start:end].detach(), cache)
        if with_cache:
            cache[:], state[:] = after, [token, end]
        else:
            state[0] = torch.cat([tokens, token], 1)
        return best

    return run


PROGRAMS: dict[str, tuple[Callable[..., Step], int, bool]] = {
    "experts": (experts, 60, False),
    "padded": (padded, 120, True),
    "images": (images, 60, True),
    "alone": (partial(decoder, with_cache=False), 100, True),
    "cache": (partial(decoder, with_cache=True), 100, True),
}
"""Its steps' maker, how many there are, and whether a step can be compiled as a whole."""


def measure(name: str, library: Any, wrap: Callable[..., Any]) -> tuple[list[float], list[float]]:
    """Seconds of each step, and what each returned."""
    make, steps, _ = PROGRAMS[name]
    step = make(Library(library), wrap)
    times, values = [], []
    for number in range(steps):
        start = time.perf_counter()
        values.append(float(step(number)))
        times.append(time.perf_counter() - start)
    return times, values


def main(names: list[str]) -> None:
    """Print the table."""
    import torch

    import tgrad

    for name in names or PROGRAMS:
        _, wanted = rows = measure(name, torch, lambda f: f)
        found = {"torch": rows, "tgrad": measure(name, tgrad, lambda f: f)}
        if PROGRAMS[name][2]:
            found["tgrad.compile"] = measure(name, tgrad, tgrad.compile)
        for library, (times, values) in found.items():
            error = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(values, wanted))
            first, later = sum(times[:FIRST]), median(times[FIRST:])
            slow = sum(t for t in times[FIRST:] if t > 10 * later)
            print(
                f"{name:8} {library:14} first {FIRST}: {first:6.2f} s, later {1e3 * later:7.2f} ms "
                f"a step, and {slow:5.2f} s for plans; {error:.0e} from PyTorch",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
