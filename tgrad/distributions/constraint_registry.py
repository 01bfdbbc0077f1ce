"""Transforms from all real numbers to the values of a constraint.

In: constraints. Out: transforms. Invariant: the transform of the nearest base class is taken.
Source:
https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.constraint_registry
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tgrad.distributions import constraints
from tgrad.distributions import transforms as t
from tgrad.distributions.constraints import Constraint
from tgrad.distributions.transform import Transform
from tgrad.errors import UnsupportedError

Factory = Callable[[Any], Transform]

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """Which transform leads to a constraint, by its type.

    >>> import tgrad
    >>> from tgrad.distributions import biject_to, constraints
    >>> biject_to(constraints.positive)(tgrad.zeros(1)).tolist()
    [1.0]
    """

    def __init__(self) -> None:
        self._factories: dict[type[Constraint], Factory] = {}

    def register(
        self, constraint: Constraint | type[Constraint], factory: Factory | None = None
    ) -> Any:
        """Use `factory(constraint)` for a type of constraints; without it, a decorator."""
        kind = constraint if isinstance(constraint, type) else type(constraint)

        def keep(function: Factory) -> Factory:
            self._factories[kind] = function
            return function

        return keep if factory is None else keep(factory)

    def __call__(self, constraint: Constraint) -> Transform:
        """The transform to the values of a constraint.

        Raises:
            UnsupportedError: there is none.
        """
        found = self._factories.get(type(constraint))
        if found is None:
            raise UnsupportedError(
                f"no transform leads to {constraint!r}.", "Give one with register()."
            )
        return found(constraint)


biject_to, transform_to = ConstraintRegistry(), ConstraintRegistry()
"""Transforms with an inverse and a density; and simpler ones, for optimizers, that may have more
coordinates than values."""


def _register(*which: Any, to: tuple[ConstraintRegistry, ...] = (biject_to, transform_to)) -> Any:
    def keep(function: Callable[[ConstraintRegistry, Any], Transform]) -> Any:
        for registry in to:
            for constraint in which:
                registry.register(constraint, partial(function, registry))
        return function

    return keep


@_register(constraints.real)
def _to_real(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.identity_transform


@_register(constraints.independent)
def _to_independent(registry: ConstraintRegistry, c: Any) -> Transform:
    base, count = registry(c.base_constraint), c.reinterpreted_batch_ndims
    return t.IndependentTransform(base, count) if count else base


@_register(constraints.greater_than, constraints.greater_than_eq)
def _to_greater_than(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.ComposeTransform([t.ExpTransform(), t.AffineTransform(c.lower_bound, 1.0)])


@_register(constraints.less_than)
def _to_less_than(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.ComposeTransform([t.ExpTransform(), t.AffineTransform(c.upper_bound, -1.0)])


@_register(constraints.interval, constraints.half_open_interval)
def _to_interval(registry: ConstraintRegistry, c: Any) -> Transform:
    low, high = c.lower_bound, c.upper_bound
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        return t.SigmoidTransform()
    return t.ComposeTransform([t.SigmoidTransform(), t.AffineTransform(low, high - low)])


@_register(constraints.simplex, to=(biject_to,))
def _onto_simplex(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.StickBreakingTransform()


@_register(constraints.simplex, to=(transform_to,))
def _to_simplex(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.SoftmaxTransform()


@_register(constraints.lower_cholesky, to=(transform_to,))
def _to_lower_cholesky(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.LowerCholeskyTransform()


@_register(constraints.positive_definite, constraints.positive_semidefinite, to=(transform_to,))
def _to_positive_definite(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.PositiveDefiniteTransform()


@_register(constraints.corr_cholesky)
def _to_corr_cholesky(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.CorrCholeskyTransform()


@_register(constraints.cat)
def _to_cat(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.CatTransform([registry(part) for part in c.cseq], c.dim, c.lengths)


@_register(constraints.stack)
def _to_stack(registry: ConstraintRegistry, c: Any) -> Transform:
    return t.StackTransform([registry(part) for part in c.cseq], c.dim)
