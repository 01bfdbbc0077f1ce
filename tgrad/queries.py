"""What a program asks of tensors and of the library, as functions.

In: tensors, dtypes. Out: numbers and bools. Invariant: nothing is computed, but by `is_nonzero`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.autocasting import (
    get_autocast_dtype,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.functional import from_method
from tgrad.methods.memory import UntypedStorage
from tgrad.tensor import Tensor

get_device = from_method(Tensor.get_device)
is_floating_point = from_method(Tensor.is_floating_point)
is_complex = from_method(Tensor.is_complex)
is_nonzero = from_method(Tensor.is_nonzero)
is_same_size = from_method(Tensor.is_same_size)
is_signed = from_method(Tensor.is_signed)
numel = from_method(Tensor.numel)


_CONSTRUCTORS = {
    "BFloat16Tensor": dt.bfloat16,
    "DoubleTensor": dt.float64,
    "FloatTensor": dt.float32,
    "HalfTensor": dt.float16,
}


@dataclass(frozen=True)
class FloatInfo:
    """What a dtype of floats can hold; see `finfo`."""

    bits: int
    eps: float
    max: float
    min: float
    tiny: float
    smallest_normal: float
    resolution: float
    dtype: str


@dataclass(frozen=True)
class IntInfo:
    """What a dtype of integers can hold; see `iinfo`."""

    bits: int
    max: int
    min: int
    dtype: str


def finfo(type: DType | None = None) -> FloatInfo:
    """Limits of a dtype of floats, by default of `get_default_dtype()`.

    Source: https://docs.pytorch.org/docs/stable/type_info.html

    Raises:
        TypeError: it is one of integers or bool.

    >>> import tgrad
    >>> tgrad.finfo(tgrad.float16).max
    65504.0
    """
    type = dt.float_dtype(type)
    if not type.is_float:
        raise TypeError(f"finfo of {type.name}; use tgrad.iinfo for integers.")
    info: Any
    if type in (dt.float16, dt.float32, dt.float64):
        info = np.finfo(type.numpy)
    else:
        import ml_dtypes

        info = ml_dtypes.finfo(type.numpy)
    smallest = float(info.smallest_normal)
    return FloatInfo(
        bits=type.itemsize * 8,
        eps=float(info.eps),
        max=float(info.max),
        min=float(info.min),
        tiny=smallest,
        smallest_normal=smallest,
        resolution=float(info.resolution),
        dtype=type.name,
    )


def iinfo(type: DType) -> IntInfo:
    """Limits of a dtype of integers.

    Raises:
        TypeError: it is one of floats or bool.

    >>> import tgrad
    >>> tgrad.iinfo(tgrad.int8).min
    -128
    """
    if not type.is_int:
        raise TypeError(f"iinfo of {type.name}; use tgrad.finfo for floats.")
    return IntInfo(type.itemsize * 8, int(type.max), int(type.min), type.name)


def is_tensor(obj: Any) -> bool:
    """Whether it is a Tensor.

    >>> import tgrad
    >>> tgrad.is_tensor(tgrad.ones(1)), tgrad.is_tensor([1.0])
    (True, False)
    """
    return isinstance(obj, Tensor) or getattr(obj, "is_complex_tensor", False)


def typename(obj: Any) -> str:
    """The name of an object's type with its module's; of a tensor that of its constructor.

    >>> import tgrad
    >>> tgrad.typename(tgrad.ones(2)), tgrad.typename(3), tgrad.typename(tgrad.nn.Linear)
    ('tgrad.FloatTensor', 'int', 'tgrad.nn.modules.linear.Linear')
    """
    if isinstance(obj, Tensor):
        return str(obj.type())
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = named.__module__ or ""
    return named.__qualname__ if module in ("", "builtins") else f"{module}.{named.__qualname__}"


def can_cast(from_: DType, to: DType) -> bool:
    """Whether PyTorch writes results of one dtype into tensors of another: complex numbers into
    real ones, floats into integers and numbers into bools it does not.

    >>> import tgrad
    >>> tgrad.can_cast(tgrad.float64, tgrad.float16), tgrad.can_cast(tgrad.float16, tgrad.int64)
    (True, False)
    """
    order = "b", "ui", "f", "c"
    low, high = (next(i for i, kinds in enumerate(order) if d.kind in kinds) for d in (to, from_))
    return low >= high


def is_conj(input: Any) -> bool:
    """False: conjugates are computed."""
    return False


def is_neg(input: Any) -> bool:
    """False: negatives are computed."""
    return False


def is_inference(input: Any) -> bool:
    """False: tensors made in inference_mode are as others."""
    return False


def is_storage(obj: Any) -> bool:
    """Whether it is the memory of a tensor, as `untyped_storage` gives it."""
    return isinstance(obj, UntypedStorage)


def set_flush_denormal(mode: bool) -> bool:
    """Whether denormal numbers can be made zero: no, so False, and nothing changes.

    >>> set_flush_denormal(True)
    False
    """
    return False


def get_autocast_gpu_dtype() -> DType:
    """`get_autocast_dtype("cuda")`: its older name."""
    return get_autocast_dtype("cuda")


def get_autocast_cpu_dtype() -> DType:
    """`get_autocast_dtype("cpu")`: its older name."""
    return get_autocast_dtype("cpu")


def set_autocast_gpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cuda", dtype)`: its older name."""
    set_autocast_dtype("cuda", dtype)


def set_autocast_cpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cpu", dtype)`: its older name."""
    set_autocast_dtype("cpu", dtype)


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """`set_autocast_enabled("cpu", enabled)`: its older name."""
    set_autocast_enabled("cpu", enabled)


def is_autocast_cpu_enabled() -> bool:
    """`is_autocast_enabled("cpu")`: its older name."""
    return is_autocast_enabled("cpu")


def _assert(condition: Any, message: str) -> None:
    """`assert` with a message, as programs for tracers write it.

    >>> _assert(1 + 1 == 2, "no")
    """
    assert condition, message


def set_default_tensor_type(t: Any) -> None:
    """`set_default_dtype` by a constructor such as tgrad.DoubleTensor, or by its name in PyTorch.

    Raises:
        UnsupportedError: it is not one of floats.
    """
    name = t if isinstance(t, str) else getattr(t, "__name__", repr(t))
    kind = _CONSTRUCTORS.get(name.removeprefix("torch."))
    if kind is None:
        raise UnsupportedError(
            f"set_default_tensor_type({name!r}).", "Call set_default_dtype and set_default_device."
        )
    dt.set_default_dtype(kind)
