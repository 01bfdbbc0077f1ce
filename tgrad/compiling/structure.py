"""Nested arguments and results.

In: lists, tuples, dicts, dataclasses and namedtuples of tensors and Python values. Out: the tensors
in order, a key of everything else, and the same nest around other tensors. Invariant: equal keys
mean that one plan serves both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.nn.parameter import Parameter
from tgrad.shapes import Size, size_of
from tgrad.tensor import Tensor

Kinds = type | tuple[type, ...]
_BY_VALUE = (bool, int, str, bytes, complex, type(None), DType, Device, type, type(Ellipsis))


class Flat:
    """Arguments taken apart.

    Attributes:
        tensors: each tensor once, in order.
        objects: what is recognised by identity: modules, optimizers, parameters, functions.

    Args:
        axes: by the id of a tensor, the axes whose sizes are not part of the key, with a number
            that is.
    """

    __slots__ = ("axes", "numbers", "objects", "tensors")

    def __init__(self, axes: Mapping[int, Mapping[int, int]] | None = None) -> None:
        self.axes = axes
        self.tensors: list[Tensor] = []
        self.numbers: dict[int, int] = {}
        self.objects: list[Any] = []

    def key(self, value: Any, label: str) -> Hashable:
        """The key of a value, whose tensors and objects are collected.

        Raises:
            UnsupportedError: a NumPy array, whose values would become part of the plan.
        """
        kind = type(value)
        if kind is Tensor:
            number = self.numbers.get(id(value))
            if number is not None:
                return number
            self.numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
            if self.axes is not None and id(value) in self.axes:
                return (self._dynamic_key(value), value.dtype, value._device)
            if value._requires_grad:
                grad = value._grad is not None
                return (value.shape, value.dtype, value._device, value._token is not None, grad)
            return (value._node.shape, value._node.dtype, value._device)
        if kind is float:
            return struct.pack("d", value)
        if isinstance(value, _BY_VALUE):
            return (kind, value)
        if isinstance(value, (tuple, list)):
            return (kind, *[self.key(v, f"{label}[{i}]") for i, v in enumerate(value)])
        if isinstance(value, dict):
            return (kind, *[(k, self.key(v, f"{label}[{k!r}]")) for k, v in value.items()])
        return self._object_key(value, label)

    def _dynamic_key(self, value: Tensor) -> Hashable:
        assert self.axes is not None
        axes = self.axes[id(value)]
        return tuple((a, axes[a]) if a in axes else n for a, n in enumerate(value._node.shape))

    def _object_key(self, value: Any, label: str) -> Hashable:
        kind = type(value)
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            return (kind, self.key(value._without_history(), label))
        if isinstance(value, np.ndarray):
            raise UnsupportedError(
                f"{label} of a compiled function is a NumPy array.",
                "Pass tgrad.tensor(array): its values are then read at every call.",
            )
        if isinstance(value, (np.generic, float, set, frozenset, slice, range)):
            return (kind, repr(value))
        if is_dataclass(value) and not isinstance(value, type):
            parts = [(f.name, self.key(getattr(value, f.name), f"{label}.{f.name}"))
                     for f in fields(value)]  # fmt: skip
            return (kind, *parts)
        self.objects.append(value)
        return (kind, id(value))


def replaced(value: Any, change: Callable[[Any], Any], kind: Kinds = Tensor) -> Any:
    """The same nest with other things in place of those of a kind; parameters stay."""
    if isinstance(value, kind):
        return value if isinstance(value, Parameter) else change(value)
    nest: Any = type(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return nest(*[replaced(v, change, kind) for v in value])
    if isinstance(value, (tuple, list)):
        nest = size_of if nest is Size else nest  # what stands in for sizes is no number
        return nest(tuple(replaced(v, change, kind) for v in value))
    if isinstance(value, dict):
        made = {k: replaced(v, change, kind) for k, v in value.items()}
        return made if nest is dict else nest(made)
    if is_dataclass(value) and not isinstance(value, type):
        twin = object.__new__(nest)
        for f in fields(value):
            object.__setattr__(twin, f.name, replaced(getattr(value, f.name), change, kind))
        return twin
    return value
