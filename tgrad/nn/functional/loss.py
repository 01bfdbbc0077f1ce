"""Losses.

In: what a model says and what is right. Out: a lazy tensor, a scalar unless reduction="none".
Invariant: computed in float32 for float16 and bfloat16; the gradient of cross entropy is that of
the logits, (softmax - target) * g, with no gather and no scatter. Source:
https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

from tgrad.arguments import refuse
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.nn.functional.activation import check_classes, class_mask, log1p_exp
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


def _wide(x: Tensor) -> Tensor:
    return x.to(x.dtype.accumulator)


def _reduced(loss: Tensor, reduction: str, function: str) -> Tensor:
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


@labelled("mse_loss")
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)²; shapes broadcast.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.mse_loss(tgrad.ones(4), tgrad.zeros(4)).item()
    1.0
    """
    refuse("mse_loss", size_average=size_average, reduce=reduce, weight=weight)
    _same_shapes(input, target, "mse_loss", True)
    difference = _wide(input) - _wide(target)
    return _reduced(difference * difference, reduction, "mse_loss").to(input.dtype)


@labelled("l1_loss")
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """|input - target|; shapes broadcast."""
    refuse("l1_loss", size_average=size_average, reduce=reduce)
    _same_shapes(input, target, "l1_loss", True)
    return _reduced((_wide(input) - _wide(target)).abs(), reduction, "l1_loss").to(input.dtype)


@labelled("smooth_l1_loss")
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """With d = |input - target|: d² / (2 beta) where d < beta, else d - beta / 2."""
    refuse("smooth_l1_loss", size_average=size_average, reduce=reduce)
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta={beta}.", "It is 0 or more.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    _same_shapes(input, target, "smooth_l1_loss", True)
    d = (_wide(input) - _wide(target)).abs()
    loss = (d * d * (0.5 / beta)).where(d < beta, d - 0.5 * beta)
    return _reduced(loss, reduction, "smooth_l1_loss").to(input.dtype)


@labelled("huber_loss")
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """With d = |input - target|: d² / 2 where d <= delta, else delta * (d - delta / 2)."""
    _same_shapes(input, target, "huber_loss", True)
    d = (_wide(input) - _wide(target)).abs()
    loss = (d * d * 0.5).where(d <= delta, (d - 0.5 * delta) * delta)
    return _reduced(loss, reduction, "huber_loss").to(input.dtype)


@labelled("binary_cross_entropy")
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
    """
    refuse("binary_cross_entropy", size_average=size_average, reduce=reduce)
    _same_shapes(input, target, "binary_cross_entropy", False)
    p, t = _wide(input), _wide(target)
    loss = (t - 1.0) * (1.0 - p).log().maximum(-100.0) - t * p.log().maximum(-100.0)
    marked = with_vjp("binary_cross_entropy", loss, p, t)
    weighted = marked if weight is None else marked * weight
    return _reduced(weighted, reduction, "binary_cross_entropy").to(input.dtype)


@define_vjp("binary_cross_entropy")
def _binary_backward(g: Tensor, y: Tensor, p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """dp = g (p - t) / max(p (1 - p), 1e-12), dt = g (log(1 - p) - log p)"""
    dp = g * (p - t) / ((1.0 - p) * p).maximum(1e-12)
    dt = g * ((1.0 - p).log().maximum(-100.0) - p.log().maximum(-100.0))
    return dp, dt


@labelled("binary_cross_entropy_with_logits")
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
    """
    name = "binary_cross_entropy_with_logits"
    refuse(name, size_average=size_average, reduce=reduce)
    _same_shapes(input, target, name, False)
    x, t = _wide(input), _wide(target)
    scale = 1.0 if pos_weight is None else (_wide(pos_weight) - 1.0) * t + 1.0
    loss = with_vjp("softplus_of_negative", log1p_exp(-x), x) * scale + x * (1.0 - t)
    weighted = loss if weight is None else loss * weight
    return _reduced(weighted, reduction, name).to(input.dtype)


@define_vjp("softplus_of_negative")
def _softplus_backward(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    """g * -sigmoid(-x)"""
    return (-g * (-x).sigmoid(),)


@labelled("cross_entropy")
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input) at the target.

    Args:
        input: logits (C,), (N, C) or (N, C, ...), floating point.
        target: classes (), (N,) or (N, ...) of integers, or probabilities of the input's shape.
        weight: (C,), multiplies the loss of each class.
        ignore_index: a class that counts for nothing.
        reduction: "mean" (weighted), "sum" or "none".
        label_smoothing: share of the target that is spread evenly over the classes.

    Raises:
        ShapeError: shapes do not fit.
        OutOfRangeError: a class, where its value is known, is not below C.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.cross_entropy(tgrad.zeros(1, 2), tgrad.tensor([1])).item()
    0.6931471824645996
    """
    refuse("cross_entropy", size_average=size_average, reduce=reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ShapeError(f"cross_entropy: label_smoothing={label_smoothing}.", "Use 0 to 1.")
    axis = _class_axis(input, weight, "cross_entropy")
    if target.dtype.is_float:
        return _with_probabilities(input, target, weight, reduction, label_smoothing, axis)
    _check_target(input, target, axis, ignore_index, "cross_entropy")
    classes, x = input.shape[axis], _wide(input)
    wanted = class_mask(target, classes, axis)
    scale, total = _row_weights(target, weight, x, wanted, ignore_index, axis)
    smooth = _smoothing(weight, label_smoothing, x, target, ignore_index, axis)
    top = x.amax(axis, keepdim=True)
    total_power = (x - top).exp().sum(axis, keepdim=True)
    lse = total_power.log() + top
    picked = x.where(wanted, 0.0).sum(axis, keepdim=True)
    loss = (lse - picked) * (scale * (1.0 - label_smoothing))
    if smooth is not None:
        loss = loss + ((lse - x) * smooth).sum(axis, keepdim=True)
    loss = loss.reshape(target.shape)
    arguments = [x, top, total_power, wanted, scale]
    if smooth is not None:
        arguments.append(smooth)
    loss = with_vjp("cross_entropy", loss, *arguments, params=(label_smoothing, axis))
    if reduction == "mean":
        return (loss.sum() / total).to(input.dtype)
    return _reduced(loss, reduction, "cross_entropy").to(input.dtype)


@define_vjp("cross_entropy")
def _cross_entropy_backward(
    g: Tensor, y: Tensor, x: Tensor, top: Tensor, total_power: Tensor, wanted: Tensor,
    scale: Tensor, *rest: object,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """g * (softmax * Σ t - t), with t the (weighted, smoothed) target"""
    label_smoothing, axis = rest[-2:]
    g = g.reshape(top.shape)
    p = (x - top).exp() / total_power
    kept = scale * (1.0 - label_smoothing)  # type: ignore[operator]
    dx = (p - wanted.to(x.dtype)) * kept
    if len(rest) == 3:
        smooth = rest[0]
        assert isinstance(smooth, Tensor)
        dx = dx + p * smooth.sum(axis, keepdim=True) - smooth  # type: ignore[arg-type]
    return (dx * g, *(None,) * (len(rest) + 2))


def _class_axis(input: Tensor, weight: Tensor | None, function: str) -> int:
    if not input.dtype.is_float:
        raise DTypeError(f"{function} of a tensor of {input.dtype.name}.", "Use .float().")
    if not input.shape:
        raise ShapeError(f"{function} of a 0-d tensor.", "The shape is (N, C, ...) or (C,).")
    axis = 0 if input.ndim == 1 else 1
    if weight is not None and weight.shape != (input.shape[axis],):
        raise ShapeError(
            f"{function}: weight of shape {weight.shape} for {input.shape[axis]} classes."
        )
    return axis


def _check_target(
    input: Tensor, target: Tensor, axis: int, ignore_index: int, function: str
) -> None:
    wanted = (*input.shape[:axis], *input.shape[axis + 1 :])
    if target.shape != wanted:
        raise ShapeError(
            f"{function} of shape {input.shape} with a target of shape {target.shape}.",
            f"Classes need the shape {wanted}.",
        )
    check_classes(target, input.shape[axis], ignore_index)


def _valid(target: Tensor, ignore_index: int, axis: int) -> Tensor:
    return (target != ignore_index).unsqueeze(axis)


def _row_weights(
    target: Tensor, weight: Tensor | None, x: Tensor, wanted: Tensor, ignore_index: int, axis: int
) -> tuple[Tensor, Tensor]:
    """The weight of each row's class, 0 if ignored, and their sum."""
    valid = _valid(target, ignore_index, axis)
    if weight is None:
        scale = valid.to(x.dtype)
    else:
        column = _wide(weight.detach()).reshape(_column(x, axis))
        scale = column.where(wanted & valid, 0.0).sum(axis, keepdim=True)
    return scale, scale.sum()


def _column(x: Tensor, axis: int) -> tuple[int, ...]:
    return tuple(n if a == axis else 1 for a, n in enumerate(x.shape))


def _smoothing(
    weight: Tensor | None, label_smoothing: float, x: Tensor, target: Tensor, ignore_index: int,
    axis: int,
) -> Tensor | None:  # fmt: skip
    """The part of each class's target that smoothing gives, or None."""
    if not label_smoothing:
        return None
    share = _valid(target, ignore_index, axis).to(x.dtype) * (label_smoothing / x.shape[axis])
    column = 1.0 if weight is None else _wide(weight.detach()).reshape(_column(x, axis))
    return (share * column).expand(x.shape)


def _with_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float,
    axis: int,
) -> Tensor:  # fmt: skip
    if target.shape != input.shape:
        raise ShapeError(
            f"cross_entropy of shape {input.shape} with probabilities of shape {target.shape}.",
            "Probabilities need the input's shape; classes are integers.",
        )
    x, t = _wide(input), _wide(target)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + label_smoothing / x.shape[axis]
    if weight is not None:
        t = t * _wide(weight.detach()).reshape(_column(x, axis))
    loss = -(x.log_softmax(axis) * t).sum(axis)
    if reduction == "mean":
        rows = max(loss.numel(), 1)
        return (loss.sum() * (1.0 / rows)).to(input.dtype)
    return _reduced(loss, reduction, "cross_entropy").to(input.dtype)


@labelled("nll_loss")
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input at the target: `cross_entropy` of log probabilities.

    Args:
        input: log probabilities (C,), (N, C) or (N, C, ...).
        target, weight, ignore_index, reduction: see `cross_entropy`.
    """
    refuse("nll_loss", size_average=size_average, reduce=reduce)
    axis = _class_axis(input, weight, "nll_loss")
    if not target.dtype.is_int:
        raise DTypeError(f"nll_loss with a target of {target.dtype.name}.", "Use .long().")
    _check_target(input, target, axis, ignore_index, "nll_loss")
    x = _wide(input)
    wanted = class_mask(target, input.shape[axis], axis)
    scale, total = _row_weights(target, weight, x, wanted, ignore_index, axis)
    picked = x.where(wanted, 0.0).sum(axis, keepdim=True)
    loss = (-picked * scale).reshape(target.shape)
    if reduction == "mean":
        return (loss.sum() / total).to(input.dtype)
    return _reduced(loss, reduction, "nll_loss").to(input.dtype)


@labelled("kl_div")
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
    """
    refuse("kl_div", size_average=size_average, reduce=reduce)
    x, t = _wide(input), _wide(target)
    if log_target:
        loss = t.exp() * (t - x)
    else:
        zero = t == 0
        loss = (t * t.where(~zero, 1.0).log()).where(~zero, 0.0) - t * x
    if reduction == "batchmean":
        return (loss.sum() * (1.0 / input.shape[0])).to(input.dtype)
    return _reduced(loss, reduction, "kl_div").to(input.dtype)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "smooth_l1_loss",
]  # fmt: skip
