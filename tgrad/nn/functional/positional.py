"""Functions that PyTorch has at its top with other arguments than in nn.functional.

In: tensors, and reductions by number: 0 none, which is the default as in PyTorch, 1 mean, 2 sum.
Out: lazy tensors. Invariant: each is the function of its name in nn.functional; nothing is computed
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import UnsupportedError
from tgrad.nn import functional as F
from tgrad.tensor import Tensor

REDUCTIONS = ("none", "mean", "sum")
MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def _named(function: str, argument: str, names: tuple[str, ...], number: int) -> str:
    """The name of what is given by number.

    Raises:
        UnsupportedError: there is none of that number.
    """
    if not isinstance(number, int) or not 0 <= number < len(names):
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise UnsupportedError(f"{function}: {argument}={number!r}.", f"Use one of {known}.")
    return names[number]


# -- layers --------------------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.batch_norm`, weight and bias first.

    Args:
        cudnn_enabled: any; kernels are tgrad's own.

    >>> import tgrad
    >>> none = None
    >>> tgrad.batch_norm(tgrad.ones(2, 3), none, none, none, none, True, 0.1, 1e-5, False).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.instance_norm`, weight and bias first; see `batch_norm`."""
    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """`nn.functional.embedding`, the table first; a padding_idx below 0 is none.

    >>> import tgrad
    >>> tgrad.embedding(tgrad.tensor([[1.0], [2.0]]), tgrad.tensor([1, 0])).tolist()
    [[2.0], [1.0]]
    """
    refuse("embedding", scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx)


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`nn.functional.grid_sample`, its modes by number.

    Args:
        interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic.
        padding_mode: 0 zeros, 1 border, 2 reflection.

    >>> import tgrad
    >>> tgrad.grid_sampler(tgrad.ones(1, 1, 2, 2), tgrad.zeros(1, 1, 1, 2), 0, 0, False).item()
    1.0
    """
    mode = _named("grid_sampler", "interpolation_mode", MODES, interpolation_mode)
    padding = _named("grid_sampler", "padding_mode", PADDINGS, padding_mode)
    return F.grid_sample(input, grid, mode, padding, align_corners)


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """`nn.functional.affine_grid`."""
    return F.affine_grid(theta, size, align_corners)


# -- losses --------------------------------------------------------------------------------------


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """`nn.functional.ctc_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("ctc_loss", "reduction", REDUCTIONS, reduction)
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, name, zero_infinity)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """`nn.functional.cosine_embedding_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("cosine_embedding_loss", "reduction", REDUCTIONS, reduction)
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=name)


def kl_div(
    input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False
) -> Tensor:
    """`nn.functional.kl_div`; reduction is 0 (none), 1 (mean) or 2 (sum).

    >>> import tgrad
    >>> tgrad.kl_div(tgrad.zeros(2), tgrad.ones(2), 2).item()
    0.0
    """
    name = _named("kl_div", "reduction", REDUCTIONS, reduction)
    return F.kl_div(input, target, reduction=name, log_target=log_target)


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """`nn.functional.margin_ranking_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("margin_ranking_loss", "reduction", REDUCTIONS, reduction)
    return F.margin_ranking_loss(input1, input2, target, margin, reduction=name)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 0,
) -> Tensor:
    """`nn.functional.triplet_margin_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("triplet_margin_loss", "reduction", REDUCTIONS, reduction)
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=name)


def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0
) -> Tensor:
    """`nn.functional.hinge_embedding_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("hinge_embedding_loss", "reduction", REDUCTIONS, reduction)
    return F.hinge_embedding_loss(input, target, margin, reduction=name)


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    """`nn.functional.poisson_nll_loss`; reduction is 0 (none), 1 (mean) or 2 (sum)."""
    name = _named("poisson_nll_loss", "reduction", REDUCTIONS, reduction)
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=name)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 0,
) -> Tensor:
    """`nn.functional.binary_cross_entropy_with_logits`; reduction is 0 (none), 1 (mean) or 2
    (sum)."""
    name = _named("binary_cross_entropy_with_logits", "reduction", REDUCTIONS, reduction)
    return F.binary_cross_entropy_with_logits(
        input, target, weight, reduction=name, pos_weight=pos_weight
    )
