"""Files of the cache directory, which others may write, read and delete at any moment."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

GONE = (FileNotFoundError, FileExistsError)
"""What making a folder raises where it, or a parent, is deleted meanwhile: `Path.mkdir` finds that
it exists, and then that it is no directory."""

ATTEMPTS = 20
"""How often a folder is made anew under a writer before it gives up: deleting a cache takes longer
than the few system calls of one attempt, but not longer than 20 of them."""


def make_folder(folder: Path) -> None:
    """Create a directory and its parents, and find out whether files can be written in it.

    Args:
        folder: a directory that exists, or not. `Path.mkdir` alone fails where somebody deletes a
            parent after it was made.

    Raises:
        OSError: the system refuses it.
    """
    for attempt in range(ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, prefix="."):
                return
        except GONE:
            if attempt == ATTEMPTS - 1:
                raise


def write_whole(path: Path, data: bytes) -> None:
    """Write so that the file is absent, old or complete at every moment.

    Args:
        path: the file; its folder is made where it is missing.
        data: all that the file shall hold.

    Raises:
        OSError: the system refuses it; nothing is left behind.
    """
    for attempt in range(ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _write_beside(path, data)
        except GONE:
            if attempt == ATTEMPTS - 1:
                raise


def _write_beside(path: Path, data: bytes) -> None:
    """Write a temporary file in the folder and rename it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
