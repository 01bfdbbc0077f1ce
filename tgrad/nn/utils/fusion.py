"""Normalisation by running statistics, folded into the layer before it.

In: a layer and a BatchNorm in evaluation. Out: one layer that computes both. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fuse_conv_bn_eval.html
"""

from __future__ import annotations

import copy
from typing import TypeVar

from tgrad.creation import ones_like, zeros_like
from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor

T = TypeVar("T", bound=Module)


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution that normalises its results.

    w' = w s;  b' = (b - mean) s + bias of the norm;  s = its weight / sqrt(variance + eps)

    Args:
        conv_w, conv_b: of the convolution.
        bn_rm, bn_rv, bn_eps, bn_w, bn_b: running mean and variance, eps, weight and bias of the
            BatchNorm.
        transpose: whether outputs are the second axis of the weight.
    """
    with no_grad():
        bias = zeros_like(bn_rm) if conv_b is None else conv_b
        scale = (ones_like(bn_rm) if bn_w is None else bn_w) * (bn_rv + bn_eps).rsqrt()
        axis = 1 if transpose else 0
        shape = tuple(-1 if a == axis else 1 for a in range(conv_w.ndim))
        shift = (bias - bn_rm) * scale
        made = conv_w * scale.reshape(shape), shift if bn_b is None else shift + bn_b
    weight, offset = (t.to(conv_w.dtype) for t in made)
    return Parameter(weight, conv_w.requires_grad), Parameter(
        offset, conv_w.requires_grad if conv_b is None else conv_b.requires_grad
    )


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a linear layer that normalises its results; see
    `fuse_conv_bn_weights`."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def fuse_conv_bn_eval(conv: T, bn: Module, transpose: bool = False) -> T:
    """A convolution that computes what a convolution and a BatchNorm after it do.

    Raises:
        ShapeError: one of them is in training, or the BatchNorm has no running statistics.

    >>> import tgrad
    >>> conv, norm = tgrad.nn.Conv1d(1, 2, 3).eval(), tgrad.nn.BatchNorm1d(2).eval()
    >>> fused, x = tgrad.nn.utils.fuse_conv_bn_eval(conv, norm), tgrad.ones(1, 1, 4)
    >>> bool((fused(x) - norm(conv(x))).abs().max() < 1e-5)
    True
    """
    if conv.training or bn.training or bn.running_mean is None:
        raise ShapeError(
            "fusing a BatchNorm in training, or without running statistics.", "Call .eval() first."
        )
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose,
    )  # fmt: skip
    return fused


def fuse_linear_bn_eval(linear: T, bn: Module) -> T:
    """A linear layer that computes what a linear layer and a BatchNorm after it do.

    Raises:
        ShapeError: one of them is in training, or the BatchNorm has no running statistics.
    """
    return fuse_conv_bn_eval(linear, bn)
