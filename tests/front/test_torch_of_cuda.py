"""Operators that PyTorch calls on GPUs alone, beside what they stand for on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import UnsupportedError
from tgrad.interop.operators import operator

ATEN = torch.ops.aten


def mine(*values: torch.Tensor) -> list[tgrad.Tensor]:
    return [tgrad.tensor(v.detach().numpy()) for v in values]


def check(found: list[tgrad.Tensor | None], wanted: list[torch.Tensor]) -> None:
    for got, want in zip(found, wanted, strict=True):
        assert got is not None
        np.testing.assert_allclose(got.numpy(), want.detach(), rtol=1e-4, atol=1e-5)


def leaves(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(s, requires_grad=True) for s in shapes]


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("read", ["both", "hidden", "cell"])
def test_lstm_cells(read: str, has_bias: bool) -> None:
    x, h, cx, bx, bh = leaves((3, 20), (3, 20), (3, 5), (20,), (20,))
    biases = (bx, bh) if has_bias else ()
    gates = x + h + sum(biases)
    gates.retain_grad()
    i, f, g, o = gates.chunk(4, 1)
    cy = f.sigmoid() * cx + i.sigmoid() * g.tanh()
    hy = o.sigmoid() * cy.tanh()
    made = operator(ATEN._thnn_fused_lstm_cell.default)(*mine(x, h, cx, *biases))
    check(list(made[:2]), [hy, cy])
    grads = [torch.randn(3, 5) if read in ("both", name) else None for name in ("hidden", "cell")]
    sum((y * g).sum() for y, g in zip((hy, cy), grads) if g is not None).backward()
    given = [None if g is None else mine(g)[0] for g in grads]
    backward = operator(ATEN._thnn_fused_lstm_cell_backward_impl.default)
    found = backward(*given, *mine(cx, cy), made[2], has_bias)
    check(list(found[:2]), [gates.grad, cx.grad])
    assert has_bias == (found[2] is not None)
    check([found[2]] if has_bias else [], [bx.grad] if has_bias else [])


@pytest.mark.parametrize("has_bias", [False, True])
def test_gru_cells(has_bias: bool) -> None:
    x, h, hx, bx, bh = leaves((3, 15), (3, 15), (3, 5), (15,), (15,))
    of_input, of_hidden = (x + bx, h + bh) if has_bias else (x + 0, h + 0)
    a, b = of_input.chunk(3, 1), of_hidden.chunk(3, 1)
    r, z = (a[0] + b[0]).sigmoid(), (a[1] + b[1]).sigmoid()
    n = (a[2] + r * b[2]).tanh()
    hy = n + z * (hx - n)
    biases = (bx, bh) if has_bias else ()
    made = operator(ATEN._thnn_fused_gru_cell.default)(*mine(x, h, hx, *biases))
    check([made[0]], [hy])
    g = torch.randn(3, 5)
    hy.backward(g)
    found = operator(ATEN._thnn_fused_gru_cell_backward.default)(*mine(g), made[1], has_bias)
    check(list(found[:3]), [x.grad, h.grad, hx.grad])
    check(list(found[3:]) if has_bias else [], [bx.grad, bh.grad] if has_bias else [])


def test_grids() -> None:
    x, grid = leaves((2, 3, 6, 7), (2, 4, 5, 2))
    y = torch.nn.functional.grid_sample(x, grid, align_corners=True)
    check([operator(ATEN.cudnn_grid_sampler.default)(*mine(x, grid))], [y])
    g = torch.randn_like(y)
    y.backward(g)
    found = operator(ATEN.cudnn_grid_sampler_backward.default)(*mine(x, grid, g))
    check(list(found), [x.grad, grid.grad])


def test_products_of_narrow_numbers() -> None:
    torch.manual_seed(0)
    a, b = (torch.randint(-128, 128, s, dtype=torch.int8) for s in ((17, 40), (40, 9)))
    made = operator(ATEN._int_mm.default)(*mine(a, b))
    assert made.dtype is tgrad.int32 and made.tolist() == (a.int() @ b.int()).tolist()
    wide = [torch.randn(s).to(torch.float8_e4m3fn) for s in ((16, 32), (48, 32))]
    x, y = (tgrad.tensor(t.float().numpy()).to(tgrad.float8_e4m3fn) for t in wide)
    for shapes in (((), ()), ((16, 1), (1, 48))):
        scales = [torch.rand(s) for s in shapes]
        multiply = operator(ATEN._scaled_mm.default)
        made = multiply(x, y.t(), *mine(*scales), None, None, tgrad.float32)
        want = (wide[0].float() * scales[0]) @ (wide[1].float().t() * scales[1])
        check([made], [want])
    with pytest.raises(UnsupportedError, match="a scale of the result"):
        multiply(x, y.t(), *mine(*scales), None, mine(scales[0])[0])
