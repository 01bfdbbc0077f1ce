"""Comparisons for tests, under the names of torch.testing.

In: tensors, arrays, numbers, and sequences and mappings of them. Out: nothing, or an AssertionError
that says how far they are apart; or random tensors. Invariant: values are compared on the host, in
float64 or exactly.
Source: https://docs.pytorch.org/docs/stable/testing.html
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.complex_numbers import complex as to_complex
from tgrad.creation import as_tensor
from tgrad.device import Device
from tgrad.methods.movement import as_sizes
from tgrad.queries import finfo
from tgrad.random import rand, randint
from tgrad.tensor import Tensor

__all__ = ["assert_allclose", "assert_close", "make_tensor"]

TOLERANCES = {
    dt.float16: (1e-3, 1e-5),
    dt.bfloat16: (1.6e-2, 1e-5),
    dt.float32: (1.3e-6, 1e-5),
    dt.float64: (1e-7, 1e-7),
}
"""PyTorch's: relative and absolute, by dtype; 0 for all others."""


@dataclass(frozen=True)
class _Options:
    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_stride: bool


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise unless |actual - expected| <= atol + rtol |expected| for all elements.

    Args:
        actual, expected: tensors, NumPy's arrays or numbers, or sequences or mappings of them.
        allow_subclasses: whether a Parameter, say, may be compared with a Tensor.
        rtol, atol: by default those of the dtype, 1.3e-6 and 1e-5 for float32; give both or none.
        equal_nan: whether NaN is NaN.
        check_device, check_dtype, check_stride: whether these must be equal too.
        check_layout: any; all tensors are dense.
        msg: in place of the error's text, or a function of it.

    Raises:
        AssertionError: they are not close.
        TypeError: they are nothing that can be compared.
        ValueError: one of rtol and atol is given.

    >>> import tgrad
    >>> tgrad.testing.assert_close(tgrad.ones(2) / 3, tgrad.tensor([0.33333333, 0.33333334]))
    >>> tgrad.testing.assert_close(tgrad.tensor([1.0, 2.0]), tgrad.tensor([1.0, 2.5]))
    Traceback (most recent call last):
    AssertionError: 1 of 2 elements are not close. At (1,) 2.0 is 0.5 from 2.5, with rtol=1.3e-06 \
and atol=1e-05.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"rtol={rtol} and atol={atol}: give both or none.")
    options = _Options(
        allow_subclasses, rtol, atol, equal_nan, check_device, check_dtype, check_stride
    )
    found = _difference(actual, expected, options)
    if found is None:
        return
    what, path = found
    text = f"{what} At {path} of the whole." if path else what
    raise AssertionError(text if msg is None else msg(text) if callable(msg) else msg)


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """`assert_close` under its older name, of any dtypes; NaN is NaN. Warns.

    Raises:
        AssertionError: they are not close.
    """
    warnings.warn("assert_allclose: use assert_close.", FutureWarning, stacklevel=2)
    assert_close(
        as_tensor(actual),
        as_tensor(expected),
        rtol=rtol,
        atol=atol,
        equal_nan=equal_nan,
        check_dtype=False,
        msg=msg or None,
    )


def make_tensor(
    *shape: Any,
    dtype: Any,
    device: str | Device | None = None,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Any:
    """Random numbers for tests, drawn evenly from [low, high).

    Args:
        shape: sizes, as arguments or as one sequence.
        dtype: of the numbers; the parts of complex ones are drawn one by one.
        device: by default that of `get_default_device`.
        low, high: by default -9 and 9, of integers -9 and 10; for bools and unsigned ones from 0.
            What the dtype cannot hold is left out of the range.
        requires_grad: whether it is a leaf that gradients are collected for.
        noncontiguous: whether it is a view of every second element of a larger tensor.
        exclude_zero: whether zeros become the smallest normal number, of integers 1.
        memory_format: how PyTorch would lay it out, instead of `noncontiguous`.

    Raises:
        ValueError: a range that is empty or NaN or beyond the dtype, a gradient of integers, or
            both `noncontiguous` and `memory_format`.

    >>> import tgrad
    >>> x = tgrad.testing.make_tensor(3, 4, dtype=tgrad.int8, low=2, high=5)
    >>> x.shape, x.dtype, 2 <= x.min().item() <= x.max().item() < 5
    ((3, 4), tgrad.int8, True)
    """
    sizes = as_sizes(shape)
    kind = dt.as_complex_dtype(dtype) or dt.as_dtype(dtype)
    if noncontiguous and memory_format is not None:
        raise ValueError(f"make_tensor: noncontiguous and memory_format={memory_format}: give one.")
    if requires_grad and not (kind.is_float or kind.is_complex):
        raise ValueError(f"make_tensor: requires_grad of {kind.name}, which has no gradients.")
    bounds = _bounds(kind, low, high)
    noncontiguous = noncontiguous and math.prod(sizes) > 1
    wide = (*sizes[:-1], 2 * sizes[-1]) if noncontiguous else sizes
    made = _drawn(wide, kind, device, *bounds)
    if noncontiguous:
        made = made[..., 1::2]
    elif memory_format is not None:
        made = made.contiguous(memory_format=memory_format)
    if exclude_zero:
        part = kind.part if isinstance(kind, dt.ComplexDType) else kind
        least = finfo(part).tiny if part.is_float else 1
        made[made == 0] = complex(least, least) if kind.is_complex else least
    return made.requires_grad_() if requires_grad else made


def _bounds(kind: Any, low: float | None, high: float | None) -> tuple[float, float]:
    """The range, as far as the dtype holds it."""
    is_whole = not (kind.is_float or kind.is_complex)
    part = kind.part if isinstance(kind, dt.ComplexDType) else kind
    most = part.largest + 1 if is_whole else part.largest
    least = 0 if part.is_bool else part.min if is_whole else -part.largest
    low = -9 if low is None else low
    high = (2 if part.is_bool else 10 if is_whole else 9) if high is None else high
    if math.isnan(low) or math.isnan(high) or low >= high:
        raise ValueError(f"make_tensor of [{low}, {high}): give low < high.")
    if high < least or low >= most:
        raise ValueError(f"make_tensor of [{low}, {high}): {kind.name} holds [{least}, {most}).")
    low, high = (min(max(bound, least), most) for bound in (low, high))
    return (math.ceil(low), math.ceil(high)) if is_whole else (low, high)


def _drawn(sizes: tuple[int, ...], kind: Any, device: Any, low: float, high: float) -> Any:
    """Numbers from a range, of any dtype."""
    if kind.is_complex:
        return to_complex(*(_drawn(sizes, kind.part, device, low, high) for _ in range(2)))
    if kind.is_float:
        wide = dt.float64 if kind is dt.float64 else dt.float32
        share = rand(sizes, dtype=wide, device=device)
        found = low * (1 - share) + high * share
        return found.to(kind).clamp(low, high) if not kind.is_float8 else found.to(kind)
    return randint(int(low), int(high), sizes, dtype=dt.int64, device=device).to(kind)


def _difference(actual: Any, expected: Any, options: _Options) -> tuple[str, str] | None:
    """What differs and where, the first of all."""
    if actual is None or expected is None:
        return None if actual is expected else (f"{actual!r} is not {expected!r}.", "")
    pair = (actual, expected)
    if all(isinstance(x, Mapping) for x in pair):
        if actual.keys() != expected.keys():
            return f"Keys {list(actual)} are not {list(expected)}.", ""
        return _first({k: (actual[k], expected[k]) for k in expected}, options)
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in pair):
        if len(actual) != len(expected):
            return f"{len(actual)} items are not {len(expected)}.", ""
        return _first(dict(enumerate(zip(actual, expected))), options)
    for kind in (Tensor, np.ndarray, Number):
        if all(isinstance(x, kind) for x in pair):
            if (
                not options.allow_subclasses
                and kind is Tensor
                and type(actual) is not type(expected)
            ):
                break
            what = _of_tensors(actual, expected, options)
            return None if what is None else (what, "")
    kinds = f"{type(actual).__name__} and {type(expected).__name__}"
    raise TypeError(f"assert_close of {kinds}: give two tensors, two arrays or two numbers.")


def _first(pairs: Mapping[Any, tuple[Any, Any]], options: _Options) -> tuple[str, str] | None:
    for key, (actual, expected) in pairs.items():
        found = _difference(actual, expected, options)
        if found is not None:
            return found[0], f"[{key!r}]{found[1]}"
    return None


def _of_tensors(actual: Any, expected: Any, options: _Options) -> str | None:
    """What differs between two tensors, two arrays or two numbers."""
    a, b = _values(actual), _values(expected)
    if a.shape != b.shape:
        return f"Shape {a.shape} is not {b.shape}."
    if isinstance(actual, Tensor):
        if options.check_device and actual.device != expected.device:
            return f"Device {actual.device} is not {expected.device}."
        if options.check_stride and actual.stride() != expected.stride():
            return f"Strides {actual.stride()} are not {expected.stride()}."
    if options.check_dtype and a.dtype != b.dtype:
        return f"Dtype {a.dtype} is not {b.dtype}."
    defaults = [TOLERANCES.get(dt.from_numpy(x.dtype), (0.0, 0.0)) for x in (a, b)]
    rtol, atol = (max(each) for each in zip(*defaults))
    if options.rtol is not None and options.atol is not None:
        rtol, atol = options.rtol, options.atol
    is_exact = rtol == atol == 0 and {a.dtype.kind, b.dtype.kind} <= set("biu")
    if not is_exact:
        a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = (a != b).astype(np.float64) if is_exact else np.abs(a - b)
        near = (a == b) | (np.isfinite(apart) & (apart <= atol + rtol * np.abs(b)) & (not is_exact))
    if options.equal_nan and not is_exact:
        near |= np.isnan(a) & np.isnan(b)
    return None if near.all() else _text(a, b, near, f"rtol={rtol} and atol={atol}")


def _values(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _text(a: np.ndarray, b: np.ndarray, near: np.ndarray, limits: str) -> str:
    """How many are not close, and which is the worst."""
    with np.errstate(all="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    apart = np.where(near, -1.0, np.where(np.isnan(apart), np.inf, apart))
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    one, other = a[place].item(), b[place].item()
    if not a.ndim:
        return f"{one} is {apart[place]:.6g} from {other}, with {limits}."
    at = tuple(int(i) for i in place)
    return (
        f"{int((~near).sum())} of {near.size} elements are not close. At {at} {one} is "
        f"{apart[place]:.6g} from {other}, with {limits}."
    )
