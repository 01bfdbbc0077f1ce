"""How a mistake is checked: the whole message, with the user's line in it."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from typing import Any

import pytest

import tgrad
from tgrad.dtype import DType
from tgrad.errors import TgradError


def zeros(*size: int, dtype: DType = tgrad.float32, **options: Any) -> tgrad.Tensor:
    """A tensor of zeros on the device that needs no compiler."""
    return tgrad.zeros(*size, dtype=dtype, device="numpy", **options)


def integers(*values: int) -> tgrad.Tensor:
    """A vector of int64 on the device that needs no compiler."""
    return tgrad.tensor(list(values), device="numpy")


def check_message(
    kind: type[TgradError], builtin: type[Exception], call: Callable[[], object], text: str
) -> None:
    """Assert that `call`, a lambda on one line, raises the error with this text.

    Args:
        kind: the class of tgrad.
        builtin: what a PyTorch user would catch.
        text: what went wrong, a newline, what to do.
    """
    with pytest.raises(kind) as info:
        call()
    assert isinstance(info.value, builtin)
    message = str(info.value)
    place = re.search(r"\n  at (.+):(\d+): (.+)", message)
    assert place, f"no line of the user in: {message}"
    file, line = call.__code__.co_filename, int(place[2])
    assert place[1] == file
    assert line == call.__code__.co_firstlineno
    assert place[3] == linecache.getline(file, line).strip()
    what, hint = text.split("\n")
    assert message == f"{what}{place[0]}\n  {hint}"
