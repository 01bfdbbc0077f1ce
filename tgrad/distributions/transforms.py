"""Differentiable maps with an inverse, for `TransformedDistribution`.

In: lazy tensors. Out: their images, inverses, and the logarithms of how much volume grows.
Invariant: the last `event_dim` axes of a tensor are one point. Source:
https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.transforms
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tgrad.nn.functional as F
from tgrad.distributions.distribution import Parameter, sum_last
from tgrad.errors import UnsupportedError
from tgrad.tensor import Tensor

__all__ = [
    "AbsTransform", "AffineTransform", "ComposeTransform", "ExpTransform", "IndependentTransform",
    "PowerTransform", "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform",
    "StickBreakingTransform", "TanhTransform", "Transform", "identity_transform",
]  # fmt: skip


class Transform:
    """Base of all transforms: a subclass gives `_call`, `_inverse` and `log_abs_det_jacobian`.

    Attributes:
        event_dim: axes of a point.
        event_growth: how much longer the last axis is in the image.

    >>> import tgrad
    >>> tgrad.distributions.ExpTransform().inv(tgrad.ones(1)).item()
    0.0
    """

    event_dim = 0
    event_growth = 0

    def __call__(self, x: Tensor) -> Tensor:
        return self._call(x)

    @property
    def inv(self) -> Transform:
        """The transform back."""
        return _Inverse(self)

    def _call(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _inverse(self, y: Tensor) -> Tensor:
        raise UnsupportedError(f"{type(self).__name__} has no inverse.")

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dx| at x, of which y is the image; without the axes of a point."""
        raise UnsupportedError(f"{type(self).__name__} has no density.")

    def __eq__(self, other: object) -> bool:
        """Whether both are of one kind, of equal numbers and the same tensors."""
        if type(self) is not type(other):
            return False
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(a is b or (not isinstance(a, Tensor) and a == b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    def __init__(self, transform: Transform):
        self.transform, self.event_dim = transform, transform.event_dim
        self.event_growth = -transform.event_growth

    @property
    def inv(self) -> Transform:
        return self.transform

    def _call(self, x: Tensor) -> Tensor:
        return self.transform._inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.transform(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.transform.log_abs_det_jacobian(y, x)


class ComposeTransform(Transform):
    """Transforms one after the other, the first one first."""

    def __init__(self, parts: Sequence[Transform]):
        self.parts = list(parts)
        self.event_dim = max((part.event_dim for part in self.parts), default=0)
        self.event_growth = sum(part.event_growth for part in self.parts)

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._inverse(y)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        total = sum_last(x * 0.0, self.event_dim)
        for part in self.parts:
            image = part(x)
            grown = part.log_abs_det_jacobian(x, image)
            total, x = total + sum_last(grown, self.event_dim - part.event_dim), image
        return total


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """A transform whose points have `reinterpreted_batch_ndims` more axes."""

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int):
        self.base_transform, self.reinterpreted_batch_ndims = (
            base_transform,
            reinterpreted_batch_ndims,
        )
        self.event_dim = base_transform.event_dim + reinterpreted_batch_ndims
        self.event_growth = base_transform.event_growth

    def _call(self, x: Tensor) -> Tensor:
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform._inverse(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        grown = self.base_transform.log_abs_det_jacobian(x, y)
        return sum_last(grown, self.reinterpreted_batch_ndims)


class ExpTransform(Transform):
    """exp(x)"""

    def _call(self, x: Tensor) -> Tensor:
        return x.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """x ** exponent, for x above 0"""

    def __init__(self, exponent: Any):
        self.exponent = exponent

    def _call(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1.0 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (y * self.exponent / x).abs().log()


class SigmoidTransform(Transform):
    """1 / (1 + exp(-x))"""

    def _call(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(Transform):
    """log(1 + exp(x))"""

    def _call(self, x: Tensor) -> Tensor:
        return F.softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return (-y).expm1().neg().log() + y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x)


class TanhTransform(Transform):
    """tanh(x)"""

    def _call(self, x: Tensor) -> Tensor:
        return x.tanh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (math.log(2.0) - x - F.softplus(-2.0 * x)) * 2.0


class AbsTransform(Transform):
    """|x|, which has no inverse: the positive one is taken"""

    def _call(self, x: Tensor) -> Tensor:
        return x.abs()

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """loc + scale * x"""

    def __init__(self, loc: Parameter, scale: Parameter, event_dim: int = 0):
        self.loc, self.scale, self.event_dim = loc, scale, event_dim

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return sum_last((x * 0.0 + self.scale).abs().log(), self.event_dim)


class SoftmaxTransform(Transform):
    """exp(x) over its sum along the last axis, which has no density: one value is lost"""

    event_dim = 1

    def _call(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()


class StickBreakingTransform(Transform):
    """K numbers to K + 1 that are positive and sum to one: each takes its share of what is left."""

    event_dim, event_growth = 1, 1

    def _call(self, x: Tensor) -> Tensor:
        share = _shares(x).sigmoid()
        left = (1.0 - share).cumprod(-1)
        return F.pad(share, (0, 1), value=1.0) * F.pad(left, (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        parts = y[..., :-1]
        left = (1.0 - parts.cumsum(-1)).maximum(2.0**-126)
        return parts.log() - left.log() - _offsets(parts)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        moved = _shares(x)
        return (-moved + F.logsigmoid(moved) + y[..., :-1].log()).sum(-1)


def _offsets(x: Tensor) -> Tensor:
    """Minus the logarithm of how many are left, so that zeros have equal parts."""
    count = x.shape[-1]
    left = float(count) - x._places(x.ndim - 1).to(x.dtype)
    return -left.log()


def _shares(x: Tensor) -> Tensor:
    return x + _offsets(x)
