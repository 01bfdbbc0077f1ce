"""Dropout of channels, dropout that keeps mean and variance, and samples of categories.

In: a tensor. Out: a lazy tensor with random elements from the generator. Invariant: nothing random
happens when not training.
"""

from __future__ import annotations

import math

from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn.functional.activation import one_hot
from tgrad.random import Generator, rand
from tgrad.tensor import Tensor, labelled

__all__ = [
    "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
    "gumbel_softmax",
]  # fmt: skip

ALPHA = -1.7580993408473766
"""What alpha dropout sets elements to: the limit of `selu` at -inf."""


def _check(name: str, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ShapeError(f"{name}: p={p}.", "A probability is 0 to 1.")


def _place(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    return input._assign(result) if inplace else result


def _channels(
    input: Tensor, p: float, training: bool, inplace: bool, axes: int, generator: Generator | None
) -> Tensor:
    """Whole channels dropped; their axes are the last `axes`."""
    name = f"dropout{axes}d"
    _check(name, p)
    if input.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            f"{name} of shape {input.shape}.", f"It has {axes + 1} or {axes + 2} axes."
        )
    if not training or p == 0.0:
        return input
    shape = (*input.shape[: input.ndim - axes], *(1,) * axes)
    kept = rand(shape, generator=generator, device=input.device) >= p
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return _place(input, input * input._constant(scale, input.dtype).where(kept, 0.0), inplace)


@labelled("dropout1d")
def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of (N, C, L) or (C, L).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.dropout1d(tgrad.ones(1, 2, 3), 0.5, training=False).sum().item()
    6.0
    """
    return _channels(input, p, training, inplace, 1, generator)


@labelled("dropout2d")
def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of (N, C, H, W) or (C, H, W).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.dropout2d(tgrad.ones(1, 2, 2, 2), 1.0).sum().item()
    0.0
    """
    return _channels(input, p, training, inplace, 2, generator)


@labelled("dropout3d")
def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`dropout` of whole channels of (N, C, D, H, W) or (C, D, H, W).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.dropout3d(tgrad.ones(1, 1, 1, 1), 0.5, training=False).item()
    1.0
    """
    return _channels(input, p, training, inplace, 3, generator)


@labelled("alpha_dropout")
def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout for `selu` nets: mean 0 and variance 1 stay. Source: Klambauer et al. (2017).

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.alpha_dropout(tgrad.ones(2)).tolist()
    [1.0, 1.0]
    """
    return _alpha(input, p, training, inplace, input.shape, generator)


@labelled("feature_alpha_dropout")
def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`alpha_dropout` of whole channels, axis 1.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.feature_alpha_dropout(tgrad.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """
    shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
    return _alpha(input, p, training, inplace, shape, generator)


def _alpha(
    input: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...],
    generator: Generator | None,
) -> Tensor:  # fmt: skip
    _check("alpha_dropout", p)
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return _place(input, input * 0.0, inplace)
    kept = rand(shape, generator=generator, device=input.device) >= p
    scale = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * ALPHA**2))
    result = input.where(kept, ALPHA) * scale - scale * p * ALPHA
    return _place(input, result.to(input.dtype), inplace)


@labelled("gumbel_softmax")
def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """A differentiable sample of categories: softmax((logits + Gumbel noise) / tau).

    Args:
        hard: one-hot forward, with the gradient of the soft sample.
        eps: accepted, as in PyTorch, where it has no effect.

    >>> import tgrad, tgrad.nn.functional as F
    >>> round(F.gumbel_softmax(tgrad.zeros(1, 3)).sum().item(), 4)
    1.0
    """
    if eps != 1e-10:
        raise UnsupportedError(f"gumbel_softmax: eps={eps}.", "Leave it out; it has no effect.")
    draw = rand(logits.shape, generator=generator, device=logits.device)
    noise = -(-(draw + 2.0**-25).log()).log()
    soft = ((logits + noise.to(logits.dtype)) * (1.0 / tau)).softmax(dim)
    if not hard:
        return soft
    chosen = one_hot(soft.argmax(dim), soft.shape[dim]).movedim(-1, dim).to(soft.dtype)
    return chosen - soft.detach() + soft
