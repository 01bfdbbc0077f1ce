"""Promotion as PyTorch's, and casts in all directions: every pair of dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional, Union

import numpy as np
import pytest
import torch

import tgrad
from tests.arrays import cast_by_torch, from_torch, to_torch
from tgrad.dtype import DTYPES, DType
from tgrad.errors import DTypeError
from tgrad.tensor import realize_tensors

ALL = list(DTYPES.values())
SHAPES = [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())]


def name_or_error(function: Callable[..., Any], *args: Any) -> str:
    """The dtype's name, or that there is none."""
    try:
        found = function(*args)
    except (DTypeError, RuntimeError):
        return "none"
    return getattr(found, "name", None) or str(found).removeprefix("torch.")


def theirs(dtype: DType) -> torch.dtype:
    return getattr(torch, dtype.name)


@pytest.mark.parametrize("a", ALL, ids=str)
def test_promotion(a: DType) -> None:
    """Tensors with axes, 0-d tensors and numbers, in all pairs; where torch raises, so does tgrad.

    Torch raises for 8-bit floats with anything else, and for uint16, uint32 and uint64 with all but
    floats.
    """
    for b in ALL:
        have, want = tgrad.promote_types, torch.promote_types
        assert name_or_error(have, a, b) == name_or_error(want, theirs(a), theirs(b)), b
        for left, right in SHAPES:
            ours = tgrad.zeros(left, dtype=a), tgrad.zeros(right, dtype=b)
            pair = torch.zeros(left, dtype=theirs(a)), torch.zeros(right, dtype=theirs(b))
            have, want = tgrad.result_type, torch.result_type
            assert name_or_error(have, *ours) == name_or_error(want, *pair), (b, left, right)
    for number in (True, 2, 2.5):
        for shape in ((2,), ()):
            have = tgrad.result_type(tgrad.zeros(shape, dtype=a), number)
            want = torch.result_type(torch.zeros(shape, dtype=theirs(a)), number)
            assert have.name == str(want).removeprefix("torch."), (number, shape)


def test_promotion_errors() -> None:
    a, b = tgrad.ones(2, dtype=tgrad.uint32), tgrad.ones(2, dtype=tgrad.int32)
    with pytest.raises(DTypeError, match="wide unsigned integers are not promoted") as info:
        a + b
    assert "Cast one of them first, such as x.to(tgrad.int64)." in str(info.value)


def edges(dtype: DType) -> np.ndarray:
    """Ends of ranges, of this dtype's and of the others', and what lies beside them."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_int:
        low, high = int(dtype.min), int(dtype.max)
        ends = [s * 2**n + d for n in range(64) for s in (1, -1) for d in (-1, 0, 1)]
        return np.array([low, high, *(e for e in ends if low <= e <= high)], dtype.numpy)
    ends = [s * (2.0**n + d) for n in range(65) for s in (1, -1) for d in (-1, -0.5, 0, 0.5, 1)]
    small = [0.0, -0.0, 1e-8, 0.3, -0.7, 1e-30, 65504, 65520, 3.4e38, 3.5e38, np.inf, np.nan]
    wide = torch.tensor([*ends, *small, *(-x for x in small)], dtype=torch.float64)
    return from_torch(cast_by_torch(wide, theirs(dtype)))


def is_defined(x: np.ndarray, source: DType, target: DType) -> Any:
    """Where C, and PyTorch with it, says what a float is as an integer."""
    if not (source.is_float and target.is_int):
        return slice(None)
    wide = x.astype(np.float64)
    least, beyond = float(int(target.min)), float(int(target.max) + 1)
    return (np.trunc(wide) >= least) & (wide < beyond)


@pytest.mark.parametrize("source", ALL, ids=str)
def test_casts(source: DType, device: str) -> None:
    """To every dtype, bit for bit as PyTorch's where it is defined, and everywhere as the oracle's:
    floats beyond int32 or int64, and NaN, become the least integer, beyond others what int64 wraps
    to, as PyTorch's do on x86."""
    x = edges(source)
    found = [tgrad.tensor(x, device=device).to(target) for target in ALL]
    oracle = [tgrad.tensor(x, device="numpy").to(target) for target in ALL]
    realize_tensors(found)
    for target, have, same in zip(ALL, found, oracle):
        want = from_torch(cast_by_torch(to_torch(x), theirs(target)))
        defined = is_defined(x, source, target)
        with np.errstate(all="ignore"):
            ours, other, torch_s = (
                a.astype(np.float64) if target.is_float else a
                for a in (have.numpy(), same.numpy(), want)
            )
        np.testing.assert_array_equal(ours[defined], torch_s[defined], err_msg=str(target))
        np.testing.assert_array_equal(ours, other, err_msg=str(target))
        if target.is_float:
            np.testing.assert_array_equal(
                np.signbit(ours)[ours == ours], np.signbit(torch_s)[ours == ours]
            )


@pytest.mark.parametrize("number", [-2, -1, 255, 254])
def test_numbers_beyond_an_unsigned_dtype_wrap(number: int, device: str) -> None:
    values = [0, 1, 2, 200, 255]
    ours, theirs = tgrad.tensor(values, dtype=tgrad.uint8, device=device), torch.tensor(values)
    theirs = theirs.to(torch.uint8)
    for function in (lambda x: x * number, lambda x: x + number, lambda x: number - x):
        assert function(ours).tolist() == function(theirs).tolist()


def test_the_name_of_all_dtypes_is_a_type() -> None:
    for kind in (tgrad.float32, tgrad.bool, tgrad.complex64):
        assert isinstance(kind, tgrad.dtype)
    assert not isinstance(tgrad.ones(1), tgrad.dtype) and not isinstance("float32", tgrad.dtype)
    both = DType | type(tgrad.complex64)
    assert tgrad.dtype | None == None | tgrad.dtype == both | None
    for written in ("Optional[tgrad.dtype]", "Union[int, tgrad.dtype]", "dict[str, tgrad.dtype]"):
        assert eval(written, {"tgrad": tgrad, "Optional": Optional, "Union": Union}) is not None
    with pytest.raises(DTypeError, match="a dtype is made"):
        tgrad.dtype("float32")
    assert isinstance(tgrad.channels_last, tgrad.memory_format)
    assert isinstance(tgrad.ones(1).layout, tgrad.layout)


@pytest.mark.parametrize("name", [*DTYPES, "complex64", "complex128"])
def test_what_dtypes_say_of_themselves(name: str) -> None:
    ours, theirs = getattr(tgrad, name), getattr(torch, name)
    for fact in ("is_floating_point", "is_complex", "is_signed", "itemsize"):
        assert getattr(ours, fact) == getattr(theirs, fact), fact
    assert str(ours.to_real()).removeprefix("tgrad.") == str(theirs.to_real())[6:] or ours.is_int
    if name in ("float32", "float64", "complex64", "complex128"):
        assert str(ours.to_complex())[6:] == str(theirs.to_complex())[6:]


SCALINGS: dict[str, Callable[[Any, Any], Any]] = {
    "times": lambda p, x: x * 65536.0,
    "number first": lambda p, x: 65536 * x,
    "in place": lambda p, x: x.mul_(100000),
    "divided": lambda p, x: x / 1e6,
    "by a tensor": lambda p, x: x * p.tensor(65536.0),
    "by a wide tensor": lambda p, x: x / p.tensor(1e-6, dtype=p.float64),
    "small": lambda p, x: x * 1e-9 / 1e-9,
    "infinite": lambda p, x: x * float("inf") + x / float("inf"),
    "std": lambda p, x: (x * 30000).std(),
    "std_mean": lambda p, x: p.std_mean(x * 3000)[0],
    "decimals": lambda p, x: (x * 900).round(decimals=2),
    "tens": lambda p, x: (x * 900).round(decimals=-1),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_factors_that_float16_has_not(name: str, device: str) -> None:
    """They are applied before what is computed is rounded."""
    seen = []
    for library in (tgrad, torch):
        options = {"device": device} if library is tgrad else {}
        x = library.tensor([0.001, 2.0, 7.0, 0.5], dtype=library.float16, **options)
        y = SCALINGS[name](library, x)
        assert y.dtype is library.float16
        seen.append(y.tolist())
    np.testing.assert_allclose(seen[0], seen[1], rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("number", [-1, 300, 1.5])
@pytest.mark.parametrize("name", ["div", "divide", "true_divide"])
def test_numbers_that_are_divided_by_unsigned_integers(name: str, number: float) -> None:
    x = np.array([1, 2, 200], np.uint8)
    ours, theirs = getattr(tgrad, name), getattr(torch, name)
    assert ours(number, tgrad.tensor(x)).tolist() == theirs(number, torch.tensor(x)).tolist()
    assert tgrad.div(7, tgrad.tensor(x), rounding_mode="floor").tolist() == [7, 3, 0]
