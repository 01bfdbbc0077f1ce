"""Parameters as one vector.

In: parameters. Out: a vector of all their elements, and back. Source:
https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

from collections.abc import Iterable

from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.joining import cat
from tgrad.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after the other."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Set parameters to the elements of a vector, one after the other.

    Raises:
        ShapeError: the vector has another number of elements.
    """
    given = list(parameters)
    if vec.shape != (sum(p.numel() for p in given),):
        raise ShapeError(
            f"vector_to_parameters: a vector of shape {vec.shape}.",
            f"The parameters have {sum(p.numel() for p in given)} elements.",
        )
    offset = 0
    with no_grad():
        for p in given:
            p.copy_(vec[offset : offset + p.numel()].reshape(p.shape))
            offset += p.numel()
