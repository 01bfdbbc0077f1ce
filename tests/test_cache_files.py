"""Files of the cache directory while somebody deletes it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tgrad.cache_files import make_folder, write_whole


@pytest.fixture
def deleted(tmp_path: Path) -> Iterator[Path]:
    """A directory that another thread deletes again and again."""
    ended, root = threading.Event(), tmp_path / "cache"

    def delete() -> None:
        while not ended.is_set():
            shutil.rmtree(root, ignore_errors=True)
            ended.wait(0.001)

    thread = threading.Thread(target=delete)
    thread.start()
    yield root
    ended.set()
    thread.join()


def test_writing_while_the_directory_is_deleted(deleted: Path) -> None:
    for i in range(1000):
        write_whole(deleted / "a" / "b" / f"{i}.c", b"int x;")
        make_folder(deleted / "c" / "d")


def test_a_file_that_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "name", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["name"]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "below")


def test_a_folder_that_never_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "nowhere")
