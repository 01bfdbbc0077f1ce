"""The table of the CPU: thirteen functions and two training steps, float32.

In: nothing. Out: `cases(sizes)`. Invariant: the full sizes are those of docs/benchmarks.md and
do not change; the small ones are for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import erf
from typing import Any

import numpy as np

from bench.case import SEED, Arrays, Case, FunctionCase
from bench.steps import step_case

Shape = tuple[int, ...]

STEPS = ("step_convnet", "step_gpt")


def normal(*named: tuple[str, Shape], scale: float = 1.0) -> Callable[[], Arrays]:
    """Inputs from the standard normal distribution, float32."""

    def make() -> Arrays:
        random = np.random.default_rng(SEED)
        return {
            name: scale * random.standard_normal(shape, dtype=np.float32) for name, shape in named
        }

    return make


def table_and_index(rows: int, width: int, count: int) -> Callable[[], Arrays]:
    """A table [rows, width] and indices [count] into its rows."""

    def make() -> Arrays:
        random = np.random.default_rng(SEED)
        table = random.standard_normal((rows, width), dtype=np.float32)
        return {"table": table, "index": random.integers(0, rows, count)}

    return make


# -- programs in PyTorch's names -------------------------------------------------------------------


def elementwise(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return (a * b + a).tanh() * b.sigmoid() - a


def sum_rows(library: Any, functional: Any, x: Any) -> Any:
    return x.sum(1)


def sum_columns(library: Any, functional: Any, x: Any) -> Any:
    return x.sum(0)


def softmax(library: Any, functional: Any, x: Any) -> Any:
    return functional.softmax(x, dim=1)


def layer_norm(library: Any, functional: Any, x: Any, weight: Any, bias: Any) -> Any:
    return functional.layer_norm(x, (x.shape[1],), weight, bias)


def matmul(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return a @ b


def linear_gelu(library: Any, functional: Any, x: Any, weight: Any, bias: Any) -> Any:
    return functional.gelu(functional.linear(x, weight, bias))


def conv_padded(library: Any, functional: Any, x: Any, weight: Any) -> Any:
    return functional.conv2d(x, weight, padding=1)


def conv_relu(library: Any, functional: Any, x: Any, weight: Any) -> Any:
    return functional.relu(functional.conv2d(x, weight))


def attention(library: Any, functional: Any, q: Any, k: Any, v: Any) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def transpose(library: Any, functional: Any, x: Any) -> Any:
    return x.t().contiguous()


def gather(library: Any, functional: Any, table: Any, index: Any) -> Any:
    return functional.embedding(index, table)


# -- the same in NumPy, for float64 ----------------------------------------------------------------


def _exp_of_rows(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max(-1, keepdims=True))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = _exp_of_rows(x)
    return e / e.sum(-1, keepdims=True)


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    deviation = x - x.mean(1, keepdims=True)
    return deviation / np.sqrt((deviation**2).mean(1, keepdims=True) + 1e-5) * weight + bias


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2)))


def _conv(x: np.ndarray, weight: np.ndarray, padding: int = 0) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))
    return np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    allowed = np.tri(*scores.shape[-2:]).astype(bool)
    return _softmax(np.where(allowed, scores, -np.inf)) @ v


def _elementwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.tanh(a * b + a) / (1 + np.exp(-b)) - a


def function_cases(sizes: str) -> list[Case]:
    """The thirteen functions of the table."""
    small = sizes == "small"
    n = 32 if small else 4096
    rows, width = (16, 32) if small else (8192, 1024)
    m = 48 if small else 1024
    lm, lk, ln = (32, 24, 40) if small else (2048, 512, 2048)
    batch, bm, bk, bn = (3, 16, 8, 16) if small else (48, 256, 64, 256)
    cn, cc, ch, co = (2, 3, 6, 4) if small else (32, 64, 28, 64)
    dn, do = (2, 4) if small else (128, 32)
    heads = (2, 2, 8, 8) if small else (8, 8, 256, 64)
    table, picked, columns = (64, 16, 8) if small else (32768, 8192, 256)
    million = f"{n * n / 2**20:.0f}M" if not small else f"{n}x{n}"
    f64: dict[str, Callable[..., np.ndarray]] = {
        "elementwise": _elementwise,
        "sum_rows": lambda x: x.sum(1),
        "sum_columns": lambda x: x.sum(0),
        "softmax": _softmax,
        "layer_norm": _layer_norm,
        "matmul": np.matmul,
        "linear_gelu": lambda x, w, b: _gelu(x @ w.T + b),
        "batched_matmul": np.matmul,
        "conv_3x3": partial(_conv, padding=1),
        "conv_5x5": lambda x, w: np.maximum(_conv(x, w), 0),
        "attention": _attention,
        "transpose": lambda x: x.T,
        "gather": lambda t, i: t[i],
    }
    rowed = normal(("x", (n, n)))
    rows_of: list[tuple[str, str, Callable[[], Arrays], Callable[..., Any]]] = [
        ("elementwise", f"(a*b+a).tanh()*sigmoid(b)-a, {million}",
         normal(("a", (n, n)), ("b", (n, n))), elementwise),
        ("sum_rows", f"sum of rows, {n}x{n}", rowed, sum_rows),
        ("sum_columns", f"sum of columns, {n}x{n}", rowed, sum_columns),
        ("softmax", f"softmax, {n}x{n}", rowed, softmax),
        ("layer_norm", f"layer norm, {rows}x{width}",
         normal(("x", (rows, width)), ("weight", (width,)), ("bias", (width,))), layer_norm),
        ("matmul", f"matmul, {m}x{m}x{m}", normal(("a", (m, m)), ("b", (m, m))), matmul),
        ("linear_gelu", f"matmul {lm}x{lk}x{ln} + bias + GELU",
         normal(("x", (lm, lk)), ("weight", (ln, lk)), ("bias", (ln,)), scale=0.3), linear_gelu),
        ("batched_matmul", f"batched matmul, {batch}x{bm}x{bk}x{bn}",
         normal(("a", (batch, bm, bk)), ("b", (batch, bk, bn))), matmul),
        ("conv_3x3", f"conv 3x3, {cn}x{cc}x{ch}x{ch} to {co}, padded",
         normal(("x", (cn, cc, ch, ch)), ("weight", (co, cc, 3, 3))), conv_padded),
        ("conv_5x5", f"conv 5x5, {dn}x1x28x28 to {do}, ReLU",
         normal(("x", (dn, 1, 28, 28)), ("weight", (do, 1, 5, 5))), conv_relu),
        ("attention", f"causal attention, {'x'.join(map(str, heads))}",
         normal(("q", heads), ("k", heads), ("v", heads)), attention),
        ("transpose", f"transpose, {n}x{n}", rowed, transpose),
        ("gather", f"gather of {picked} rows of {columns}",
         table_and_index(table, columns, picked), gather),
    ]  # fmt: skip
    return [
        FunctionCase(key, title, arrays, program, f64[key], sizes=sizes)
        for key, title, arrays, program in rows_of
    ]


def cases(sizes: str = "full") -> list[Case]:
    """All rows of the table, in order."""
    return [*function_cases(sizes), *(step_case(key, sizes) for key in STEPS)]
