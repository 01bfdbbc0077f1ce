"""Cross entropy under `torch.compile` with tgrad: equal to PyTorch's, and no matrix of
log-probabilities or of zeros is written for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tgrad.interop.torch_compile import backend
from tgrad.runtime.plan import record_plans

TARGETS = torch.tensor([3, 0, -100, 6, 2])
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "each": {"reduction": "none"},
    "smooth": {"label_smoothing": 0.1},
    "weights": {"weight": torch.rand(7)},
    "other index": {"ignore_index": 3},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_cross_entropy(name: str, dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    options = dict(CASES[name])
    if "weight" in options:
        options["weight"] = options["weight"].to(dtype)
    targets = TARGETS if name != "other index" else TARGETS.clamp(min=0)

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy((x @ w).tanh() * 30, targets, **options)

    run = torch.compile(function, backend=backend)
    for _ in range(2):
        x = torch.randn(5, 4, dtype=dtype, requires_grad=True)
        w = torch.randn(4, 7, dtype=dtype, requires_grad=True)
        found = [(y, *torch.autograd.grad(y.sum(), (x, w))) for y in (run(x, w), function(x, w))]
        unit = 3e-2 if dtype is torch.bfloat16 else 1e-5
        for mine, theirs in zip(*found):
            scale = max(float(theirs.detach().abs().max()), 1.0)
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=unit, atol=unit)


def test_other_shapes_and_targets() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    cross_entropy = torch.nn.functional.cross_entropy
    run = torch.compile(cross_entropy, backend=backend)
    images = torch.randn(2, 5, 3, 4, requires_grad=True)
    rows = torch.randn(6, 5, requires_grad=True)
    for x, targets in (
        (images, torch.randint(0, 5, (2, 3, 4))),
        (rows, torch.rand(6, 5).softmax(1)),
        (rows, torch.full((6,), -100)),  # none counts: NaN
    ):
        found = [
            (y, *torch.autograd.grad(y, x)) for f in (run, cross_entropy) for y in (f(x, targets),)
        ]
        for mine, theirs in zip(*found):
            torch.testing.assert_close(mine, theirs, equal_nan=True)


def test_what_lies_in_memory() -> None:
    """The logits, once each way."""
    torch._dynamo.reset()
    rows, classes = 64, 5000

    def function(x: torch.Tensor, w: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy((x @ w).float(), targets)

    x = torch.randn(rows, 8, requires_grad=True)
    w = torch.randn(8, classes, requires_grad=True)
    with record_plans() as plans:
        torch.compile(function, backend=backend)(
            x, w, torch.randint(0, classes, (rows,))
        ).backward()
    forward, backward = (p for p in plans if p.launches > 1)
    for plan in (forward, backward):
        large = [b for b in (*plan.outputs, *plan.temps) if b.nbytes >= rows * classes * 4]
        assert len(large) == 1, [b.shape for b in large]
    assert all(k.region.space.kind != "scatter" for k in backward.kernels)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_alignments(zero_infinity: bool) -> None:
    """One target has more letters than the sequence has steps."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    targets, steps = torch.randint(1, 6, (3, 5)), [12, 9, 12]

    def function(x: torch.Tensor) -> torch.Tensor:
        lengths = [5, 3, 5] if not zero_infinity else [5, 3, 4]
        times = steps if not zero_infinity else [12, 2, 12]
        return torch.nn.functional.ctc_loss(
            x.log_softmax(2), targets, times, lengths, zero_infinity=zero_infinity
        )

    run = torch.compile(function, backend=backend)
    for _ in range(2):
        x = torch.randn(12, 3, 6, requires_grad=True)
        found = [(y, *torch.autograd.grad(y, x)) for y in (run(x), function(x))]
        for mine, theirs in zip(*found):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
