"""Copies between arrays of one rank and different sizes, on host memory.

In: bytes of two row-major arrays. Out: the target, with the elements that both have. Invariant: no
other byte of the target changes.
"""

from __future__ import annotations

from math import prod

import numpy as np

Shape = tuple[int, ...]


def copy_box(
    target: np.ndarray, target_shape: Shape, source: np.ndarray, source_shape: Shape, itemsize: int
) -> None:
    """target[:a, :b, ...] = source[:a, :b, ...], with a, b, ... the smaller sizes.

    Args:
        target, source: one-dimensional uint8 arrays that begin with the elements.
        itemsize: bytes of an element: 1, 2, 4 or 8.

    >>> target = np.zeros(6, np.uint8)
    >>> copy_box(target, (2, 3), np.arange(1, 5, dtype=np.uint8), (2, 2), 1)
    >>> target.reshape(2, 3).tolist()
    [[1, 2, 0], [3, 4, 0]]
    """
    box = tuple(slice(min(m, n)) for m, n in zip(target_shape, source_shape))
    arrays = [
        memory[: prod(shape) * itemsize].view(f"u{itemsize}").reshape(shape)
        for memory, shape in ((target, target_shape), (source, source_shape))
    ]
    arrays[0][box] = arrays[1][box]
