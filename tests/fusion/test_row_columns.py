"""Gradients of norms: sums of rows and of columns of the same tensors in one kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.pipeline import compile_graph
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor
from tgrad.triton_gen import compile_for

torch = pytest.importorskip("torch")

Norm = Callable[[Any, Any, Any, Any], Any]
"""(functional, x, weight, bias) -> normalised, in either library"""

NORMS: dict[str, Norm] = {
    "layer_norm": lambda f, x, w, b: f.layer_norm(x, x.shape[-1:], w, b),
    "rms_norm": lambda f, x, w, b: f.rms_norm(x, x.shape[-1:], w, 1e-5) + b,
    "softmax and sums": lambda f, x, w, b: f.softmax(x * w + b, -1),
}


def plan_of(outputs: list[Tensor]) -> Plan:
    compiled, _ = compile_graph([t._node for t in outputs], outputs[0].device)
    return compiled.plan


def crossed(plan: Plan) -> list[int]:
    """For each kernel of rows and columns, how many results it has."""
    found = []
    for kernel in plan.kernels:
        assert kernel.region is not None
        space = kernel.region.space
        if space.kind == "reduce" and space.outer and space.parallel:
            found.append(len(kernel.region.stores))
    return found


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer_norm", (4, 150, 33)),
        ("layer_norm", (640, 24)),
        ("rms_norm", (1030, 7)),
        ("softmax and sums", (640, 24)),
    ],
)
def test_values(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(8)
    sizes = (shape, shape[-1:], shape[-1:], shape)
    arrays = [rng.standard_normal(s, dtype=np.float32) for s in sizes]
    found = []
    for lib, f, device in ((tgrad, F, "interpret"), (torch, torch.nn.functional, "cpu")):
        x, w, b, g = (lib.tensor(a, device=device) for a in arrays)
        leaves = [t.requires_grad_() for t in (x, w, b)]
        NORMS[name](f, *leaves).backward(g)
        found.append([t.grad for t in leaves])
    assert crossed(plan_of(found[0])) == [3]
    for got, want in zip(*found):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=2e-4, atol=2e-4)


def backward(name: str, rows: int, size: int, target: str) -> Plan:
    with planning(target):
        half = {"dtype": tgrad.bfloat16, "device": "cuda"}
        x, w, b, g = (
            tgrad.empty(*s, **half).realize()
            for s in ((rows, size), (size,), (size,), (rows, size))
        )
        leaves = [t.requires_grad_() for t in (x, w, b)]
        NORMS[name](F, *leaves).backward(g)
        return plan_of([t.grad for t in leaves])  # type: ignore[misc]


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_tensors_are_read_once(name: str, target: str) -> None:
    rows, size = 8192, 4096
    plan = backward(name, rows, size, target)
    tensor, partial = 2 * rows * size, 4 * 256 * size
    assert crossed(plan) == [3] and len(plan.steps) == 2
    total = sum(plan.kernels[s.kernel].bytes for s in plan.steps)
    assert total <= 3 * tensor + 2 * 2 * partial + 8 * size
    assert plan.arena_bytes == 2 * partial
    config = plan.kernels[0].config
    assert config is not None
    assert math.prod(a.steps for a in config.axes if a.role.value == "grid") == 256
    for artifact in compile_for([k.region for k in plan.kernels if k.region], target):
        assert artifact.figures.spills == 0 and artifact.figures.widest_load == 128


def test_few_rows_and_long_ones_stay_apart() -> None:
    assert crossed(backward("layer_norm", 256, 4096, "sm_90")) == []
    assert crossed(backward("layer_norm", 3, 16, "sm_90")) == []
    assert crossed(backward("layer_norm", 8192, 16384, "sm_90")) == []
