"""Operators that PyTorch calls on GPUs alone, in place of several or of another.

In: arguments of an operator. Out: what it gives. Invariant: as PyTorch says; a workspace, which
only its own backward reads, holds what that needs.
"""

from __future__ import annotations

from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Tensors, gradients, rule

# -- cells of recurrent networks -----------------------------------------------------------------


def _with_bias(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


@rule("_thnn_fused_lstm_cell")
def _lstm_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    cx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    gates = _with_bias(input_gates, input_bias) + _with_bias(hidden_gates, hidden_bias)
    i, f, g, o = gates.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, tgrad.cat((i, f, g, o), 1)


@rule("_thnn_fused_lstm_cell_backward_impl")
def _lstm_cell_backward(
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    cx: Tensor,
    cy: Tensor,
    workspace: Tensor,
    has_bias: bool,
) -> Tensors:
    i, f, g, o = workspace.chunk(4, 1)
    bent, dc = cy.tanh(), tgrad.zeros_like(cy) if grad_cy is None else grad_cy
    do = tgrad.zeros_like(o)
    if grad_hy is not None:
        do, dc = grad_hy * bent * o * (1 - o), dc + grad_hy * o * (1 - bent * bent)
    parts = dc * g * i * (1 - i), dc * cx * f * (1 - f), dc * i * (1 - g * g), do
    gates = tgrad.cat(parts, 1)
    return gates, dc * f, gates.sum(0) if has_bias else None


@rule("_thnn_fused_gru_cell")
def _gru_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    hx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    of_input = _with_bias(input_gates, input_bias).chunk(3, 1)
    of_hidden = _with_bias(hidden_gates, hidden_bias).chunk(3, 1)
    r, z = ((a + b).sigmoid() for a, b in zip(of_input[:2], of_hidden[:2]))
    n = (of_input[2] + r * of_hidden[2]).tanh()
    return n + z * (hx - n), tgrad.cat((r, z, n, hx, of_hidden[2]), 1)


@rule("_thnn_fused_gru_cell_backward")
def _gru_cell_backward(g: Tensor, workspace: Tensor, has_bias: bool) -> Tensors:
    r, z, n, hx, hn = workspace.chunk(5, 1)
    dz, dn = g * (hx - n) * z * (1 - z), g * (1 - z) * (1 - n * n)
    dr = dn * hn * r * (1 - r)
    of_input, of_hidden = tgrad.cat((dr, dz, dn), 1), tgrad.cat((dr, dz, dn * r), 1)
    sums = (of_input.sum(0), of_hidden.sum(0)) if has_bias else (None, None)
    return of_input, of_hidden, g * z, *sums


# -- grids ---------------------------------------------------------------------------------------


@rule("cudnn_grid_sampler")
def _grid_sampler(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, "bilinear", "zeros", True)


@rule("cudnn_grid_sampler_backward")
def _grid_sampler_backward(x: Tensor, grid: Tensor, g: Tensor) -> Tensors:
    return gradients(_grid_sampler, g, (x, grid), (True, True))


# -- products of narrow numbers --------------------------------------------------------------------


@rule("_int_mm")
def _int_mm(a: Tensor, b: Tensor) -> Tensor:
    return a._matmul(b, tgrad.int32)


@rule("_scaled_mm")
def _scaled_mm(
    a: Tensor,
    b: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    out_dtype: Any = None,
    use_fast_accum: bool = False,
) -> Tensor:
    """
    Raises:
        UnsupportedError: the result has a scale.
    """
    if scale_result is not None:
        raise UnsupportedError("_scaled_mm with a scale of the result.")
    of = F.ScalingType.TensorWise if scale_a.numel() == 1 else F.ScalingType.RowWise
    dtype = a.dtype if out_dtype is None else out_dtype
    return F.scaled_mm(a, b, scale_a, of, scale_b, of, bias=bias, output_dtype=dtype)
