"""Arguments that PyTorch has and tgrad does not.

In: arguments by name. Out: nothing, or an error that names the first one. Invariant: an argument is
honoured or refused, never ignored.
"""

from __future__ import annotations

from typing import Any

from tgrad.errors import UnsupportedError


def refuse(function: str, hint: str = "Leave it out.", **arguments: Any) -> None:
    """Raise for the first argument that is neither None nor False.

    Raises:
        UnsupportedError: names the argument and its value.

    >>> refuse("zeros", out=None, pin_memory=False)
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise UnsupportedError(f"{function}: {name}={value!r} is not supported.", hint)


def check_memory_format(function: str, memory_format: Any) -> None:
    """Refuse a layout that tensors of tgrad, which are row-major, cannot have.

    Raises:
        UnsupportedError: it is neither None nor "contiguous_format" nor "preserve_format".
    """
    name = str(memory_format).removeprefix("torch.")
    if name not in ("None", "contiguous_format", "preserve_format"):
        refuse(function, memory_format=memory_format)
