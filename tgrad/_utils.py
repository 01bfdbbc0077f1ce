"""`torch._utils`: tensors of several shapes as one vector, and back, for exchanges by hand.

In: tensors of one dtype. Out: a vector; or tensors. Invariant: nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.joining import cat
from tgrad.tensor import Tensor


def _flatten_dense_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """All elements, one tensor after the other.

    >>> import tgrad
    >>> _flatten_dense_tensors([tgrad.zeros(2, 1), tgrad.ones(1)]).tolist()
    [0.0, 0.0, 1.0]
    """
    return cat([t.reshape(-1) for t in tensors])


def _unflatten_dense_tensors(flat: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The parts of a vector in the shapes of tensors.

    >>> import tgrad
    >>> _unflatten_dense_tensors(tgrad.arange(3), [tgrad.zeros(2, 1), tgrad.zeros(1)])[0].shape
    (2, 1)
    """
    parts = flat.split([t.numel() for t in tensors])
    return tuple(part.reshape(t.shape) for part, t in zip(parts, tensors))
