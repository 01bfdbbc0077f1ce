"""Sharing memory with other array libraries: DLPack and the array interfaces.

In: a tensor, or another library's array. Out: a capsule, an interface, or a tensor, with no copy
where none is needed. Invariant: a tensor's memory is lent for reading, since lazy graph reads it at
any later time; what is borrowed is never written to.
Source: https://dmlc.github.io/dlpack/latest/python_spec.html
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.device import GPU_ALIGNMENT, INDEXED, Device, as_device
from tgrad.errors import GradientError, UnsupportedError
from tgrad.runtime.storage import borrowed, lent
from tgrad.tracing import tracer

CPU, CUDA, ROCM = 1, 2, 10
"""DLPack's numbers of devices."""


class InterchangeMethods:
    """What other libraries look for."""

    __slots__ = ()

    def _lent(self: Any) -> Any:
        """The values where they are."""
        trace = tracer()
        if trace is not None:
            trace.refuse("the memory of a tensor is lent")
        self.realize()
        return lent(self._storage)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        """For pickle: the values, dtype, device, and whether it requires a gradient; what was
        computed comes back as a leaf, as in PyTorch."""
        array = self._without_history().numpy()
        return unpickled, (type(self), array, str(self.device), self.requires_grad)

    def __copy__(self: Any) -> Any:
        """A leaf in the same memory, as PyTorch's: either sees what is written to the other."""
        twin = self.detach()
        if type(self) is not type(twin):
            twin = type(self)(twin)
            vars(twin).update(vars(self))
        return twin.requires_grad_(self.requires_grad)

    def __dlpack__(
        self: Any,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule over the values: versioned and marked read-only where the consumer knows
        versions; on the host, a legacy capsule only of a copy, since it could not say so.

        Raises:
            BufferError: DLPack has no such dtype, or the consumer asks for another device.
            GradientError: the tensor requires a gradient.
        """
        if self.requires_grad:
            raise GradientError("__dlpack__ of a tensor that requires a gradient.", "Detach it.")
        if self.device.type == "cuda":
            return self._lent().__dlpack__(
                stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
            )
        self._check_lendable()
        if not self.dtype.in_numpy:
            name = self.dtype.name
            raise BufferError(f"NumPy, which makes the capsule, has no {name} in DLPack.")
        array = self._lent()
        if copy or (max_version is None and copy is None):
            array = array.copy()
        if max_version is None and dl_device is None:
            return array.__dlpack__()
        return array.__dlpack__(max_version=max_version, dl_device=dl_device, copy=False)

    def __dlpack_device__(self: Any) -> tuple[int, int]:
        """DLPack's kind and number of the device."""
        if self.device.type == "cuda":
            return tuple(self._lent().__dlpack_device__())
        self._check_lendable()
        return CPU, 0

    def _check_lendable(self: Any) -> None:
        """
        Raises:
            BufferError: its memory is no pointer that another library could follow.
        """
        if self.device.type == "opencl":
            raise BufferError(f"DLPack of a tensor on {self.device}. Use .cpu() first.")

    @property
    def __array_interface__(self: Any) -> dict[str, Any]:
        """NumPy's description of the memory, read-only."""
        if self.device.type in INDEXED or not self.dtype.in_numpy:
            raise AttributeError("__array_interface__")
        array = self._lent()
        return {
            "data": array.reshape(-1).view(np.uint8).data,
            "typestr": array.dtype.str,
            "shape": array.shape,
            "version": 3,
        }

    @property
    def __cuda_array_interface__(self: Any) -> dict[str, Any]:
        """The same for memory of a GPU."""
        if self.device.type != "cuda":
            raise AttributeError("__cuda_array_interface__")
        return self._lent().__cuda_array_interface__


def to_dlpack(tensor: Any) -> Any:
    """A capsule over the values of a tensor, for libraries that take capsules; others call
    `__dlpack__` themselves.

    >>> import tgrad
    >>> type(tgrad.to_dlpack(tgrad.ones(2))).__name__
    'PyCapsule'
    """
    return tensor.__dlpack__()


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor over the memory of another library's array.

    Memory is shared where the array is contiguous, on a GPU from an address that 16 divides, and
    copied elsewhere. tgrad never writes to it. Do not write to it either while tgrad's results are
    not computed: they are lazy.

    Args:
        ext_tensor: anything with `__dlpack__`, on the host or, with torch, on a GPU.
        device: where the tensor shall be; by default where the array is.
        copy: True always copies, False raises where it must.

    Raises:
        BufferError: copy is False and memory is not shared.

    >>> import numpy, tgrad
    >>> tgrad.from_dlpack(numpy.arange(3)).tolist()
    [0, 1, 2]
    """
    from tgrad.graph.node import make
    from tgrad.graph.op import Op
    from tgrad.tensor import Tensor

    kind, number = ext_tensor.__dlpack_device__()
    array: Any
    if kind == CPU:
        array, place = _host_array(ext_tensor), Device("cpu")
        found = dt.from_numpy(array.dtype)
        is_plain = array.flags.c_contiguous and array.flags.aligned
    elif kind in (CUDA, ROCM):
        import torch

        array, place = torch.from_dlpack(ext_tensor), Device("cuda", number)
        found = dt.by_name(str(array.dtype)[6:])
        is_plain = array.is_contiguous() and array.data_ptr() % GPU_ALIGNMENT == 0
    else:
        raise UnsupportedError(f"from_dlpack of memory of DLPack's device {kind}.")
    if copy is False and not is_plain:
        raise BufferError(
            "from_dlpack with copy=False of an array that is not contiguous, aligned."
        )
    if copy or not is_plain:
        array = array.copy() if kind == CPU else array.clone().contiguous()
    storage = borrowed(array, found, place)
    t = Tensor._of(make(Op.BUFFER, storage=storage), place, storage)
    return t if device is None or as_device(device) == place else t.to(device)


def unpickled(kind: type, array: np.ndarray, device: str, requires_grad: bool) -> Any:
    """A leaf of these values."""
    from tgrad.tensor import Tensor, tensor

    values = tensor(array, device=device)
    made = values if kind is Tensor else kind(values)
    return made.requires_grad_(requires_grad)


def host_array(data: Any) -> np.ndarray:
    """NumPy's view of data, or NumPy's copy where there is none. torch's narrow floats, which NumPy
    does not know, are seen through their bits."""
    if not _is_of_torch(data):
        return np.asarray(data)
    values = data.detach().cpu()
    found = dt.DTYPES.get(str(values.dtype)[6:])
    if found is None or found.in_numpy:
        return np.asarray(values)
    import torch

    bits = torch.uint8 if found.itemsize == 1 else torch.int16
    array: np.ndarray = values.view(bits).numpy().view(found.numpy)
    return array


def taken_from_gpu(data: Any) -> Any:
    """A tensor of torch's on a GPU copied to a tensor there; anything else as it is."""
    if _is_of_torch(data) and data.is_cuda:
        return from_dlpack(data.detach(), copy=True)
    return data


def _is_of_torch(data: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(data, torch.Tensor)


def _host_array(ext_tensor: Any) -> np.ndarray:
    """NumPy's view of it. An array that may not be written to and cannot say so in DLPack is taken
    as it is."""
    if isinstance(ext_tensor, np.ndarray):
        return ext_tensor
    return host_array(ext_tensor) if _is_of_torch(ext_tensor) else np.from_dlpack(ext_tensor)
