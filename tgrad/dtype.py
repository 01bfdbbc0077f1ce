"""Data types: what they are, how they promote, what they accumulate in.

In: names, NumPy dtypes, pairs of dtypes. Out: `DType` singletons. Invariant: one object per dtype,
so dtypes compare by identity. Source: https://docs.pytorch.org/docs/stable/tensor_attributes.html
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, Union

import numpy as np

from tgrad.errors import DTypeError
from tgrad.modes import process


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """A scalar type.

    Attributes:
        name: PyTorch's name, such as "float32".
        kind: "b" bool, "u" unsigned, "i" signed integer, "f" floating point.
        itemsize: bytes of one element in memory.
        short: the suffix used in kernel names, such as "f32".
        is_narrow: whether it is a float of 16 or 8 bits: arithmetic is in float32 and rounds after
            each op.
        is_float8: whether it is a float of 8 bits, which is stored and multiplied and nothing else.

    >>> [d.name for d in DTYPES.values() if d.is_narrow]
    ['float8_e4m3fn', 'float8_e5m2', 'float16', 'bfloat16']
    """

    name: str
    kind: str
    itemsize: int
    short: str
    is_float: bool = field(init=False)
    is_int: bool = field(init=False)
    is_bool: bool = field(init=False)
    is_narrow: bool = field(init=False)
    is_float8: bool = field(init=False)

    def __post_init__(self) -> None:
        """Asked for with each node that is made, hence kept."""
        is_float = self.kind == "f"
        for name, value in (
            ("is_float", is_float),
            ("is_int", self.kind in "iu"),
            ("is_bool", self.kind == "b"),
            ("is_narrow", is_float and self.itemsize < 4),
            ("is_float8", is_float and self.itemsize == 1),
        ):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"tgrad.{self.name}"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return by_name, (self.name,)

    @property
    def is_floating_point(self) -> bool:
        """PyTorch's spelling of `is_float`."""
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        """False: complex dtypes are ComplexDType."""
        return False

    @property
    def is_signed(self) -> bool:
        """Whether it has negative numbers."""
        return self.kind in "if"

    def to_complex(self) -> ComplexDType:
        """Complex numbers whose parts are of this dtype."""
        return complex_of(self)

    def to_real(self) -> DType:
        """Itself."""
        return self

    @property
    def in_numpy(self) -> bool:
        """Whether NumPy itself has it."""
        return self.name not in _OF_ML_DTYPES

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype of the same bits; bfloat16 and the 8-bit floats are of ml_dtypes."""
        return _numpy(self.name)

    @property
    def min(self) -> float | int | bool:
        """Smallest value, and the identity of a maximum."""
        return _extremes(self)[0]

    @property
    def max(self) -> float | int | bool:
        """Largest value, and the identity of a minimum."""
        return _extremes(self)[1]

    @property
    def largest(self) -> float | int | bool:
        """Largest finite value."""
        return _LARGEST[self.name] if self.is_float else self.max

    def rounded(self, value: float) -> float:
        """The number of this dtype that PyTorch's conversion gives for another; of floats only.

        >>> float16.rounded(0.1), float8_e4m3fn.rounded(1e9), float8_e5m2.rounded(1e9)
        (0.0999755859375, 448.0, inf)
        """
        with np.errstate(all="ignore"):
            x = np.float64(value) if self is float64 else np.float32(value)
            return float(saturated(x, self).astype(self.numpy))

    @property
    def accumulator(self) -> DType:
        """What sums and dots of this dtype accumulate in."""
        return float32 if self.is_narrow else self


bool_ = DType("bool", "b", 1, "b1")
uint8 = DType("uint8", "u", 1, "u8")
uint16 = DType("uint16", "u", 2, "u16")
uint32 = DType("uint32", "u", 4, "u32")
uint64 = DType("uint64", "u", 8, "u64")
int8 = DType("int8", "i", 1, "i8")
int16 = DType("int16", "i", 2, "i16")
int32 = DType("int32", "i", 4, "i32")
int64 = DType("int64", "i", 8, "i64")
float8_e4m3fn = DType("float8_e4m3fn", "f", 1, "e4m3")
float8_e5m2 = DType("float8_e5m2", "f", 1, "e5m2")
float16 = DType("float16", "f", 2, "f16")
bfloat16 = DType("bfloat16", "f", 2, "bf16")
float32 = DType("float32", "f", 4, "f32")
float64 = DType("float64", "f", 8, "f64")

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64,
        float8_e4m3fn, float8_e5m2, float16, bfloat16, float32, float64,
    )
}  # fmt: skip


def by_name(name: str) -> DType:
    """The dtype of PyTorch's name.

    Raises:
        DTypeError: the name is not a dtype of tgrad.

    >>> by_name("float32").itemsize
    4
    """
    if name not in DTYPES:
        raise DTypeError(f"dtype {name!r} is not supported.", f"Use one of {', '.join(DTYPES)}.")
    return DTYPES[name]


_LARGEST = {
    "float8_e4m3fn": 448.0,
    "float8_e5m2": 57344.0,
    "float16": 65504.0,
    "bfloat16": (2.0 - 2.0**-7) * 2.0**127,
    "float32": (2.0 - 2.0**-23) * 2.0**127,
    "float64": (2.0 - 2.0**-52) * 2.0**1023,
}


_OF_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


@cache
def _numpy(name: str) -> np.dtype:
    if name not in _OF_ML_DTYPES:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise DTypeError(
            f"{name} on the host needs the package ml_dtypes.", "pip install ml_dtypes"
        ) from None
    return np.dtype(getattr(ml_dtypes, name))


def saturated(x: Any, dtype: DType) -> Any:
    """Floats kept to the range of what has no infinity, as PyTorch does; others as they are."""
    return np.clip(x, -dtype.largest, dtype.largest) if dtype is float8_e4m3fn else x


@cache
def _extremes(dtype: DType) -> tuple[float | int | bool, float | int | bool]:
    if dtype.is_bool:
        return False, True
    if dtype.is_float:
        return float("-inf"), float("inf")
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def from_numpy(dtype: np.dtype | type) -> DType:
    """The dtype of a NumPy dtype.

    Raises:
        DTypeError: complex, object, string and date types have no counterpart.

    >>> from_numpy(np.dtype("int32"))
    tgrad.int32
    """
    return _of_numpy(np.dtype(dtype))


@cache
def _of_numpy(dtype: np.dtype) -> DType:
    return by_name(dtype.name)  # NumPy puts the name together each time


def as_dtype(value: Any) -> DType:
    """A `DType` from a `DType`, a name, a Python type or a NumPy dtype.

    >>> as_dtype(float), as_dtype("int8")
    (tgrad.float64, tgrad.int8)
    """
    if isinstance(value, DType):
        return value
    if value is float:
        return float64
    if value is int:
        return int64
    if value is bool:
        return bool_
    if isinstance(value, str):
        return by_name(value)
    if isinstance(value, ComplexDType):
        raise DTypeError(f"{value} where a real dtype is needed.", "Give a real one.")
    return from_numpy(value)


@dataclass(frozen=True, eq=False, slots=True)
class ComplexDType:
    """A type of complex numbers, whose parts are floats; no node has one (complex_numbers/).

    Attributes:
        name: PyTorch's name.
        part: of the real and the imaginary part.
    """

    name: str
    part: DType

    kind = "c"
    is_floating_point = False
    is_complex = is_signed = True
    is_float = is_int = is_bool = False

    @property
    def accumulator(self) -> ComplexDType:
        """What sums are added in: itself."""
        return self

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return 2 * self.part.itemsize

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype of the same bits."""
        return np.dtype(self.name)

    def __repr__(self) -> str:
        return f"tgrad.{self.name}"

    def __reduce__(self) -> tuple[Any, tuple[DType]]:
        return complex_of, (self.part,)

    def to_real(self) -> DType:
        """PyTorch's spelling of `part`."""
        return self.part

    def to_complex(self) -> ComplexDType:
        """Itself."""
        return self


complex64, complex128 = ComplexDType("complex64", float32), ComplexDType("complex128", float64)


def complex_of(part: DType) -> ComplexDType:
    """Complex numbers whose parts are of a dtype.

    Raises:
        DTypeError: there are none.
    """
    if part is float64:
        return complex128
    if part is float32:
        return complex64
    raise DTypeError(f"complex numbers of {part.name}.", "Use float32 or float64.")


def as_complex_dtype(value: Any) -> ComplexDType | None:
    """A complex dtype from itself, `complex`, or NumPy's; None for what is no complex dtype."""
    if isinstance(value, ComplexDType):
        return value
    if value is complex:
        return complex64 if get_default_dtype() is float32 else complex128
    if isinstance(value, (np.dtype, type)) and np.dtype(value).kind == "c":
        return complex128 if np.dtype(value).itemsize == 16 else complex64
    return None


def get_default_dtype() -> DType:
    """Of floats that name none: Python's numbers, new tensors, functions of integers."""
    found: DType | None = process.floats
    return float32 if found is None else found


def set_default_dtype(d: DType) -> None:
    """Make floats that name no dtype these, from now on; see `get_default_dtype`.

    Raises:
        DTypeError: it is no dtype of floats, or one of 8 bits.

    >>> import tgrad
    >>> tgrad.set_default_dtype(tgrad.float64)
    >>> tgrad.tensor([1.5]).dtype, tgrad.ones(1).dtype, (tgrad.tensor(1) / 2).dtype
    (tgrad.float64, tgrad.float64, tgrad.float64)
    >>> tgrad.set_default_dtype(tgrad.float32)
    """
    found = as_dtype(d)
    if not found.is_float or found.is_float8:
        raise DTypeError(f"set_default_dtype({found}).", "Give one of 16, 32 or 64 bits.")
    process.floats = None if found is float32 else found


def float_dtype(dtype: Any) -> DType:
    """The dtype, or the default one where there is none."""
    return get_default_dtype() if dtype is None else as_dtype(dtype)


def dtype_of_number(value: bool | int | float) -> DType:
    """Of a tensor of a Python number.

    >>> dtype_of_number(1), dtype_of_number(1.0)
    (tgrad.int64, tgrad.float32)
    """
    return get_default_dtype() if isinstance(value, float) else as_dtype(type(value))


@cache
def promote(a: DType, b: DType) -> DType:
    """PyTorch's `torch.promote_types`: the smallest dtype that holds both.

    Raises:
        DTypeError: one is an 8-bit float, or one is uint16, uint32 or uint64 and the other no
            float.

    >>> promote(int64, float16), promote(uint8, int8), promote(float16, bfloat16)
    (tgrad.float16, tgrad.int16, tgrad.float32)
    """
    if a is b:
        return a
    if a.is_complex or b.is_complex:
        parts = [d.part if isinstance(d, ComplexDType) else d for d in (a, b)]
        parts = [d for d in parts if d.is_float]
        return complex_of(promote(*parts) if len(parts) > 1 else parts[0])  # type: ignore[return-value]
    if a.is_float8 or b.is_float8:
        raise DTypeError(
            f"{a} and {b} have no common dtype: 8-bit floats are not promoted.",
            "Cast one of them first, such as x.to(tgrad.float32).",
        )
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if a.is_float:
        if a.itemsize == b.itemsize:
            return float32
        return a if a.itemsize > b.itemsize else b
    if any(d.kind == "u" and d.itemsize > 1 for d in (a, b)):
        raise DTypeError(
            f"{a} and {b} have no common dtype: wide unsigned integers are not promoted.",
            "Cast one of them first, such as x.to(tgrad.int64).",
        )
    if a.is_bool or b.is_bool:
        return b if a.is_bool else a
    if a.kind == b.kind:
        return a if a.itemsize >= b.itemsize else b
    signed = a if a.kind == "i" else b
    return int16 if signed is int8 else signed


def promote_scalar(tensor: DType, scalar: bool | int | float) -> DType:
    """The dtype of `tensor op scalar`: a Python number only raises the category.

    >>> promote_scalar(int32, 1.5), promote_scalar(float16, 2), promote_scalar(bool_, 2)
    (tgrad.float32, tgrad.float16, tgrad.int64)
    """
    if isinstance(scalar, bool) or tensor.is_float:
        return tensor
    if isinstance(scalar, float):
        return get_default_dtype()
    return int64 if tensor.is_bool else tensor


class _Dtypes(ModuleType):
    """This module where a program means PyTorch's class of all dtypes, which has its name:
    `isinstance(d, tgrad.dtype)`, and `tgrad.dtype | None` and `Optional[tgrad.dtype]` as types."""

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, (DType, ComplexDType))

    def __or__(self, other: Any) -> Any:
        return Union[DType, ComplexDType, other]  # noqa: UP007

    __ror__ = __or__

    def __call__(self, *given: object) -> Any:
        raise DTypeError("a dtype is made.", "Take one that there is, such as tgrad.float32.")


sys.modules[__name__].__class__ = _Dtypes
