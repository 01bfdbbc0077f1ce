"""Arguments that PyTorch has and tgrad does not, and those that PyTorch has two names for.

In: arguments by name. Out: nothing, or an error that names the first one. Invariant: an argument is
honoured or refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import getattr_static, isfunction, unwrap
from typing import Any, ParamSpec, TypeVar

from tgrad.errors import UnsupportedError

P = ParamSpec("P")
R = TypeVar("R")


def refuse(function: str, hint: str = "Leave it out.", **arguments: Any) -> None:
    """Raise for the first argument that is neither None nor False.

    Raises:
        UnsupportedError: names the argument and its value.

    >>> refuse("zeros", out=None, pin_memory=False)
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise UnsupportedError(f"{function}: {name}={value!r} is not supported.", hint)


CHANNELS_LAST = {"channels_last": 4, "channels_last_3d": 5}
"""Memory formats that lay channels last, and how many axes their tensors have."""


def check_memory_format(function: str, memory_format: Any) -> str:
    """The name of a memory format.

    Raises:
        UnsupportedError: PyTorch has none of that name.
    """
    if memory_format is None:
        return "None"
    name = str(memory_format).removeprefix("torch.")
    if name not in ("contiguous_format", "preserve_format", *CHANNELS_LAST):
        refuse(function, memory_format=memory_format)
    return name


OF_NUMPY = {"axis": "dim", "keepdims": "keepdim"}
"""NumPy's names of arguments, which PyTorch's functions know too."""


def with_numpy_names(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which takes `axis` for `dim` and `keepdims` for `keepdim` as well.

    >>> with_numpy_names(lambda x, dim: dim)(None, axis=1)
    1
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs:
            return function(*args)  # type: ignore[call-arg]
        for name, ours in OF_NUMPY.items():
            if name in kwargs and ours not in kwargs:
                kwargs[ours] = kwargs.pop(name)
        return function(*args, **kwargs)

    return call


def give_numpy_names(kind: type) -> None:
    """Let the methods that have a `dim` take NumPy's names."""
    for name in dir(kind):
        method = getattr_static(kind, name)
        if isfunction(method) and not name.startswith("_") and _has_dim(method):
            setattr(kind, name, with_numpy_names(method))


def _has_dim(method: Callable[..., Any]) -> bool:
    code = unwrap(method).__code__
    return "dim" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
