"""Normalisations: batch, layer, group, instance, root mean square.

In: a tensor, statistics and scales. Out: a lazy tensor of its shape and dtype. Invariant: computed
in float32 for float16 and bfloat16; each has one closed-form VJP over the mean and the reciprocal
deviation of the forward pass, with one reduction a sum. Source: Ioffe and Szegedy 2015; Ba et al.
2016; Zhang and Sennrich 2019; https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tgrad.errors import DTypeError, ShapeError
from tgrad.from_template import from_template
from tgrad.grad_mode import no_grad
from tgrad.repeating import of_tensors
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

Axes = tuple[int, ...]


def _wide(x: Tensor) -> Tensor:
    return x.to(x.dtype.accumulator)


def _check_float(x: Tensor, function: str) -> None:
    if not x.dtype.is_float:
        raise DTypeError(f"{function} of a tensor of {x.dtype.name}.", "Use .float().")


def _statistics(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over axes that stay with size 1."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    return mean, (centred * centred).mean(axes, keepdim=True)


def _normalise(
    x: Tensor,
    mean: Tensor | None,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    shape: Axes,
    axes: Axes,
) -> Tensor:
    """(x - mean) * rstd * weight + bias, with the VJP "normalise".

    Args:
        x: of the accumulator's dtype.
        mean, rstd: statistics that depend on x, of x's rank.
        weight, bias: seen in `shape`, of x's rank.
        axes: over which the statistics were taken.
    """
    result = (x if mean is None else x - mean) * rstd
    if weight is not None:
        result = result * _wide(weight).reshape(shape)
    if bias is not None:
        result = result + _wide(bias).reshape(shape)
    given = {"mean": mean, "weight": weight, "bias": bias}
    present = tuple(name for name, t in given.items() if t is not None)
    arguments = [t for t in given.values() if t is not None]
    params = (present, shape, axes)
    return with_vjp("normalise", result, x, rstd, *arguments, params=params)


@define_vjp("normalise")
def _normalise_backward(
    g: Tensor, y: Tensor, x: Tensor, rstd: Tensor, *rest: Any
) -> Sequence[Tensor | None]:
    """With h = (x - mean) * rstd and q = g * weight:
    dx = rstd * (q - mean(q) - h * mean(q * h)), dweight = Σ g * h, dbias = Σ g.

    Without a mean (root mean square), dx = rstd * (q - h * mean(q * h)). The statistics get no
    gradient of their own: dx holds all of it.
    """
    *tensors, present, shape, axes = rest
    given = dict(zip(present, tensors))
    mean, weight, bias = (given.get(name) for name in ("mean", "weight", "bias"))
    h = (x if mean is None else x - mean) * rstd
    scale = None if weight is None else _wide(weight).reshape(shape)
    # A scale that is constant over the axes comes out of the sums, which dweight and dbias share.
    outside = scale is not None and all(shape[a] == 1 for a in axes)
    q = g if scale is None or outside else g * scale
    inner = q - h * (q * h).mean(axes, keepdim=True)
    if mean is not None:
        inner = inner - q.mean(axes, keepdim=True)
    if scale is not None and outside:
        inner = inner * scale
    gradients: dict[str, Tensor | None] = {"mean": None}
    if weight is not None:
        gradients["weight"] = _sum_to(g * h, shape).reshape(weight.shape).to(weight.dtype)
    if bias is not None:
        gradients["bias"] = _sum_to(g, shape).reshape(bias.shape).to(bias.dtype)
    return (inner * rstd, None, *(gradients[name] for name in present))


def _sum_to(x: Tensor, shape: Axes) -> Tensor:
    """The sum over the axes that are 1 in `shape`."""
    axes = [a for a, n in enumerate(shape) if n == 1]
    return x.sum(axes, keepdim=True) if axes else x


@labelled("layer_norm")
@from_template()
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes.

    Args:
        input: floating point.
        normalized_shape: sizes of those axes.
        weight, bias: of that shape.
        eps: added to the variance.

    Raises:
        ShapeError: the input does not end in `normalized_shape`.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.layer_norm(tgrad.tensor([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    axes, shape = _last_axes(input, normalized_shape, "layer_norm", weight, bias)
    x = _wide(input)
    mean, variance = _statistics(x, axes)
    rstd = (variance + eps).rsqrt()
    return _normalise(x, mean, rstd, weight, bias, shape, axes).to(input.dtype)


@labelled("rms_norm")
@from_template()
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last axes.

    Args:
        input: floating point.
        normalized_shape: sizes of those axes.
        weight: of that shape.
        eps: by default the machine epsilon of the dtype that is computed in.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.rms_norm(tgrad.tensor([[2.0, 2.0]]), (2,), eps=0.0).tolist()
    [[1.0, 1.0]]
    """
    axes, shape = _last_axes(input, normalized_shape, "rms_norm", weight)
    x = _wide(input)
    if eps is None:
        eps = 2.0**-52 if x.dtype.itemsize == 8 else 2.0**-23
    rstd = ((x * x).mean(axes, keepdim=True) + eps).rsqrt()
    return _normalise(x, None, rstd, weight, None, shape, axes).to(input.dtype)


def _last_axes(
    input: Tensor, normalized_shape: Sequence[int], function: str, *scales: Tensor | None
) -> tuple[Axes, Axes]:
    """The axes of `normalized_shape`, and that shape in the input's rank."""
    _check_float(input, function)
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    rank = input.ndim
    if not sizes or input.shape[max(rank - len(sizes), 0) :] != sizes:
        raise ShapeError(
            f"{function} over {sizes} of a tensor of shape {input.shape}.",
            "The tensor's last sizes must be normalized_shape.",
        )
    for scale in scales:
        if scale is not None and scale.shape != sizes:
            raise ShapeError(f"{function} over {sizes} with a scale of shape {scale.shape}.")
    lead = rank - len(sizes)
    return tuple(range(lead, rank)), (1,) * lead + sizes


@labelled("batch_norm")
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel normalised: over the batch in training, else by the running statistics.

    Args:
        input: (N, C, ...), floating point.
        running_mean, running_var: (C,); in training they move by `momentum` towards the batch's
            mean and unbiased variance, in place.
        weight, bias: (C,).
        training: which statistics to use.
        momentum: how far the running statistics move.
        eps: added to the variance.

    Raises:
        ShapeError: there is nothing to normalise over, or no statistics to normalise by.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.batch_norm(tgrad.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    _check_float(input, "batch_norm")
    if not input.numel():
        return input.clone()
    if input.ndim < 2:
        raise ShapeError(f"batch_norm of shape {input.shape}.", "The shape is (N, C, ...).")
    channels = input.shape[1]
    shape = (1, channels, *(1,) * (input.ndim - 2))
    for t in (running_mean, running_var, weight, bias):
        if t is not None and t.shape != (channels,):
            raise ShapeError(f"batch_norm of {channels} channels with a tensor of shape {t.shape}.")
    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError("batch_norm in evaluation has no running statistics.")
        return _by_running(input, running_mean, running_var, weight, bias, shape, eps)
    axes = (0, *range(2, input.ndim))
    count = input.numel() // max(channels, 1)
    if count <= 1:
        raise ShapeError(
            f"batch_norm in training of shape {input.shape}: one value a channel.",
            "Give a larger batch, or call model.eval().",
        )
    result, mean, variance = _by_batch(input, weight, bias, shape, axes, eps)
    with no_grad():
        for running, found in ((running_mean, mean), (running_var, variance)):
            if running is not None:
                _move(running, found, momentum)
    return result


@from_template()
def _by_batch(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Axes, axes: Axes, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The input normalised by its own statistics; its mean and unbiased variance by channel."""
    x = _wide(input)
    mean, variance = _statistics(x, axes)
    rstd = (variance + eps).rsqrt()
    result = _normalise(x, mean, rstd, weight, bias, shape, axes).to(input.dtype)
    count = math.prod(input.shape[a] for a in axes)
    unbiased = variance.detach() * (count / (count - 1))
    return result, mean.detach().reshape(input.shape[1]), unbiased.reshape(input.shape[1])


def _move(running: Tensor, found: Tensor, momentum: float | Tensor) -> None:
    """`running` so far on its way to `found`."""

    def moved(running: Tensor, found: Tensor, *others: Tensor) -> list[Tensor]:
        share: Any = others[0] if others else momentum
        return [_wide(running) * (1.0 - share) + found * share]

    shares = [momentum] if isinstance(momentum, Tensor) else []
    key = ("moved", None if shares else repr(momentum))
    (new,) = of_tensors(moved, key, (running, found, *shares), is_deferred=True)
    running._assign(new)


@from_template()
def _by_running(
    input: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    shape: Axes,
    eps: float,
) -> Tensor:
    """The input normalised by statistics that do not depend on it."""
    rstd = (_wide(variance).reshape(shape) + eps).rsqrt()
    result = (_wide(input) - _wide(mean).reshape(shape)) * rstd
    if weight is not None:
        result = result * _wide(weight).reshape(shape)
    if bias is not None:
        result = result + _wide(bias).reshape(shape)
    return result.to(input.dtype)


@labelled("group_norm")
@from_template()
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each group of channels of each sample normalised.

    Args:
        input: (N, C, ...), floating point.
        num_groups: must divide C.
        weight, bias: (C,).
        eps: added to the variance.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.group_norm(tgrad.tensor([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    _check_float(input, "group_norm")
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm of shape {input.shape} in {num_groups} groups.",
            "The groups must divide the channels, axis 1.",
        )
    n, channels, *rest = input.shape
    for t in (weight, bias):
        if t is not None and t.shape != (channels,):
            raise ShapeError(f"group_norm of {channels} channels with a scale of shape {t.shape}.")
    each = channels // num_groups
    x = _wide(input).reshape(n, num_groups, each, math.prod(rest))
    mean, variance = _statistics(x, (2, 3))
    rstd = (variance + eps).rsqrt()
    shape = (1, num_groups, each, 1)
    result = _normalise(x, mean, rstd, weight, bias, shape, (2, 3))
    return result.reshape(input.shape).to(input.dtype)


@labelled("instance_norm")
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample normalised: `batch_norm` with every sample's channels apart.

    Args:
        running_mean, running_var: (C,); they move towards the mean of the samples' statistics, or
            are used where use_input_stats is False.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.instance_norm(tgrad.tensor([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    if running_mean is not None and running_var is not None:
        axes = tuple(range(2, input.ndim))
        variance, mean = _wide(input).detach().var_mean(axes)
        with no_grad():
            _move(running_mean, mean.mean(0), momentum)
            _move(running_var, variance.mean(0), momentum)
    return group_norm(input, input.shape[1], weight, bias, eps)


@labelled("normalize")
@from_template()
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖, eps) along `dim`, with the p-norm.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.normalize(tgrad.tensor([[0.0, 2.0]])).tolist()
    [[0.0, 1.0]]
    """
    x = _wide(input)
    from tgrad.linalg import vector_norm

    norm = vector_norm(x, p, dim, keepdim=True)
    return (x / norm.clamp(min=eps)).to(input.dtype)


@labelled("local_response_norm")
@from_template()
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x² over `size` channels around) ** beta.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.local_response_norm(tgrad.ones(1, 2, 1), 1, alpha=0.0).tolist()
    [[[1.0], [1.0]]]
    """
    if input.ndim < 3:
        raise ShapeError(f"local_response_norm of shape {input.shape}.", "It needs three axes.")
    if not input.numel():
        return input
    x = _wide(input)
    low = [size // 2 if a == 1 else 0 for a in range(x.ndim)]
    high = [(size - 1) // 2 if a == 1 else 0 for a in range(x.ndim)]
    around = (x * x)._pad_zero(low, high)._window(1, size, 1, 1)
    found = x / (around.sum(-1) * (alpha / size) + k) ** beta
    return found.to(input.dtype) if input.dtype.is_float else found


__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize",
    "rms_norm",
]  # fmt: skip
