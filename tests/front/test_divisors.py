"""gcd and lcm: PyTorch's values and signs, and how many of Euclid's steps are enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import DTypeError
from tgrad.methods.euclid import steps_for


def operands(dtype):
    """All pairs of the ends of the range, Fibonacci numbers and small ones, and random pairs."""
    info = np.iinfo(dtype)
    fibonacci = [1, 1]
    while fibonacci[-1] + fibonacci[-2] <= info.max:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    ends = [info.max, *fibonacci[-3:], 0, 1, 2, 6, 12, *([info.min + 1, -1, -6] * (info.min < 0))]
    a, b = np.meshgrid(np.array(ends, dtype), np.array(ends, dtype))
    more = np.random.default_rng(0).integers(info.min, info.max, (2, 50), dtype, endpoint=True)
    return np.append(a, more[0]), np.append(b, more[1])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_like_pytorch(dtype, device):
    arrays = operands(dtype)
    for name in ("gcd", "lcm"):
        have = getattr(tgrad, name)(*(tgrad.tensor(a, device=device) for a in arrays))
        want = getattr(torch, name)(*map(torch.tensor, arrays))
        assert have.dtype.name == dtype
        np.testing.assert_array_equal(have.numpy(), want)


def test_the_smallest_integer():
    """PyTorch's result has the sign of the operand that the last of Euclid's steps leaves."""
    low = -128
    a = np.array([low, low, low, low, low, 1, 3, 6, 0, 5], np.int8)
    b = np.array([low, 0, -1, 6, 12, low, low, low, low, low], np.int8)
    have = tgrad.tensor(a, device="numpy").gcd(tgrad.tensor(b, device="numpy"))
    np.testing.assert_array_equal(have.numpy(), torch.gcd(torch.tensor(a), torch.tensor(b)))


def test_promotion_broadcasting_and_places():
    x = tgrad.tensor([[4], [6]], dtype=tgrad.int8, device="numpy")
    y = tgrad.tensor([8, 9, 10], dtype=tgrad.int32, device="numpy")
    assert x.gcd(y).dtype is tgrad.int32 and x.gcd(y).tolist() == [[4, 1, 2], [2, 3, 2]]
    y.lcm_(x[0])
    assert y.tolist() == [8, 36, 20]
    big = tgrad.tensor([2**63 + 2**62], dtype=tgrad.uint64, device="numpy")
    assert big.gcd(tgrad.tensor([2**62], dtype=tgrad.uint64, device="numpy")).tolist() == [2**62]
    assert y[:0].gcd(y[:0]).shape == (0,)


@pytest.mark.parametrize("largest", [1, 2, 3, 10, 60])
def test_steps_are_enough_for_every_pair(largest):
    def steps(x, y):
        count = 0
        while x and y:
            x, y = (x % y, y) if count % 2 else (x, y % x)
            count += 1
        return count

    pairs = [(a, b) for a in range(largest + 1) for b in range(largest + 1)]
    worst = max(steps(a, b) for a, b in pairs)
    assert worst <= steps_for(largest) <= worst + 1


@pytest.mark.parametrize("dtype", [tgrad.float32, tgrad.bool])
def test_other_dtypes_are_refused(dtype):
    x = tgrad.ones(2, dtype=dtype)
    with pytest.raises(DTypeError, match=f"gcd of {dtype.name}"):
        x.gcd(x)
    with pytest.raises(DTypeError, match=f"lcm of {dtype.name}"):
        x.lcm(x)
