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
