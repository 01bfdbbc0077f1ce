"""One function in tgrad and in PyTorch, on the same arrays: values, gradients, dtypes, shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

import tgrad
import tgrad.nn.functional
from tgrad.runtime.plan import BufferRef, Plan
from tgrad.tensor import Tensor, realize_tensors


class Library(NamedTuple):
    """The names that a case may use: `lib.F.relu`, `lib.t.exp`, `lib.nn.Linear`."""

    t: ModuleType
    F: ModuleType
    nn: ModuleType


TGRAD = Library(tgrad, tgrad.nn.functional, tgrad.nn)
TORCH = Library(torch, torch.nn.functional, torch.nn)

Function = Callable[..., Any]

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 2.0, shape).astype(np.float32)


def share(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.02, 0.98, shape).astype(np.float32)


def classes(seed: int, count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, shape)


def special(seed: int, *shape: int) -> np.ndarray:
    """Values with NaN, both infinities, both zeros and large ones among them."""
    array = normal(seed, *shape).reshape(-1)
    unusual = [np.nan, np.inf, -np.inf, 0.0, -0.0, 80.0, -80.0, 1e-30]
    array[: len(unusual)] = unusual
    return np.random.default_rng(seed).permutation(array).reshape(shape)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def to_numpy(t: Any) -> np.ndarray:
    if isinstance(t, torch.Tensor):
        t = t.detach()
        return t.float().numpy() if t.dtype is torch.bfloat16 else t.numpy()
    array = t.numpy()
    return array.astype(np.float32) if t.dtype is tgrad.bfloat16 else array


def run_tgrad(
    function: Function, arrays: Sequence[np.ndarray], device: str, dtype: str, grad: bool
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Outputs, and gradients of the inputs for cotangents drawn from one seed; one plan."""
    inputs = []
    for a in arrays:
        is_float = a.dtype == np.float32
        kind = getattr(tgrad, dtype) if is_float else None
        inputs.append(tgrad.tensor(a, device=device, dtype=kind, requires_grad=is_float and grad))
    outputs = as_tuple(function(TGRAD, *inputs))
    found: list[Tensor | None] = [None] * len(inputs)
    differentiable = [y for y in outputs if y.requires_grad]
    if grad and differentiable:
        total = None
        for i, y in enumerate(differentiable):
            cotangent = tgrad.tensor(normal(100 + i, *y.shape), device=device).to(y.dtype)
            part = (y * cotangent).sum()
            total = part if total is None else total + part.to(total.dtype)
        total.backward()
        found = [x.grad for x in inputs]
    wanted = [*outputs, *(g for g in found if g is not None)]
    assert_runs_in_order(tgrad.explain(*wanted))
    realize_tensors(wanted)
    return list(outputs), found


def assert_runs_in_order(plan: Plan) -> None:
    """Every step reads what was given or what an earlier step wrote."""
    written: set[BufferRef] = set()
    for step in plan.steps:
        kernel = plan.kernels[step.kernel]
        for slot, ref in zip(kernel.region.buffers, step.buffers, strict=True):
            if slot.role != "out" and ref.kind != "input":
                assert ref in written, f"{kernel.name} reads {ref} before it is written"
        written |= {r for s, r in zip(kernel.region.buffers, step.buffers) if s.role != "in"}


def run_torch(
    function: Function, arrays: Sequence[np.ndarray], dtype: str, grad: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    inputs = []
    for a in arrays:
        t = torch.from_numpy(a.copy())
        if a.dtype == np.float32:
            t = t.to(getattr(torch, dtype)).requires_grad_(grad)
        inputs.append(t)
    outputs = as_tuple(function(TORCH, *inputs))
    wanted = [y for y in outputs if y.requires_grad]
    if grad and wanted:
        total = 0
        for i, y in enumerate(wanted):
            total = total + (y * torch.from_numpy(normal(100 + i, *y.shape)).to(y.dtype)).sum()
        total.backward()
    return list(outputs), [x.grad for x in inputs]


def check(
    function: Function,
    arrays: Sequence[np.ndarray],
    device: str,
    dtype: str = "float32",
    grad: bool = True,
    tolerance: float | None = None,
) -> None:
    """Assert that a function of `(library, *tensors)` agrees with PyTorch on these arrays.

    float32 arrays are given in `dtype` and differentiated; others are given as they are.
    """
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    ours, our_grads = run_tgrad(function, arrays, device, dtype, grad)
    theirs, their_grads = run_torch(function, arrays, dtype, grad)
    assert len(ours) == len(theirs)
    for i, (y, expected) in enumerate(zip(ours, theirs)):
        assert y.shape == tuple(expected.shape)
        assert str(y.dtype).rpartition(".")[2] == str(expected.dtype).rpartition(".")[2]
        assert_near(to_numpy(y), to_numpy(expected), allowed, f"output {i}")
    for i, (g, expected_g) in enumerate(zip(our_grads, their_grads)):
        if expected_g is None:
            assert g is None or not to_numpy(g).any(), f"gradient {i}"
        elif g is None:
            assert not to_numpy(expected_g).any(), f"gradient {i}"
        else:
            assert_near(to_numpy(g), to_numpy(expected_g), 4 * allowed, f"gradient {i}")


def assert_near(have: np.ndarray, want: np.ndarray, tolerance: float, what: str) -> None:
    finite = want[np.isfinite(want)] if want.dtype.kind == "f" else want
    scale = max(1.0, float(np.abs(finite).max(initial=0.0))) if want.dtype.kind == "f" else 0
    np.testing.assert_allclose(
        have, want, rtol=tolerance, atol=tolerance * scale * 0.5, err_msg=what, equal_nan=True
    )
