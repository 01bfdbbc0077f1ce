"""Sections that Ctrl-C does not cut in two.

In: a block of code. Out: the same, with a KeyboardInterrupt that arrives inside raised at its end.
Invariant: the handler of the user is back afterwards, and is called if the signal came. Python runs
handlers in the main thread alone, so elsewhere there is nothing to do.
"""

from __future__ import annotations

import importlib
import signal
import threading
from types import FrameType
from typing import Any

_set_signal: Any = importlib.import_module("_signal").signal
"""signal.signal without its enumerations, which cost more than the call."""
_MAIN, _SIGINT = threading.main_thread().ident, int(signal.SIGINT)


class Uninterrupted:
    """Context manager: Ctrl-C inside takes effect at the end.

    >>> with Uninterrupted():
    ...     pass
    """

    __slots__ = ("arrived", "is_main", "previous")

    def __enter__(self) -> None:
        self.arrived: tuple[int, FrameType | None] | None = None
        self.is_main = threading.get_ident() == _MAIN
        if self.is_main:
            self.previous = _set_signal(_SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.arrived = (number, frame)

    def __exit__(self, *exc: object) -> None:
        if self.is_main:
            _set_signal(_SIGINT, signal.SIG_DFL if self.previous is None else self.previous)
            if self.arrived is not None and callable(self.previous):
                self.previous(*self.arrived)
