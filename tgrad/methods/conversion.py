"""Methods of Tensor that change dtype or device.

In: a tensor. Out: a lazy tensor of another dtype, or on another device. Invariant: a change of
dtype is graph; so is a change of device, where gradients flow or a function is traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.aliases import laid_out
from tgrad.arguments import CHANNELS_LAST, check_memory_format
from tgrad.batching import is_inside_transform
from tgrad.device import Device, as_device
from tgrad.dtype import ComplexDType, DType, as_dtype
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph.node import buffer_node
from tgrad.graph.op import Op
from tgrad.moving import moved, with_history
from tgrad.runtime.storage import unwritten, upload
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


_CONSTRUCTORS = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
    "int64": "Long", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float",
    "float64": "Double",
}  # fmt: skip
"""What older constructors call a dtype."""

_DTYPES = {f"{short}Tensor": name for name, short in _CONSTRUCTORS.items()}


class ConversionMethods:
    """The same values in another dtype or place."""

    __slots__ = ()

    def to(
        self: Any,
        *args: Any,
        dtype: DType | None = None,
        device: Any = None,
        non_blocking: Any = False,
        copy: Any = False,
        memory_format: Any = None,
    ) -> Tensor:
        """A copy with another dtype or device; itself where nothing changes.

        Args:
            args: a dtype, a device, a device and a dtype, or a tensor to be like; then
                non_blocking and copy.
            non_blocking: accepted; when a copy runs makes no difference to its result.
            copy: never itself.

        Gradients of what is moved go back to this tensor's device.

        Raises:
            UnsupportedError: it is on the device meta, and another one is asked for.
        """
        if len(args) == 1 and type(args[0]) is DType and not copy:
            if dtype is None and device is None and memory_format is None:
                return self if args[0] is self.dtype else self._apply(Op.CAST, dtype=args[0])
        from tgrad.tensor import Tensor

        name = check_memory_format("to", memory_format)
        flags = [a for a in args if a is True or a is False]
        copy = copy or flags[1:] == [True]
        if any(isinstance(getattr(a, "dtype", a), ComplexDType) for a in (*args, dtype)):
            return _as_complex(
                laid_out(self, name) if name in CHANNELS_LAST else self,
                *args,
                dtype=dtype,
                device=device,
            )
        for a in args[: len(args) - len(flags)]:
            if isinstance(a, Tensor):
                dtype, device = a.dtype, a.device
            elif isinstance(a, DType) or a in (bool, int, float):
                dtype = as_dtype(a)
            else:
                device = a
        result = self
        if dtype is not None and as_dtype(dtype) is not self.dtype:
            result = result._apply(Op.CAST, dtype=as_dtype(dtype))
        if name in CHANNELS_LAST:
            result = laid_out(result, name)
        if device is None or as_device(device) == self.device:
            return result.clone() if copy and result is self else result
        return _on_device(result, as_device(device))

    def cpu(self: Any) -> Tensor:
        return self.to("cpu")

    def cuda(self: Any, device: Any = None) -> Tensor:
        return self.to("cuda" if device is None else device)

    def type(self: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
        """In a dtype, which a constructor such as tgrad.LongTensor, or its name, names too; without
        one, the name of this tensor's constructor.

        >>> import tgrad
        >>> x = tgrad.ones(2)
        >>> x.type(tgrad.LongTensor).type(), x.type("torch.ByteTensor").dtype
        ('tgrad.LongTensor', tgrad.uint8)
        """
        if dtype is None:
            place = "" if self.device.type == "cpu" else f"{self.device.type}."
            return (
                f"tgrad.{place}{_CONSTRUCTORS.get(self.dtype.name, self.dtype.name.title())}Tensor"
            )
        if isinstance(dtype, ComplexDType):
            return self.to(dtype)
        if isinstance(dtype, str) and dtype.endswith("Tensor"):
            *device, name = dtype.removeprefix("torch.").removeprefix("tgrad.").split(".")
            moved = self.to(device[0]) if device else self.cpu() if self.is_cuda else self
            return moved.to(as_dtype(_DTYPES.get(name, dtype)))
        named = getattr(dtype, "place", None)
        moved = self if named is None else self.to(named)
        return moved.to(as_dtype(getattr(dtype, "dtype", dtype)))

    def type_as(self: Any, other: Tensor) -> Tensor:
        """In the dtype and on the device of another."""
        return self.to(other)

    def cfloat(self: Any, memory_format: Any = None) -> Any:
        """As complex64; a real tensor without imaginary parts."""
        return self.to(dt.complex64, memory_format=memory_format)

    def cdouble(self: Any, memory_format: Any = None) -> Any:
        """As complex128; a real tensor without imaginary parts."""
        return self.to(dt.complex128, memory_format=memory_format)

    def float(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.float32, memory_format=memory_format)

    def double(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.float64, memory_format=memory_format)

    def half(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.float16, memory_format=memory_format)

    def bfloat16(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.bfloat16, memory_format=memory_format)

    def long(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.int64, memory_format=memory_format)

    def int(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.int32, memory_format=memory_format)

    def short(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.int16, memory_format=memory_format)

    def char(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.int8, memory_format=memory_format)

    def byte(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.uint8, memory_format=memory_format)

    def bool(self: Any, memory_format: Any = None) -> Tensor:
        return self.to(dt.bool_, memory_format=memory_format)


def _on_device(x: Tensor, device: Device) -> Tensor:
    """A copy on another device. Of what gradients flow through it is made when something runs on
    either, so that a step stays whole; of all else now, so that its graph can go."""
    from tgrad.tensor import Tensor

    has_history = x._requires_grad and is_grad_enabled()
    if x._device.type == "meta":
        x.numpy()  # says what to do
    if device.type == "meta":
        storage = unwritten(device, x.dtype, x._node.shape)
    elif tracer() is not None or is_inside_transform() or (has_history and x._storage is None):
        return moved_later(x, device)
    else:
        storage = upload(x.numpy(), x.dtype, device)
    if not has_history:
        return Tensor._of(buffer_node(storage), device, storage)
    node = with_history(buffer_node(storage), x._node, x._device, device)
    return Tensor._result(node, device, (x,))


def moved_later(x: Tensor, device: Device) -> Tensor:
    """A copy on a device, made when something runs there or here; itself if it is there."""
    from tgrad.tensor import Tensor

    if x._device == device:
        return x
    node = moved(x._node, x._device, device)
    if not (x._requires_grad or is_inside_transform()):
        node = node.inputs[0]
    return Tensor._result(node, device, (x,))


def _as_complex(x: Any, *args: Any, dtype: Any, device: Any) -> Any:
    """Real numbers in a complex dtype, without imaginary parts."""
    from tgrad.complex_numbers import ComplexTensor

    kinds = [getattr(a, "dtype", a) for a in (*args, dtype)]
    kind = next(k for k in kinds if isinstance(k, ComplexDType))
    others = [a for a in args if getattr(a, "dtype", a) is not kind]
    others += [a.device for a in args if hasattr(a, "device") and not isinstance(a, Device)]
    real = x.to(*others, kind.part, device=device) if device else x.to(*others, kind.part)
    return ComplexTensor.of(real.clone() if real is x else real)
