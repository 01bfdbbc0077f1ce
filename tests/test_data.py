"""Data sets: what they hold, and each way in which a file can be wrong."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from tgrad.data import load_digits, load_mnist
from tgrad.data.mnist import (
    FILES,
    ONE_PAIR,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    RemoteFile,
    download,
    read_idx,
)
from tgrad.errors import DataError
from tgrad.settings import read_settings


def encode_idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim))
    return header + np.asarray(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_pixels(count: int) -> np.ndarray:
    return np.arange(count * 28 * 28).reshape(count, 28, 28) % 256


def write_four(directory: Path, train: int = 6, test: int = 3, suffix: str = ".gz") -> None:
    for images, labels, count in (
        (TRAIN_IMAGES, TRAIN_LABELS, train),
        (TEST_IMAGES, TEST_LABELS, test),
    ):
        write(
            directory / (images.name.removesuffix(".gz") + suffix), encode_idx(make_pixels(count))
        )
        digits = np.arange(count) % 10
        write(directory / (labels.name.removesuffix(".gz") + suffix), encode_idx(digits))


def write_pair(directory: Path, images: int, labels: int) -> None:
    write(directory / ONE_PAIR[0], encode_idx(make_pixels(images)))
    write(directory / ONE_PAIR[1], encode_idx(np.arange(labels) % 10))


def settings_of(cache: Path, data: Path | None):
    return dataclasses.replace(read_settings(), cache_dir=cache, data_dir=data)


# What is right.


def test_digits():
    digits = load_digits()
    assert digits.train_images.shape == (1500, 1, 28, 28)
    assert digits.test_images.shape == (297, 1, 28, 28)
    assert digits.train_images.dtype == digits.test_images.dtype == np.float32
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int64
    assert digits.train_images.min() == 0 and digits.train_images.max() == 1
    assert set(digits.test_labels.tolist()) == set(range(10))
    margin = np.ones((28, 28), bool)
    margin[2:26, 2:26] = False
    assert not digits.train_images[:, 0, margin].any()


def test_digits_split_is_deterministic():
    a, b, c = load_digits(), load_digits(), load_digits(seed=1)
    assert np.array_equal(a.train_images, b.train_images)
    assert np.array_equal(a.test_labels, b.test_labels)
    assert not np.array_equal(a.test_labels, c.test_labels)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_four_files(tmp_path, suffix):
    write_four(tmp_path, suffix=suffix)
    data = load_mnist(tmp_path)
    assert data.train_images.shape == (6, 1, 28, 28) and data.test_images.shape == (3, 1, 28, 28)
    assert np.array_equal(data.train_images[:, 0], make_pixels(6).astype(np.float32) / 255)
    assert data.train_images.dtype == np.float32 and data.train_labels.dtype == np.int64
    assert data.test_labels.tolist() == [0, 1, 2]


def test_one_pair_is_split(tmp_path):
    write_pair(tmp_path, 30, 30)
    data = load_mnist(tmp_path)
    assert len(data.train_images) == len(data.train_labels) == 27
    assert data.test_labels.tolist() == [7, 8, 9]


@pytest.mark.parametrize("folder", ["", "mnist"])
def test_data_directory_of_the_settings(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    write_four(tmp_path / folder)
    data = load_mnist(options=settings_of(tmp_path / "cache", tmp_path))
    assert len(data.train_images) == 6
    assert not (tmp_path / "cache").exists()


def test_cached_files_are_not_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    write_four(tmp_path / "mnist")
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert len(load_mnist(options=settings_of(tmp_path, None)).test_images) == 3


def real_mnist() -> Path | None:
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "mnist-10k"
    given = read_settings().data_dir
    candidates = [beside] + ([given, given / "mnist-10k"] if given else [])
    return next((path for path in candidates if (path / ONE_PAIR[0]).is_file()), None)


@pytest.mark.skipif(real_mnist() is None, reason="mnist-10k is not on this machine")
def test_real_digits():
    data = load_mnist(real_mnist())
    assert data.train_images.shape == (9000, 1, 28, 28)
    assert data.test_images.shape == (1000, 1, 28, 28)
    assert set(data.train_labels.tolist()) == set(data.test_labels.tolist()) == set(range(10))
    assert data.train_images.max() == 1 and 0.1 < data.train_images.mean() < 0.16


# What is wrong.


def test_missing_directory(tmp_path):
    with pytest.raises(DataError) as error:
        load_mnist(tmp_path / "nowhere")
    assert error.value.what == f"{tmp_path / 'nowhere'} is not a directory."
    assert error.value.hint == "Name the directory that holds MNIST's idx files."
    assert error.value.source.file == __file__


@pytest.mark.parametrize("file", FILES)
def test_missing_file(tmp_path, file):
    write_four(tmp_path)
    (tmp_path / file.name).unlink()
    with pytest.raises(DataError) as error:
        load_mnist(tmp_path)
    plain = file.name.removesuffix(".gz")
    assert error.value.what == f"{tmp_path} holds neither {file.name} nor {plain}."
    assert "train-images-idx3-ubyte.gz" in error.value.hint and ONE_PAIR[1] in error.value.hint


def test_truncated_elements(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(encode_idx(make_pixels(2))[:-100])
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert error.value.what == (
        f"{path} is truncated: 1468 bytes of elements, shape (2, 28, 28) needs 1568."
    )
    assert error.value.hint == f"Delete {path} and fetch it again."


def test_truncated_header(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(encode_idx(make_pixels(2))[:7])
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert error.value.what == f"{path} is truncated: 7 bytes, its header has 16."


def test_trailing_bytes(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(encode_idx(np.arange(3)) + b"xx")
    with pytest.raises(DataError, match="has trailing bytes: 5 bytes of elements"):
        read_idx(path, 1)


def test_truncated_compression(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(encode_idx(make_pixels(2)))[:-20])
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert error.value.what.startswith(f"{path} is truncated or damaged: ")


def test_not_compressed(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"is truncated or damaged: Not a gzipped file"):
        read_idx(path, 3)


@pytest.mark.parametrize(
    ("data", "have"), [(b"\x00\x00\x0d\x03rest", "00 00 0d 03"), (b"", "nothing")]
)
def test_bad_magic(tmp_path, data, have):
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert error.value.what == f"{path} starts with {have}, an idx file with 00 00 08 03."


def test_labels_in_place_of_images(tmp_path):
    write(tmp_path / ONE_PAIR[0], encode_idx(np.arange(4)))
    write(tmp_path / ONE_PAIR[1], encode_idx(np.arange(4)))
    with pytest.raises(DataError, match="starts with 00 00 08 01, an idx file with 00 00 08 03"):
        load_mnist(tmp_path)


def test_label_count(tmp_path):
    write_pair(tmp_path, 5, 4)
    with pytest.raises(DataError) as error:
        load_mnist(tmp_path)
    images, labels = (tmp_path / name for name in ONE_PAIR)
    assert error.value.what == f"{images} holds 5 images and {labels} 4 labels."
    assert error.value.hint == "Take both files from one copy of the data set."


# Downloads, from mirrors that are directories.


def remote(data: bytes) -> RemoteFile:
    return RemoteFile("labels.gz", hashlib.md5(data).hexdigest())


def mirror(directory: Path, data: bytes) -> str:
    directory.mkdir()
    (directory / "labels.gz").write_bytes(data)
    return directory.as_uri() + "/"


def test_download(tmp_path):
    data = gzip.compress(encode_idx(np.arange(5)))
    cache = tmp_path / "cache"
    download([remote(data)], cache, (mirror(tmp_path / "a", data),))
    assert [path.name for path in cache.iterdir()] == ["labels.gz"]
    assert read_idx(cache / "labels.gz", 1).tolist() == [0, 1, 2, 3, 4]


def test_download_takes_the_next_mirror(tmp_path):
    good = b"the file"
    mirrors = (
        (tmp_path / "absent").as_uri() + "/",
        mirror(tmp_path / "a", b"not the file"),
        mirror(tmp_path / "b", good),
    )
    download([remote(good)], tmp_path / "cache", mirrors)
    assert (tmp_path / "cache" / "labels.gz").read_bytes() == good


def test_wrong_checksum(tmp_path):
    url = mirror(tmp_path / "a", b"not the file")
    file = remote(b"the file")
    with pytest.raises(DataError) as error:
        download([file], tmp_path / "cache", (url,))
    have = hashlib.md5(b"not the file").hexdigest()
    assert error.value.what == (
        "labels.gz could not be downloaded. "
        f"{url}labels.gz has the MD5 digest {have}, MNIST's file {file.md5}."
    )
    assert "set TGRAD_DATA" in error.value.hint
    assert list((tmp_path / "cache").iterdir()) == []


def test_unwritable_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be made.*\n.*\n.*TGRAD_CACHE_DIR"):
        download([remote(b"")], tmp_path / "file" / "mnist", ())
