"""Gradients of gradients of PyTorch's operator database, in float64, beside PyTorch's own.

Every operator of the list in tests/ops that has a gradient has a second one, where PyTorch has.
The table of ops is held by finite differences in test_vjps.py; this holds what is composed of them,
with VJPs of their own (softmax, norms, attention, convolution, losses, scans, linear algebra).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.opinfo.core import OpInfo

import tgrad
from tests.front.checking import to_numpy
from tests.ops.opinfo import Case, NothingInTorch, operators, read_passes, seed
from tgrad.tensor import Tensor

SAMPLES = 2
TOLERANCE = 1e-7
"""Of the largest element, in float64."""

DIFFERENTIABLE = [
    name
    for name, line in read_passes().items()
    if line.endswith("backward") and torch.float64 in operators()[name].supported_dtypes("cpu")
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def samples(op: OpInfo) -> list[Any]:
    """Some samples of an operator, spread evenly, whose inputs are not large."""
    seed()
    found = list(op.sample_inputs("cpu", torch.float64, requires_grad=True))
    small = [s for s in found if not isinstance(s.input, torch.Tensor) or s.input.numel() <= 500]
    chosen = small or found
    return chosen[:: max(len(chosen) // SAMPLES, 1)][:SAMPLES]


def weights(like: list[torch.Tensor], first: int) -> list[np.ndarray]:
    rngs = (np.random.default_rng(first + i) for i in range(len(like)))
    return [np.asarray(rng.normal(size=tuple(t.shape))) for rng, t in zip(rngs, like)]


def second_of_torch(case: Case) -> tuple[list[Any], list[Any]] | None:
    """First and second derivatives; None where there is no second one."""
    outputs = [y for y in case.theirs if isinstance(y, torch.Tensor) and y.requires_grad]
    inputs = [x for x, _ in case.leaves if x.requires_grad]
    if not outputs or not inputs:
        return None
    w = [torch.from_numpy(a) for a in weights(outputs, 10)]
    first = torch.autograd.grad(outputs, inputs, w, create_graph=True, allow_unused=True)
    live = [(g, torch.from_numpy(v)) for g, v in zip(first, weights(inputs, 50)) if g is not None]
    live = [(g, v) for g, v in live if g.requires_grad]
    if not live:
        return list(first), [None] * len(inputs)
    total = sum((g * v).sum() for g, v in live)
    return list(first), list(torch.autograd.grad(total, inputs, allow_unused=True))


def second_of_tgrad(case: Case) -> tuple[list[Any], list[Any]]:
    pairs = list(zip(case.ours, case.theirs))
    pairs = [(m, t) for m, t in pairs if isinstance(t, torch.Tensor) and t.requires_grad]
    inputs = [(m, t) for t, m in case.leaves if t.requires_grad]
    total: Any = 0.0
    for (m, _), w in zip(pairs, weights([t for _, t in pairs], 10)):
        total = total + (m * tgrad.tensor(w, device="numpy")).sum()
    leaves = [m for m, _ in inputs]
    first = gradient(total, leaves)
    along = weights([t for _, t in inputs], 50)
    total = 0.0
    for g, v in zip(first, along):
        if g is not None:
            total = total + (g * tgrad.tensor(v, device="numpy")).sum()
    return first, gradient(total, leaves)


def gradient(total: Any, leaves: list[Tensor]) -> list[Tensor | None]:
    if not isinstance(total, Tensor) or not total.requires_grad:
        return [None] * len(leaves)
    return list(tgrad.autograd.grad(total, leaves, create_graph=True, allow_unused=True))


def assert_same(have: list[Any], want: list[Any], what: str) -> None:
    for i, (a, b) in enumerate(zip(have, want, strict=True)):
        mine = np.zeros(()) if a is None else to_numpy(a)
        theirs = np.zeros(()) if b is None else to_numpy(b + torch.zeros(()))
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(
            mine + 0 * theirs, theirs + 0 * mine, rtol=0, atol=TOLERANCE * scale,
            err_msg=f"{what} of input {i}",
        )  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_order(name: str) -> None:
    op = operators()[name]
    for sample in samples(op):
        case = Case(op, sample, "numpy")
        try:
            want = second_of_torch(case)
        except (RuntimeError, NotImplementedError) as error:
            assert "not implemented" in str(error) or "does not require" in str(error), error
            continue
        if want is None:
            continue
        with NothingInTorch():
            have = second_of_tgrad(case)
        assert_same(have[0], want[0], "the gradient")
        assert_same(have[1], want[1], "the second derivative")
