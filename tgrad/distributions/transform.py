"""What all transforms share, and transforms made of others.

In: lazy tensors. Out: their images, inverses, and the logarithms of how much volume grows.
Invariant: the last axes of a tensor are one point, as many as domain and codomain say. Source:
https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.transforms
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.distributions import constraints
from tgrad.distributions.constraints import Constraint
from tgrad.distributions.distribution import Shape, sum_last
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.tensor import Tensor


class Transform:
    """Base of all transforms: a subclass gives `_call`, `_inverse` and `log_abs_det_jacobian`.

    Args:
        cache_size: any; equal calls are one node of the graph anyhow.

    Attributes:
        domain, codomain: constraints of points and of their images.
        bijective: whether each image has one point.
        sign: 1 or -1, whether numbers grow or shrink with their points.

    >>> import tgrad
    >>> tgrad.distributions.ExpTransform().inv(tgrad.ones(1)).item()
    0.0
    """

    domain: Constraint = constraints.real
    codomain: Constraint = constraints.real
    bijective = False
    sign: Any = 1

    def __init__(self, cache_size: int = 0):
        pass

    @property
    def event_dim(self) -> int:
        """Axes of a point, where its image has as many."""
        if self.domain.event_dim != self.codomain.event_dim:
            raise UnsupportedError(
                f"{type(self).__name__}.event_dim.", "Ask domain and codomain, which differ."
            )
        return self.domain.event_dim

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

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        """The shape of the image of points of that shape."""
        return tuple(shape)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        """The shape of points whose image has that shape."""
        return tuple(shape)

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
        self.transform = transform

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return self.transform.codomain

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return self.transform.domain

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        return self.transform.bijective

    @property
    def sign(self) -> Any:
        return self.transform.sign

    @property
    def inv(self) -> Transform:
        return self.transform

    def _call(self, x: Tensor) -> Tensor:
        return self.transform._inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.transform(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.transform.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        return self.transform.inverse_shape(shape)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        return self.transform.forward_shape(shape)


class ComposeTransform(Transform):
    """Transforms one after the other, the first one first."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0):
        self.parts = list(parts)

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        if not self.parts:
            return constraints.real
        axes = self.parts[-1].codomain.event_dim
        for part in reversed(self.parts):
            axes += part.domain.event_dim - part.codomain.event_dim
            axes = max(axes, part.domain.event_dim)
        return _with_axes(self.parts[0].domain, axes)

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        if not self.parts:
            return constraints.real
        axes = self.parts[0].domain.event_dim
        for part in self.parts:
            axes += part.codomain.event_dim - part.domain.event_dim
            axes = max(axes, part.codomain.event_dim)
        return _with_axes(self.parts[-1].codomain, axes)

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        return all(part.bijective for part in self.parts)

    @property
    def sign(self) -> Any:
        found: Any = 1
        for part in self.parts:
            found = found * part.sign
        return found

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._inverse(y)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        axes = self.domain.event_dim
        if not self.parts:
            return x * 0.0
        total: Any = 0.0
        for part in self.parts:
            image = part(x)
            grown = part.log_abs_det_jacobian(x, image)
            total = sum_last(grown, axes - part.domain.event_dim) + total
            axes += part.codomain.event_dim - part.domain.event_dim
            x = image
        return total

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return tuple(shape)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return tuple(shape)


def _with_axes(constraint: Constraint, axes: int) -> Constraint:
    """The constraint of points with so many axes."""
    more = axes - constraint.event_dim
    return constraints.independent(constraint, more) if more > 0 else constraint


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """A transform whose points have `reinterpreted_batch_ndims` more axes."""

    def __init__(
        self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0
    ):
        self.base_transform, self.reinterpreted_batch_ndims = (
            base_transform,
            reinterpreted_batch_ndims,
        )

    @property
    def domain(self) -> Constraint:  # type: ignore[override]
        return constraints.independent(self.base_transform.domain, self.reinterpreted_batch_ndims)

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return constraints.independent(self.base_transform.codomain, self.reinterpreted_batch_ndims)

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        return self.base_transform.bijective

    @property
    def sign(self) -> Any:
        return self.base_transform.sign

    def _call(self, x: Tensor) -> Tensor:
        if x.ndim < self.domain.event_dim:
            raise ShapeError(
                f"IndependentTransform of shape {x.shape}.",
                f"Points have {self.domain.event_dim} axes.",
            )
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform._inverse(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        grown = self.base_transform.log_abs_det_jacobian(x, y)
        return sum_last(grown, self.reinterpreted_batch_ndims)

    def forward_shape(self, shape: Shape) -> tuple[int, ...]:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Shape) -> tuple[int, ...]:
        return self.base_transform.inverse_shape(shape)
