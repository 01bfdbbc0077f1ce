"""Methods of Tensor that say where it lies in memory.

In: a tensor. Out: numbers. Invariant: tensors that share memory in PyTorch have one storage here;
where tgrad keeps the values of a view that it has computed by itself is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tgrad import aliases
from tgrad.device import Device
from tgrad.errors import UnsupportedError
from tgrad.tracing import tracer


class UntypedStorage:
    """The memory of a tensor and its views, to be compared, not to be written to.

    >>> import tgrad
    >>> x = tgrad.zeros(2, 3)
    >>> storage = x[1].untyped_storage()
    >>> storage.nbytes(), storage.data_ptr() == x.data_ptr()
    (24, True)
    """

    def __init__(self, base: Any):
        self._base = base

    @property
    def device(self) -> Device:
        """Where it is."""
        return self._base.device

    def data_ptr(self) -> int:
        """Its address; see `Tensor.data_ptr`."""
        return _address(self._base)

    def nbytes(self) -> int:
        """Its size in bytes."""
        return self._base.nbytes

    size = __len__ = nbytes


class MemoryMethods:
    """Where a tensor lies."""

    __slots__ = ()

    def data_ptr(self: Any) -> int:
        """The address of its first element, which computes it: a number that tensors of one memory
        share, such as tied weights, `x` and `x.detach()`. It may be another one after the values
        change. 0 of a tensor with no elements.

        >>> import tgrad
        >>> x = tgrad.zeros(2, 3)
        >>> x.data_ptr() == x.view(6).data_ptr(), x[1].data_ptr() - x.data_ptr()
        (True, 12)
        """
        if not self.numel():
            return 0
        place = aliases.place_of(self)
        if place.is_apart:
            return _address(self)
        return _address(aliases.base_of(self)) + place.offset * self.itemsize

    def storage_offset(self: Any) -> int:
        """Elements before its first one in its memory, as PyTorch's view would have it.

        >>> import tgrad
        >>> tgrad.zeros(4, 3)[2:, 1:].storage_offset()
        7
        """
        offset: int | None = aliases.place_of(self).offset
        if offset is None:
            raise UnsupportedError("the offset of a view that has none.", "Use .contiguous().")
        return offset

    def untyped_storage(self: Any) -> UntypedStorage:
        """The memory that it shares with its views."""
        return UntypedStorage(self if aliases.place_of(self).is_apart else aliases.base_of(self))

    def apply_(self: Any, callable: Callable[[Any], Any]) -> Any:
        """Put what a function of Python makes of each element in its place; slow."""
        return self.map_(self, lambda value, _: callable(value))

    def map_(self: Any, other: Any, callable: Callable[[Any, Any], Any]) -> Any:
        """Put what a function of Python makes of each element and that of `other` in its place;
        slow.

        >>> import tgrad
        >>> tgrad.tensor([1, 2]).map_(tgrad.tensor([10, 20]), lambda a, b: a + b).tolist()
        [11, 22]
        """
        from tgrad.tensor import tensor

        pairs = zip(self.reshape(-1).tolist(), other.expand_as(self).reshape(-1).tolist())
        values = tensor([callable(a, b) for a, b in pairs], dtype=self.dtype, device=self.device)
        return self.copy_(values.reshape(self.shape))

    def __contains__(self: Any, element: Any) -> bool:
        return bool((self == element).any().item())

    def __reversed__(self: Any) -> Any:
        return self.flip(0) if self.ndim else self


def _address(base: Any) -> int:
    """Where the memory of a tensor is."""
    trace = tracer()
    if trace is not None:
        trace.refuse("the address of a tensor is read")
    if base.device.type == "opencl":  # whose addresses are not told
        return id(base.realize()._storage.memory)
    array = base._lent()
    return array.data_ptr() if hasattr(array, "data_ptr") else array.ctypes.data
