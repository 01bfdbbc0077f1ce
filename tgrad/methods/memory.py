"""Methods of Tensor that say where it lies in memory.

In: a tensor. Out: numbers. Invariant: tensors that share memory in PyTorch have one storage here;
where tgrad keeps the values of a view that it has computed by itself is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tgrad import aliases
from tgrad.arguments import check_memory_format
from tgrad.device import Device
from tgrad.errors import DTypeError, GradientError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.methods.elementwise import is_tensor
from tgrad.methods.movement import as_sizes
from tgrad.pending import mark_pending
from tgrad.strides import contiguous
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


class TypedStorage(UntypedStorage):
    """The same, counted in elements, as `Tensor.storage` gives it.

    >>> import tgrad
    >>> storage = tgrad.zeros(2, 3).storage()
    >>> len(storage), storage.nbytes(), storage.element_size()
    (6, 24, 4)
    """

    @property
    def dtype(self) -> Any:
        """Of its elements."""
        return self._base.dtype

    def element_size(self) -> int:
        """Bytes of one."""
        return int(self._base.itemsize)

    def size(self) -> int:
        """How many there are."""
        return int(self._base.numel())

    __len__ = size

    def untyped(self) -> UntypedStorage:
        """It, counted in bytes."""
        return UntypedStorage(self._base)


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

    def storage(self: Any) -> TypedStorage:
        """`untyped_storage`, counted in elements: its older form."""
        return TypedStorage(self.untyped_storage()._base)

    def is_set_to(self: Any, tensor: Any) -> bool:
        """Whether both are the same part of one memory.

        >>> import tgrad
        >>> x = tgrad.zeros(4)
        >>> x.is_set_to(x.detach()), x.is_set_to(x[:2])
        (True, False)
        """
        is_alike = self.shape == tensor.shape and self.stride() == tensor.stride()
        return bool(is_alike and self.data_ptr() == tensor.data_ptr())

    def record_stream(self: Any, stream: Any) -> None:
        """Nothing: plans keep what they read until they have run."""

    def set_(
        self: Any,
        source: Any = None,
        storage_offset: int = 0,
        size: Any = None,
        stride: Any = None,
    ) -> Any:
        """Be a tensor of another one's memory, which either writes to; with nothing given, one of
        no elements.

        Args:
            source: of this dtype.
            storage_offset, size, stride: of `source.as_strided`, where sizes are given.

        Raises:
            GradientError: it was computed from tensors that require gradients.
            DTypeError: `source` has another dtype.
            UnsupportedError: `source` is no tensor.

        >>> import tgrad
        >>> x, y = tgrad.zeros(2), tgrad.ones(3)
        >>> x.set_(y).add_(1).tolist(), y.tolist()
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
        """
        if source is None:
            source = self.new_zeros(0)
        if not is_tensor(source):
            raise UnsupportedError(f"set_ to a {type(source).__name__}.", "Give a tensor.")
        if source.dtype is not self.dtype:
            raise DTypeError(
                f"set_ of a tensor of {self.dtype.name} to one of {source.dtype.name}.",
                "Convert it first.",
            )
        if size is not None:
            strides = contiguous(tuple(size)) if stride is None else stride
            source = source.as_strided(size, strides, storage_offset)
        self.data = source
        return self

    def as_strided_(self: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
        """Be what `as_strided` gives.

        >>> import tgrad
        >>> tgrad.arange(6).as_strided_((2, 2), (3, 1)).tolist()
        [[0, 1], [3, 4]]
        """
        return self._become(self.as_strided(size, stride, storage_offset))

    def resize_(self: Any, *sizes: Any, memory_format: Any = None) -> Any:
        """Give it another shape: of the elements that lie in its memory from its first one on, and
        of zeros beyond them, where PyTorch has any values. What a smaller shape left out is there
        until the tensor, if no view of its memory lives, is changed in place.

        Args:
            sizes: as arguments, or as one sequence.
            memory_format: contiguous only.

        Raises:
            GradientError: it requires a gradient.
            ShapeError: a size is negative.
            UnsupportedError: it is a view of a memory that would have to grow.

        >>> import tgrad
        >>> tgrad.arange(6).resize_(2, 2).tolist(), tgrad.arange(2).resize_(3).tolist()
        ([[0, 1], [2, 3]], [0, 1, 0])
        """
        if check_memory_format("resize_", memory_format) not in ("None", "contiguous_format"):
            raise UnsupportedError(f"resize_: memory_format={memory_format}.", "Leave it out.")
        if self.requires_grad:
            raise GradientError("resize_ of a tensor that requires a gradient.", "Use .reshape().")
        shape = as_sizes(sizes)
        if any(n < 0 for n in shape):
            raise ShapeError(f"resize_ to {shape}.", "Give sizes of 0 or more.")
        if shape == self.shape:
            return self
        is_alone = self._memory is None or len(self._memory.members) < 2
        with no_grad():
            flat = _from_first_on(self)
            more = prod(shape) - flat.shape[0]
            if more <= 0:
                return self._become(flat[: prod(shape)].view(shape))
            if not is_alone:
                raise UnsupportedError(
                    f"resize_ of a view of shape {self.shape} to {shape}, beyond its memory.",
                    "Resize the tensor that it views, or use .clone() first.",
                )
            return _moved_out(self, flat._pad_zero((0,), (more,)).reshape(shape))

    def resize_as_(self: Any, other: Any, memory_format: Any = None) -> Any:
        """`resize_` to the shape of another."""
        return self.resize_(other.shape, memory_format=memory_format)

    def is_shared(self: Any) -> bool:
        """Whether other processes can see its memory: False on the host, True of a GPU's, as in
        PyTorch."""
        return bool(self.is_cuda)

    def share_memory_(self: Any) -> Any:
        """Nothing for a GPU's memory, as in PyTorch; memory of the host is not shared.

        Raises:
            UnsupportedError: it is on the host: a change gives a tensor new values, which another
                process would not see.
        """
        if not self.is_cuda:
            raise UnsupportedError(
                "share_memory_: processes do not share tensors, they get copies.",
                "Exchange values by tgrad.distributed, or share arrays of NumPy by "
                "multiprocessing.shared_memory.",
            )
        return self

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


def _from_first_on(t: Any) -> Any:
    """The elements of its memory from its first one on, in the order in which they lie.

    Raises:
        UnsupportedError: it is a view whose place is not known.
    """
    place = aliases.place_of(t)
    if place.offset is None:
        raise UnsupportedError("resize_ of a view whose place is not known.", "Use .clone() first.")
    base = t if place.is_apart else aliases.base_of(t)
    return base.permute(base._memory_order(None)).reshape(-1)[place.offset :]


def _moved_out(t: Any, value: Any) -> Any:
    """The tensor with values of another shape in a memory of its own."""
    trace = tracer()
    if trace is not None:
        trace.note(t)
    aliases.leave(t)
    t._rebind(value._node, value._storage)
    mark_pending(t)
    return t


def _address(base: Any) -> int:
    """Where the memory of a tensor is."""
    trace = tracer()
    if trace is not None:
        trace.refuse("the address of a tensor is read")
    if base.device.type == "opencl":  # whose addresses are not told
        return id(base.realize()._storage.memory)
    array = base._lent()
    return array.data_ptr() if hasattr(array, "data_ptr") else array.ctypes.data
