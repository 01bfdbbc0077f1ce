"""MNIST from its idx files: from a directory, else from `TGRAD_DATA`, else downloaded.

In: a directory or nothing. Out: an `ImageDataset`. Invariant: a downloaded file is checked against
its digest before it takes its final name, so the cache never holds a broken one.
Source: http://yann.lecun.com/exdb/mnist/ (the format); LeCun, Cortes, Burges 1998.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

import numpy as np

from tgrad.data.dataset import ImageDataset
from tgrad.errors import DataError
from tgrad.settings import Settings, settings

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
UBYTE = 0x08
"""The idx code of unsigned bytes, the only element type that MNIST uses."""

TEST_PART = 10
"""Of a directory with one pair of files, the last 1/TEST_PART is the test set."""

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the original distribution.

    Attributes:
        name: as it is on the mirrors.
        md5: digest of the compressed file.
    """

    name: str
    md5: str


TRAIN_IMAGES = RemoteFile("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873")
TRAIN_LABELS = RemoteFile("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432")
TEST_IMAGES = RemoteFile("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3")
TEST_LABELS = RemoteFile("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c")
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
ONE_PAIR = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")


def load_mnist(
    directory: str | Path | None = None, *, options: Settings = settings
) -> ImageDataset:
    """MNIST's digits.

    A directory holds either the four files of the original (60,000 to train on, 10,000 to test on)
    or one pair `images-idx3-ubyte`, `labels-idx1-ubyte`, whose last tenth becomes the test set;
    compressed (`.gz`) or not.

    Args:
        directory: where the files are. None looks in `options.data_dir`, in its folder `mnist`,
            and then in the cache directory, into which missing files are downloaded.
        options: the settings that name the directories.

    Raises:
        DataError: a file is missing, truncated, not an idx file of MNIST, or cannot be downloaded;
            or images and labels differ in number.
    """
    if directory is not None:
        return _read_directory(Path(directory))
    if options.data_dir is not None:
        for candidate in (options.data_dir, options.data_dir / "mnist"):
            if find_file(candidate, TRAIN_IMAGES.name) or find_file(candidate, ONE_PAIR[0]):
                return _read_directory(candidate)
    cache = options.cache_dir / "mnist"
    download(FILES, cache)
    return _read_directory(cache)


def _read_directory(directory: Path) -> ImageDataset:
    if not directory.is_dir():
        raise DataError(
            f"{directory} is not a directory.", "Name the directory that holds MNIST's idx files."
        )
    if find_file(directory, ONE_PAIR[0]) and not find_file(directory, TRAIN_IMAGES.name):
        images, labels = _read_pair(directory, *ONE_PAIR)
        split = len(images) - len(images) // TEST_PART
        return ImageDataset(images[:split], labels[:split], images[split:], labels[split:])
    train = _read_pair(directory, TRAIN_IMAGES.name, TRAIN_LABELS.name)
    test = _read_pair(directory, TEST_IMAGES.name, TEST_LABELS.name)
    return ImageDataset(*train, *test)


def find_file(directory: Path, name: str) -> Path | None:
    """`name` in the directory, or the same without `.gz`; None if neither is there."""
    for candidate in (directory / name, directory / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    return None


def _read_pair(directory: Path, images: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 [N, 1, rows, columns] in 0..1 and int64 [N]."""
    paths = []
    for name in (images, labels):
        path = find_file(directory, name)
        if path is None:
            raise DataError(
                f"{directory} holds neither {name} nor {name.removesuffix('.gz')}.",
                f"MNIST is {', '.join(file.name for file in FILES)}; "
                f"or one pair, {' and '.join(ONE_PAIR)}.",
            )
        paths.append(path)
    pixels, digits = read_idx(paths[0], ndim=3), read_idx(paths[1], ndim=1)
    if len(pixels) != len(digits):
        raise DataError(
            f"{paths[0]} holds {len(pixels)} images and {paths[1]} {len(digits)} labels.",
            "Take both files from one copy of the data set.",
        )
    return pixels[:, None].astype(np.float32) / 255, digits.astype(np.int64)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array of an idx file of unsigned bytes, compressed if its name ends in `.gz`.

    Layout: 0, 0, element type, number of axes; each axis as a big-endian 32-bit number; elements.

    Args:
        path: the file.
        ndim: the number of axes that it must have.

    Returns:
        uint8, read-only, with `ndim` axes.

    Raises:
        DataError: the file cannot be read, is truncated or too long, or is something else.
    """
    hint = f"Delete {path} and fetch it again."
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged: {error}.", hint) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read: {reason}.", "Check its permissions.") from None
    want = bytes((0, 0, UBYTE, ndim))
    header = len(want) + 4 * ndim
    if data[: len(want)] != want:
        have = data[: len(want)].hex(" ") or "nothing"
        raise DataError(f"{path} starts with {have}, an idx file with {want.hex(' ')}.", hint)
    if len(data) < header:
        raise DataError(f"{path} is truncated: {len(data)} bytes, its header has {header}.", hint)
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", ndim, len(want)))
    size = int(np.prod(shape, dtype=np.int64))
    if len(data) - header != size:
        problem = "is truncated" if len(data) - header < size else "has trailing bytes"
        raise DataError(
            f"{path} {problem}: {len(data) - header} bytes of elements, "
            f"shape {shape} needs {size}.",
            hint,
        )
    return np.frombuffer(data, np.uint8, size, header).reshape(shape)


def download(
    files: Iterable[RemoteFile], directory: Path, mirrors: tuple[str, ...] = MIRRORS
) -> None:
    """Fetch what the directory lacks, with a progress bar.

    Raises:
        DataError: no mirror delivered a file with the right digest, or the directory cannot be
            written.
    """
    missing = [file for file in files if not (directory / file.name).is_file()]
    if not missing:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{directory} cannot be made: {error.strerror}.",
            "Set TGRAD_CACHE_DIR to a directory that can be written.",
        ) from None
    for file in missing:
        _download_file(file, directory, mirrors)


def _download_file(file: RemoteFile, directory: Path, mirrors: tuple[str, ...]) -> None:
    failures = []
    for mirror in mirrors:
        try:
            _fetch(mirror + file.name, file, directory)
            return
        except (OSError, HTTPException) as error:  # URLError and DataError are OSErrors
            what = error.what if isinstance(error, DataError) else f"{mirror}{file.name}: {error}"
            failures.append(what)
    raise DataError(
        f"{file.name} could not be downloaded. " + " ".join(failures),
        "Check the network, or put MNIST's idx files in a directory and set TGRAD_DATA to it.",
    )


def _fetch(url: str, file: RemoteFile, directory: Path) -> None:
    """Stream into a temporary file beside the final one; rename when the digest is right."""
    digest = hashlib.md5(usedforsecurity=False)
    with ExitStack() as stack:
        reply = stack.enter_context(urllib.request.urlopen(url, timeout=30))
        temporary = directory / f"{file.name}.{os.getpid()}.part"
        stack.callback(temporary.unlink, missing_ok=True)
        length = int(reply.headers.get("Content-Length") or 0)
        with temporary.open("wb") as out:
            advance = stack.enter_context(_Progress(file.name, length))
            _copy(reply, out, digest.update, advance)
        if digest.hexdigest() != file.md5:
            raise DataError(
                f"{url} has the MD5 digest {digest.hexdigest()}, MNIST's file {file.md5}.",
                "Try again, or fetch the file by hand.",
            )
        os.replace(temporary, directory / file.name)


def _copy(
    source: IO[bytes],
    out: IO[bytes],
    update: Callable[[bytes], None],
    advance: Callable[[int], None],
) -> None:
    while chunk := source.read(_CHUNK):
        out.write(chunk)
        update(chunk)
        advance(len(chunk))


class _Progress:
    """A context that gives a function to call with each number of bytes; silent without rich."""

    def __init__(self, title: str, total: int):
        self._title, self._total = title, total
        self._stack = ExitStack()

    def __enter__(self) -> Callable[[int], None]:
        try:
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
        except ImportError:
            print(f"downloading {self._title} ...", file=sys.stderr)
            return lambda count: None
        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        progress = self._stack.enter_context(Progress(*columns))
        task = progress.add_task(f"downloading {self._title}", total=self._total or None)
        return lambda count: progress.advance(task, count)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
