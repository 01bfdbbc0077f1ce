"""Errors of every op in units of its dtype's rounding, tgrad and PyTorch beside each other.

In: a table of functions in PyTorch's names. Out: the largest and the mean error of both. Invariant:
both get the same inputs, rounded to the dtype; the right result is PyTorch's on these inputs in
float64. A unit is the gap between neighbouring numbers of the dtype at the right result; where a
result is a sum of many terms, at the largest result, since terms may cancel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as torch_functional

import tgrad
import tgrad.nn.functional as tgrad_functional
from bench.tables import Table

Shape = tuple[int, ...]
Inputs = Callable[[np.random.Generator], Sequence[np.ndarray]]
Program = Callable[..., Any]

COUNT = 1 << 16
"""Elements of an elementwise op's inputs."""
DTYPES = ("float32", "bfloat16", "float16")
MANTISSA = {"float32": 23, "bfloat16": 7, "float16": 10}
LEAST_EXPONENT = {"float32": -126, "bfloat16": -126, "float16": -14}


@dataclass(frozen=True)
class Op:
    """A function and its inputs.

    Attributes:
        name: PyTorch's.
        program: (library, functional, *inputs).
        inputs: from a generator.
        is_sum: whether its unit is that of the largest result.
    """

    name: str
    program: Program
    inputs: Inputs
    is_sum: bool = False


@dataclass(frozen=True)
class Accuracy:
    """Errors of an op in a dtype, in units: the largest and the mean; of tgrad and of PyTorch."""

    name: str
    dtype: str
    ours: float
    ours_mean: float
    theirs: float
    theirs_mean: float


def over(low: float, high: float, arguments: int = 1) -> Inputs:
    """Evenly between two numbers."""
    return lambda random: [random.uniform(low, high, COUNT) for _ in range(arguments)]


def powers(low: float, high: float) -> Inputs:
    """From 2**low to 2**high, evenly in the exponent."""
    return lambda random: [2 ** random.uniform(low, high, COUNT)]


def of(*shapes: Shape, scale: float = 1.0) -> Inputs:
    """Normal values."""
    return lambda random: [scale * random.standard_normal(shape) for shape in shapes]


def _method(name: str) -> Program:
    return lambda library, functional, *inputs: getattr(library, name)(*inputs)


def _function(name: str, *rest: Any, **options: Any) -> Program:
    return lambda library, functional, *inputs: getattr(functional, name)(*inputs, *rest, **options)


def _reduction(name: str) -> Program:
    return lambda library, functional, x: getattr(library, name)(x, 1)


ROWS = of((64, 1024))

OPS: tuple[Op, ...] = (
    *(Op(name, _method(name), over(-8, 8)) for name in (
        "exp", "exp2", "expm1", "sigmoid", "tanh", "erf", "sin", "cos", "tan", "square",
    )),
    *(Op(name, _method(name), powers(-12, 12)) for name in (
        "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal",
    )),
    *(Op(name, _method(name), over(0.5, 8, 2)) for name in ("add", "mul", "div")),
    Op("pow", _method("pow"), over(0.5, 4, 2)),
    Op("gelu", _function("gelu"), over(-4, 4)),
    Op("sub", _method("sub"), over(-8, 8, 2)),
    Op("addcmul", _method("addcmul"), over(0.5, 8, 3)),
    Op("addcdiv", _method("addcdiv"), over(0.5, 8, 3)),
    Op("lerp", _method("lerp"), over(0, 1, 3)),
    *(Op(name, _function(name), over(-8, 8)) for name in (
        "silu", "elu", "softplus", "logsigmoid", "leaky_relu",
    )),
    *(Op(name, _reduction(name), ROWS, is_sum=True) for name in (
        "sum", "mean", "var", "std", "logsumexp",
    )),
    Op("norm", lambda library, functional, x: library.norm(x, 2, 1), ROWS, is_sum=True),
    Op("prod", lambda library, functional, x: library.prod(1 + 0.01 * x, 1), ROWS, is_sum=True),
    Op("softmax", _function("softmax", 1), ROWS),
    Op("log_softmax", _function("log_softmax", 1), ROWS),
    Op("layer_norm", lambda library, functional, x: functional.layer_norm(x, (1024,)), ROWS,
       is_sum=True),
    Op("rms_norm", lambda library, functional, x: functional.rms_norm(x, (1024,)), ROWS,
       is_sum=True),
    Op("matmul", _method("matmul"), of((64, 256), (256, 64)), is_sum=True),
    Op("linear", _function("linear"), of((64, 256), (64, 256), (64,)), is_sum=True),
    Op("conv2d", _function("conv2d", padding=1), of((4, 16, 14, 14), (16, 16, 3, 3)), is_sum=True),
    Op("scaled_dot_product_attention", _function("scaled_dot_product_attention", is_causal=True),
       of((2, 4, 64, 32), (2, 4, 64, 32), (2, 4, 64, 32)), is_sum=True),
    Op("cross_entropy", lambda library, functional, x: functional.cross_entropy(
        x, library.arange(64)), ROWS, is_sum=True),
    Op("mse_loss", _function("mse_loss"), of((64, 1024), (64, 1024)), is_sum=True),
    Op("binary_cross_entropy_with_logits", lambda library, functional, x, y:
       functional.binary_cross_entropy_with_logits(x, y.sigmoid()), of((64, 256), (64, 256)),
       is_sum=True),
    Op("avg_pool2d", _function("avg_pool2d", 2), of((4, 16, 14, 14)), is_sum=True),
)  # fmt: skip


def unit_of(value: np.ndarray, dtype: str) -> np.ndarray:
    """The gap between neighbouring numbers of a dtype.

    >>> float(unit_of(np.array(1.0), "float32")) == 2.0**-23
    True
    >>> float(unit_of(np.array(0.0), "float16")) == 2.0**-24
    True
    """
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(np.abs(value)))
    exponent = np.maximum(exponent, LEAST_EXPONENT[dtype])
    result: np.ndarray = 2.0 ** (exponent - MANTISSA[dtype])
    return result


def errors_of(got: np.ndarray, want: np.ndarray, dtype: str, is_sum: bool) -> np.ndarray:
    """Errors in units."""
    unit = unit_of(np.abs(want).max() if is_sum else want, dtype)
    result: np.ndarray = np.abs(got - want) / unit
    return result


def measure(op: Op, dtype: str, device: str = "cpu") -> Accuracy:
    """Errors of both libraries."""
    random = np.random.default_rng(2026)
    kind = getattr(torch, dtype)
    inputs = [torch.from_numpy(a).to(kind) for a in op.inputs(random)]
    want = op.program(torch, torch_functional, *(x.double() for x in inputs)).numpy()
    theirs = op.program(torch, torch_functional, *inputs).double().numpy()
    named = getattr(tgrad, dtype)
    stored = [tgrad.tensor(x.float().numpy(), dtype=named, device=device) for x in inputs]
    ours = op.program(tgrad, tgrad_functional, *stored).to(tgrad.float64).numpy()
    found = [errors_of(got, want, dtype, op.is_sum) for got in (ours, theirs)]
    (most, mean), (most_theirs, mean_theirs) = ((float(e.max()), float(e.mean())) for e in found)
    return Accuracy(op.name, dtype, most, mean, most_theirs, mean_theirs)


def measure_all(dtypes: Sequence[str] = DTYPES, device: str = "cpu") -> list[Accuracy]:
    """Every op in every dtype."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return [measure(op, dtype, device) for op in OPS for dtype in dtypes]


def table_of(found: Sequence[Accuracy]) -> Table:
    """A row an op, the largest and the mean error of both in each dtype."""
    dtypes = list(dict.fromkeys(a.dtype for a in found))
    by_name: dict[str, dict[str, Accuracy]] = {}
    for a in found:
        by_name.setdefault(a.name, {})[a.dtype] = a
    rows = []
    for name, accuracies in by_name.items():
        cells: list[str] = []
        for dtype in dtypes:
            a = accuracies[dtype]
            cells += [_pair(a.ours, a.ours_mean), _pair(a.theirs, a.theirs_mean)]
        rows.append((name, *cells))
    header = ["largest error (mean) in units of rounding"]
    header += [f"{dtype} {who}" for dtype in dtypes for who in ("tgrad", "torch")]
    notes = (
        "0.5 is correct rounding; a unit is the gap between neighbouring numbers of the dtype at "
        "the right result, for sums at the largest",
        f"tgrad {tgrad.__version__}, torch {torch.__version__}; the right result is torch's in "
        "float64 on the same inputs",
    )
    return Table("accuracy", tuple(header), tuple(rows), notes)


def _pair(most: float, mean: float) -> str:
    return f"{most:.2f} ({mean:.2f})"
