"""Windows under PyTorch's older names: periodic unless `periodic=False`.

In: a length. Out: a lazy vector. Invariant: each is a window of `tgrad.signal.windows`.
"""

from __future__ import annotations

from typing import Any

from tgrad.signal import windows
from tgrad.tensor import Tensor


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """sin² of half a turn; options as those of `tgrad.zeros`.

    >>> import tgrad
    >>> tgrad.hann_window(2).tolist()
    [0.0, 1.0]
    """
    return windows.hann(window_length, sym=not periodic, **options)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    **options: Any,
) -> Tensor:
    """alpha - beta cos."""
    return windows.general_cosine(window_length, a=[alpha, beta], sym=not periodic, **options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """0.42 - 0.5 cos + 0.08 cos of twice the angle."""
    return windows.blackman(window_length, sym=not periodic, **options)


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """A triangle."""
    return windows.bartlett(window_length, sym=not periodic, **options)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any
) -> Tensor:
    """i0(beta sqrt(1 - x²)) / i0(beta), x from -1 to 1."""
    return windows.kaiser(window_length, beta=beta, sym=not periodic, **options)
