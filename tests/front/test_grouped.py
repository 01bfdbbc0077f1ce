"""Products of groups of rows with matrices of their own: against PyTorch's in float64, group by
group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad.errors import DTypeError, ShapeError

SIZES = {  # rows, k, n, and where groups end
    "plain": (40, 33, 17, [5, 12, 30, 40]),
    "empty groups": (40, 8, 16, [0, 0, 25, 25, 40]),
    "rows behind": (40, 8, 16, [3, 30]),
    "none at all": (7, 4, 5, [0, 0, 0]),
    "no rows": (0, 4, 5, [0, 0]),
    "one": (150, 20, 12, [150]),
    "more groups than rows": (3, 5, 4, [0, 1, 1, 1, 2, 3, 3, 3]),
    "many tiles": (700, 24, 40, [260, 300, 555, 690]),
}
FORMS = ("rows", "columns", "sums")


def parts(ends: list[int]) -> list[slice]:
    return [slice(low, high) for low, high in zip([0, *ends[:-1]], ends)]


def reference(form: str, a: torch.Tensor, b: torch.Tensor, ends: list[int]) -> torch.Tensor:
    groups = parts(ends)
    if form == "sums":
        return torch.stack([a[:, s] @ b[s] for s in groups])
    if form == "rows":
        made = [a[s] @ b[g] for g, s in enumerate(groups)]
        return torch.cat([*made, a.new_zeros(len(a) - ends[-1], b.shape[-1])])
    made = [a[g] @ b[:, s] for g, s in enumerate(groups)]
    return torch.cat([*made, a.new_zeros(a.shape[1], b.shape[1] - ends[-1])], 1)


def operands(form: str, size: str) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    torch.manual_seed(0)
    rows, k, n, ends = SIZES[size]
    shapes = {
        "rows": ((rows, k), (len(ends), k, n)),
        "columns": ((len(ends), n, k), (k, rows)),
        "sums": ((k, rows), (rows, n)),
    }
    a, b = (torch.randn(s, dtype=torch.float64) for s in shapes[form])
    return a, b, ends


def tensors(device: str, *values: torch.Tensor) -> list[tgrad.Tensor]:
    return [tgrad.tensor(v.float().numpy(), device=device).requires_grad_() for v in values]


def offsets(ends: list[int], device: str) -> tgrad.Tensor:
    return tgrad.tensor(ends, dtype=tgrad.int32, device=device)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_products_and_their_gradients(form: str, size: str, device: str) -> None:
    a, b, ends = operands(form, size)
    x, y = tensors(device, a, b)
    a, b = (t.float().double().requires_grad_() for t in (a, b))
    want = reference(form, a, b, ends)
    got = F.grouped_mm(x, y, offs=offsets(ends, device))
    assert got.shape == want.shape
    np.testing.assert_allclose(got.detach().numpy(), want.detach(), rtol=1e-4, atol=1e-4)
    g = torch.randn(want.shape, dtype=torch.float64)
    want.backward(g)
    got.backward(tgrad.tensor(g.float().numpy(), device=device))
    for mine, theirs in ((x, a), (y, b)):
        assert mine.grad is not None and theirs.grad is not None
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives(form: str, device: str) -> None:
    a, b, ends = operands(form, "empty groups")
    x, y = tensors(device, a, b)
    a, b = (t.float().double().requires_grad_() for t in (a, b))

    def penalty(value: Any, inputs: Any, lib: Any) -> Any:
        grads = lib.autograd.grad((value * value).sum(), inputs, create_graph=True)
        return sum((g * g).sum() for g in grads)

    penalty(reference(form, a, b, ends), (a, b), torch).backward()
    penalty(F.grouped_mm(x, y, offs=offsets(ends, device)), (x, y), tgrad).backward()
    for mine, theirs in ((x, a), (y, b)):
        assert mine.grad is not None and theirs.grad is not None
        scale = float(theirs.grad.abs().max())
        np.testing.assert_allclose(mine.grad.numpy() / scale, theirs.grad / scale, atol=1e-5)


def test_what_is_not_finite_stays_in_its_group(device: str) -> None:
    a, b, ends = operands("rows", "plain")
    a[6, 3], b[2, 0, 0] = float("nan"), float("inf")
    x, y = tensors(device, a, b)
    got = F.grouped_mm(x, y, offs=offsets(ends, device))
    got.backward(tgrad.ones_like(got))
    finite = np.isfinite(got.detach().numpy())
    assert not finite[6].any() and not finite[12:30, 0].any()
    assert finite.sum() == finite.size - 17 - 18
    assert x.grad is not None and y.grad is not None
    assert np.isfinite(x.grad.numpy()).all(1).tolist() == [not 12 <= r < 30 for r in range(40)]
    assert np.isfinite(y.grad.numpy()).all((1, 2)).tolist() == [True, False, True, True]


def test_bias_and_groups_on_both_sides(device: str) -> None:
    a, b, ends = operands("rows", "rows behind")
    x, y = tensors(device, a, b)
    torch.manual_seed(1)
    one, each = torch.randn(16), torch.randn(2, 16)
    for bias in (one, each):
        (mine,) = tensors(device, bias)
        got = F.grouped_mm(x, y, offs=offsets(ends, device), bias=mine).detach().numpy()
        want = reference("rows", a, b, ends)
        for g, s in enumerate(parts(ends)):
            want[s] += bias if bias.ndim == 1 else bias[g]
        np.testing.assert_allclose(got[: ends[-1]], want[: ends[-1]], rtol=1e-4, atol=1e-4)
        pair = F.grouped_mm(y.mT, y, bias=mine)
        wide = b.mT @ b + (bias if bias.ndim == 1 else bias[:, None])
        np.testing.assert_allclose(pair.detach().numpy(), wide, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_sums_of_bfloat16_are_rounded_once(form: str, device: str) -> None:
    a, b, ends = operands(form, "many tiles")
    narrow = [t.bfloat16() for t in (a, b)]
    want = reference(form, *(t.double() for t in narrow), ends)
    x, y = (tgrad.tensor(t, device=device) for t in narrow)
    offs = offsets(ends, device)
    wide = F.grouped_mm(x, y, offs=offs, out_dtype=tgrad.float32)
    assert wide.dtype is tgrad.float32
    np.testing.assert_allclose(wide.numpy(), want, rtol=1e-4, atol=1e-4)
    got = F.grouped_mm(x, y, offs=offs)
    assert got.dtype is tgrad.bfloat16
    np.testing.assert_allclose(got.double().numpy(), want, rtol=2**-8, atol=1e-4)


def test_it_is_pytorchs() -> None:
    a, b, ends = operands("rows", "plain")
    a, b = (t.bfloat16() for t in (a[:, :32], b[:, :32, :16]))
    want = torch.nn.functional.grouped_mm(a, b.contiguous(), offs=torch.tensor(ends).int())
    got = F.grouped_mm(tgrad.tensor(a), tgrad.tensor(b), offs=offsets(ends, "cpu"))
    np.testing.assert_allclose(got.float().numpy(), want.float(), rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize(
    ("shapes", "offs", "message"),
    [
        (((4, 3), (2, 4, 5)), [1, 4], "They are"),
        (((4, 3), (3, 5)), None, "Give offs"),
        (((2, 4, 3), (2, 3, 5)), [1, 4], "Give offs"),
        (((2, 4, 3), (3, 3, 5)), None, "as many groups"),
        (((4, 3), (2, 3, 5)), [1, 2, 4], r"shape must be \(2,\)"),
        (((4,), (2, 4, 5)), [1, 4], "They are"),
    ],
)
def test_shapes_that_do_not_fit(shapes: Any, offs: list[int] | None, message: str) -> None:
    ends = None if offs is None else offsets(offs, "cpu")
    with pytest.raises(ShapeError, match=message):
        F.grouped_mm(*(tgrad.zeros(s) for s in shapes), offs=ends)


def test_offsets_are_int32() -> None:
    with pytest.raises(DTypeError, match=r"offs of int64"):
        F.grouped_mm(tgrad.zeros(4, 3), tgrad.zeros(2, 3, 5), offs=tgrad.tensor([1, 4]))
