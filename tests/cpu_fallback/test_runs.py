"""Loops over rows in several parts, several rows at a time, and in runs that begin anywhere."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad


@pytest.mark.parametrize("length", [4095, 4096, 4099, 8191, 9001])
def test_rows_in_parts(length: int) -> None:
    """Sums and extrema; a row's parts are of a page at least, and what is left is not lost."""
    x = np.random.default_rng(length).standard_normal((3, length), np.float32)
    x[1, -1], x[2, length // 2] = 100.0, np.nan
    t = tgrad.tensor(x, device="cpu")
    np.testing.assert_array_equal(t.amax(1).numpy(), x.max(1))
    np.testing.assert_array_equal(t.amin(1).numpy(), x.min(1))
    np.testing.assert_allclose(t.sum(1).numpy(), x.sum(1, dtype=np.float64), rtol=1e-5, atol=1e-3)
    squares = (x.astype(np.float64) ** 2).sum(1)
    np.testing.assert_allclose((t * t).sum(1).numpy(), squares, rtol=1e-5)


@pytest.mark.parametrize("rows", [31, 32, 39, 40, 4097])
def test_rows_together(rows: int) -> None:
    """Columns of a matrix, whose rows are read eight at a time."""
    x = np.random.default_rng(rows).standard_normal((rows, 45), np.float32)
    x[-1, 3] = np.nan
    t = tgrad.tensor(x, device="cpu")
    np.testing.assert_allclose(t.sum(0).numpy(), x.sum(0, dtype=np.float64), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(t.amax(0).numpy(), x.max(0))


@pytest.mark.parametrize("shift", [-101, -1, 1, 37, 99])
@pytest.mark.parametrize("length", [5, 100, 257])
def test_runs_that_begin_anywhere(length: int, shift: int) -> None:
    x = np.random.default_rng(length).standard_normal((6, length), np.float32)
    t = tgrad.tensor(x, device="cpu")
    np.testing.assert_array_equal(t.roll(shift, 1).numpy(), np.roll(x, shift, 1))
    np.testing.assert_array_equal(t.roll(shift).numpy(), np.roll(x, shift))
    twice = t.roll(shift, 1).flip(1).roll(2, 1)
    np.testing.assert_array_equal(twice.numpy(), np.roll(np.roll(x, shift, 1)[:, ::-1], 2, 1))


def test_tiles_of_pixels_with_a_lower_last_one() -> None:
    """28 pixels of a row are more than a register tile and no multiple of its height."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for width in (7, 13, 28):
        x = rng.standard_normal((2, 16, 9, width), np.float32)
        w = rng.standard_normal((24, 16, 3, 3), np.float32)
        want = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), padding=1)
        have = tgrad.nn.functional.conv2d(
            tgrad.tensor(x, device="cpu"), tgrad.tensor(w, device="cpu"), padding=1
        )
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 70), (64, 130), (200, 33)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64])
def test_turns_are_read_by_tiles(shape: tuple[int, int], dtype: type) -> None:
    """What is read backwards along its rows is turned in squares, as a transposition is."""
    x = np.random.default_rng(1).integers(-9, 9, shape).astype(dtype)
    turned = tgrad.rot90(tgrad.tensor(x, device="cpu"))
    if min(shape) > 8:
        (kernel,) = tgrad.explain(turned).kernels
        assert sum(axis.block > 1 for axis in kernel.config.axes) == 2
    np.testing.assert_array_equal(turned.numpy(), np.rot90(x))
    back = tgrad.rot90(tgrad.tensor(x, device="cpu"), -1)
    np.testing.assert_array_equal(back.numpy(), np.rot90(x, -1))
