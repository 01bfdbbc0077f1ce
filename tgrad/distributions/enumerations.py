"""All values of distributions that have a fixed number of them.

In: a distribution. Out: values of shape (n, *event), which are the same throughout a batch.
Invariant: PyTorch's values in PyTorch's order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tgrad.creation import arange, eye
from tgrad.errors import UnsupportedError
from tgrad.tensor import Tensor


def _up_to(d: Any) -> Tensor:
    """Binomial's, whose number is read where it is a tensor."""
    most, least = (
        (d.total_count.max().item(), d.total_count.min().item())
        if isinstance(d.total_count, Tensor)
        else (d.total_count, d.total_count)
    )
    if most != least:
        raise UnsupportedError(
            f"enumerate_support of a Binomial of {least:g} to {most:g} trials.",
            "Give one total_count for the whole batch.",
        )
    return arange(1 + int(most), dtype=d.probs.dtype, device=d.probs.device)


def _of_independent(d: Any) -> Tensor:
    if d.reinterpreted_batch_ndims:
        raise UnsupportedError(
            "enumerate_support of an Independent, whose values are all combinations.",
            "Enumerate its base_dist, and combine with tgrad.cartesian_prod.",
        )
    return values_of(d.base_dist)


VALUES: dict[str, Callable[[Any], Tensor]] = {
    "Bernoulli": lambda d: arange(2, dtype=d.probs.dtype, device=d.probs.device),
    "Binomial": _up_to,
    "Categorical": lambda d: arange(d.probs.shape[-1], device=d.probs.device),
    "Independent": _of_independent,
    "OneHotCategorical": lambda d: eye(
        d.probs.shape[-1], dtype=d.probs.dtype, device=d.probs.device
    ),
}
"""By the name of the class."""


def has_values(d: Any) -> bool:
    """Whether there is a fixed number of them."""
    if type(d).__name__ == "Independent" and d.reinterpreted_batch_ndims == 0:
        return has_values(d.base_dist)
    names = {kind.__name__ for kind in type(d).__mro__}
    return bool(names & (VALUES.keys() - {"Independent"}))


def values_of(d: Any) -> Tensor:
    """The values.

    Raises:
        UnsupportedError: there is no fixed number of them.
    """
    for kind in type(d).__mro__:
        if kind.__name__ in VALUES:
            return VALUES[kind.__name__](d)
    raise UnsupportedError(
        f"enumerate_support of {type(d).__name__}, which has no fixed number of values.",
        "Draw with .sample().",
    )
