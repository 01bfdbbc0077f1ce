"""Whole functions as plans: trace, guard, replay; choices inside them.

In: a function, and tensors that it reads and writes. Out: a callable that replays plans. Invariant:
nothing is defined here.
"""

from tgrad.compiling.cond import cond
from tgrad.compiling.dynamic import Dim
from tgrad.compiling.function import compile

__all__ = ["Dim", "compile", "cond"]
