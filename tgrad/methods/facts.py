"""Methods of Tensor that say what it is, and functions that are methods too.

In: a tensor. Out: numbers and bools; tensors. Invariant: nothing is computed to say what a tensor
is, but by `is_nonzero`, which reads its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from tgrad.aliases import strides_of
from tgrad.arguments import CHANNELS_LAST, check_memory_format
from tgrad.errors import ScalarError, UnsupportedError
from tgrad.strides import channels_last

FUNCTIONS = {
    "corrcoef": "tgrad.measures",
    "cov": "tgrad.measures",
    "cross": "tgrad.products",
    "diff": "tgrad.measures",
    "hardshrink": "tgrad",
    "multinomial": "tgrad.sorting",
    "narrow_copy": "tgrad.functional",
    "prelu": "tgrad",
}
"""Functions of tgrad that are methods of PyTorch's tensors, and where they are."""


class FactMethods:
    """What a tensor is."""

    __slots__ = ()

    def nelement(self: Any) -> int:
        """Number of elements."""
        return self.numel()

    def ndimension(self: Any) -> int:
        """Number of axes."""
        return self.ndim

    def element_size(self: Any) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def is_floating_point(self: Any) -> bool:
        """Whether its dtype is one of floating-point numbers."""
        return self.dtype.is_float

    @property
    def is_leaf(self: Any) -> bool:
        """Whether it was not computed from tensors that require gradients."""
        return not self._requires_grad or self._token is not None

    def __len__(self: Any) -> int:
        if not self.shape:
            raise ScalarError("len() of a tensor with no axes.", "Use .numel() for its elements.")
        return self.shape[0].__index__()

    def __iter__(self: Any) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    @property
    def itemsize(self: Any) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self: Any) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    @property
    def is_cpu(self: Any) -> bool:
        """Whether it lives on the device "cpu"."""
        return self.device.type == "cpu"

    @property
    def is_cuda(self: Any) -> bool:
        """Whether it lives on a GPU."""
        return self.device.type == "cuda"

    @property
    def is_mps(self) -> bool:
        """False: there is no device of Apple's."""
        return False

    is_hpu = is_ipu = is_maia = is_mtia = is_vulkan = is_xla = is_mps

    @property
    def is_xpu(self) -> bool:
        """False: GPUs of Intel are the device "opencl"."""
        return False

    @property
    def layout(self) -> str:
        """`tgrad.strided`: tensors are dense."""
        return "strided"

    @property
    def is_sparse(self) -> bool:
        """False: tensors are dense."""
        return False

    is_mkldnn = is_sparse_csr = is_sparse

    @property
    def is_quantized(self) -> bool:
        """False: there are no quantized dtypes."""
        return False

    @property
    def is_meta(self: Any) -> bool:
        """Whether it has a shape and no values."""
        return self.device.type == "meta"

    @property
    def is_nested(self) -> bool:
        """False: tensors are dense."""
        return False

    @property
    def output_nr(self) -> int:
        """0: each tensor is the only one that it was computed as."""
        return 0

    def is_inference(self) -> bool:
        """False: tensors made in inference_mode are as others."""
        return False

    def is_conj(self) -> bool:
        """False: conjugates are computed."""
        return False

    def is_neg(self) -> bool:
        """False: negatives are computed."""
        return False

    def is_distributed(self) -> bool:
        """False: each process has tensors of its own."""
        return False

    def to_dense(self: Any, dtype: Any = None, *, masked_grad: bool | None = None) -> Any:
        """The tensor itself, in a dtype if one is given: tensors are dense."""
        return self if dtype is None else self.to(dtype)

    def is_pinned(self) -> bool:
        """False: memory of the host is not pinned."""
        return False

    def pin_memory(self: Any) -> Any:
        """The tensor itself: when a copy to a GPU runs makes no difference to its result."""
        return self

    def get_device(self: Any) -> int:
        """Number of its GPU; -1 on the host."""
        return self.device.index if self.is_cuda else -1

    def is_complex(self) -> bool:
        """False: complex tensors are ComplexTensor."""
        return False

    def is_signed(self: Any) -> bool:
        """Whether its dtype has negative numbers."""
        return self.dtype.kind in "if"

    def is_same_size(self: Any, other: Any) -> bool:
        """Whether the shapes are equal."""
        return self.shape == other.shape

    def is_nonzero(self: Any) -> bool:
        """Whether the only element is not zero."""
        return self.item() != 0

    def stride(self: Any, dim: int | None = None) -> Any:
        """Elements between neighbours of each axis, or of one, as PyTorch's view would have it.

        As in PyTorch, what is computed element by element keeps the order of a permuted operand.

        Raises:
            UnsupportedError: the tensor is a view that PyTorch would not have made.

        >>> import tgrad
        >>> tgrad.ones(2, 3).t().stride()
        (1, 3)
        """
        found = strides_of(self)
        if found is None:
            raise UnsupportedError("the strides of a view that has none.", "Use .contiguous().")
        return found if dim is None else found[dim]

    def is_contiguous(self: Any, memory_format: Any = None) -> bool:
        """Whether its elements lie in row-major order, or in that of a format of channels last, as
        PyTorch's view would."""
        name = check_memory_format("is_contiguous", memory_format)
        if name in CHANNELS_LAST:
            rank = CHANNELS_LAST[name]
            return len(self.shape) == rank and self.stride() == channels_last(self.shape)
        sizes, wanted = self.shape, 1
        for n, stride in zip(reversed(sizes), reversed(self.stride())):
            if n != 1 and stride != wanted:
                return 0 in sizes
            wanted *= n
        return True


def _method(name: str, module: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(self, *args, **kwargs)

    method.__name__, method.__qualname__ = name, f"FactMethods.{name}"
    method.__doc__ = f"`tgrad.{name}`."
    return method


for _name, _module in FUNCTIONS.items():
    setattr(FactMethods, _name, _method(_name, _module))
