"""`nn.CrossMapLRN2d`, as PyTorch computes it: not quite what it is meant to be.

In: images. Out: images. Invariant: values and gradients are PyTorch 2.13's, which keep the first
channel in all windows to its right, and whose gradient is that of other windows.
Source: torch/nn/modules/_functions.py
"""

from __future__ import annotations

from tgrad import dtype as dt
from tgrad.creation import arange
from tgrad.errors import ShapeError
from tgrad.nn.modules.stateless import REQUIRED, Stateless, options
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


def _channels(x: Tensor) -> tuple[Tensor, Tensor]:
    """The channel of a window, down, and that of an element, across."""
    places = arange(x.shape[1], dtype=dt.int32, device=x.device)
    return places.unsqueeze(1), places


def _summed(mask: Tensor, x: Tensor) -> Tensor:
    """The channels that each row of a mask has, added."""
    flat = x.flatten(2)
    return (mask.to(x.dtype) @ flat).reshape(x.shape)


def _scale(x: Tensor, size: int, alpha: float, k: float) -> Tensor:
    """k + alpha / size * the squares of a window, and of the first channel."""
    window, channel = _channels(x)
    reach = int((size - 1) / 2 + 1)
    inside = (channel < window + reach) & ((channel > window - reach) | (channel == 0))
    return _summed(inside, x * x) * (alpha / size) + k


@labelled("cross_map_lrn")
def cross_map_lrn(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha / size * the sum of x² over channels around, and in the first) ** beta.

    Args:
        input: (N, C, H, W).

    Raises:
        ShapeError: another number of axes.
    """
    if input.ndim != 4:
        raise ShapeError(f"CrossMapLRN2d of shape {input.shape}.", "Give (N, C, H, W).")
    y = input * _scale(input, size, alpha, k) ** -beta
    return with_vjp("cross_map_lrn", y, input, params=(size, alpha, beta, k))


@define_vjp("cross_map_lrn")
def _cross_map_rule(
    g: Tensor, y: Tensor, x: Tensor, size: int, alpha: float, beta: float, k: float
) -> tuple[Tensor]:
    """g scale^-beta - 2 alpha beta / size x Σ g y / scale, over windows that start at c - before"""
    window, channel = _channels(x)
    before, scale = int(size - (size - 1) / 2), _scale(x, size, alpha, k)
    inside = (channel >= window - before) & (channel < window - before + size)
    others = _summed(inside, g * y / scale)
    return (g * scale**-beta - x * others * (2 * alpha * beta / size),)


class CrossMapLRN2d(Stateless):
    """Each element divided by a power of the squares around it among the channels, as PyTorch's old
    layer has it: the first channel counts in all windows to its right, and the gradient is that of
    other windows. For new programs there is `LocalResponseNorm`.

    >>> import tgrad
    >>> tgrad.nn.CrossMapLRN2d(1, alpha=1.0, beta=1.0)(tgrad.ones(1, 3, 1, 1)).flatten().tolist()
    [0.5, 0.3333333432674408, 0.3333333432674408]
    """

    function = staticmethod(cross_map_lrn)
    constants = options(size=REQUIRED, alpha=1e-4, beta=0.75, k=1.0)
