"""Adaptive softmax: many classes, of which the frequent ones are cheap.

In: rows, and classes numbered by falling frequency. Out: log probabilities of classes. Invariant:
shapes do not depend on the classes, so every row is projected to every cluster; PyTorch projects
only the rows that fall into one. Source: https://arxiv.org/abs/1609.04309
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tgrad.creation import DeviceLike
from tgrad.dtype import DType
from tgrad.errors import OutOfRangeError, ShapeError
from tgrad.joining import cat
from tgrad.nn.functional.activation import check_classes
from tgrad.nn.module import Module
from tgrad.nn.modules.container import ModuleList, Sequential
from tgrad.nn.modules.linear import Linear
from tgrad.tensor import Tensor


class Output(NamedTuple):
    """Of `AdaptiveLogSoftmaxWithLoss`: the log probability of each target, and the loss."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """log softmax over clusters of classes: a head of the first classes and of the clusters, and a
    projection for each cluster, which is narrower the rarer its classes are.

    Args:
        in_features: last size of the input.
        n_classes: number of classes, which come by falling frequency.
        cutoffs: the first class of each cluster but the head.
        div_value: cluster i has a projection of in_features // div_value ** (i + 1).
        head_bias: whether the head has a bias.

    Raises:
        OutOfRangeError: the cutoffs do not rise, or lie outside 1 .. n_classes - 1.

    >>> import tgrad
    >>> softmax = tgrad.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10])
    >>> softmax.log_prob(tgrad.ones(3, 8)).exp().sum(1).round(decimals=4).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        ends = list(cutoffs)
        if not ends or [0, *ends, n_classes] != sorted({0, *ends, n_classes}):
            raise OutOfRangeError(
                f"AdaptiveLogSoftmaxWithLoss: cutoffs={ends} of {n_classes} classes.",
                "They rise, from 1 at least to below the number of classes.",
            )
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*ends, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = ends[0], len(ends)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, **options)
        self.tail = ModuleList()
        for i, (first, end) in enumerate(self._clusters()):
            width = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, **options),
                    Linear(width, end - first, False, **options),
                )
            )

    def _clusters(self) -> list[tuple[int, int]]:
        return list(zip(self.cutoffs, self.cutoffs[1:]))

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> Output:
        """Log probabilities (N,) of the targets and minus their mean.

        Args:
            input_: (N, in_features), or (in_features,) with one target.
            target_: (N,) classes.
        """
        if input_.shape[:-1] != target_.shape or input_.ndim > 2:
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss of shapes {input_.shape} and {target_.shape}.",
                "Give rows (N, in_features) and classes (N,).",
            )
        check_classes(target_, self.n_classes)
        rows = input_ if input_.ndim == 2 else input_.unsqueeze(0)
        target = target_.reshape(-1).long()
        place, found = target, None
        for i, ((first, end), tail) in enumerate(zip(self._clusters(), self.tail)):
            is_here = (target >= first) & (target < end)
            place = place.where(~is_here, self.shortlist_size + i)
            local = (target - first).clamp(0, end - first - 1)
            part = _picked(tail(rows), local).where(is_here, 0.0)
            found = part if found is None else found + part
        assert found is not None
        output = _picked(self.head(rows), place) + found
        return Output(output.reshape(target_.shape), -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """Log probabilities (N, n_classes) of all classes for rows (N, in_features)."""
        head = self.head(input).log_softmax(1)
        cut = self.shortlist_size
        rest = [
            tail(input).log_softmax(1) + head[:, cut + i : cut + i + 1]
            for i, tail in enumerate(self.tail)
        ]
        return cat([head[:, :cut], *rest], 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most likely class (N,) of each row (N, in_features)."""
        return self.log_prob(input).argmax(1)


def _picked(logits: Tensor, classes: Tensor) -> Tensor:
    """log softmax of each row at its class."""
    return logits.log_softmax(1).gather(1, classes.unsqueeze(1)).squeeze(1)
