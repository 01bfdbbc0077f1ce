"""Differentiable maps of numbers and of vectors with an inverse, for `TransformedDistribution`.

In: lazy tensors. Out: their images, inverses, and the logarithms of how much volume grows.
Invariant: see transform.py. Source:
https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.transforms
"""

from __future__ import annotations

import math
from typing import Any

import tgrad.nn.functional as F
from tgrad.distributions import constraints
from tgrad.distributions.constraints import Constraint
from tgrad.distributions.distribution import Parameter, Shape, sum_last
from tgrad.distributions.joint_transforms import (
    CatTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    ReshapeTransform,
    StackTransform,
)
from tgrad.distributions.transform import (
    ComposeTransform,
    IndependentTransform,
    Transform,
    identity_transform,
)
from tgrad.errors import ShapeError
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.tensor import Tensor

__all__ = [
    "AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform",
    "CumulativeDistributionTransform", "ExpTransform", "IndependentTransform",
    "LowerCholeskyTransform", "PositiveDefiniteTransform", "PowerTransform", "ReshapeTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform",
    "StickBreakingTransform", "TanhTransform", "Transform", "identity_transform",
]  # fmt: skip


class ExpTransform(Transform):
    """exp(x)"""

    codomain, bijective = constraints.positive, True

    def _call(self, x: Tensor) -> Tensor:
        return x.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """x ** exponent, for x above 0"""

    domain = codomain = constraints.positive
    bijective = True

    def __init__(self, exponent: Any, cache_size: int = 0):
        self.exponent = exponent

    @property
    def sign(self) -> Any:
        return _sign(self.exponent)

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        return _wide(shape, self.exponent)

    inverse_shape = forward_shape

    def _call(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1.0 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (y * self.exponent / x).abs().log()


class SigmoidTransform(Transform):
    """1 / (1 + exp(-x))"""

    codomain, bijective = constraints.unit_interval, True

    def _call(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(Transform):
    """log(1 + exp(x))"""

    codomain, bijective = constraints.positive, True

    def _call(self, x: Tensor) -> Tensor:
        return F.softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return (-y).expm1().neg().log() + y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x)


class TanhTransform(Transform):
    """tanh(x)"""

    codomain, bijective = constraints.interval(-1.0, 1.0), True

    def _call(self, x: Tensor) -> Tensor:
        return x.tanh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (math.log(2.0) - x - F.softplus(-2.0 * x)) * 2.0


class AbsTransform(Transform):
    """|x|, which has no inverse: the positive one is taken"""

    codomain = constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return x.abs()

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """loc + scale * x"""

    bijective = True

    def __init__(self, loc: Parameter, scale: Parameter, event_dim: int = 0, cache_size: int = 0):
        self.loc, self.scale, self._axes = loc, scale, event_dim

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return constraints.independent(constraints.real, self._axes)

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return self.domain

    @property
    def sign(self) -> Any:
        return _sign(self.scale)

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        return _wide(shape, self.loc, self.scale)

    inverse_shape = forward_shape

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return sum_last((x * 0.0 + self.scale).abs().log(), self._axes)


class SoftmaxTransform(Transform):
    """exp(x) over its sum along the last axis, which has no density: one value is lost"""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()


class StickBreakingTransform(Transform):
    """K numbers to K + 1 that are positive and sum to one: each takes its share of what is left."""

    domain, codomain, bijective = constraints.real_vector, constraints.simplex, True

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        if not shape:
            raise ShapeError("StickBreakingTransform of shape ().", "Points have an axis.")
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        if not shape or not shape[-1]:
            raise ShapeError(f"StickBreakingTransform.inv of shape {tuple(shape)}.")
        return (*shape[:-1], shape[-1] - 1)

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


def _sign(factor: Any) -> Any:
    """Of a number or of each element."""
    if isinstance(factor, Tensor):
        return factor.sign()
    return (factor > 0) - (factor < 0)


def _wide(shape: Shape, *others: Any) -> tuple[int, ...]:
    """The shape of numbers of that shape together with others."""
    return broadcast_shapes(tuple(shape), *(t.shape for t in others if isinstance(t, Tensor)))
