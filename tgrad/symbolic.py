"""`torch.sym_*`: arithmetic of sizes, which programs for tracers write.

In: numbers, or sizes of a trace that differ from call to call. Out: the same. Invariant: Python's
functions of them; what a trace cannot leave open it refuses by itself.
Source: https://docs.pytorch.org/docs/stable/torch.html#symbolic-numbers
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tgrad.absent import nobody

_WHY = "sizes of a trace are tgrad's own; ask isinstance(n, int)."
SymInt, SymFloat, SymBool = (nobody(name, _WHY) for name in ("SymInt", "SymFloat", "SymBool"))


def sym_int(a: Any) -> Any:
    """A whole number: towards 0.

    >>> import tgrad
    >>> tgrad.sym_int(-2.7), tgrad.sym_max(2, 3), tgrad.sym_ite(False, 1, 2)
    (-2, 3, 2)
    """
    return int(a) if isinstance(a, float) else a


def sym_float(a: Any) -> Any:
    """A float."""
    return float(a)


def sym_not(a: Any) -> Any:
    """The contrary of a condition."""
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger one, as a float where one of them is."""
    found = max(a, b)
    return float(found) if isinstance(a, float) or isinstance(b, float) else found


def sym_min(a: Any, b: Any) -> Any:
    """The smaller one, likewise."""
    found = min(a, b)
    return float(found) if isinstance(a, float) or isinstance(b, float) else found


def sym_sum(args: Iterable[Any]) -> Any:
    """All, added."""
    return sum(args)


def sym_sqrt(a: Any) -> float:
    """The square root."""
    return math.sqrt(a)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """`t` where `b`, else `f`."""
    return t if b else f
