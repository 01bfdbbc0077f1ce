"""What distributions are given, and asked about, against constraints.

In: values and constraints. Out: errors. Invariant: only values that are known are looked at (see
known.py), so nothing runs for the sake of a check; in a compiled step, those of its arguments at
each call.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from tgrad.distributions import constraints as c
from tgrad.distributions.constraints import Constraint
from tgrad.errors import OutOfRangeError, ShapeError, UnsupportedError
from tgrad.known import check_elements, check_stored, known_values, values_by_hand
from tgrad.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])


class _Weights(Constraint):
    """Not negative, and not all 0: probabilities that are still to be divided by their sum."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value.sum(-1) > 0)

    def __repr__(self) -> str:
        return "Simplex()"


WEIGHTS = _Weights()
_BOUNDS = ("lower_bound", "upper_bound")
_OF_ARRAYS = frozenset((
    c.greater_than, c.greater_than_eq, c.half_open_interval, c.integer_interval, c.interval,
    c.less_than, c.multinomial, _Weights,
    *(type(k) for k in (c.boolean, c.nonnegative_integer, c.one_hot, c.real, c.simplex)),
))  # fmt: skip
"""Constraints whose `check` takes NumPy's arrays too."""


def validated(log_prob: F) -> F:
    """Decorator: a method of a distribution whose argument is checked to be in its support."""

    @wraps(log_prob)
    def method(self: Any, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return log_prob(self, value)

    return method  # type: ignore[return-value]


def check_parameter(kind: str, name: str, value: Any, constraint: Any) -> None:
    """Refuse values of a parameter that are known to violate a constraint.

    Raises:
        OutOfRangeError: says which.
    """
    if not c.is_dependent(constraint):
        _check(constraint, value, f"{kind}: {name}")


def check_sample(distribution: Any, value: Any) -> None:
    """Refuse a value that is known to be outside of a distribution's support.

    Raises:
        OutOfRangeError: says which.
        ShapeError: its shape fits no draw.
    """
    if isinstance(value, Tensor):
        _check_shape(distribution, value.shape)
    try:
        support = distribution.support
    except UnsupportedError:
        return
    _check(support, value, f"{type(distribution).__name__}: the value")


def _check_shape(distribution: Any, shape: tuple[Any, ...]) -> None:
    batch, event = distribution.batch_shape, distribution.event_shape
    sizes = (*batch, *event)
    if not all(isinstance(n, int) for n in (*shape, *sizes)):
        return
    fits = shape[len(shape) - len(event) :] == event if len(shape) >= len(event) else False
    pairs = zip(reversed(shape), reversed(sizes))
    if not fits or any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ShapeError(
            f"{type(distribution).__name__}: a value of shape {tuple(shape)}.",
            f"Draws have shape {sizes}, of which {event} is one draw.",
        )


def _check(constraint: Any, value: Any, what: str) -> None:
    """See the module's docstring."""
    constraint = _of_elements(constraint)
    has_numbers = all(isinstance(getattr(constraint, b, 0), (int, float)) for b in _BOUNDS)
    takes_arrays = type(constraint) in _OF_ARRAYS
    if not isinstance(value, Tensor):
        if takes_arrays and has_numbers:
            _refuse(np.asarray(value), constraint, what)
    elif takes_arrays and has_numbers and not constraint.event_dim:
        check_elements(value, _refuse, constraint, what)
    elif takes_arrays and has_numbers and value._storage is not None:
        check_stored(value, _refuse, constraint, what)
    else:
        known = known_values(value)
        constraint = constraint if has_numbers else _with_known_bounds(constraint)
        if known is not None and constraint is not None:
            _refuse(known, constraint, what)


def _of_elements(constraint: Any) -> Any:
    """What the elements of independent values must satisfy each."""
    while isinstance(constraint, c.independent):
        constraint = constraint.base_constraint
    return constraint


def _with_known_bounds(constraint: Any) -> Any:
    """The constraint with arrays for tensors; None where one is not known."""
    found = copy(constraint)
    for name in _BOUNDS:
        bound = getattr(constraint, name, 0)
        known = known_values(bound) if isinstance(bound, Tensor) else bound
        if not isinstance(known, (int, float, np.ndarray)):
            return None
        if hasattr(constraint, name):
            setattr(found, name, known)
    return found


def _refuse(values: np.ndarray, constraint: Constraint, what: str) -> None:
    if type(constraint) in _OF_ARRAYS:
        with np.errstate(invalid="ignore"):
            fits: Any = constraint.check(values)  # type: ignore[arg-type]
    else:
        fits = values_by_hand(values, constraint.check)
    if not np.all(fits):
        whole = np.broadcast_to(values, np.broadcast_shapes(values.shape, np.shape(fits)))
        bad = (whole if whole.ndim == np.ndim(fits) else values)[~np.asarray(fits)]
        raise OutOfRangeError(
            f"{what} is {bad[0].tolist()}, which violates {constraint!r}.",
            "Give other values; validate_args=False skips the check.",
        )
