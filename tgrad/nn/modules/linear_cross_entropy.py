"""A linear layer and the cross entropy of its results, as one module.

In: inputs and targets. Out: losses. Invariant: it is `tgrad.nn.functional.linear_cross_entropy` of
the layer's parameters. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.LinearCrossEntropyLoss.html
"""

from __future__ import annotations

from math import prod
from typing import Any

from tgrad.creation import DeviceLike
from tgrad.dtype import DType
from tgrad.errors import OutOfRangeError, ShapeError
from tgrad.nn import functional as F
from tgrad.nn.modules.linear import Linear
from tgrad.nn.modules.loss import _WeightedLoss
from tgrad.tensor import Tensor


class LinearCrossEntropyLoss(_WeightedLoss):
    """Cross entropy of the logits that a linear layer makes of the input.

    Args:
        in_features: last size of the input.
        num_classes: C.
        out_features: (d1, ...), where each input has a class in each of these places.
        bias: whether the layer has one.
        device, dtype: of the layer.
        reduction: "mean", "sum" or "none".
        weight: of the classes, (C,).
        ignore_index: a class whose rows do not count; by default -100.
        label_smoothing: how much of each target is spread over all classes, 0 to 1.
        options: how PyTorch is to cut the rows, accepted: plans choose by themselves.

    Raises:
        ShapeError: the weight is not (C,).
        OutOfRangeError: label_smoothing is not in [0, 1].

    >>> import tgrad
    >>> loss = tgrad.nn.LinearCrossEntropyLoss(4, 10)
    >>> loss(tgrad.ones(3, 4), tgrad.tensor([1, 5, 9])).shape, loss.linear.weight.shape
    ((), (10, 4))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
    ):
        if weight is not None and weight.shape != (num_classes,):
            raise ShapeError(f"a weight of shape {weight.shape} for {num_classes} classes.")
        if not 0 <= label_smoothing <= 1:
            raise OutOfRangeError(f"label_smoothing={label_smoothing}.", "Give 0 to 1.")
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features = num_classes, out_features
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.options = options
        count = num_classes * prod(out_features)
        self.linear = Linear(in_features, count, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Losses of (in,) or (N, in) with targets as `cross_entropy` takes them."""
        places = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(*places, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(places),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
