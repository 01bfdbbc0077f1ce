"""Sets of values: supports of distributions, domains of transforms.

In: bounds. Out: constraints, which tell values inside from values outside. Invariant: the last
`event_dim` axes of a tensor are one value; nothing is read, the answer is a lazy tensor of bools.
Source: https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.constraints
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tgrad.joining import cat as joined
from tgrad.joining import stack as stacked
from tgrad.linalg import eigvalsh
from tgrad.queries import finfo
from tgrad.tensor import Tensor

__all__ = [
    "Constraint", "MixtureSameFamilyConstraint", "boolean", "cat", "corr_cholesky", "dependent",
    "dependent_property", "greater_than", "greater_than_eq", "half_open_interval", "independent",
    "integer_interval", "interval", "is_dependent", "less_than", "lower_cholesky",
    "lower_triangular", "multinomial", "nonnegative", "nonnegative_integer", "one_hot", "positive",
    "positive_definite", "positive_integer", "positive_semidefinite", "real", "real_vector",
    "simplex", "square", "stack", "symmetric", "unit_interval",
]  # fmt: skip

CLOSE = 1e-6
"""How far sums of probabilities may be from one, and symmetric elements from each other."""


class Constraint:
    """Base of all constraints: a subclass gives `check`.

    Attributes:
        is_discrete: whether values lie apart from each other.
        event_dim: axes of a value.

    >>> import tgrad
    >>> from tgrad.distributions import constraints
    >>> constraints.interval(0.0, 2.0).check(tgrad.tensor([-1.0, 1.0])).tolist()
    [False, True]
    """

    is_discrete = False
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        """Whether each value is inside: bools, without the axes of a value."""
        raise NotImplementedError

    def __repr__(self) -> str:
        known = fields(self) if hasattr(self, "__dataclass_fields__") else ()  # type: ignore[arg-type]
        given = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in known)
        return f"{type(self).__name__.lstrip('_')}({given})"


# -- numbers -------------------------------------------------------------------------------------


class _Real(Constraint):
    def check(self, value: Tensor) -> Tensor:
        return value == value


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value == 0) | (value == 1)


@dataclass(eq=False, repr=False)
class _IntegerInterval(Constraint):
    lower_bound: Any
    upper_bound: Any
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value % 1 == 0) & (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(eq=False, repr=False)
class _IntegerGreaterThan(Constraint):
    lower_bound: Any
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value % 1 == 0) & (value >= self.lower_bound)


@dataclass(eq=False, repr=False)
class _GreaterThan(Constraint):
    lower_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value > self.lower_bound


@dataclass(eq=False, repr=False)
class _GreaterThanEq(Constraint):
    lower_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value >= self.lower_bound


@dataclass(eq=False, repr=False)
class _LessThan(Constraint):
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value < self.upper_bound


@dataclass(eq=False, repr=False)
class _Interval(Constraint):
    lower_bound: Any
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(eq=False, repr=False)
class _HalfOpenInterval(Constraint):
    lower_bound: Any
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value >= self.lower_bound) & (value < self.upper_bound)


# -- vectors and matrices ------------------------------------------------------------------------


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) < CLOSE)


class _OneHot(Constraint):
    is_discrete, event_dim = True, 1

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


@dataclass(eq=False, repr=False)
class _Multinomial(Constraint):
    upper_bound: Any
    is_discrete, event_dim = True, 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value.sum(-1) <= self.upper_bound)


class _Square(Constraint):
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        like = value.new_full(value.shape[:-2], value.shape[-2] == value.shape[-1])
        return like.bool()


class _Symmetric(_Square):
    def check(self, value: Tensor) -> Tensor:
        if value.shape[-2] != value.shape[-1]:
            return super().check(value)
        near = (value - value.mT).abs() <= CLOSE + 1e-5 * value.mT.abs()
        return near.flatten(-2).all(-1)


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & (eigvalsh(value) >= 0).all(-1)


class _PositiveDefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & (eigvalsh(value) > 0).all(-1)


class _LowerTriangular(Constraint):
    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return (value.tril() == value).flatten(-2).all(-1)


class _LowerCholesky(_LowerTriangular):
    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _CorrCholesky(_LowerCholesky):
    def check(self, value: Tensor) -> Tensor:
        error = finfo(value.dtype).eps * value.shape[-1] * 10
        lengths = value.square().sum(-1).sqrt()
        return super().check(value) & ((lengths - 1).abs() <= error).all(-1)


# -- made of others ------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class _IndependentConstraint(Constraint):
    base_constraint: Constraint
    reinterpreted_batch_ndims: int

    def __post_init__(self) -> None:
        self.is_discrete = self.base_constraint.is_discrete
        self.event_dim = self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value: Tensor) -> Tensor:
        found, count = self.base_constraint.check(value), self.reinterpreted_batch_ndims
        return found.flatten(found.ndim - count).all(-1) if count else found


@dataclass(eq=False, repr=False)
class _Cat(Constraint):
    cseq: Sequence[Constraint]
    dim: int = 0
    lengths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        self.lengths = [1] * len(self.cseq) if self.lengths is None else list(self.lengths)
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        self.event_dim = max(c.event_dim for c in self.cseq)

    def check(self, value: Tensor) -> Tensor:
        assert self.lengths is not None
        parts = value.split(list(self.lengths), self.dim)
        return joined([c.check(v) for c, v in zip(self.cseq, parts, strict=True)], self.dim)


@dataclass(eq=False, repr=False)
class _Stack(Constraint):
    cseq: Sequence[Constraint]
    dim: int = 0

    def __post_init__(self) -> None:
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        dim = max(c.event_dim for c in self.cseq)
        self.event_dim = dim + 1 if self.dim + dim < 0 else dim

    def check(self, value: Tensor) -> Tensor:
        parts = value.unbind(self.dim)
        return stacked([c.check(v) for c, v in zip(self.cseq, parts, strict=True)], self.dim)


@dataclass(eq=False, repr=False)
class MixtureSameFamilyConstraint(Constraint):
    """The support of a mixture, by that of its parts.

    Args:
        base_constraint: of the parts.
    """

    base_constraint: Constraint

    def __post_init__(self) -> None:
        self.is_discrete = self.base_constraint.is_discrete
        self.event_dim = self.base_constraint.event_dim

    def check(self, value: Tensor) -> Tensor:
        """Whether each value is inside."""
        found = self.base_constraint.check(value.unsqueeze(-1 - self.event_dim))
        return found.all(-1)


class _Dependent(Constraint):
    """A constraint that depends on other values."""

    def __init__(self, *, is_discrete: bool = False, event_dim: int = 0):
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, *, is_discrete: bool = False, event_dim: int = 0) -> _Dependent:
        return _Dependent(is_discrete=is_discrete, event_dim=event_dim)

    def check(self, value: Tensor) -> Tensor:
        raise ValueError("A dependent constraint cannot tell: ask that of an instance.")


class dependent_property(property, _Dependent):
    """Decorator: a property that gives a constraint, known to be `dependent` on the class.

    Args:
        fn: the function, in the plain form of the decorator.
        is_discrete, event_dim: of the constraint.
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        is_discrete: bool = False,
        event_dim: int = 0,
    ):
        property.__init__(self, fn)
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, fn: Callable[..., Any]) -> dependent_property:  # type: ignore[override]
        return dependent_property(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


def is_dependent(constraint: Any) -> bool:
    """Whether it is one that only an instance knows."""
    return isinstance(constraint, _Dependent)


boolean, real, simplex, one_hot = _Boolean(), _Real(), _Simplex(), _OneHot()
integer_interval, greater_than, greater_than_eq = _IntegerInterval, _GreaterThan, _GreaterThanEq
less_than, interval, half_open_interval = _LessThan, _Interval, _HalfOpenInterval
multinomial, independent, cat, stack = _Multinomial, _IndependentConstraint, _Cat, _Stack
nonnegative_integer, positive_integer = _IntegerGreaterThan(0), _IntegerGreaterThan(1)
positive, nonnegative = _GreaterThan(0.0), _GreaterThanEq(0.0)
unit_interval, real_vector = _Interval(0.0, 1.0), _IndependentConstraint(_Real(), 1)
lower_triangular, lower_cholesky, corr_cholesky = (
    _LowerTriangular(), _LowerCholesky(), _CorrCholesky(),
)  # fmt: skip
square, symmetric = _Square(), _Symmetric()
positive_semidefinite, positive_definite = _PositiveSemidefinite(), _PositiveDefinite()
dependent = _Dependent()
