"""`tgrad cache`: what the cache directory holds, and deleting what has not been used for long.

In: the cache directory. Out: a table on standard output, an exit status. Invariant: only what tgrad
makes again by itself is deleted, generated sources, compiled kernels and plans; what `tgrad
autotune` measured and what was downloaded stay.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tgrad.runtime.report.text import size as size_text
from tgrad.settings import Settings, read_settings

MADE_AGAIN = {
    "plans": "plans",
    "c": "kernels of the device cpu",
    "opencl": "kernels of the device opencl",
    "triton": "kernels of the devices cuda and interpret",
}
"""Folders of the cache, and what is in them."""

OTHERS = "measured configurations, data"
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Share:
    """Files of one kind.

    Attributes:
        name: what they are.
        files, nbytes: how many, and together.
        used: seconds since the epoch when one of them was read or written last; 0 for none.
    """

    name: str
    files: int
    nbytes: int
    used: float


def print_cache(unused_for: float | None, settings: Settings | None = None) -> int:
    """Print what there is, after deleting what is that old.

    Args:
        unused_for: days; None to delete nothing.

    Returns:
        0; 1 if something could not be deleted.
    """
    root = (settings or read_settings()).cache_dir
    refused = 0
    if unused_for is not None:
        files, nbytes, refused = delete_unused(root, time.time() - unused_for * DAY)
        print(f"deleted {files:,} files, {size_text(nbytes)}")
    shares = survey(root)
    rows = [(s.name, f"{s.files:,} files", size_text(s.nbytes), _ago(s.used)) for s in shares]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for name, files_text, bytes_text, ago in rows:
        line = f"{name:{widths[0]}}  {files_text:>{widths[1]}}  {bytes_text:>{widths[2]}}  {ago}"
        print(line.rstrip())
    print(f"in {root}")
    if refused:
        print(f"{refused:,} files could not be deleted.", file=sys.stderr)
    return 1 if refused else 0


def survey(root: Path) -> list[Share]:
    """What the cache holds, by kind."""
    kinds = [_share(name, _files(root / folder)) for folder, name in MADE_AGAIN.items()]
    others = (e for e in _files(root) if Path(e.path).relative_to(root).parts[0] not in MADE_AGAIN)
    return [*kinds, _share(OTHERS, others)]


def delete_unused(root: Path, before: float) -> tuple[int, int, int]:
    """Delete what can be made again and was last used before a time; processes that run meanwhile
    make again what they miss.

    Returns:
        How many files, their bytes, and how many more the system refused to delete.
    """
    deleted = nbytes = refused = 0
    for folder in MADE_AGAIN:
        for entry in list(_files(root / folder)):
            try:
                found = entry.stat(follow_symlinks=False)
                if _used(found) < before:
                    os.unlink(entry.path)
                    deleted, nbytes = deleted + 1, nbytes + found.st_size
            except FileNotFoundError:
                continue
            except OSError:
                refused += 1
    return deleted, nbytes, refused


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry


def _share(name: str, entries: Iterator[os.DirEntry[str]]) -> Share:
    files = nbytes = 0
    used = 0.0
    for entry in entries:
        with suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            files, nbytes, used = files + 1, nbytes + found.st_size, max(used, _used(found))
    return Share(name, files, nbytes, used)


def _used(found: os.stat_result) -> float:
    """When a file was read or written last; systems may note reads once a day, or never."""
    return max(found.st_atime, found.st_mtime)


def _ago(used: float) -> str:
    days = int(max(0.0, time.time() - used) // DAY)
    if not used:
        return ""
    return "used today" if not days else f"used {days} day{'s' * (days > 1)} ago"
