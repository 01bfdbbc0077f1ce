"""Window functions, under the names of torch.signal.windows.

In: a length. Out: a lazy vector. Invariant: `sym=False` gives the periodic window, which is the
symmetric one of a longer vector without its last element.
Source: https://docs.pytorch.org/docs/stable/signal.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.creation import DeviceLike, default_device, full, places
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError
from tgrad.tensor import Tensor, labelled

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine",
    "general_hamming", "hamming", "hann", "kaiser", "nuttall",
]  # fmt: skip


def _window(
    name: str, M: int, sym: bool, shape: Callable[[Tensor, int], Tensor],
    dtype: DType | None, device: DeviceLike, requires_grad: bool, others: dict[str, Any],
) -> Tensor:  # fmt: skip
    """`shape(place, last place)` of each place; one number is 1."""
    refuse(name, **others)
    found = dt.float_dtype(dtype)
    if M < 0:
        raise ShapeError(f"{name}: M={M}.", "Give 0 or more.")
    if not found.is_float:
        raise DTypeError(f"{name}: dtype={found.name}.", "Use a floating-point dtype.")
    if M <= 1:
        value = full((M,), 1.0, dtype=found, device=device)
    else:
        place = places((M,), 0, device=default_device(device)).to(dt.float64)
        value = shape(place, M - 1 if sym else M).to(found)
    return value.requires_grad_() if requires_grad else value


@labelled("general_cosine")
def general_cosine(
    M: int, *, a: Sequence[float], sym: bool = True, dtype: DType | None = None,
    device: DeviceLike = None, requires_grad: bool = False, **others: Any,
) -> Tensor:  # fmt: skip
    """Σ_k (-1)^k a_k cos(2π k n / last).

    >>> import tgrad
    >>> tgrad.signal.windows.general_cosine(3, a=[0.5, 0.5]).tolist()
    [0.0, 1.0, 0.0]
    """

    def shape(place: Tensor, last: int) -> Tensor:
        total: Any = 0.0
        for k, weight in enumerate(a):
            total = total + (place * (2 * math.pi * k / last)).cos() * ((-1) ** k * weight)
        return total

    return _window("general_cosine", M, sym, shape, dtype, device, requires_grad, others)


def general_hamming(M: int, *, alpha: float = 0.54, **options: Any) -> Tensor:
    """alpha - (1 - alpha) cos(2π n / last); options as those of `general_cosine`."""
    return general_cosine(M, a=[alpha, 1.0 - alpha], **options)


def hamming(M: int, **options: Any) -> Tensor:
    """`general_hamming` with alpha = 0.54."""
    return general_hamming(M, **options)


def hann(M: int, **options: Any) -> Tensor:
    """`general_hamming` with alpha = 0.5.

    >>> import tgrad
    >>> tgrad.signal.windows.hann(3).tolist()
    [0.0, 1.0, 0.0]
    """
    return general_hamming(M, alpha=0.5, **options)


def blackman(M: int, **options: Any) -> Tensor:
    """`general_cosine` with 0.42, 0.5 and 0.08."""
    return general_cosine(M, a=[0.42, 0.5, 0.08], **options)


def nuttall(M: int, **options: Any) -> Tensor:
    """Nuttall's window of four terms. Source: Nuttall (1981)."""
    return general_cosine(M, a=[0.3635819, 0.4891775, 0.1365995, 0.0106411], **options)


@labelled("bartlett")
def bartlett(
    M: int, *, sym: bool = True, dtype: DType | None = None, device: DeviceLike = None,
    requires_grad: bool = False, **others: Any,
) -> Tensor:  # fmt: skip
    """A triangle: 1 - |2 n / last - 1|.

    >>> import tgrad
    >>> tgrad.signal.windows.bartlett(3).tolist()
    [0.0, 1.0, 0.0]
    """

    def shape(place: Tensor, last: int) -> Tensor:
        return 1.0 - (place * (2.0 / last) - 1.0).abs()

    return _window("bartlett", M, sym, shape, dtype, device, requires_grad, others)


@labelled("cosine")
def cosine(
    M: int, *, sym: bool = True, dtype: DType | None = None, device: DeviceLike = None,
    requires_grad: bool = False, **others: Any,
) -> Tensor:  # fmt: skip
    """Half a wave: sin(π (n + 1/2) / (last + 1))."""

    def shape(place: Tensor, last: int) -> Tensor:
        return ((place + 0.5) * (math.pi / (last + 1))).sin()

    return _window("cosine", M, sym, shape, dtype, device, requires_grad, others)


@labelled("exponential")
def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True,
    dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
    **others: Any,
) -> Tensor:  # fmt: skip
    """exp(-|n - center| / tau), centred by default.

    Raises:
        ShapeError: tau is not positive, or a symmetric window is given a centre.
    """
    if tau <= 0 or (sym and center is not None):
        raise ShapeError(
            f"exponential: tau={tau}, center={center}, sym={sym}.",
            "tau is above 0, and a symmetric window has its centre in the middle.",
        )

    def shape(place: Tensor, last: int) -> Tensor:
        middle = last / 2 if center is None else center
        return ((place - middle).abs() * (-1.0 / tau)).exp()

    return _window("exponential", M, sym, shape, dtype, device, requires_grad, others)


@labelled("gaussian")
def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: DType | None = None,
    device: DeviceLike = None, requires_grad: bool = False, **others: Any,
) -> Tensor:  # fmt: skip
    """exp(-((n - last / 2) / std)² / 2)."""
    if std <= 0:
        raise ShapeError(f"gaussian: std={std}.", "Give a number above 0.")

    def shape(place: Tensor, last: int) -> Tensor:
        distance = (place - last / 2) * (1.0 / std)
        return (distance * distance * -0.5).exp()

    return _window("gaussian", M, sym, shape, dtype, device, requires_grad, others)


@labelled("kaiser")
def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: DType | None = None,
    device: DeviceLike = None, requires_grad: bool = False, **others: Any,
) -> Tensor:  # fmt: skip
    """i0(beta sqrt(1 - (2 n / last - 1)²)) / i0(beta)."""
    if beta < 0:
        raise ShapeError(f"kaiser: beta={beta}.", "Give 0 or more.")

    def shape(place: Tensor, last: int) -> Tensor:
        x = place * (2.0 / last) - 1.0
        top = ((1.0 - x * x).clamp(min=0.0).sqrt() * beta).i0()
        return top / place._constant(beta, place.dtype).i0()

    return _window("kaiser", M, sym, shape, dtype, device, requires_grad, others)
