"""Running the user's program inside a command.

In: a script and its arguments. Out: its exit status. Invariant: it runs as `python SCRIPT
ARGUMENTS` would run it, and `sys.argv` and the path are as before afterwards.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def run_script(script: Path, arguments: Sequence[str]) -> int:
    """The exit status of the script; what it raises passes through."""
    with _arguments([str(script), *arguments]), _first_on_path(str(script.resolve().parent)):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as exit_:
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
                return 1
            return int(exit_.code or 0)
    return 0


def print_traceback(script: Path, error: BaseException) -> None:
    """The frames of the script and of what it calls, and the error, as `python SCRIPT` prints
    them: without those of the command."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(script):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames or error.__traceback__)


@contextmanager
def _arguments(values: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = values
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _first_on_path(directory: str) -> Iterator[None]:
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)


def fail(command: str, what: str, hint: str) -> int:
    """Print why a command gives up; the exit status 1."""
    print(f"tgrad {command}: {what}\n  {hint}", file=sys.stderr)
    return 1


def write_text(path: Path, content: str) -> str:
    """Write a result; the reason why it cannot be written, or ""."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        return f"{path} cannot be written: {error.strerror}."
    return ""
