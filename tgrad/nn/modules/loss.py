"""Losses as modules.

In: their constants. Out: modules of (input, target), or of what their docstrings say. Invariant:
each calls the function of its name; weights move with the module.
"""

from __future__ import annotations

import warnings
from typing import Any

from tgrad.arguments import refuse
from tgrad.nn import functional as F
from tgrad.nn.module import Module
from tgrad.nn.modules.stateless import REDUCED, Stateless, options
from tgrad.tensor import Tensor

_WEIGHTED = options(weight=None, **REDUCED)
_OF_CLASSES = options(
    weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
)


class _Loss(Module):
    """What programs derive losses of their own from: it keeps `reduction`."""

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ):
        super().__init__()
        refuse(type(self).__name__, "Use reduction=.", size_average=size_average, reduce=reduce)
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """`_Loss` that keeps a buffer `weight` too."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class MSELoss(Stateless):
    """(input - target)²."""

    function = staticmethod(F.mse_loss)
    constants = REDUCED


class L1Loss(Stateless):
    """|input - target|."""

    function = staticmethod(F.l1_loss)
    constants = REDUCED


class SmoothL1Loss(Stateless):
    """Quadratic below beta, linear above."""

    function = staticmethod(F.smooth_l1_loss)
    constants = options(**REDUCED, beta=1.0)


class HuberLoss(Stateless):
    """Quadratic up to delta, linear above."""

    function = staticmethod(F.huber_loss)
    constants = options(reduction="mean", delta=1.0)


class KLDivLoss(Stateless):
    """target * (log target - input)."""

    function = staticmethod(F.kl_div)
    constants = options(**REDUCED, log_target=False)


class CrossEntropyLoss(Stateless):
    """-log softmax(input) at the target; see `tgrad.nn.functional.cross_entropy`."""

    function = staticmethod(F.cross_entropy)
    constants = options(**_OF_CLASSES, label_smoothing=0.0)
    tensors = ("weight",)


class NLLLoss(Stateless):
    """-input at the target; see `tgrad.nn.functional.nll_loss`."""

    function = staticmethod(F.nll_loss)
    constants = _OF_CLASSES
    tensors = ("weight",)


class NLLLoss2d(NLLLoss):
    """`NLLLoss`: its older name for images."""

    def __init__(self, *args: Any, **kwargs: Any):
        warnings.warn("NLLLoss2d is an older name: use NLLLoss.", FutureWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class BCELoss(Stateless):
    """Binary cross entropy of probabilities."""

    function = staticmethod(F.binary_cross_entropy)
    constants = _WEIGHTED
    tensors = ("weight",)


class BCEWithLogitsLoss(Stateless):
    """Binary cross entropy of logits."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    constants = options(**_WEIGHTED, pos_weight=None)
    tensors = ("weight", "pos_weight")


class PoissonNLLLoss(Stateless):
    """-log of the Poisson distribution of mean exp(input), or input, at the target."""

    function = staticmethod(F.poisson_nll_loss)
    constants = options(
        log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"
    )


class GaussianNLLLoss(Stateless):
    """-log of the normal distribution: a module of (input, target, var)."""

    function = staticmethod(F.gaussian_nll_loss)
    constants = options(full=False, eps=1e-6, reduction="mean")


class SoftMarginLoss(Stateless):
    """log(1 + exp(-target * input)) for targets of 1 and -1."""

    function = staticmethod(F.soft_margin_loss)
    constants = REDUCED


class HingeEmbeddingLoss(Stateless):
    """input where the target is 1, max(0, margin - input) where it is -1."""

    function = staticmethod(F.hinge_embedding_loss)
    constants = options(margin=1.0, **REDUCED)


class MarginRankingLoss(Stateless):
    """max(0, -target * (input1 - input2) + margin): a module of (input1, input2, target)."""

    function = staticmethod(F.margin_ranking_loss)
    constants = options(margin=0.0, **REDUCED)


class CosineEmbeddingLoss(Stateless):
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1: a module of
    (input1, input2, target)."""

    function = staticmethod(F.cosine_embedding_loss)
    constants = options(margin=0.0, **REDUCED)


class MultiMarginLoss(Stateless):
    """How far other classes come within the margin of the target's score."""

    function = staticmethod(F.multi_margin_loss)
    constants = options(p=1, margin=1.0, weight=None, **REDUCED)
    tensors = ("weight",)


class MultiLabelMarginLoss(Stateless):
    """How far other classes come within 1 of the scores of the targets, several a sample."""

    function = staticmethod(F.multilabel_margin_loss)
    constants = REDUCED


class MultiLabelSoftMarginLoss(Stateless):
    """The mean over classes of the binary cross entropy of logits."""

    function = staticmethod(F.multilabel_soft_margin_loss)
    constants = _WEIGHTED
    tensors = ("weight",)


class TripletMarginLoss(Stateless):
    """max(0, |anchor - positive| - |anchor - negative| + margin): a module of the three."""

    function = staticmethod(F.triplet_margin_loss)
    constants = options(margin=1.0, p=2.0, eps=1e-6, swap=False, **REDUCED)


class TripletMarginWithDistanceLoss(Stateless):
    """The triplet loss by any distance: a module of (anchor, positive, negative)."""

    function = staticmethod(F.triplet_margin_with_distance_loss)
    constants = options(distance_function=None, margin=1.0, swap=False, reduction="mean")


class CTCLoss(Stateless):
    """Of (log_probs, targets, input_lengths, target_lengths); see
    `tgrad.nn.functional.ctc_loss`."""

    function = staticmethod(F.ctc_loss)
    constants = options(blank=0, reduction="mean", zero_infinity=False)
