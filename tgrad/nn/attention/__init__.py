"""Which kernel attention takes, as torch.nn.attention asks for it.

In: names of PyTorch's kernels. Out: a context. Invariant: results are the same in all; tgrad
generates one kernel for the attention that it finds in a graph, and there is nothing to choose.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.attention.sdpa_kernel.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

from tgrad.errors import UnsupportedError


class SDPBackend(IntEnum):
    """PyTorch's kernels of scaled dot product attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(
    backends: Sequence[SDPBackend] | SDPBackend, set_priority: bool = False
) -> Iterator[None]:
    """A context that PyTorch chooses its kernels in; here it changes nothing.

    Args:
        backends: one or several, accepted.
        set_priority: accepted.

    Raises:
        UnsupportedError: a value that is no SDPBackend.

    >>> import tgrad
    >>> from tgrad.nn.attention import SDPBackend, sdpa_kernel
    >>> q = tgrad.ones(1, 2, 4)
    >>> with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
    ...     tgrad.nn.functional.scaled_dot_product_attention(q, q, q).shape
    (1, 2, 4)
    """
    for backend in [backends] if isinstance(backends, SDPBackend) else backends:
        if not isinstance(backend, SDPBackend):
            raise UnsupportedError(f"sdpa_kernel of {backend!r}.", "Give members of SDPBackend.")
    yield
