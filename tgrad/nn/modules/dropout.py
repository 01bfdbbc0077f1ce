"""Dropout as modules.

In: a probability. Out: modules without parameters, the identity in evaluation. Invariant: each
calls the function of its name.
"""

from __future__ import annotations

from typing import Any

from tgrad.errors import ShapeError
from tgrad.nn import functional as F
from tgrad.nn.modules.stateless import Stateless, options


class Dropout(Stateless):
    """In training, each element is 0 with probability p, else divided by 1 - p."""

    function = staticmethod(F.dropout)
    constants = options(p=0.5, inplace=False)
    by_training = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not 0 <= self.p <= 1:
            raise ShapeError(f"{type(self).__name__}: p={self.p}.", "A probability is 0 to 1.")

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W)."""

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, C, D, H, W)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1, for nets of SELU."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(Dropout):
    """Alpha dropout of whole channels."""

    function = staticmethod(F.feature_alpha_dropout)


_DropoutNd = Dropout
"""The base of all, by PyTorch's name."""
