"""Connectionist temporal classification: the loss of a sequence whose alignment is unknown.

In: log probabilities of each time step, targets, lengths. Out: a lazy tensor. Invariant: computed
in the logarithm, all sequences of the batch together, a launch a time step. The gradient is that of
PyTorch, which contains the one of a log_softmax before it.
Source: Graves et al. 2006; https://docs.pytorch.org/docs/stable/generated/torch.nn.CTCLoss.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import arange, full
from tgrad.errors import OutOfRangeError, ShapeError
from tgrad.from_template import from_template
from tgrad.joining import cat
from tgrad.nn.functional.loss import reduced
from tgrad.tensor import Tensor, labelled, tensor

__all__ = ["ctc_loss"]

Lengths = Tensor | Sequence[int]


@labelled("ctc_loss")
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of all alignments of a target with a sequence.

    Args:
        log_probs: (T, N, C) or (T, C).
        targets: classes (N, S), or all of them one after the other, integers; not `blank`.
        input_lengths, target_lengths: (N,) or 0-d, tensors or sequences; lengths of targets that
            are one after the other are read.
        blank: the class that separates repetitions.
        reduction: "mean" (over the batch, of each loss divided by its target's length), "sum" or
            "none".
        zero_infinity: 0, with gradients of 0, where no alignment is possible.

    Raises:
        ShapeError: shapes do not fit.
        OutOfRangeError: blank is no class.

    >>> import tgrad, tgrad.nn.functional as F
    >>> probabilities = tgrad.full((2, 1, 2), 0.5).log()
    >>> round(F.ctc_loss(probabilities, tgrad.tensor([[1]]), [2], [1]).item(), 4)  # 3 of 4 paths
    0.2877
    """
    if log_probs.ndim not in (2, 3) or not log_probs.shape[0]:
        raise ShapeError(
            f"ctc_loss of shape {log_probs.shape}.", "Give (T, N, C) or (T, C), T > 0."
        )
    is_batch = log_probs.ndim == 3
    x = log_probs if is_batch else log_probs.unsqueeze(1)
    count, classes = x.shape[1:]
    if not 0 <= blank < classes:
        raise OutOfRangeError(f"ctc_loss: blank={blank} of {classes} classes.")
    x = x.to(x.dtype.accumulator)
    times = _lengths(input_lengths, count, x, "input_lengths")
    sizes = _lengths(target_lengths, count, x, "target_lengths")
    rows = _rows(targets, sizes, count, is_batch).to(dt.int64)
    loss = _losses(x, rows, times, sizes, blank)
    if zero_infinity:
        loss = loss.where(loss != math.inf, 0.0)
    if reduction == "mean":
        loss = loss / sizes.maximum(1).to(loss.dtype)
    made = reduced(loss if is_batch else loss.squeeze(0), reduction, "ctc_loss")
    return made.to(log_probs.dtype)


def _lengths(given: Lengths, count: int, x: Tensor, name: str) -> Tensor:
    made = given if isinstance(given, Tensor) else tensor(given, dtype=dt.int64, device=x.device)
    if made.numel() != count:
        raise ShapeError(f"ctc_loss: {made.numel()} {name} for {count} sequences.")
    return made.to(x.device).to(dt.int64).reshape(count)


def _rows(targets: Tensor, sizes: Tensor, count: int, is_batch: bool) -> Tensor:
    """The targets as rows, (N, S)."""
    if targets.ndim == 2 or not is_batch:
        rows = targets if targets.ndim == 2 else targets.unsqueeze(0)
        if rows.shape[0] != count:
            raise ShapeError(f"ctc_loss: targets of shape {targets.shape} for {count} sequences.")
        return rows
    longest = max(sizes.tolist(), default=0)
    start = sizes.cumsum(0) - sizes
    place = start.unsqueeze(1) + arange(longest, device=targets.device)
    flat = cat([targets, targets.new_zeros(1)])
    return flat[place.minimum(targets.shape[0])]


@from_template(keeps_order=False)
def _losses(x: Tensor, rows: Tensor, times: Tensor, sizes: Tensor, blank: int) -> Tensor:
    """(N,): alpha[s] is the log probability of all paths that end in state s: a blank for even s,
    the class (s - 1) / 2 of the target for odd s."""
    steps, count, _ = x.shape
    states = 2 * rows.shape[1] + 1
    place = arange(states, device=x.device)
    blanks = full((count, 1), blank, dtype=dt.int64, device=x.device)
    spread = cat([rows, blanks], 1) if rows.shape[1] else blanks
    odd = (place % 2 == 1).expand(count, states)
    classes = spread.gather(1, (place // 2).expand(count, states)).where(odd, blank)
    before = cat([full((count, min(2, states)), -1, dtype=dt.int64, device=x.device),
                  classes[:, : max(states - 2, 0)]], 1)  # fmt: skip
    may_skip = odd & (classes != before)
    scores = x.gather(2, classes.unsqueeze(0).expand(steps, count, states))
    alpha = scores[0].where(place < 2, -math.inf)
    for t in range(1, steps):
        one, two = (_shifted(alpha, k) for k in (1, 2))
        moved = _sum_of_exponentials([alpha, one, two.where(may_skip, -math.inf)]) + scores[t]
        alpha = moved.where((times > t).unsqueeze(1), alpha)
    last = (2 * sizes).unsqueeze(1)
    final = alpha.gather(1, last)
    inside = alpha.gather(1, (last - 1).maximum(0)).where(last > 0, -math.inf)
    loss = -_sum_of_exponentials([final, inside]).squeeze(1)
    return loss + _normalised(x, times, loss)


def _shifted(alpha: Tensor, k: int) -> Tensor:
    """Of k states before; -inf where there is none."""
    count, states = alpha.shape
    k = min(k, states)
    none = alpha._constant(-math.inf, alpha.dtype).expand(count, k)
    return cat([none, alpha[:, : states - k]], 1)


def _sum_of_exponentials(parts: list[Tensor]) -> Tensor:
    """log of the sum of exp, with gradients of 0 where all are -inf."""
    top: Any = parts[0].detach()
    for part in parts[1:]:
        top = top.maximum(part.detach())
    top = top.where(top != -math.inf, 0.0)
    total: Any = sum(((part - top).exp() for part in parts[1:]), (parts[0] - top).exp())
    is_some = total > 0
    return (total.where(is_some, 1.0).log() + top).where(is_some, -math.inf)


def _normalised(x: Tensor, times: Tensor, loss: Tensor) -> Tensor:
    """0, whose gradient is the probabilities: PyTorch's is that of log_softmax(log_probs)."""
    chance = x.exp()
    rest = (chance - chance.detach()).sum(-1)
    alive = arange(x.shape[0], device=x.device).unsqueeze(1) < times
    return rest.where(alive & (loss.detach() != math.inf), 0.0).sum(0)
