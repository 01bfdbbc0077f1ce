"""Losses of values and probabilities.

In: what a model says and what is right. Out: a lazy tensor, a scalar unless reduction="none".
Invariant: computed in float32 for float16 and bfloat16. Source:
https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

from tgrad.arguments import refuse
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.methods.elementwise import broadcast_shapes, is_complex
from tgrad.nn.functional.activation import log1p_exp
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


def widened(x: Tensor) -> Tensor:
    """In the dtype that losses are computed in."""
    return x.to(x.dtype.accumulator)


def narrowed(loss: Tensor, x: Tensor) -> Tensor:
    """The loss in the dtype of its input; of integers it stays the float that it is."""
    return loss.to(x.dtype) if x.dtype.is_float else loss


def reduced(loss: Tensor, reduction: str, function: str) -> Tensor:
    """The mean, the sum, or all of it."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction != "none":
        raise UnsupportedError(
            f"{function}: reduction={reduction!r}.", 'Use "mean", "sum" or "none".'
        )
    return loss


def _same_shapes(input: Tensor, target: Tensor, function: str, broadcast: bool) -> None:
    if not input.dtype.is_float:
        raise DTypeError(f"{function} of a tensor of {input.dtype.name}.", "Use .float().")
    if input.shape == target.shape:
        return
    if not broadcast:
        raise ShapeError(
            f"{function} of shapes {input.shape} and {target.shape}.", "They must be equal."
        )
    broadcast_shapes(input.shape, target.shape)


def _times(loss: Tensor, input: Tensor, weight: Tensor | None, function: str) -> Tensor:
    if weight is None:
        return loss
    if weight.shape != input.shape:
        raise ShapeError(
            f"{function}: weights of shape {weight.shape} for an input of {input.shape}.",
            "They have the input's shape.",
        )
    return loss * weight


def _weighted_mean(
    loss: Tensor, input: Tensor, weight: Tensor | None, reduction: str, function: str
) -> Tensor:
    """As `reduced`, of a loss with a weight for each element, if there are any."""
    loss = _times(loss, input, weight, function)
    if weight is None or reduction != "mean":
        return reduced(loss, reduction, function)
    return loss.sum() / widened(weight).sum()


@labelled("mse_loss")
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)², times weights of the input's shape, whose sum then divides the mean;
    shapes broadcast.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.mse_loss(tgrad.ones(4), tgrad.zeros(4)).item()
    1.0
    """
    refuse("mse_loss", size_average=size_average, reduce=reduce)
    _same_shapes(input, target, "mse_loss", True)
    difference = widened(input) - widened(target)
    loss = _weighted_mean(difference * difference, input, weight, reduction, "mse_loss")
    return loss.to(input.dtype)


@labelled("l1_loss")
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|, times weights of the input's shape, whose sum then divides the mean; shapes
    broadcast.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.l1_loss(tgrad.ones(4), tgrad.zeros(4)).item()
    1.0
    """
    refuse("l1_loss", size_average=size_average, reduce=reduce)
    if is_complex(input) or is_complex(target):
        return _weighted_mean((input - target).abs(), input, weight, reduction, "l1_loss")
    _same_shapes(input, target, "l1_loss", True)
    distance = (widened(input) - widened(target)).abs()
    return _weighted_mean(distance, input, weight, reduction, "l1_loss").to(input.dtype)


@labelled("smooth_l1_loss")
@from_template()
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """With d = |input - target|: d² / (2 beta) where d < beta, else d - beta / 2.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.smooth_l1_loss(tgrad.ones(4), tgrad.zeros(4)).item()
    0.5
    """
    refuse("smooth_l1_loss", size_average=size_average, reduce=reduce)
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta={beta}.", "It is 0 or more.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    _same_shapes(input, target, "smooth_l1_loss", True)
    d = (widened(input) - widened(target)).abs()
    loss = _squared(d, ~(d >= beta), 0.5 / beta, d - 0.5 * beta)
    return reduced(loss, reduction, "smooth_l1_loss").to(input.dtype)


@labelled("huber_loss")
@from_template()
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """With d = |input - target|: d² / 2 where d <= delta, else delta * (d - delta / 2), times
    weights of the input's shape.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.huber_loss(tgrad.ones(4), tgrad.zeros(4)).item()
    0.5
    """
    _same_shapes(input, target, "huber_loss", True)
    d = (widened(input) - widened(target)).abs()
    loss = _squared(d, ~(d > delta), 0.5, (d - 0.5 * delta) * delta)
    loss = _times(loss, input, weight, "huber_loss")
    return reduced(loss, reduction, "huber_loss").to(input.dtype)


def _squared(d: Tensor, is_near: Tensor, scale: float, far: Tensor) -> Tensor:
    """scale * d² near 0, else `far`. What is far is not squared: its slope would be inf * 0."""
    near = d.where(is_near, 0.0)
    return (near * near * scale).where(is_near, far)


@labelled("binary_cross_entropy")
@from_template()
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, as in PyTorch.

    Args:
        input: probabilities p.
        target: t, of the same shape.
        weight: multiplies each element; broadcasts.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.binary_cross_entropy(tgrad.full((2,), 0.5), tgrad.ones(2)).item(), 4)
    0.6931
    """
    refuse("binary_cross_entropy", size_average=size_average, reduce=reduce)
    _same_shapes(input, target, "binary_cross_entropy", False)
    p, t = widened(input), widened(target)
    loss = (t - 1.0) * (1.0 - p).log().maximum(-100.0) - t * p.log().maximum(-100.0)
    marked = with_vjp("binary_cross_entropy", loss, p, t)
    weighted = marked if weight is None else marked * weight
    return reduced(weighted, reduction, "binary_cross_entropy").to(input.dtype)


@define_vjp("binary_cross_entropy")
def _binary_backward(g: Tensor, y: Tensor, p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """dp = g (p - t) / max(p (1 - p), 1e-12), dt = g (log(1 - p) - log p)"""
    dp = g * (p - t) / ((1.0 - p) * p).maximum(1e-12)
    return dp, g * ((1.0 - p).log() - p.log())


@labelled("binary_cross_entropy_with_logits")
@from_template()
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(x), without overflow.

    Args:
        input: logits x.
        target: t, of the same shape.
        weight: multiplies each element; broadcasts.
        pos_weight: multiplies t log p; broadcasts.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.binary_cross_entropy_with_logits(tgrad.zeros(2), tgrad.ones(2)).item(), 4)
    0.6931
    """
    name = "binary_cross_entropy_with_logits"
    refuse(name, size_average=size_average, reduce=reduce)
    _same_shapes(input, target, name, False)
    x, t = widened(input), widened(target)
    scale = 1.0 if pos_weight is None else (widened(pos_weight) - 1.0) * t + 1.0
    loss = with_vjp("softplus_of_negative", log1p_exp(-x), x) * scale + x * (1.0 - t)
    weighted = loss if weight is None else loss * weight
    return reduced(weighted, reduction, name).to(input.dtype)


@define_vjp("softplus_of_negative")
def _softplus_backward(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    """g * -sigmoid(-x)"""
    return (-g * (-x).sigmoid(),)


@labelled("kl_div")
@from_template()
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log target - input), for log probabilities `input`.

    Args:
        reduction: "batchmean" divides the sum by the first size.
        log_target: whether the target is of log probabilities.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.kl_div(tgrad.zeros(2), tgrad.ones(2)).item()
    0.0
    """
    refuse("kl_div", size_average=size_average, reduce=reduce)
    x, t = widened(input), widened(target)
    if log_target:
        loss = t.exp() * (t - x)
    else:
        loss = t.xlogy(t) - t * x
    if reduction == "batchmean":
        count = input.shape[0] if input.ndim else 1
        return (loss.sum() / count).to(input.dtype)
    return reduced(loss, reduction, "kl_div").to(input.dtype)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "kl_div", "l1_loss",
    "mse_loss", "smooth_l1_loss",
]  # fmt: skip
