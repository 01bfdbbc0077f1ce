"""Arithmetic of blocks.

In: extents. Out: sizes of blocks, and how many there are. Invariant: pure.
"""

from __future__ import annotations


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n (1 for n <= 1).

    >>> power_of_two(1), power_of_two(40)
    (1, 64)
    """
    return 1 << max(n - 1, 0).bit_length()


def steps_of(extent: int, block: int) -> int:
    """Blocks that cover an extent.

    >>> steps_of(100, 32)
    4
    """
    return -(-extent // block)
