"""Losses of margins, distances and distributions.

In: what a model says and what is right. Out: a lazy tensor, a scalar unless reduction="none".
Invariant: computed in float32 for float16 and bfloat16. Source:
https://docs.pytorch.org/docs/stable/nn.functional.html#loss-functions
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tgrad.arguments import refuse
from tgrad.errors import ShapeError
from tgrad.from_template import from_template
from tgrad.methods.indexing import check_known_index
from tgrad.nn.functional.activation import logsigmoid
from tgrad.nn.functional.loss import narrowed, reduced, widened
from tgrad.products import distances
from tgrad.tensor import Tensor, labelled

__all__ = [
    "cosine_embedding_loss", "gaussian_nll_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "pairwise_distance", "pdist", "poisson_nll_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip

Distance = Callable[[Tensor, Tensor], Tensor]


@labelled("soft_margin_loss")
@from_template()
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)), targets 1 or -1.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.soft_margin_loss(tgrad.zeros(2), tgrad.ones(2)).item(), 4)
    0.6931
    """
    refuse("soft_margin_loss", size_average=size_average, reduce=reduce)
    loss = -logsigmoid(widened(input) * target)
    return reduced(loss, reduction, "soft_margin_loss").to(input.dtype)


@labelled("margin_ranking_loss")
@from_template()
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target * (input1 - input2)), targets 1 or -1.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.margin_ranking_loss(tgrad.zeros(1), tgrad.ones(1), tgrad.ones(1)).item()
    1.0
    """
    refuse("margin_ranking_loss", size_average=size_average, reduce=reduce)
    loss = (-target * (widened(input1) - widened(input2)) + margin).clamp(min=0)
    return narrowed(reduced(loss, reduction, "margin_ranking_loss"), input1)


@labelled("hinge_embedding_loss")
@from_template()
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.hinge_embedding_loss(tgrad.tensor([0.25]), tgrad.tensor([-1.0])).item()
    0.75
    """
    refuse("hinge_embedding_loss", size_average=size_average, reduce=reduce)
    x = widened(input)
    apart = (margin - x).clamp(min=0).where(target != 1, 0.0)
    loss = apart + x.where(target != -1, 0.0)
    return reduced(loss, reduction, "hinge_embedding_loss").to(input.dtype)


@labelled("cosine_embedding_loss")
@from_template()
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos of the angle where the target is 1, max(0, cos - margin) where it is -1.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.cosine_embedding_loss(tgrad.ones(1, 2), tgrad.ones(1, 2), tgrad.ones(1)).shape
    ()
    """
    refuse("cosine_embedding_loss", size_average=size_average, reduce=reduce)
    a, b = widened(input1), widened(input2)
    eps = 1e-12
    dot, square_a, square_b = (a * b).sum(-1), (a * a).sum(-1) + eps, (b * b).sum(-1) + eps
    cos = dot / (square_a * square_b).sqrt()
    loss = (1.0 - cos).where(target == 1, 0.0) + (cos - margin).clamp(min=0).where(
        target == -1, 0.0
    )
    return narrowed(reduced(loss, reduction, "cosine_embedding_loss"), input1)


@labelled("multilabel_soft_margin_loss")
@from_template()
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of the binary cross entropy of logits, weighted by class.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.multilabel_soft_margin_loss(tgrad.zeros(2, 3), tgrad.ones(2, 3)).shape
    ()
    """
    refuse("multilabel_soft_margin_loss", size_average=size_average, reduce=reduce)
    x = widened(input)
    loss = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x))
    loss = loss if weight is None else loss * weight
    return reduced(loss.mean(-1), reduction, "multilabel_soft_margin_loss").to(input.dtype)


def _above_zero(x: Tensor) -> Tensor:
    """x where x > 0, else 0, with a gradient of 0 there."""
    return x.where(x > 0, 0.0)


@labelled("multi_margin_loss")
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the other classes of max(0, margin - x[target] + x[class]) ** p.

    Args:
        input: (N, C) or (C,).
        target: classes, (N,) or ().
        p: 1 or 2.
        weight: of each class, (C,).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.multi_margin_loss(tgrad.zeros(1, 2), tgrad.tensor([0])).item()
    0.5
    """
    refuse("multi_margin_loss", size_average=size_average, reduce=reduce)
    x = widened(input if input.ndim > 1 else input.reshape(1, -1))
    rows = target.reshape(-1, 1)
    check_known_index(rows, x.shape[1])
    short = _above_zero(margin - x.gather(1, rows) + x)
    short = short if p == 1 else short**p
    short = short if weight is None else short * weight.take(rows)
    others = x._places(1) != rows
    loss = short.where(others, 0.0).sum(1) * (1.0 / x.shape[1])
    loss = loss if input.ndim > 1 else loss.reshape(target.shape)
    return reduced(loss, reduction, "multi_margin_loss").to(input.dtype)


@labelled("multilabel_margin_loss")
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ max(0, 1 - x[i] + x[j]) / C over the classes i of a sample and all others j.

    Args:
        input: (N, C) or (C,).
        target: classes of each sample, up to the first -1; shape of input.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.multilabel_margin_loss(tgrad.zeros(1, 2), tgrad.tensor([[0, -1]])).item()
    0.5
    """
    refuse("multilabel_margin_loss", size_average=size_average, reduce=reduce)
    if input.shape != target.shape:
        raise ShapeError(
            f"multilabel_margin_loss of shapes {input.shape} and {target.shape}.",
            "Make them equal.",
        )
    x = widened(input).reshape((1,) * max(2 - input.ndim, 0) + input.shape)
    labels = target.reshape(x.shape)
    count = x.shape[1]
    place = labels._places(1)
    end = place.where(labels < 0, count).amin(1, keepdim=True)
    given = place < end
    classes = labels.where(given, 0)
    named = ((classes.unsqueeze(2) == place.unsqueeze(1)) & given.unsqueeze(2)).any(1)
    short = _above_zero(1.0 - x.gather(1, classes).unsqueeze(2) + x.unsqueeze(1))
    wanted = given.unsqueeze(2) & ~named.unsqueeze(1)
    loss = short.where(wanted, 0.0).sum((1, 2)) * (1.0 / count)
    loss = loss if input.ndim > 1 else loss.reshape(())
    return reduced(loss, reduction, "multilabel_margin_loss").to(input.dtype)


@labelled("pairwise_distance")
@from_template()
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last axis.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.pairwise_distance(tgrad.zeros(2), tgrad.tensor([3.0, 4.0])).item(), 3)
    5.0
    """
    from tgrad.linalg import vector_norm

    return vector_norm(x1 - x2 + eps, p, -1, keepdim)


@labelled("pdist")
def pdist(input: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference of each pair of rows, (0, 1), (0, 2), ...

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.pdist(tgrad.tensor([[0.0], [1.0], [3.0]])).tolist()
    [1.0, 3.0, 2.0]
    """
    n = input.shape[0]
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    if not pairs:
        return input.reshape(-1)[:0]
    difference = input[[i for i, _ in pairs]] - input[[j for _, j in pairs]]
    return distances(difference, p) if input.shape[1] else difference.sum(-1)


@labelled("triplet_margin_loss")
@from_template()
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + distance to the positive - distance to the negative).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.triplet_margin_loss(*(tgrad.zeros(1, 2) for _ in range(3))).item()
    1.0
    """
    refuse("triplet_margin_loss", size_average=size_average, reduce=reduce)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    loss = triplet_margin_with_distance_loss(
        *map(widened, (anchor, positive, negative)),
        distance_function=distance, margin=margin, swap=swap, reduction=reduction,
    )  # fmt: skip
    return narrowed(loss, anchor)


@labelled("triplet_margin_with_distance_loss")
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance, by default `pairwise_distance`.

    Args:
        swap: the negative's distance is the smaller of those to the anchor and the positive.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.triplet_margin_with_distance_loss(*(tgrad.zeros(1, 2) for _ in range(3))).item()
    1.0
    """
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    loss = (near - far + margin).clamp(min=0)
    return reduced(loss, reduction, "triplet_margin_with_distance_loss")


@labelled("poisson_nll_loss")
@from_template()
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - target * x; with log_input=False, x - target * log(x + eps).

    Args:
        full: add Stirling's approximation of log(target!).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.poisson_nll_loss(tgrad.zeros(2), tgrad.ones(2)).item()
    1.0
    """
    refuse("poisson_nll_loss", size_average=size_average, reduce=reduce)
    x, t = widened(input), widened(target)
    loss = x.exp() - t * x if log_input else x - t * (x + eps).log()
    if full:
        above = t.where(t > 1, 1.0)
        stirling = above * above.log() - above + (above * (2 * math.pi)).log() * 0.5
        loss = loss + stirling.where(t > 1, 0.0)
    return narrowed(reduced(loss, reduction, "poisson_nll_loss"), input)


@labelled("gaussian_nll_loss")
@from_template()
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (input - target)² / var) / 2, with var at least eps.

    Args:
        var: a variance an element, or a row, or one number.
        full: add log(2π) / 2.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.gaussian_nll_loss(tgrad.zeros(2), tgrad.ones(2), tgrad.ones(2)).item()
    0.5
    """
    x, t = widened(input), widened(target)
    v = widened(var) if isinstance(var, Tensor) else x._constant(var, x.dtype).expand(x.shape)
    if v.shape != x.shape and v.shape == x.shape[:-1]:
        v = v.unsqueeze(-1)
    v = v.where(v >= eps, v + (eps - v).detach())
    loss = (v.log() + (x - t) ** 2 / v) * 0.5
    loss = loss + 0.5 * math.log(2 * math.pi) if full else loss
    return reduced(loss, reduction, "gaussian_nll_loss").to(input.dtype)
