"""The table of the GPU: functions forward and backward, products, attention, convolutions, steps.

In: nothing. Out: `cases(sizes)`. Invariant: bfloat16; the reference is PyTorch's float32 on the
same GPU, without TF32: its rounding is 65,000 times finer than bfloat16's, convolutions in float64
take seconds, and the largest rows in float64 do not fit. The full sizes are written for a card with
80 GB or more: a small, a medium and a large one of each row. Ranks say what is measured first: a
medium size of each kind, the training steps, the other medium sizes, small and large ones. The
sizes "small" are for tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench import architectures, models, programs, steps
from bench.architectures import LlamaSizes
from bench.case import SEED, Case, FunctionCase, Inputs, StepCase, repeated
from bench.models import GPTSizes

Shape = tuple[int, ...]
Named = list[tuple[str, Shape]]

TOLERANCE = 0.03
"""Of bfloat16: its rounding is 2^-8, and gradients sum roundings of many terms."""

SEARCHED = ("matmul_", "linear_", "conv_")
"""Begins of the keys of functions that a search among library kernels is worth its time for."""

TELLING, STEPS, MEDIUM, REST = range(4)
"""Ranks of cases."""


def ranks_of(shapes: Sequence[Any], medium: int = TELLING) -> list[tuple[int, Any]]:
    """The shapes of a row, small to large, with their ranks: the one in the middle is medium.

    >>> ranks_of("abc")
    [(3, 'a'), (0, 'b'), (3, 'c')]
    """
    middle = len(shapes) // 2
    return [(medium if at == middle else REST, shape) for at, shape in enumerate(shapes)]


def deviation_of(name: str, shape: Shape) -> float:
    """Of an input: 1; of a layer's weight 1/sqrt(fan in), so that what it makes is of size 1 as in
    a model, and no rounding decides which of two far logits wins."""
    is_layer = name == "weight" and len(shape) > 1
    return math.prod(shape[1:]) ** -0.5 if is_layer else 1.0


def inputs_of(*named: tuple[str, Shape]) -> Callable[[], Inputs]:
    """Normal inputs."""

    def make() -> Inputs:
        random = np.random.default_rng(SEED)

        def drawn(name: str, shape: Shape) -> Callable[[int], np.ndarray]:
            scale = np.float32(deviation_of(name, shape))
            return lambda count: scale * random.standard_normal(count, dtype=np.float32)

        return {name: repeated(drawn(name, shape), shape) for name, shape in named}

    return make


def float8_bytes(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Finite values of float8_e4m3fn below 2, as bytes."""

    def drawn(count: int) -> np.ndarray:
        bits = random.integers(0, 128, count, np.uint8)
        return (bits & 63) | ((bits & 64) << 1)

    return drawn


def quantised_inputs(m: int, k: int, n: int, kind: str) -> Callable[[], Inputs]:
    """x [m, k]; weights [n, k] as `bench.programs` has them, and their scales."""

    def make() -> Inputs:
        random = np.random.default_rng(SEED)
        x = repeated(lambda count: random.standard_normal(count, dtype=np.float32), (m, k))
        if kind == "float8":
            weight, scale = repeated(float8_bytes(random), (n, k)), random.uniform(0.5, 1.0, n)
        elif kind == "int8":
            weight = repeated(lambda count: random.integers(-128, 128, count, np.int8), (n, k))
            scale = random.uniform(0.5, 1.0, n) / 128
        else:
            weight = repeated(lambda count: random.integers(0, 256, count, np.uint8), (n, k // 2))
            scale = random.uniform(0.5, 1.0, (n, max(k // programs.GROUP, 1))) / 8
        return {"x": x, "weight": weight, "scale": scale.astype(np.float32)}

    return make


def function(
    key: str,
    title: str,
    arrays: Callable[[], Inputs],
    program: Any,
    rank: int,
    gradient: bool = False,
    images: bool = False,
) -> FunctionCase:
    """A row."""
    words = f"{title}, forward and backward" if gradient else title
    return FunctionCase(
        f"{key}_backward" if gradient else key, words, arrays, program, None,
        tolerance=TOLERANCE, has_gradient=gradient, dtype="bfloat16", channels_last=images,
        rank=rank, is_searched=key.startswith(SEARCHED),
    )  # fmt: skip


def both(
    key: str, title: str, named: Named, out: Shape, program: Any, rank: int, images: bool = False
) -> list[FunctionCase]:
    """A row forward, and one with the gradients."""
    gradient = ("gradient", out)
    return [
        function(key, title, inputs_of(*named), program, rank, images=images),
        function(key, title, inputs_of(*named, gradient), program, rank, True, images),
    ]


# -- rows ------------------------------------------------------------------------------------------


def memory_bound(sizes: str) -> list[FunctionCase]:
    """Elementwise, reductions, softmax and norms of 64 MB, 512 MB and 2 GB."""
    squares = ((48, 64),) if sizes == "small" else ((8192, 4096), (16384, 16384), (32768, 32768))
    rows = []
    for rank, (m, n) in ranks_of(squares):
        shape, x, name = (m, n), ("x", (m, n)), f"{m}x{n}"
        width, bias = ("weight", (n,)), ("bias", (n,))
        inputs: list[tuple[str, str, Named, Shape, Any]] = [
            ("chain", "(a*b+a).tanh()*sigmoid(b)-a", [("a", shape), ("b", shape)], shape,
             programs.chain),
            ("sum_rows", "sum of rows", [x], (m,), partial(programs.sum_of, axis=1)),
            ("sum_columns", "sum of columns", [x], (n,), partial(programs.sum_of, axis=0)),
            ("softmax", "softmax", [x], shape, programs.softmax),
            ("layer_norm", "layer norm", [x, width, bias], shape, programs.layer_norm),
            ("rms_norm", "RMS norm", [x, width], shape, programs.rms_norm),
        ]  # fmt: skip
        for key, title, named, out, program in inputs:
            rows += both(f"{key}_{name}", f"{title}, {name}", named, out, program, rank)
    return rows


def losses(sizes: str) -> list[FunctionCase]:
    """Cross entropy of 50k classes, alone and behind the linear layer that makes them."""
    small = sizes == "small"
    rows = []
    shapes = ((16, 64),) if small else ((1024, 50304), (8192, 50304), (20480, 50304))
    for rank, (count, classes) in ranks_of(shapes):
        name = f"{count}x{classes}"
        rows += both(f"cross_entropy_{name}", f"cross entropy, {name}", [("x", (count, classes))],
                     (count,), programs.cross_entropy, rank)  # fmt: skip
    for rank, (m, k, n) in ranks_of(((16, 24, 64),) if small else (
        (1024, 768, 50304), (8192, 2048, 50304), (8192, 4096, 128256),
    )):  # fmt: skip
        name = f"{m}x{k}x{n}"
        rows += both(f"linear_cross_entropy_{name}", f"linear and cross entropy, {name}",
                     [("x", (m, k)), ("weight", (n, k))], (m,),
                     programs.linear_cross_entropy, rank)  # fmt: skip
    return rows


def float8_inputs(m: int, k: int, n: int) -> Callable[[], Inputs]:
    """a [m, k] and b [n, k] of 8-bit floats, and a scale for each of their rows."""

    def make() -> Inputs:
        random = np.random.default_rng(SEED)
        a, b = (repeated(float8_bytes(random), shape) for shape in ((m, k), (n, k)))
        rows, columns = (random.uniform(0.5, 1.0, c).astype(np.float32) for c in (m, n))
        return {"a": a, "b": b, "rows": rows, "columns": columns}

    return make


def products(sizes: str) -> list[FunctionCase]:
    """Square, tall, wide and batched, and with an epilogue."""
    small = sizes == "small"
    squares = (64,) if small else (1024, 2048, 4096, 8192, 16384)
    shapes = ranks_of([(n, n, n) for n in squares])
    odd = () if small else ((65536, 1024, 128), (128, 1024, 65536), (64, 65536, 64))
    shapes += [(MEDIUM, shape) for shape in odd]
    rows = [
        function(f"matmul_{m}_{k}_{n}", f"matmul, {m}x{k}x{n}",
                 inputs_of(("a", (m, k)), ("b", (k, n))), programs.matmul, rank)
        for rank, (m, k, n) in shapes
    ]  # fmt: skip
    batched = ((2, 16, 16),) if small else ((32, 256, 64), (128, 512, 64), (64, 2048, 128))
    for rank, (b, m, k) in ranks_of(batched):
        name = f"{b}x{m}x{k}x{m}"
        rows.append(function(f"matmul_batched_{name}", f"batched matmul, {name}",
                             inputs_of(("a", (b, m, k)), ("b", (b, k, m))),
                             programs.matmul, rank))  # fmt: skip
    for rank, (m, k, n) in ranks_of(((32, 16, 64),) if small else (
        (2048, 768, 3072), (8192, 1024, 4096), (16384, 4096, 16384),
    )):  # fmt: skip
        named = [("x", (m, k)), ("weight", (n, k)), ("bias", (n,)), ("residual", (m, n))]
        rows += both(f"linear_gelu_{m}x{k}x{n}", f"matmul {m}x{k}x{n} + bias + GELU + residual",
                     named, (m, n), programs.linear_gelu_residual, rank)  # fmt: skip
    return rows


def quantised_products(sizes: str) -> list[FunctionCase]:
    """Weights of 8 and 4 bits, one token, some and many; both operands of 8 bits."""
    shapes = ((4, 128, 48),) if sizes == "small" else (
        (1, 4096, 4096), (16, 4096, 14336), (4096, 4096, 14336),
    )  # fmt: skip
    kinds = {
        "int8": programs.linear_int8,
        "int4": programs.linear_int4,
        "float8": programs.linear_float8,
    }
    rows = [
        function(f"linear_{kind}_{m}x{k}x{n}", f"matmul {m}x{k}x{n}, weights of {kind}",
                 quantised_inputs(m, k, n, kind), program, rank)
        for kind, program in kinds.items()
        for rank, (m, k, n) in ranks_of(shapes, TELLING if kind == "int4" else MEDIUM)
    ]  # fmt: skip
    squares = (64,) if sizes == "small" else (2048, 4096, 8192, 16384)
    return rows + [
        replace(
            function(f"matmul_float8_{n}", f"matmul of float8 with scales of rows, {n}x{n}x{n}",
                     float8_inputs(n, n, n), programs.scaled_float8, rank),
            exact=programs.exact_float8,
        )
        for rank, n in ranks_of(squares)
    ]  # fmt: skip


def grouped_inputs(rows: int, groups: int, k: int, n: int, gradient: bool) -> Callable[[], Inputs]:
    """Rows that go to the groups at random, as tokens to experts."""

    def make() -> Inputs:
        random = np.random.default_rng(SEED)
        counts = np.bincount(random.integers(0, groups, rows), minlength=groups)

        def drawn(scale: float) -> Callable[[int], np.ndarray]:
            return lambda count: np.float32(scale) * random.standard_normal(count, np.float32)

        made: Inputs = {
            "x": repeated(drawn(1.0), (rows, k)),
            "weight": repeated(drawn(k**-0.5), (groups, k, n)),
            "ends": counts.cumsum().astype(np.int32),
        }
        return {**made, "gradient": repeated(drawn(1.0), (rows, n))} if gradient else made

    return make


def grouped_products(sizes: str) -> list[FunctionCase]:
    """Of mixtures of experts: 8 large ones and 128 small ones, forward and backward."""
    shapes = ((40, 3, 16, 24),) if sizes == "small" else (
        (4096, 64, 2048, 768), (16384, 8, 2048, 1408), (65536, 128, 2048, 768),
    )  # fmt: skip
    return [
        replace(
            function(f"grouped_{rows}_{groups}_{k}_{n}",
                     f"{rows} rows in {groups} groups by {k}x{n}",
                     grouped_inputs(rows, groups, k, n, gradient), programs.grouped, rank,
                     gradient),
            exact=programs.exact_grouped,
        )
        for rank, (rows, groups, k, n) in ranks_of(shapes, MEDIUM)
        for gradient in (False, True)
    ]  # fmt: skip


def attentions(sizes: str) -> list[FunctionCase]:
    """Full, causal, in a window of a quarter, and grouped; heads of 64 and 128, 1k to 32k tokens.

    Fewer heads where contexts are long: the scores of the reference must fit too.
    """
    rows = []
    shapes = ((2, 2, 32),) if sizes == "small" else (
        (16, 16, 1024), (4, 16, 4096), (1, 8, 16384), (1, 2, 32768),
    )  # fmt: skip
    for batch, heads, length in shapes:
        for width in (64, 128):
            medium = MEDIUM if length == 4096 else REST
            shape, few = (batch, heads, length, width), (batch, heads // 2, length, width)
            window = length // 4
            name = "x".join(map(str, shape))
            kinds: list[tuple[str, str, Shape, Any]] = [
                ("full", "full attention", shape, partial(programs.attention, causal=False)),
                ("causal", "causal attention", shape, partial(programs.attention, causal=True)),
                ("window", f"attention in a window of {window}", shape,
                 partial(programs.window_attention, window=window)),
                ("grouped", "causal grouped attention", few, programs.grouped_attention),
            ]  # fmt: skip
            for key, title, keys, program in kinds:
                named = [("q", shape), ("k", keys), ("v", keys)]
                is_telling = key in ("causal", "window") and (length, width) == (4096, 128)
                rows += both(f"attention_{key}_{length}_{width}", f"{title}, {name}", named, shape,
                             program, TELLING if is_telling else medium)  # fmt: skip
    return rows


def decoding(sizes: str) -> list[FunctionCase]:
    """Attention of one new token over a cache of keys and values, four heads to a key's."""
    shapes = ((2, 4, 24, 16),) if sizes == "small" else (
        (8, 32, 1024, 128), (8, 32, 8192, 128), (8, 32, 32768, 128),
    )  # fmt: skip
    rows = []
    for rank, (batch, heads, length, width) in ranks_of(shapes):
        keys = (batch, heads // 4, length, width)
        named = [("q", (batch, heads, 1, width)), ("k", keys), ("v", keys)]
        title = f"attention of one token over {length}, batch {batch}, {heads} heads of {width}"
        rows.append(function(f"attention_decode_{length}", title, inputs_of(*named),
                             partial(programs.grouped_attention, causal=False), rank))  # fmt: skip
    return rows


def convolutions(sizes: str) -> list[FunctionCase]:
    """Shapes of ResNet-50, channels last where the peer has such a layout."""
    batch = 2 if sizes == "small" else 128
    shapes = ((8, 8, 3, 1, 8), (8, 16, 1, 2, 8)) if sizes == "small" else (
        (3, 64, 7, 2, 224), (64, 64, 3, 1, 56), (64, 256, 1, 1, 56), (256, 512, 1, 2, 56),
        (128, 128, 3, 2, 56), (256, 256, 3, 1, 14), (512, 512, 3, 1, 7), (512, 2048, 1, 1, 7),
    )  # fmt: skip
    rows = []
    for c, o, k, stride, side in shapes:
        out = (batch, o, -(-side // stride), -(-side // stride))
        rows += both(
            f"conv_{c}_{o}_{k}_{stride}_{side}",
            f"conv {k}x{k}, {batch}x{c}x{side}x{side} to {o}, stride {stride}",
            [("x", (batch, c, side, side)), ("weight", (o, c, k, k))],
            out,
            partial(programs.convolution, stride=stride),
            TELLING if (c, o) in ((64, 64), (64, 256)) else MEDIUM,
            images=True,
        )
    return rows


def _step(
    key: str, title: str, sizes: str, batch: Any, model: Any, optimizer: Any, **options: Any
) -> StepCase:
    return StepCase(
        key, f"training step of {title}", batch, model, optimizer, steps.classification_loss,
        tolerance=TOLERANCE, sizes=sizes, dtype="bfloat16", rank=STEPS, has_repeated_state=True,
        **options,
    )  # fmt: skip


def whole_steps(sizes: str) -> list[StepCase]:
    """Training steps: GPT-2 124M, ResNet-50, a Llama of 1B.

    Of ResNet-50 the first loss alone is compared: SGD's updates of its weights are below the
    rounding of bfloat16, where peers lose more or fewer of them, and the reference none.
    """
    small = sizes == "small"
    gpt = GPTSizes(64, 8, 16, 2, 2) if small else GPTSizes(50304, 1024, 768, 12, 12)
    count, length = (2, 8) if small else (8, 1024)
    llama = LlamaSizes(64, 16, 4, 2, 24, 2) if small else LlamaSizes(128256, 2048, 32, 8, 8192, 16)
    few, context = (2, 8) if small else (2, 2048)
    side, images, classes = (64, 2, 10) if small else (224, 64, 1000)
    return [
        _step("step_gpt2", f"GPT-2, {gpt.layers} layers x {gpt.width}, {count} x {length}, AdamW",
              sizes, steps.text(count, length, gpt.vocabulary), partial(models.gpt, sizes=gpt),
              steps.adamw),
        _step("step_resnet50", f"ResNet-50, batch {images} x {side}x{side}, SGD", sizes,
              steps.images(images, (3, side, side), classes),
              partial(architectures.resnet50, classes=classes), steps.sgd, channels_last=True,
              checked_calls=1),
        _step("step_llama", f"a Llama, {llama.layers} layers x {llama.width}, {few} x {context}, "
              "AdamW", sizes, steps.text(few, context, llama.vocabulary),
              partial(architectures.llama, sizes=llama), steps.adamw, is_apart=True),
    ]  # fmt: skip


def cases(sizes: str = "full") -> list[Case]:
    """All rows of the table, in order."""
    made: list[Case] = []
    for rows in (memory_bound, losses, products, quantised_products, grouped_products, attentions,
                 decoding, convolutions):  # fmt: skip
        made += rows(sizes)
    return [*made, *whole_steps(sizes)]
