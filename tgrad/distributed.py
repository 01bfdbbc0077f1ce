"""`torch.distributed`'s first questions, whose answer is no: one process drives one device.

In: nothing. Out: False. Invariant: scripts that ask before they use more go on with one process.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

__all__ = ["is_available", "is_initialized"]


def is_available() -> bool:
    """Whether there are collectives.

    >>> import tgrad
    >>> tgrad.distributed.is_available()
    False
    """
    return False


def is_initialized() -> bool:
    """Whether there is a group of processes."""
    return False
