"""Causal masks of attention with fewer queries than keys, or more.

In: how many queries and keys there are. Out: the mask, for `attn_mask`. Invariant: a mask is made
of places, and fusion finds in it which tiles to skip; nothing is stored for it.
Source: https://docs.pytorch.org/docs/stable/nn.attention.bias.html
"""

from __future__ import annotations

from tgrad.creation import DeviceLike, ones
from tgrad.dtype import bool_
from tgrad.tensor import Tensor

__all__ = ["causal_lower_right", "causal_upper_left"]


def causal_upper_left(*size: int, device: DeviceLike = None) -> Tensor:
    """Which keys queries see where the first query is at the first key, (queries, keys), bool.

    Args:
        size: the two sizes.

    >>> causal_upper_left(2, 3).int().tolist()
    [[1, 0, 0], [1, 1, 0]]
    """
    return ones(size, dtype=bool_, device=device).tril()


def causal_lower_right(*size: int, device: DeviceLike = None) -> Tensor:
    """The same where the last query is at the last key.

    >>> causal_lower_right(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return ones(size, dtype=bool_, device=device).tril(size[1] - size[0])
