"""The table of the GPU: functions forward and backward, products, attention, convolutions, steps.

In: nothing. Out: `cases(sizes)`. Invariant: bfloat16; the reference is PyTorch's float64 on the
same GPU. The full sizes are written for a card with 80 GB or more; the small ones are for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import models, steps
from bench.case import SEED, Arrays, Case, FunctionCase, StepCase
from bench.models import GPTSizes

Shape = tuple[int, ...]

TOLERANCE = 0.03
"""Of bfloat16: its rounding is 2^-8, and gradients sum roundings of many terms."""


def inputs_of(*named: tuple[str, Shape], scale: float = 1.0) -> Callable[[], Arrays]:
    """Normal inputs; one block of random numbers is repeated, since gigabytes take minutes."""

    def make() -> Arrays:
        random = np.random.default_rng(SEED)
        block = scale * random.standard_normal((1 << 22) + 3, dtype=np.float32)
        return {name: np.resize(block, shape) for name, shape in named}

    return make


def function(
    key: str, title: str, arrays: Callable[[], Arrays], program: Any, gradient: bool = False
) -> FunctionCase:
    """A row."""
    words = f"{title}, forward and backward" if gradient else title
    return FunctionCase(
        f"{key}_backward" if gradient else key, words, arrays, program, None,
        tolerance=TOLERANCE, has_gradient=gradient, dtype="bfloat16",
    )  # fmt: skip


def both(key: str, title: str, named: Any, out: Shape, program: Any) -> list[FunctionCase]:
    """A row forward, and one with the gradients."""
    return [
        function(key, title, inputs_of(*named), program),
        function(key, title, inputs_of(*named, ("gradient", out)), program, gradient=True),
    ]


# -- programs in PyTorch's names -------------------------------------------------------------------


def chain(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return (a * b + a).tanh() * b.sigmoid() - a


def sum_of(library: Any, functional: Any, x: Any, axis: int) -> Any:
    return x.sum(axis)


def softmax(library: Any, functional: Any, x: Any) -> Any:
    return functional.softmax(x, dim=1)


def layer_norm(library: Any, functional: Any, x: Any, weight: Any, bias: Any) -> Any:
    return functional.layer_norm(x, (x.shape[1],), weight, bias)


def rms_norm(library: Any, functional: Any, x: Any, weight: Any) -> Any:
    return functional.rms_norm(x, (x.shape[1],), weight)


def cross_entropy(library: Any, functional: Any, x: Any) -> Any:
    """Of row i against class i; unreduced, so that its gradient is an input."""
    labels = library.arange(x.shape[0], device=x.device)
    return functional.cross_entropy(x, labels, reduction="none")


def matmul(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return a @ b


def linear_gelu_residual(
    library: Any, functional: Any, x: Any, weight: Any, bias: Any, residual: Any
) -> Any:
    return functional.gelu(functional.linear(x, weight, bias)) + residual


def attention(library: Any, functional: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def grouped_attention(library: Any, functional: Any, q: Any, k: Any, v: Any) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def convolution(library: Any, functional: Any, x: Any, weight: Any, stride: int) -> Any:
    return functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)


# -- rows ------------------------------------------------------------------------------------------


def memory_bound(sizes: str) -> list[FunctionCase]:
    """Elementwise, reductions, softmax, norms, losses: 64 MB to 2 GB."""
    small = sizes == "small"
    rows = []
    for n in (64,) if small else (4096, 8192, 32768):
        square, x = (n, n), ("x", (n, n))
        width = ("weight", (n,))
        rows += [
            function(
                f"chain_{n}",
                f"(a*b+a).tanh()*sigmoid(b)-a, {n}x{n}",
                inputs_of(("a", square), ("b", square)),
                chain,
            )
        ]
        for axis, word in ((1, "rows"), (0, "columns")):
            rows += [
                function(
                    f"sum_{word}_{n}",
                    f"sum of {word}, {n}x{n}",
                    inputs_of(x),
                    partial(sum_of, axis=axis),
                )
            ]
        rows += both(f"softmax_{n}", f"softmax, {n}x{n}", [x], square, softmax)
        rows += both(
            f"layer_norm_{n}",
            f"layer norm, {n}x{n}",
            [x, width, ("bias", (n,))],
            square,
            layer_norm,
        )
        rows += both(f"rms_norm_{n}", f"RMS norm, {n}x{n}", [x, width], square, rms_norm)
    count, classes = (16, 64) if small else (8192, 50304)
    rows += both(
        "cross_entropy",
        f"cross entropy, {count}x{classes}",
        [("x", (count, classes))],
        (count,),
        cross_entropy,
    )
    return rows  # fmt: skip


def products(sizes: str) -> list[FunctionCase]:
    """Square, tall, wide and batched, and with an epilogue."""
    rows = []
    squares = (64,) if sizes == "small" else (1024, 2048, 4096, 8192, 16384)
    shapes: list[Shape] = [(n, n, n) for n in squares]
    shapes += [] if sizes == "small" else [(65536, 1024, 128), (128, 1024, 65536), (64, 65536, 64)]
    for m, k, n in shapes:
        rows.append(
            function(
                f"matmul_{m}_{k}_{n}",
                f"matmul, {m}x{k}x{n}",
                inputs_of(("a", (m, k)), ("b", (k, n))),
                matmul,
            )
        )
    b, m, k = (2, 16, 16) if sizes == "small" else (128, 512, 64)
    rows.append(
        function(
            "matmul_batched",
            f"batched matmul, {b}x{m}x{k}x{m}",
            inputs_of(("a", (b, m, k)), ("b", (b, k, m))),
            matmul,
        )
    )
    m, k, n = (32, 16, 64) if sizes == "small" else (8192, 1024, 4096)
    named = [("x", (m, k)), ("weight", (n, k)), ("bias", (n,)), ("residual", (m, n))]
    rows += both(
        "linear_gelu",
        f"matmul {m}x{k}x{n} + bias + GELU + residual",
        named,
        (m, n),
        linear_gelu_residual,
    )
    return rows  # fmt: skip


def attentions(sizes: str) -> list[FunctionCase]:
    """Full, causal and grouped, heads of 64 and 128, 1k to 16k tokens; a constant number of them.

    Longer contexts have no float64 reference: its scores alone would take more than the memory.
    """
    rows = []
    lengths = (32,) if sizes == "small" else (1024, 4096, 16384)
    total, heads = (64, 2) if sizes == "small" else (16384, 16)
    for length in lengths:
        for width in (64, 128):
            batch = total // length
            shape = (batch, heads, length, width)
            few = (batch, heads // 2, length, width)
            name = f"{batch}x{heads}x{length}x{width}"
            for causal in (False, True):
                word = "causal" if causal else "full"
                rows += both(
                    f"attention_{word}_{length}_{width}",
                    f"{word} attention, {name}",
                    [("q", shape), ("k", shape), ("v", shape)],
                    shape,
                    partial(attention, causal=causal),
                )
            rows += both(
                f"attention_grouped_{length}_{width}",
                f"causal grouped attention, {name}",
                [("q", shape), ("k", few), ("v", few)],
                shape,
                grouped_attention,
            )
    return rows  # fmt: skip


def convolutions(sizes: str) -> list[FunctionCase]:
    """Shapes of ResNet-50."""
    batch = 2 if sizes == "small" else 128
    shapes = ((8, 8, 3, 1, 8),) if sizes == "small" else (
        (3, 64, 7, 2, 224), (64, 64, 3, 1, 56), (64, 256, 1, 1, 56), (128, 128, 3, 2, 56),
        (256, 256, 3, 1, 14), (512, 2048, 1, 1, 7),
    )  # fmt: skip
    rows = []
    for c, o, k, stride, side in shapes:
        out = (batch, o, -(-side // stride), -(-side // stride))
        rows += both(
            f"conv_{c}_{o}_{k}_{stride}_{side}",
            f"conv {k}x{k}, {batch}x{c}x{side}x{side} to {o}, stride {stride}",
            [("x", (batch, c, side, side)), ("weight", (o, c, k, k))],
            out,
            partial(convolution, stride=stride),
        )
    return rows


def whole_steps(sizes: str) -> list[StepCase]:
    """Training steps: GPT-2 124M and ResNet-18."""
    small = sizes == "small"
    shape = GPTSizes(64, 8, 16, 2, 2) if small else GPTSizes(50304, 1024, 768, 12, 12)
    count, length = (2, 8) if small else (8, 1024)
    title = f"training step of GPT-2, {shape.layers} layers x {shape.width}, {count} x {length}"
    side, images = (32, 2) if small else (224, 64)
    return [
        StepCase(
            "step_gpt2", title, steps.text(count, length, shape.vocabulary),
            partial(models.gpt, sizes=shape), steps.adamw, steps.classification_loss,
            tolerance=TOLERANCE, sizes=sizes, dtype="bfloat16",
        ),
        StepCase(
            "step_resnet18", f"training step of ResNet-18, batch {images} x {side}x{side}",
            steps.images(images, (3, side, side), 1000), models.resnet18, steps.sgd,
            steps.classification_loss, tolerance=TOLERANCE, sizes=sizes, dtype="bfloat16",
        ),
    ]  # fmt: skip


def cases(sizes: str = "full") -> list[Case]:
    """All rows of the table, in order."""
    functions = (*memory_bound(sizes), *products(sizes), *attentions(sizes), *convolutions(sizes))
    return [*functions, *whole_steps(sizes)]
