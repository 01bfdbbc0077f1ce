"""Losses of classes: cross entropy and its parts.

In: logits or log probabilities, and classes. Out: a lazy tensor, a scalar unless reduction="none".
Invariant: computed in float32 for float16 and bfloat16; a class is picked by comparing it with its
number, so there is no gather, and the gradient is that of the logits, (softmax - target) * g, with
no scatter. Source: https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

from tgrad.arguments import refuse
from tgrad.errors import DTypeError, ShapeError
from tgrad.from_template import from_template
from tgrad.methods.slopes import by_formula
from tgrad.nn.functional.activation import check_classes, class_mask
from tgrad.nn.functional.linear import linear
from tgrad.nn.functional.loss import reduced, widened
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


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
    return _of_classes(input, target, weight, ignore_index, reduction, label_smoothing, axis)


@from_template()
def _of_classes(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
    label_smoothing: float, axis: int,
) -> Tensor:  # fmt: skip
    """`cross_entropy` with classes."""
    classes, x = input.shape[axis], widened(input)
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
    return reduced(loss, reduction, "cross_entropy").to(input.dtype)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: object = None,
) -> Tensor:
    """`cross_entropy` of `linear(input, linear_weight, linear_bias)`.

    Args:
        input: (in,) or (N, in).
        linear_weight: (C, in), or (C, d1, ..., in) for a class in each of (d1, ...) places.
        target: classes (), (N,) or (N, d1, ...), or probabilities (C,), (N, C) or (N, C, d1, ...).
        linear_bias: (C,) or (C, d1, ...).
        options: how PyTorch is to cut the rows, accepted: plans choose by themselves.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.linear_cross_entropy(tgrad.ones(1, 3), tgrad.zeros(2, 3), tgrad.tensor([1])).item()
    0.6931471824645996
    """
    *places, size = linear_weight.shape
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, size), bias)
    logits = logits.reshape(*input.shape[:-1], *places)
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(logits, target, weight, None, ignored, None, reduction, label_smoothing)


@define_vjp("cross_entropy")
def _cross_entropy_backward(
    g: Tensor, y: Tensor, x: Tensor, top: Tensor, total_power: Tensor, wanted: Tensor,
    scale: Tensor, *rest: object,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """g * (softmax * Σ t - t), with t the (weighted, smoothed) target; 0 where no t is, whatever g:
    the mean over no row at all has an infinite one."""
    label_smoothing, axis = rest[-2:]
    p = (x - top).exp() / total_power
    kept = scale * (1.0 - label_smoothing)  # type: ignore[operator]
    dx, whole = (p - wanted.to(x.dtype)) * kept, kept
    if len(rest) == 3:
        smooth = rest[0]
        assert isinstance(smooth, Tensor)
        spread = smooth.sum(axis, keepdim=True)  # type: ignore[arg-type]
        dx, whole = dx + p * spread - smooth, kept + spread
    g = g.reshape(top.shape).where(whole != 0, 0.0)
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
        column = widened(weight.detach()).reshape(_column(x, axis))
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
    column = 1.0 if weight is None else widened(weight.detach()).reshape(_column(x, axis))
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
    x, t = widened(input), widened(target)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + label_smoothing / x.shape[axis]
    if weight is not None:
        t = t * widened(weight.detach()).reshape(_column(x, axis))
    loss = -(x.log_softmax(axis) * t).sum(axis)
    if reduction == "mean":
        rows = max(loss.numel(), 1)
        return (loss.sum() * (1.0 / rows)).to(input.dtype)
    return reduced(loss, reduction, "cross_entropy").to(input.dtype)


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

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.nll_loss(tgrad.tensor([[-1.0, -2.0]]), tgrad.tensor([1])).item()
    2.0
    """
    refuse("nll_loss", size_average=size_average, reduce=reduce)
    axis = _class_axis(input, weight, "nll_loss")
    if not target.dtype.is_int:
        raise DTypeError(f"nll_loss with a target of {target.dtype.name}.", "Use .long().")
    _check_target(input, target, axis, ignore_index, "nll_loss")
    return _of_log_probabilities(input, target, weight, ignore_index, reduction, axis)


@from_template()
def _of_log_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
    axis: int,
) -> Tensor:  # fmt: skip
    """`nll_loss` with classes that exist."""
    x = widened(input)
    wanted = class_mask(target, input.shape[axis], axis)
    scale, total = _row_weights(target, weight, x, wanted, ignore_index, axis)
    picked = x.where(wanted, 0.0).sum(axis, keepdim=True)
    loss = by_formula((-picked * scale).reshape(target.shape), input)
    if reduction == "mean":
        return (loss.sum() / total).to(input.dtype)
    return reduced(loss, reduction, "nll_loss").to(input.dtype)


__all__ = ["cross_entropy", "linear_cross_entropy", "nll_loss"]
