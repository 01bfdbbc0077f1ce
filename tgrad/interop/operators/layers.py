"""Operators that are layers: norms, convolutions, pools, and their backwards.

In: arguments of an operator. Out: what it gives. Invariant: what they keep for a backward has
PyTorch's meaning; backwards are asked of tgrad's autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.interop.operators.table import Tensors, gradients, rule
from tgrad.nn.functional.antialias import FILTERS
from tgrad.nn.functional.sampling import resized

# -- norms ---------------------------------------------------------------------------------------


@rule("native_layer_norm")
def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    y, mean, rstd = _normalised(x, axes, eps)
    y = _scaled(y, weight, bias)
    return y.to(x.dtype), mean, rstd


@rule("native_group_norm")
def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    n: int,
    c: int,
    points: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _normalised(x.reshape(n, groups, c // groups * points), (2,), eps)
    y = y.reshape(x.shape)
    y = _scaled(y, _per_channel(weight, x), _per_channel(bias, x))
    return y.to(x.dtype), mean.reshape(n, groups), rstd.reshape(n, groups)


@rule("_native_batch_norm_legit_functional")
def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """With the new running statistics."""
    if not training:
        y, mean, rstd = _batch_norm_fixed(x, weight, bias, running_mean, running_var, momentum, eps)
        return y, mean, rstd, running_mean, running_var
    y, mean, rstd = _batch_norm_without(x, weight, bias, training, momentum, eps)
    count = x.numel() // x.shape[1]
    var = (rstd**-2 - eps) * (count / max(count - 1, 1))
    new_mean = (running_mean * (1 - momentum) + mean * momentum).to(running_mean.dtype)
    new_var = (running_var * (1 - momentum) + var * momentum).to(running_var.dtype)
    return y, mean, rstd, new_mean, new_var


@rule("_batch_norm_with_update_functional")
def _batch_norm_with_update(x: Tensor, *how: Any) -> tuple[Tensor, ...]:
    """The same in training, with what cuDNN would keep: nothing."""
    *parameters, momentum, eps = how
    y, mean, rstd, *new = _batch_norm(x, *parameters, True, momentum, eps)
    return y, mean, rstd, tgrad.zeros(0, dtype=tgrad.uint8, device=x.device), *new


@rule("_native_batch_norm_legit.no_stats")
def _batch_norm_without(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _normalised(x, (0, *range(2, x.ndim)), eps)
    y = _scaled(y, _per_channel(weight, x), _per_channel(bias, x))
    return y.to(x.dtype), mean.reshape(-1), rstd.reshape(-1)


@rule("_native_batch_norm_legit_no_training")
def _batch_norm_fixed(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return y, tgrad.zeros(0, device=x.device), tgrad.zeros(0, device=x.device)


def _normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps), the mean and one over the root, in float32 at least."""
    wide = x.to(tgrad.float32) if x.dtype.itemsize < 4 else x
    mean = wide.mean(axes, keepdim=True)
    rstd = (wide.var(axes, correction=0, keepdim=True) + eps).rsqrt()
    return (wide - mean) * rstd, mean, rstd


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _per_channel(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(1, -1, *(1 for _ in range(x.ndim - 2)))


@rule("_weight_norm_interface_backward")
def _weight_norm_backward(g: Tensor, v: Tensor, scale: Tensor, norms: Tensor, dim: int) -> Tensors:
    axes = tuple(a for a in range(v.ndim) if a != dim)

    def weight(v: Tensor, scale: Tensor) -> Tensor:
        return v * (scale / tgrad.linalg.vector_norm(v, 2, axes, keepdim=True))

    return gradients(weight, g, (v, scale), (True, True))


# -- windows -------------------------------------------------------------------------------------


@rule("convolution")
def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    rank = weight.ndim - 2
    stride, padding, dilation = (_each(v, rank) for v in (stride, padding, dilation))
    if not transposed:
        conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        return conv(x, weight, bias, stride, padding, dilation, groups)
    back = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return back(x, weight, bias, stride, padding, _each(output_padding, rank), groups, dilation)


@rule("convolution_backward")
def _convolution_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> Tensors:
    how = (stride, padding, dilation, transposed, output_padding, groups)
    dx, dw = gradients(lambda x, w: _convolution(x, w, None, *how), g, (x, weight), wanted[:2])
    return dx, dw, g.sum((0, *range(2, g.ndim))) if wanted[2] else None


def _each(values: Sequence[int], rank: int) -> tuple[int, ...]:
    """One number stands for all axes."""
    return tuple(values) if len(values) == rank else rank * tuple(values)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> tuple[Tensor, Tensor]:
    pool = F.max_pool3d if len(kernel) == 3 else F.max_pool2d
    how = (tuple(kernel), tuple(stride) or None, padding, dilation, ceil)
    return pool(x, *how, return_indices=True)


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(
    g: Tensor,
    x: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
    indices: Tensor | None = None,
) -> Tensor:
    pool = F.max_pool3d if len(kernel) == 3 else F.max_pool2d
    how = (tuple(kernel), tuple(stride) or None, padding, dilation, ceil)
    (found,) = gradients(lambda x: pool(x, *how), g, (x,), (True,))
    assert found is not None
    return found


def max_pool_gradient(g: Any, x: Any, kernel: Any, *how: Any) -> Any:
    """The gradient of a maximum of windows without the places of the maxima, for tensors of tgrad
    and for those of torch."""
    if isinstance(g, Tensor):
        return _max_pool_backward(g, x, kernel, *how)
    aten = torch.ops.aten
    is_deep = len(kernel) == 3
    pool = aten.max_pool3d_with_indices if is_deep else aten.max_pool2d_with_indices
    _, places = pool(x, kernel, *how)
    backward = (
        aten.max_pool3d_with_indices_backward if is_deep else aten.max_pool2d_with_indices_backward
    )
    return backward(g, x, kernel, *how, places)


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def _avg_pool_backward(g: Tensor, x: Tensor, kernel: Any, stride: Any, *how: Any) -> Tensor:
    pool = F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d
    stride = tuple(stride) or None
    (found,) = gradients(lambda x: pool(x, tuple(kernel), stride, *how), g, (x,), (True,))
    assert found is not None
    return found


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive(x: Tensor, size: Sequence[int]) -> Tensor:
    pool = F.adaptive_avg_pool3d if len(size) == 3 else F.adaptive_avg_pool2d
    return pool(x, tuple(size))


def _adaptive_backward(rank: int, g: Tensor, x: Tensor) -> Tensor:
    size = g.shape[-rank:]
    (found,) = gradients(lambda x: _adaptive(x, size), g, (x,), (True,))
    assert found is not None
    return found


for _rank in (2, 3):
    rule(f"_adaptive_avg_pool{_rank}d_backward")(partial(_adaptive_backward, _rank))


@rule("adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    pool = F.adaptive_max_pool3d if len(size) == 3 else F.adaptive_max_pool2d
    return pool(x, tuple(size), return_indices=True)


@rule("fractional_max_pool2d", "fractional_max_pool3d")
def _fractional(x: Tensor, kernel: Any, size: Any, samples: Tensor) -> tuple[Tensor, Tensor]:
    pool = F.fractional_max_pool3d if len(size) == 3 else F.fractional_max_pool2d
    return pool(x, tuple(kernel), tuple(size), None, True, samples)


@rule("adaptive_max_pool2d_backward")
def _adaptive_max2d_backward(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return _to_places(g, x, indices, 2)


@rule("adaptive_max_pool3d_backward")
def _adaptive_max3d_backward(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return _to_places(g, x, indices, 3)


@rule("fractional_max_pool2d_backward", "fractional_max_pool3d_backward")
def _fractional_backward(g: Tensor, x: Tensor, kernel: Any, size: Any, indices: Tensor) -> Tensor:
    return _to_places(g, x, indices, len(size))


def _to_places(g: Tensor, x: Tensor, indices: Tensor, rank: int) -> Tensor:
    """Gradients of maxima, added where these were in the last axes of x."""
    flat = tgrad.zeros_like(x).flatten(-rank)
    places = indices.flatten(-rank)
    return flat.scatter_add(-1, places, g.flatten(-rank)).reshape(x.shape)


@rule("replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward")
def _replication_backward(g: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
    (found,) = gradients(lambda x: F.pad(x, tuple(padding), "replicate"), g, (x,), (True,))
    assert found is not None
    return found


@rule("grid_sampler_2d_backward", "grid_sampler_3d_backward")
def _grid_backward(
    g: Tensor,
    x: Tensor,
    grid: Tensor,
    mode: int,
    padding: int,
    align_corners: bool,
    wanted: Sequence[bool],
) -> Tensors:
    how = (("bilinear", "nearest", "bicubic")[mode], ("zeros", "border", "reflection")[padding])
    return gradients(lambda x, p: F.grid_sample(x, p, *how, align_corners), g, (x, grid), wanted)


def _antialiased(
    mode: str, x: Tensor, sizes: Sequence[int], align_corners: bool, *factors: float | None
) -> Tensor:
    return resized(x, sizes, factors or None, mode, align_corners, True)


def _antialiased_backward(
    mode: str,
    g: Tensor,
    sizes: Sequence[int],
    shape: Sequence[int],
    align_corners: bool,
    *factors: float | None,
) -> Tensor | None:
    def forward(x: Tensor) -> Tensor:
        return _antialiased(mode, x, sizes, align_corners, *factors)

    x = tgrad.zeros(*shape, dtype=g.dtype, device=g.device)
    return gradients(forward, g, (x,), (True,))[0]


for _mode in FILTERS:
    rule(f"_upsample_{_mode}2d_aa")(partial(_antialiased, _mode))
    rule(f"_upsample_{_mode}2d_aa_backward")(partial(_antialiased_backward, _mode))


# -- groups of rows --------------------------------------------------------------------------------


@rule("_grouped_mm")
def _grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: Any = None,
) -> Tensor:
    return F.grouped_mm(a, b, offs=offs, bias=bias, out_dtype=out_dtype)


@rule("transformers::grouped_mm_fallback")
def _grouped_rows(x: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    """What Hugging Face's mixtures of experts call where PyTorch's own operator does not do."""
    return F.grouped_mm(x, weight, offs=offs.to(tgrad.int32))


@rule("transformers::grouped_mm_fallback_backward")
def _grouped_rows_backward(x: Tensor, weight: Tensor, offs: Tensor, g: Tensor) -> tuple[Any, ...]:
    ends = offs.to(tgrad.int32)
    return F.grouped_mm(g, weight.mT, offs=ends), F.grouped_mm(x.mT, g, offs=ends)


# -- alignments ------------------------------------------------------------------------------------


@rule("_ctc_loss")
def _ctc_loss(
    x: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[Tensor, Tensor]:
    """What PyTorch keeps of alignments for its backward is not kept here."""
    loss = F.ctc_loss(x, targets, input_lengths, target_lengths, blank, "none")
    return loss, tgrad.zeros_like(loss)


@rule("_ctc_loss_backward")
def _ctc_loss_backward(
    g: Tensor,
    x: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    loss: Tensor,
    alignments: Tensor,
    blank: int,
    zero_infinity: bool = False,
) -> Tensor | None:
    more = targets, input_lengths, target_lengths, blank, "none", zero_infinity
    return gradients(lambda x: F.ctc_loss(x, *more), g, (x,), (True,))[0]
