"""Whole functions as plans: trace, guard, replay.

In: a function, and tensors that it reads and writes. Out: a callable that replays plans. Invariant:
nothing is defined here.
"""

from tgrad.compiling.function import compile

__all__ = ["compile"]
