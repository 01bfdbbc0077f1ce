"""Tensors made from nothing, against PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import ShapeError, UnsupportedError

CASES = {
    "zeros": lambda t, **d: t.zeros(2, 3, **d),
    "zeros_tuple": lambda t, **d: t.zeros((2, 3), dtype=t.int32, **d),
    "ones": lambda t, **d: t.ones(3, dtype=t.bool, **d),
    "ones_0d": lambda t, **d: t.ones((), **d),
    "full": lambda t, **d: t.full((2, 2), 3, **d),
    "full_float": lambda t, **d: t.full((2,), 0.5, **d),
    "full_bool": lambda t, **d: t.full((2,), True, **d),
    "full_infinite": lambda t, **d: t.full((2,), float("-inf"), dtype=t.float16, **d),
    "full_like": lambda t, **d: t.full_like(t.ones(2, dtype=t.float64, **d), 7),
    "zeros_like": lambda t, **d: t.zeros_like(t.ones(2, 3, dtype=t.int64, **d)),
    "ones_like": lambda t, **d: t.ones_like(t.zeros(2, 3, **d), dtype=t.uint8),
    "arange": lambda t, **d: t.arange(7, **d),
    "arange_ints": lambda t, **d: t.arange(3, 20, 4, **d),
    "arange_down": lambda t, **d: t.arange(5, -3, -2, **d),
    "arange_floats": lambda t, **d: t.arange(0.5, 3, 0.25, **d),
    "arange_dtype": lambda t, **d: t.arange(5, dtype=t.float16, **d),
    "arange_empty": lambda t, **d: t.arange(3, 3, **d),
    "arange_large": lambda t, **d: t.arange(2**40, 2**40 + 3, **d),
    "linspace": lambda t, **d: t.linspace(-1, 2, 7, **d),
    "linspace_one": lambda t, **d: t.linspace(-1, 2, 1, **d),
    "linspace_thirds": lambda t, **d: t.linspace(0, 1, 31, **d),
    "eye": lambda t, **d: t.eye(3, **d),
    "eye_wide": lambda t, **d: t.eye(2, 4, dtype=t.int32, **d),
}


@pytest.mark.parametrize("name", CASES)
def test_creation(name, device):
    ours, theirs = CASES[name](tgrad, device=device), CASES[name](torch)
    assert ours.shape == tuple(theirs.shape)
    assert f"torch.{ours.dtype.name}" == str(theirs.dtype)
    assert ours.device == tgrad.device(device)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-7)


DATA = {
    "ints": [1, 2],
    "floats": [[1.0, 2.5]],
    "mixed": [1, 2.5],
    "bools": [True, False],
    "scalar": 3,
    "scalar_float": 2.5,
    "empty": [],
    "nested_empty": [[], []],
    "float64_array": np.ones(2),
    "float16_array": np.ones(2, np.float16),
    "uint8_array": np.ones(2, np.uint8),
    "strided_array": np.arange(12.0).reshape(3, 4)[:, ::2].T,
}


@pytest.mark.parametrize("name", DATA)
def test_tensor(name, device):
    ours, theirs = tgrad.tensor(DATA[name], device=device), torch.tensor(DATA[name])
    assert ours.shape == tuple(theirs.shape)
    assert f"torch.{ours.dtype.name}" == str(theirs.dtype)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_tensor_copies_its_data():
    array = np.zeros(3, np.float32)
    a, b = tgrad.tensor(array, device="numpy"), tgrad.from_numpy(array)
    array[:] = 1
    assert not a.numpy().any() and not b.numpy().any()
    a.numpy()[:] = 5
    assert not a.numpy().any()


def test_gradients_of_what_was_made():
    w = tgrad.ones(3, requires_grad=True, device="numpy")
    (w * tgrad.arange(3.0, device="numpy")).sum().backward()
    assert w.grad.tolist() == [0.0, 1.0, 2.0]


def test_as_tensor():
    x = tgrad.ones(2, device="numpy")
    assert tgrad.as_tensor(x) is x
    assert tgrad.as_tensor(x, dtype=tgrad.float64).dtype is tgrad.float64
    assert tgrad.as_tensor([1, 2]).dtype is tgrad.int64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint16", "uint64", "int8"])
def test_dtypes_arrive(dtype, device):
    kind = getattr(tgrad, dtype)
    x = tgrad.tensor([1, 2, 3], dtype=kind, device=device)
    assert x.dtype is kind and x.tolist() == [1, 2, 3]
    assert (x + x).dtype is kind and (x + x).tolist() == [2, 4, 6]


def test_printing():
    x = tgrad.tensor([1.0, 2.5], device="cpu")
    assert repr(x) == "tensor([1.0000, 2.5000])"
    assert repr(x.double()) == "tensor([1.0000, 2.5000], dtype=tgrad.float64)"
    assert f"{x.sum():.2f}" == "3.50"


def test_numbers_from_tensors():
    x = tgrad.tensor(2, device="numpy")
    assert int(x) == 2 and float(x) == 2.0 and bool(x) and [10, 20, 30][x] == 30
    assert list(tgrad.tensor([1, 2], device="numpy").tolist()) == [1, 2]
    assert len(tgrad.zeros(4, 2)) == 4
    assert [row.tolist() for row in tgrad.eye(2, device="numpy")] == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "data", [([1, 2],), ([[True, False]],), (np.arange(3),), (2, 3), (4,), ((2.5,),), ()]
)
def test_the_constructor_of_tensors_is_that_of_float32(data):
    ours, theirs = tgrad.Tensor(*data), torch.Tensor(*data)
    assert (ours.dtype, ours.shape) == (tgrad.float32, tuple(theirs.shape))
    if data and not isinstance(data[0], int):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (), (2, 1, 3, 4), (3, 2)])
def test_empty_tensors_that_lie_in_another_order(shape):
    rng = np.random.default_rng()
    for _ in range(4):
        order = rng.permutation(len(shape)).tolist()
        options = {"dtype": "int32"} if len(shape) == 1 else {"dtype": "float64"}
        found = []
        for t in (tgrad, torch):
            given = {"dtype": getattr(t, options["dtype"])}
            x = t.empty_permuted(shape, order, **given)
            y = t.empty_strided(shape, x.stride(), requires_grad=x.is_floating_point(), **given)
            z = x.new_empty_strided(shape, y.stride())
            found.append([(tuple(e.shape), e.stride(), e.requires_grad, str(e.dtype)[-5:])
                          for e in (x, y, z)])  # fmt: skip
        if 1 not in shape:
            assert found[0] == found[1]


def test_empty_tensors_that_are_refused():
    for call, what in (
        (lambda: tgrad.empty_strided((2, 3), (6, 2)), "gaps or overlaps"),
        (lambda: tgrad.empty_strided((2, 3), (0, 1)), "gaps or overlaps"),
        (lambda: tgrad.empty_strided((2, 3), (1,)), "Give as many"),
        (lambda: tgrad.empty_permuted((2, 3), (0, 0)), "Give each axis once"),
    ):
        with pytest.raises((ShapeError, UnsupportedError), match=what):
            call()
