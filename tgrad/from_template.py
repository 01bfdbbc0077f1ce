"""Functions of networks whose graph is made again from a template.

In: a function that makes graph and does nothing else. Out: the same function. Invariant: the graph
is the one that the function makes; what its arguments are but tensors is in the template's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from tgrad.dtype import DType
from tgrad.methods.elementwise import is_complex
from tgrad.repeating import composite

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")
_PLAIN = (bool, int, float, str, type(None), DType)


class _UnknownError(Exception):
    """An argument that is neither of tensors nor a plain value."""


def from_template(keeps_order: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: a function of tensors and plain values, and of tuples and dataclasses of them,
    whose graph is made again from a template; see `composite`. It gives a tensor or a tuple of
    several, no views of what it is given, looks at no values of tensors, warns of nothing and
    changes nothing, unless with `inplace=True`.

    Args:
        keeps_order: whether results lie in memory as operands do.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        may_write = "inplace" in names

        def is_in_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
            return bool(kwargs.get("inplace") or dict(zip(names, args)).get("inplace"))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = (*args, *kwargs.values())
            operands: list[Tensor] = []
            try:
                words = [_described(v, operands) for v in given]
            except _UnknownError:
                return function(*args, **kwargs)
            if not operands or (may_write and is_in_place(args, kwargs)):
                return function(*args, **kwargs)

            def again(*tensors: Tensor) -> Sequence[Tensor]:
                rest = iter(tensors)
                values: list[Any] = [_with_tensors(v, rest) for v in given]
                named: dict[str, Any] = dict(zip(kwargs, values[len(args) :]))
                made: Any = function(*values[: len(args)], **named)
                return made if isinstance(made, tuple) else [made]

            key = (function, *kwargs, *words)
            found = composite(again, key, operands, keeps_order)
            return cast(R, found[0] if len(found) == 1 else tuple(found))

        return call

    return decorate


def _described(value: Any, tensors: list[Tensor]) -> str:
    """A text that is equal for arguments that make equal graph; tensors in it are put on a list.

    Raises:
        _UnknownError: there is none.
    """
    if type(value) in _PLAIN:
        return repr(value)  # which tells 1, 1.0 and True apart
    if _is_tensor(value):
        tensors.append(value)
        return "tensor"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join([_described(v, tensors) for v in value]) + ")"
    if is_dataclass(value) and not isinstance(value, type) and not is_complex(value):
        parts = [_described(getattr(value, f.name), tensors) for f in fields(value)]
        return f"{type(value).__qualname__}({', '.join(parts)})"
    raise _UnknownError


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """An argument with others in place of its tensors, in the order in which they are described."""
    if _is_tensor(value):
        return next(tensors)
    if isinstance(value, (tuple, list)):
        make = getattr(type(value), "_make", type(value))  # of named tuples
        return make([_with_tensors(v, tensors) for v in value])
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _with_tensors(getattr(value, f.name), tensors) for f in fields(value)}
        return replace(value, **parts)
    return value


def _is_tensor(value: Any) -> bool:
    from tgrad.tensor import Tensor

    return isinstance(value, Tensor)
