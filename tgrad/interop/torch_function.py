"""PyTorch's functions called with tensors of tgrad: `torch.nn.functional.gelu(t)`.

In: a function of torch and its arguments, from `Tensor.__torch_function__`. Out: what the function
of tgrad of the same name returns. Invariant: torch is asked for names only and never computes; a
function that tgrad does not have raises.
Source: https://docs.pytorch.org/docs/stable/notes/extending.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

import tgrad
from tgrad.dtype import by_name
from tgrad.errors import DTypeError, UnsupportedError

Function = Callable[..., Any]

SPACES: tuple[tuple[str, str], ...] = (
    ("nn.functional", "nn.functional"),
    ("_C._nn", "nn.functional"),
    ("special", "special"),
    ("fft", "fft"),
    ("linalg", "linalg"),
    ("masked", "masked"),
    ("signal.windows", "signal.windows"),
    ("", ""),
    ("_C._VariableFunctions", ""),
    ("", "nn.functional"),
    ("Tensor", "Tensor"),
    ("", "Tensor"),
)
"""(names of torch, names of tgrad): functions of one name mean the same; the first row wins."""


def call(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The function of tgrad that a function of torch is, on these arguments.

    Args:
        function: of torch, or a method of torch.Tensor.
        args, kwargs: its arguments: tensors of tgrad, numbers, torch's dtypes, and sequences of
            them. A torch.device is one of tgrad.

    Raises:
        UnsupportedError: tgrad has no function of that name, or not that argument.
        DTypeError: a tensor of torch is among the arguments.

    >>> import torch, tgrad
    >>> torch.nn.functional.relu(tgrad.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    found = _table().get(function)
    if found is None:
        raise UnsupportedError(
            f"{_name(function)} of a tensor of tgrad is not supported.",
            "Convert it with torch.from_numpy(x.numpy()) to compute this in PyTorch.",
        )
    given = {k: converted(v) for k, v in kwargs.items() if not _is_plain(k, v)}
    return found(*map(converted, args), **given)


def _is_plain(name: str, value: Any) -> bool:
    """Whether torch's own Python code passes this on where its user did not."""
    return name == "_stacklevel" or (name == "out" and value is None)


@cache
def _table() -> dict[Function, Function]:
    """The one table, by name."""
    table: dict[Function, Function] = {}
    for theirs, ours in SPACES:
        source, target = _space(torch, theirs), _space(tgrad, ours)
        for name in (*dir(target), *getattr(target, "__all__", ())):
            function = getattr(source, name, None)
            if callable(function) and callable(getattr(target, name)):
                table.setdefault(function, getattr(target, name))
    return table


def _space(root: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        root = getattr(root, part, None)
    return root


def _name(function: Function) -> str:
    return str(torch.overrides.resolve_name(function) or getattr(function, "__name__", function))


def converted(value: Any) -> Any:
    """The same argument in tgrad's terms."""
    if isinstance(value, torch.dtype):
        return by_name(str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.memory_format):
        return str(value).removeprefix("torch.")
    if value is torch.strided:
        return None
    if isinstance(value, torch.Tensor):
        raise DTypeError(
            "a tensor of torch among tensors of tgrad.", "Convert it with tgrad.tensor(t.numpy())."
        )
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(map(converted, value))
    return value
