"""Sums that have one term, which a number picks along a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import F32, Draft, check, random_slots
from tgrad import dtype as dt
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.one_hot import LEAST, pick_terms
from tgrad.fusion.region import Const, IndexValue, Region
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

OUTSIDE = [0, 39, 40, -1, 2**31, 2**32 + 3, -(2**32) + 1, -(2**63), 2**63 - 1, 2, 3, 1]


def picked(columns: int, whole: str = "", both: bool = False, sign: float = 0.0) -> Region:
    """The element of each row at a number, or of a table for all rows; also the row's sum."""
    d = Draft(i=12, j=columns)
    number = d.input("number", "i", dt.int64)
    index = d.add(IndexValue(d.var("j"), dt.int64))
    inside = d.op(Op.EQ, index, number, dtype=dt.bool_)
    if both:
        inside = d.op(Op.AND, inside, d.input("valid", "i", dt.bool_))
    x = d.input("x", "j" if whole == "table" else "i j")
    zero = d.add(Const(sign, F32))
    d.store(d.reduce(Op.REDUCE_SUM, d.op(Op.WHERE, inside, d.op(Op.EXP, x), zero), "j"), "i")
    if whole == "sum":
        d.store(d.reduce(Op.REDUCE_SUM, x, "j"), "i", "total")
    return d.region("picked", "reduce", parallel="i", row="j")


def kernel_of(region: Region) -> ir.Kernel:
    return pick_terms(lower(region, choose_config(region, detect_machine())))


def loops(kernel: ir.Kernel) -> int:
    return sum(isinstance(s, ir.Loop) for s in ir.statements(kernel.body))


@pytest.mark.parametrize("whole", ["", "table", "sum"])
@pytest.mark.parametrize("both", [False, True])
def test_a_load_is_left(settings: Settings, whole: str, both: bool) -> None:
    """Of numbers that are inside the row in their lower 32 bits alone there is none."""
    region = picked(40, whole, both)
    kernel = kernel_of(region)
    assert loops(kernel) == (whole == "sum")
    arrays = random_slots(region)
    arrays[0][:] = OUTSIDE
    check(region, settings, arrays)


def test_what_is_added_elsewhere_is_zero_and_rows_are_not_short() -> None:
    assert loops(kernel_of(picked(40, sign=1.0))) == 1
    region = picked(LEAST - 1)
    lowered = lower(region, choose_config(region, detect_machine()))
    assert pick_terms(lowered) is lowered


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(33, 1000), (4, 21, 9, 7), (5, 3)])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_losses_of_classes(dtype: str, shape: tuple[int, ...], is_weighted: bool) -> None:
    rng = np.random.default_rng(3)
    values = -rng.random(shape).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[::4] = -100
    weight = rng.random(shape[1]).astype(np.float32)
    results = []
    for lib, wide in ((tgrad, False), (torch, True)):  # PyTorch's sums of bfloat16 lose digits
        x = lib.tensor(values, dtype=getattr(lib, dtype))
        w = lib.tensor(weight, dtype=getattr(lib, dtype)) if is_weighted else None
        x, w = (x.float(), w.float() if is_weighted else None) if wide else (x, w)
        x.requires_grad_()
        loss = lib.nn.functional.nll_loss(x, lib.tensor(target), w)
        loss.backward()
        results.append((loss.detach().float().numpy(), x.grad.float().numpy()))
    for have, want in zip(*results):
        np.testing.assert_allclose(have, want, rtol=1e-5 if dtype == "float32" else 1e-2, atol=1e-4)
