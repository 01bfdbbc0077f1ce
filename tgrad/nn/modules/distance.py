"""Distances of two tensors as modules.

In: their constants. Out: modules of (x1, x2) without parameters. Invariant: each calls the function
of its name.
"""

from __future__ import annotations

from tgrad.nn import functional as F
from tgrad.nn.modules.stateless import Stateless, options


class CosineSimilarity(Stateless):
    """x1 · x2 / (|x1| |x2|) along an axis."""

    function = staticmethod(F.cosine_similarity)
    constants = options(dim=1, eps=1e-8)


class PairwiseDistance(Stateless):
    """The p-norm of x1 - x2 + eps along the last axis."""

    function = staticmethod(F.pairwise_distance)
    constants = options(p=2.0, eps=1e-6, keepdim=False)
