"""Products of which only rows are looked at: logits and their gradient are not stored whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion import row_chunks
from tgrad.pipeline import compile_graph
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor

torch = pytest.importorskip("torch")

Loss = Callable[[Any, Any, Any, Any], Any]
"""(functional, logits, targets, weight of each class) -> loss, in either library"""

CASES: dict[str, Loss] = {
    "mean": lambda f, x, t, w: f.cross_entropy(x, t),
    "smoothing": lambda f, x, t, w: f.cross_entropy(x, t, label_smoothing=0.2),
    "weight": lambda f, x, t, w: f.cross_entropy(x, t, weight=w, ignore_index=3),
    "none": lambda f, x, t, w: (f.cross_entropy(x, t, reduction="none", ignore_index=0) ** 2).sum(),
    "by hand": lambda f, x, t, w: (x.exp().sum(-1).log() - x.mean(-1)).sum(),
    "squares": lambda f, x, t, w: (f.relu(x) ** 2).sum(),
}
ROWS, CLASSES, SIZE = 48, 40, 24


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of a few KB count as large, and no cost as too high."""
    monkeypatch.setattr(row_chunks, "LEAST_BYTES", ROWS * CLASSES * 4)
    monkeypatch.setattr(row_chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(row_chunks, "COST", 1e9)
    monkeypatch.setattr(row_chunks, "MOST", 3)
    monkeypatch.setattr(row_chunks, "LEFT", 1e9)


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    shapes = ((ROWS, SIZE), (CLASSES, SIZE), (CLASSES,), (CLASSES,))
    found = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    return [*found[:3], np.abs(found[3]), rng.integers(0, CLASSES, ROWS)]


def step(lib: Any, f: Any, loss: Loss, device: str, bias: bool, deep: bool = False) -> list[Any]:
    """The loss and the gradients of a linear layer before it."""
    h, w, b, scale, t = (lib.tensor(a, device=device) for a in arrays())
    leaves = [x.requires_grad_() for x in ((h, w, b) if bias else (h, w))]
    x = h.reshape(6, ROWS // 6, SIZE) if deep else h
    x = f.linear(x, w, b if bias else None).reshape(-1, CLASSES)
    y = loss(f, x, t, scale)
    y.backward()
    return [y, *(x.grad for x in leaves)]


def plan_of(outputs: list[Tensor]) -> Plan:
    compiled, _ = compile_graph([t._node for t in outputs], outputs[0].device)
    return compiled.plan


def largest(plan: Plan) -> int:
    return max((t.nbytes for t in plan.temps), default=0)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "device"),
    [(name, "interpret") for name in CASES] + [("mean", "cpu"), ("smoothing", "cpu")],
)
def test_values_and_gradients(name: str, device: str) -> None:
    bias = name in ("smoothing", "by hand")
    found = step(tgrad, F, CASES[name], device, bias)
    assert largest(plan_of(found)) <= SIZE * CLASSES * 4 < ROWS * CLASSES * 4
    want = step(torch, torch.nn.functional, CASES[name], "cpu", bias)
    for got, y in zip(found, want):
        np.testing.assert_allclose(got.detach().numpy(), y.detach().numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("small")
def test_batches_of_rows() -> None:
    found = step(tgrad, F, CASES["mean"], "cpu", True, deep=True)
    assert largest(plan_of(found)) <= SIZE * CLASSES * 4
    want = step(torch, torch.nn.functional, CASES["mean"], "cpu", True, deep=True)
    for got, y in zip(found, want):
        np.testing.assert_allclose(got.detach().numpy(), y.detach().numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("small")
def test_rows_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, and gradients of the rows; sums over rows are in parts."""
    found = step(tgrad, F, CASES["none"], "cpu", False)
    plan_of(found)
    values = [t.numpy() for t in found]
    monkeypatch.setattr(row_chunks, "LEAST_BYTES", 1 << 60)
    again = step(tgrad, F, CASES["none"], "cpu", False)
    assert np.array_equal(values[1], again[1].numpy())
    np.testing.assert_allclose(values[2], again[2].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small")
def test_what_is_needed_whole_is_stored_and_it_says_so() -> None:
    h, w, *_ = (tgrad.tensor(a, device="cpu") for a in arrays())
    x = F.linear(h, w)
    for outputs, reason in (
        ([x, F.softmax(x, 1)], "is needed whole"),
        ([F.softmax(x, 0).sum(1)], "needs more than rows of the product"),
    ):
        plan = plan_of(outputs)
        notes = [r for k in plan.kernels for r in k.reasons if "stored whole" in r]
        assert notes and notes[0].endswith(reason)


# -- at the size of a language model ------------------------------------------------------------


def training(rows: int, classes: int, size: int, target: str, grad: bool = True) -> Plan:
    with planning(target):
        half = {"dtype": tgrad.bfloat16, "device": "cuda"}
        h, w = (tgrad.empty(n, size, **half).realize() for n in (rows, classes))
        t = tgrad.zeros(rows, dtype=tgrad.int64, device="cuda").realize()
        leaves = [x.requires_grad_() for x in (h, w)] if grad else []
        loss = F.cross_entropy(F.linear(h, w), t)
        if grad:
            loss.backward()
        return plan_of([loss, *(x.grad for x in leaves)])  # type: ignore[misc]


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_the_peak_has_no_logits(target: str) -> None:
    rows, classes, size = 16384, 50304, 1024
    logits, weights = 2 * rows * classes, 4 * classes * size
    plan = training(rows, classes, size, target)
    # a chunk, the float32 sums of the weights' gradient, the rows' gradient in chunks
    assert plan.arena_bytes <= logits // 4 + weights + 2 * rows * size + (1 << 20)
    forward = training(rows, classes, size, target, grad=False)
    assert forward.arena_bytes <= logits // 16 + (1 << 20)
    assert sum(k.flops for k in forward.kernels if k.region.space.kind == "dot") in (
        2 * rows * classes * size, 2 * rows * classes * size // 16
    )  # fmt: skip
    notes = [r for k in plan.kernels for r in k.reasons if "not stored whole" in r]
    assert notes and notes[0].startswith(f"{logits:,} bytes are not stored whole: rows in 4 chunks")


def test_a_product_that_is_not_worth_it() -> None:
    plan = training(4096, 50304, 1024, "sm_90")
    notes = [r for k in plan.kernels for r in k.reasons if "stored whole" in r]
    assert notes == ["412,090,368 bytes are stored whole: a chunk of rows and the sums would hold "
                     "412,090,368"]  # fmt: skip
