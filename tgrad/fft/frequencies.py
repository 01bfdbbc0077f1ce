"""The frequencies of a transform's values, and their order.

In: lengths; tensors. Out: lazy tensors. Invariant: nothing here knows of pairs: the axes of
`fftshift` are those of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.arguments import refuse
from tgrad.creation import DeviceLike, arange
from tgrad.dtype import DType, float_dtype
from tgrad.errors import ShapeError
from tgrad.tensor import Tensor, labelled

Axes = int | Sequence[int] | None


@labelled("fftfreq")
def fftfreq(
    n: int, d: float = 1.0, *, dtype: DType | None = None, device: DeviceLike = None, **others: Any
) -> Tensor:
    """The frequency of each value of `fft`: 0, 1, ..., and then the negative ones, over n d.

    Args:
        n: length.
        d: time between values.
        dtype: by default float32.
        device, others: see `tgrad.arange`.

    >>> import tgrad
    >>> tgrad.fft.fftfreq(4).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    found = _checked(n, dtype)
    place = arange(n, device=device)
    signed = place.where(place < (n + 1) // 2, place - n).to(found.accumulator)
    made = (signed * (1.0 / (n * d))).to(found)
    return _options(made, others)


@labelled("rfftfreq")
def rfftfreq(
    n: int, d: float = 1.0, *, dtype: DType | None = None, device: DeviceLike = None, **others: Any
) -> Tensor:
    """The frequency of each value of `rfft`: 0, 1, ..., n // 2, over n d.

    >>> import tgrad
    >>> tgrad.fft.rfftfreq(4).tolist()
    [0.0, 0.25, 0.5]
    """
    found = _checked(n, dtype)
    made = (arange(n // 2 + 1, device=device).to(found.accumulator) * (1.0 / (n * d))).to(found)
    return _options(made, others)


def _checked(n: int, dtype: DType | None) -> DType:
    if n < 1:
        raise ShapeError(f"frequencies of {n} values.", "Give at least one.")
    return float_dtype(dtype)


def _options(made: Tensor, others: dict[str, Any]) -> Tensor:
    if others.pop("requires_grad", False):
        made.requires_grad_()
    refuse("fftfreq", **others)
    return made


def _all_axes(input: Tensor, dim: Axes) -> list[int]:
    if dim is None:
        return list(range(input.ndim))
    return [dim] if isinstance(dim, int) else list(dim)


@labelled("fftshift")
def fftshift(input: Tensor, dim: Axes = None) -> Tensor:
    """The value of frequency 0 in the middle.

    Args:
        input: a tensor; of pairs, name the axes, since all of them are moved by default.
        dim: axes.

    >>> import tgrad
    >>> tgrad.fft.fftshift(tgrad.fft.fftfreq(4)).tolist()
    [-0.5, -0.25, 0.0, 0.25]
    """
    axes = _all_axes(input, dim)
    return input.roll([input.shape[d] // 2 for d in axes], axes) if axes else input


@labelled("ifftshift")
def ifftshift(input: Tensor, dim: Axes = None) -> Tensor:
    """The inverse of `fftshift`."""
    axes = _all_axes(input, dim)
    return input.roll([(input.shape[d] + 1) // 2 for d in axes], axes) if axes else input
