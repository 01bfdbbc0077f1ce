"""Loops that read a value at their end: `python -m bench.loops [tutorial simulation ...]`.

In: names of programs. Out: a row a program and library: the time of the first call, from an empty
cache where there is one, and the median of three later ones. Invariant: one source with either
library, in one process, and results that agree.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from bench.sizes import Library

LATER = 3
PROGRAMS: dict[str, tuple[Callable[[Library, int], Any], int]] = {}
"""By name: a program, which returns a tensor, and how many turns its loop makes."""


def program(turns: int) -> Callable[[Callable[[Library, int], Any]], Any]:
    """Decorator: a program whose loop makes so many turns."""

    def register(function: Callable[[Library, int], Any]) -> Any:
        PROGRAMS[function.__name__] = function, turns
        return function

    return register


@program(1000)
def tutorial(lib: Library, turns: int) -> Any:
    """A polynomial fitted to a sine by steps written by hand."""
    torch = lib.torch
    x = torch.linspace(-3.1, 3.1, 2000)
    y = torch.sin(x)
    weights = [torch.full((), 0.1 * n, requires_grad=True) for n in range(4)]
    for _ in range(turns):
        loss = (sum(w * x**n for n, w in enumerate(weights)) - y).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            for w in weights:
                w -= 1e-6 * w.grad
                w.grad = None
    return torch.stack([w.detach() for w in weights])


@program(2000)
def simulation(lib: Library, turns: int) -> Any:
    """Heat on a grid; each hundredth state is kept."""
    torch = lib.torch
    u, kept = torch.zeros(64, 64), []
    u[32, 32] = 1.0
    for turn in range(turns):
        near = sum(torch.roll(u, by, axis) for by in (1, -1) for axis in (0, 1))
        u = u + 0.1 * (near - 4 * u)
        if turn % 100 == 0:
            kept.append(u)
    return torch.stack(kept).sum((1, 2))


@program(200)
def evaluation(lib: Library, turns: int) -> Any:
    """Correct answers and losses of a small network, added up over batches."""
    torch, F = lib.torch, lib.F
    weights = [lib.weight(8, 1, 3, 3), lib.weight(8, 8, 3, 3), lib.weight(512, 10)]
    right, total = torch.tensor(0), torch.tensor(0.0)
    with torch.no_grad():
        for _ in range(turns):
            x, y = lib.numbers(32, 1, 12, 12), lib.integers(10, 32)
            for w in weights[:2]:
                x = F.relu(F.conv2d(x, w))
            scores = x.flatten(1) @ weights[2]
            right += (scores.argmax(1) == y).sum()
            total += F.cross_entropy(scores, y)
    return right + total


@program(500)
def predictions(lib: Library, turns: int) -> Any:
    """Answers of a network to all batches, joined at the end."""
    first, second, found = lib.weight(20, 64), lib.weight(64, 3), []
    with lib.torch.no_grad():
        for _ in range(turns):
            found.append(lib.F.softmax((lib.numbers(16, 20) @ first).tanh() @ second, -1))
    return lib.torch.cat(found)


@program(300)
def tokens(lib: Library, turns: int) -> Any:
    """Each token from the last sixteen, by two layers of attention."""
    torch, F = lib.torch, lib.F
    table, chosen = lib.weight(50, 32), []
    layers = [(lib.weight(32, 96), lib.weight(32, 32)) for _ in range(2)]
    row = torch.zeros(1, 16, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(turns):
            x = table[row]
            for qkv, out in layers:
                q, k, v = (F.layer_norm(x, (32,)) @ qkv).split(32, -1)
                x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True) @ out
            token = (x[:, -1] @ table.t()).argmax(-1, keepdim=True)
            chosen.append(token)
            row = torch.cat([row[:, 1:], token], 1)
    return torch.cat(chosen, 1)


@program(600)
def recurrence(lib: Library, turns: int) -> Any:
    """A gated state over many steps, all of which are kept."""
    torch = lib.torch
    a, b = lib.weight(16, 64).detach(), lib.weight(64, 64).detach()
    h = c = torch.zeros(8, 64)
    kept = []
    for _ in range(turns):
        x = lib.numbers(8, 16)
        gate = torch.sigmoid(x @ a + h @ b)
        c = c * gate + torch.tanh(x @ a) * (1 - gate)
        h = torch.tanh(c)
        kept.append(h)
    return torch.stack(kept).sum(0)


def measure(name: str, library: Any) -> tuple[list[float], np.ndarray]:
    """Seconds of each call, and what it returns."""
    run, turns = PROGRAMS[name]
    times, result = [], np.zeros(0)
    for _ in range(1 + LATER):
        start = time.perf_counter()
        result = run(Library(library), turns).numpy()
        times.append(time.perf_counter() - start)
    return times, result


def main(names: list[str]) -> None:
    """Print the table."""
    import torch

    import tgrad

    for name in names or PROGRAMS:
        _, wanted = rows = measure(name, torch)
        for library, (times, found) in {"torch": rows, "tgrad": measure(name, tgrad)}.items():
            error = np.abs(found - wanted).max() / np.abs(wanted).max()
            print(
                f"{name:12} {library:6} first {times[0]:6.2f} s, later {median(times[1:]):6.3f} s; "
                f"{error:.0e} from PyTorch",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
