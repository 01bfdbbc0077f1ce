"""Memory shared with NumPy and PyTorch, and kept alive as long as either side looks at it."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import GradientError, TraceError

HOST = ["numpy", "cpu", "interpret"]


def make(device: str, dtype: str = "float32") -> tgrad.Tensor:
    return tgrad.tensor(np.arange(6).reshape(2, 3), dtype=getattr(tgrad, dtype), device=device)


def address(t: tgrad.Tensor) -> int:
    return t._lent().ctypes.data


@pytest.mark.parametrize("place", HOST)
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
)
def test_out_with_no_copy(place: str, dtype: str) -> None:
    x = make(place, dtype)
    array, tensor, view = np.from_dlpack(x), torch.from_dlpack(x), np.asarray(x)
    assert array.ctypes.data == tensor.data_ptr() == view.ctypes.data == address(x)
    assert not array.flags.writeable and not view.flags.writeable
    for found in (array, tensor.numpy(), view):
        np.testing.assert_array_equal(found, x.numpy())
    assert x.__dlpack_device__() == (1, 0)


def test_computed_tensors_are_computed_and_kept() -> None:
    x = make("cpu") * 2 + 1
    array, view = np.from_dlpack(x), np.asarray(x)
    want = x.numpy()
    x.add_(1)
    x.realize()
    del x
    gc.collect()
    others = [tgrad.full((2, 3), 9.0).realize() for _ in range(20)]
    np.testing.assert_array_equal(array, want)
    np.testing.assert_array_equal(view, want)
    assert len(others) == 20


def test_steps_do_not_write_to_lent_memory() -> None:
    w = make("cpu")
    add = tgrad.compile(lambda: w.add_(1))
    add()
    array, want = np.from_dlpack(w), w.numpy()
    add()
    np.testing.assert_array_equal(array, want)
    np.testing.assert_array_equal(w.numpy(), want + 1)


def test_consumers_without_versions_get_a_copy() -> None:
    """As numpy 1 and old torch ask: a legacy capsule cannot say that it is read-only."""
    x = make("cpu")

    class Old:
        def __dlpack__(self) -> Any:
            return x.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return x.__dlpack_device__()

    assert "dltensor_versioned" not in repr(x.__dlpack__())
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    tensor = torch.utils.dlpack.from_dlpack(x.__dlpack__())
    tensor.zero_()
    assert x.numpy().any()
    assert torch.from_dlpack(x, copy=True).data_ptr() != address(x)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_in_with_no_copy(library: str) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = array if library == "numpy" else torch.from_numpy(array)
    x = tgrad.from_dlpack(given)
    assert address(x) == array.ctypes.data and x.device.type == "cpu"
    np.testing.assert_array_equal((x * 2).numpy(), array * 2)
    for odd in (array.T, array[:, ::2], array[:, 1:]):
        odd = odd if library == "numpy" else torch.from_numpy(array)[:, 1:]
        y = tgrad.from_dlpack(odd)
        np.testing.assert_array_equal(y.numpy(), np.asarray(odd))
        with pytest.raises(BufferError, match="not contiguous"):
            tgrad.from_dlpack(odd, copy=False)
    assert address(tgrad.from_dlpack(given, copy=True)) != array.ctypes.data
    assert tgrad.from_dlpack(given, device="numpy").device.type == "numpy"


@pytest.mark.parametrize("take", [tgrad.tensor, tgrad.as_tensor, tgrad.from_dlpack])
@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int16"])
def test_tensors_of_torch_keep_their_dtype(name: str, take: Any) -> None:
    """NumPy has no bfloat16 and no float8."""
    values = torch.tensor([[1.5, -2.0, 0.25], [3.0, 0.0, 8.0]])
    given = values.to(getattr(torch, name))
    for array in (given, given.t(), given[:, 1], given[0, 0]):
        x = take(array)
        assert x.dtype is getattr(tgrad, name) and x.shape == tuple(array.shape)
        np.testing.assert_array_equal(x.to(tgrad.float32).numpy(), array.float().numpy())
    if take is tgrad.from_dlpack and not name.startswith("float8"):
        assert address(tgrad.from_dlpack(given)) == given.data_ptr()
    if take is tgrad.tensor:
        assert tgrad.tensor(values.requires_grad_(), dtype=tgrad.bfloat16).dtype is tgrad.bfloat16


def test_steps_do_not_write_to_borrowed_memory() -> None:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    w = tgrad.from_dlpack(array)
    add = tgrad.compile(lambda: w.add_(1))
    add()
    add()
    assert w.tolist() == [2.0] * 4 and not array.any()


def test_what_is_borrowed_goes_with_its_last_user() -> None:
    """And not when Python looks for cycles: a loop over batches would keep them until then."""
    array = np.arange(6, dtype=np.float32)
    base = sys.getrefcount(array)
    gc.disable()
    try:
        x = tgrad.from_dlpack(array)
        alias, view = x.detach(), np.from_dlpack(x)
        assert sys.getrefcount(array) > base
        del x
        assert alias.tolist() == view.tolist() == list(range(6))
        del alias
        assert view.tolist() == list(range(6)) and sys.getrefcount(array) > base
        for _ in range(3):
            assert (tgrad.from_dlpack(array) * 2).sum().item() == 30.0
        held = sys.getrefcount(array)
        for _ in range(3):
            tgrad.from_dlpack(array)
        assert sys.getrefcount(array) == held
    finally:
        gc.enable()


def test_empty_and_single_elements() -> None:
    for shape in ((), (0,), (2, 0), (1,)):
        x = tgrad.zeros(shape)
        assert np.asarray(x).shape == np.from_dlpack(x).shape == shape
        assert tgrad.from_dlpack(np.zeros(shape)).shape == shape


def test_refusals() -> None:
    with pytest.raises(GradientError, match="__dlpack__ of a tensor that requires a gradient"):
        torch.from_dlpack(tgrad.ones(2, requires_grad=True))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        narrow = tgrad.ones(2, dtype=getattr(tgrad, name))
        with pytest.raises(BufferError, match=f"no {name}"):
            narrow.__dlpack__()
        assert np.asarray(narrow).shape == (2,)
    assert not hasattr(tgrad.ones(2), "__cuda_array_interface__")
    with pytest.raises(TraceError, match="the memory of a tensor is lent"):
        tgrad.compile(lambda x: np.from_dlpack(x).sum())(tgrad.ones(2))
