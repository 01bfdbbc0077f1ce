"""What a program asks of tensors and of the library, as functions.

In: tensors, dtypes. Out: numbers and bools. Invariant: nothing is computed, but by `is_nonzero`.
"""

from __future__ import annotations

from typing import Any

from tgrad import dtype as dt
from tgrad.creation import default_device
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.functional import from_method
from tgrad.tensor import Tensor

is_floating_point = from_method(Tensor.is_floating_point)
is_complex = from_method(Tensor.is_complex)
is_nonzero = from_method(Tensor.is_nonzero)
is_same_size = from_method(Tensor.is_same_size)
is_signed = from_method(Tensor.is_signed)
numel = from_method(Tensor.numel)


def is_tensor(obj: Any) -> bool:
    """Whether it is a Tensor.

    >>> import tgrad
    >>> tgrad.is_tensor(tgrad.ones(1)), tgrad.is_tensor([1.0])
    (True, False)
    """
    return isinstance(obj, Tensor)


def get_default_dtype() -> DType:
    """float32: of tensors that are made with no dtype."""
    return dt.float32


def set_default_dtype(d: DType) -> None:
    """Accepts float32, the only default.

    Raises:
        UnsupportedError: it is another.
    """
    if d is not dt.float32:
        raise UnsupportedError(f"set_default_dtype({d}).", "Give dtype= where tensors are made.")


def get_default_device() -> Device:
    """Where tensors live that are made with no device: TGRAD_DEVICE."""
    return default_device(None)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted: equal plans give equal bits on one device, always."""


def are_deterministic_algorithms_enabled() -> bool:
    """True."""
    return True
