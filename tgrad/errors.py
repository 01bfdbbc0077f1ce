"""Errors that say what, where (the user's line) and what to do.

In: a sentence for what went wrong and one for what to do. Out: an exception whose message holds
both and the user's source line. Invariant: every error a user can cause derives from `TgradError`
and from the built-in exception that PyTorch users would catch (`ValueError`, `TypeError`, ...).
"""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass
from functools import cache, lru_cache

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the user's program, and the name of the tgrad operation called there."""

    file: str
    line: int
    label: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    @property
    def text(self) -> str:
        """The line of source itself, without indentation; empty if it cannot be read."""
        return linecache.getline(self.file, self.line).strip()


UNKNOWN = Source("<unknown>", 0)
source_at = lru_cache(maxsize=4096)(Source)
"""A `Source`, mostly one that there is: a line makes many nodes, again at each step."""


def find_user_source(label: str = "", inner: int = 1) -> Source:
    """The innermost stack frame outside the tgrad package.

    Args:
        label: of the source.
        inner: how many frames are known to be inside, this one included: Python 3.11 takes 0.25 us
            to show one (a Xeon, 2026-11).
    """
    frame = sys._getframe(inner)
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_internal(file):
            return source_at(file, frame.f_lineno, label)
        frame = frame.f_back  # type: ignore[assignment]
    return Source(UNKNOWN.file, UNKNOWN.line, label)


@cache
def _is_internal(file: str) -> bool:
    """Whether code of that file is no user's; asked of files, since code objects hash slowly."""
    return file.startswith((_PACKAGE, "<frozen"))


class TgradError(Exception):
    """Base of all errors of tgrad.

    Args:
        what: one sentence that names the offending values.
        hint: one sentence that says what to do.
        source: the user's line; found on the stack when left out.
    """

    def __init__(self, what: str, hint: str = "", source: Source | None = None):
        self.what, self.hint = what, hint
        self.source = find_user_source() if source is None else source
        place = f"\n  at {self.source.file}:{self.source.line}" if self.source.line else ""
        text = f": {self.source.text}" if self.source.line and self.source.text else ""
        advice = f"\n  {hint}" if hint else ""
        super().__init__(f"{what}{place}{text}{advice}")


class ShapeError(TgradError, ValueError, RuntimeError, IndexError):
    """Shapes that do not fit together, or an axis that does not exist."""


class ScalarError(ShapeError, TypeError):
    """A tensor with no axes where one is gone through."""


class DTypeError(TgradError, TypeError, RuntimeError):
    """A dtype that an operation does not take."""


class DeviceError(TgradError, RuntimeError):
    """A device that is unknown, absent, or not the one of the other operand."""


class OutOfRangeError(TgradError, IndexError, ValueError, RuntimeError):
    """An index beyond the end of its axis, or a number that an argument may not be."""


class DivisionByZeroError(TgradError, ZeroDivisionError, RuntimeError):
    """Integers, which have no infinity, divided by 0."""


class GradientError(TgradError, RuntimeError, ValueError):
    """A gradient that is not defined, or asked for in the wrong way."""


class LinAlgError(TgradError, RuntimeError):
    """A matrix that a function of linear algebra has no value for, such as a singular one."""


class UnsupportedError(TgradError, NotImplementedError, ValueError):
    """An argument or operation that tgrad does not support, or that nobody does."""


class TraceError(TgradError, RuntimeError):
    """Something that a function does while it is compiled, and that a plan cannot repeat."""


class CompileError(TgradError, RuntimeError):
    """A generated kernel that did not compile, or a compiler that is missing."""


class MemoryLimitError(TgradError, MemoryError):
    """A plan that does not fit into the memory it was given."""


class OutOfMemoryError(TgradError, MemoryError):
    """Memory of a device that ran out; what was asked for has not happened."""


class DistributedError(TgradError, RuntimeError):
    """Processes that are not joined, or an exchange between them that failed."""


class LaunchError(TgradError, RuntimeError):
    """A kernel that did not start; the step that it belongs to has not happened."""


class CacheError(TgradError, OSError):
    """A cache directory that cannot be used."""


class DataError(TgradError, OSError):
    """A data file that is missing or corrupt."""


class VerifyError(TgradError, AssertionError):
    """Broken IR: a defect of tgrad itself."""
