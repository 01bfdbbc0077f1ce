"""Parameters: the leaves that modules own and optimizers change.

In: a tensor, or a dtype and a device alone. Out: a Parameter, at once or when its shape is known.
Invariant: values that were not computed yet (initialisation is lazy as well) are computed together,
in one plan, before the first forward pass or step that reads them; so the plan of the first step is
that of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

import numpy as np

from tgrad.aliases import DETACH, join, leave
from tgrad.creation import DeviceLike, empty, remade
from tgrad.device import Device, as_device
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.methods.elementwise import is_complex
from tgrad.repeating import usual
from tgrad.serialization import kinds
from tgrad.tensor import Tensor, realize_tensors, tensor
from tgrad.tracing import tracer, versions

_fresh: dict[int, ref[Tensor]] = {}


class Parameter(Tensor):
    """A tensor that a module registers when it becomes an attribute. It takes attributes of its
    own, such as marks for the groups of an optimizer.

    Args:
        data: the values; their history is left behind.
        requires_grad: whether gradients are collected for it.

    >>> import tgrad
    >>> tgrad.nn.Parameter(tgrad.ones(2)).requires_grad
    True
    """

    __slots__ = ("__dict__",)

    def __new__(cls, data: Any = None, *args: Any, **options: Any) -> Any:
        """A complex tensor stays one: its parts are those of a Parameter of pairs."""
        if cls is Parameter and is_complex(data):
            return type(data).from_pairs(PairsParameter(data.pairs(), *args, **options))
        return super().__new__(cls)

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        value = tensor([]) if data is None else data._without_history()
        self._set(value._node, value.device, value._storage)
        if data is not None:
            join(data, self, DETACH)
        mark_fresh(self)
        if requires_grad:
            self.requires_grad_()

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            versions.guards += 1
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (*super().__reduce_ex__(protocol), vars(self) or None)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


kinds["parameter"] = Parameter


class PairsParameter(Parameter):
    """A parameter of complex numbers: both parts along a last axis. Optimizers and gradients see it
    so, as PyTorch's see `view_as_real`; as an attribute of a module it is complex."""

    __slots__ = ()
    holds_pairs = True


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it becomes an attribute.

    Args:
        data: the values; their history is left behind.
        persistent: whether it is in the `state_dict`.

    >>> import tgrad
    >>> net = tgrad.nn.Module()
    >>> net.mean = tgrad.nn.Buffer(tgrad.zeros(2))
    >>> [name for name, _ in net.named_buffers()]
    ['mean']
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True):
        value = tensor([]) if data is None else data._without_history()
        self._set(value._node, value.device, value._storage)
        if data is not None:
            join(data, self, DETACH)
        self.persistent = persistent


class PairsBuffer(Tensor):
    """A buffer of complex numbers; see `PairsParameter`."""

    __slots__ = ()
    holds_pairs = True

    def __init__(self, pairs: Tensor):
        self._set(pairs._node, pairs.device, pairs._storage)
        join(pairs, self, DETACH)


usual.update((Parameter, Buffer))


def as_attribute(t: Any) -> Any:
    """What a module's parameter or buffer is to who reads it: complex where it holds pairs."""
    if t is None or not t.holds_pairs:
        return t
    from tgrad.complex_numbers import view_as_complex

    return view_as_complex(t)


# -- before their shapes are known ---------------------------------------------------------------


if TYPE_CHECKING:
    _AnyTensor = Tensor
else:
    _AnyTensor = object


class _Uninitialized(_AnyTensor):
    """What a parameter or buffer is as long as its shape is not known: dtype and device. It is
    mixed into a kind of tensor, whose class it takes when it has a shape."""

    __slots__ = ()
    _becomes: type[Tensor]

    def _specify(self, device: Any, dtype: DType | None, requires_grad: bool) -> None:
        """Keep dtype and device, in the graph of no elements, which nobody gets to see."""
        none = empty(0, device=device, dtype=dtype)
        self._set(none._node, none.device)
        self._requires_grad = requires_grad

    @property  # type: ignore[override]
    def _node(self) -> NoReturn:
        raise ShapeError(
            f"an {type(self).__name__} is used: it has no shape and no values yet.",
            "Call the lazy module once, load a state_dict, or use materialize(shape).",
        )

    @_node.setter
    def _node(self, node: Any) -> None:
        _NODE.__set__(self, node)

    @property
    def dtype(self) -> DType:
        return _NODE.__get__(self).dtype

    @property
    def is_leaf(self) -> bool:
        return True

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Whether what it becomes will require a gradient."""
        self._requires_grad = requires_grad
        return self

    def materialize(
        self, shape: Sequence[int], device: DeviceLike = None, dtype: DType | None = None
    ) -> None:
        """Be an ordinary parameter or buffer of that shape, whose values do not matter.

        Args:
            shape: sizes.
            device, dtype: other ones than it was made with.

        Raises:
            TraceError: a function is being compiled, whose plan could not repeat it.
        """
        trace = tracer()
        if trace is not None:
            trace.refuse(
                "a lazy parameter gets its shape",
                "Call the lazy module once before, outside of tgrad.compile.",
            )
        versions.guards += 1
        made = empty(
            tuple(shape),
            device=self.device if device is None else device,
            dtype=self.dtype if dtype is None else dtype,
        )
        wanted = self._requires_grad
        object.__setattr__(self, "__class__", self._becomes)
        self._set(made._node, made.device, made._storage)
        self.requires_grad_(wanted)
        mark_fresh(self)

    def to(self, *args: Any, device: Any = None, dtype: DType | None = None, **rest: Any) -> Any:
        """One of another device or dtype."""
        for a in args:
            if isinstance(a, DType):
                dtype = a
            elif isinstance(a, Tensor):
                device, dtype = a.device, a.dtype
            elif not isinstance(a, bool):
                device = a
        return self._twin(device, dtype)

    def _twin(self, device: Any = None, dtype: DType | None = None) -> Any:
        where = self.device if device is None else as_device(device)
        twin = type(self).__new__(type(self))
        twin._specify(where, self.dtype if dtype is None else dtype, self._requires_grad)
        return twin

    _without_history = _twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = twin = self._twin()
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self._requires_grad, str(self.device), self.dtype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


_NODE: Any = Tensor.__dict__["_node"]
"""Where a tensor keeps its node."""


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape is not known yet; it becomes a Parameter, the same object.

    Anything but its dtype, device, `to` and `requires_grad` raises ShapeError until then.

    Args:
        requires_grad: whether gradients will be collected for it.
        device, dtype: of what it becomes.

    Source: https://docs.pytorch.org/docs/stable/nn.html#lazy-modules-initialization

    >>> import tgrad
    >>> p = tgrad.nn.UninitializedParameter()
    >>> p.materialize((2, 3))
    >>> type(p).__name__, p.shape
    ('Parameter', (2, 3))
    """

    __slots__ = ()
    _becomes = Parameter

    def __init__(
        self, requires_grad: bool = True, device: DeviceLike = None, dtype: DType | None = None
    ):
        self._specify(device, dtype, requires_grad)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer whose shape is not known yet; see `UninitializedParameter`.

    Args:
        requires_grad: whether gradients will be collected for it.
        device, dtype: of what it becomes.
        persistent: whether it is in the `state_dict`.

    >>> import tgrad
    >>> tgrad.nn.UninitializedBuffer()
    <UninitializedBuffer>
    """

    __slots__ = ()
    _becomes = Buffer

    def __init__(
        self,
        requires_grad: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        persistent: bool = True,
    ):
        self._specify(device, dtype, requires_grad)
        self.persistent = persistent


def is_lazy(param: Any) -> bool:
    """Whether it is a parameter or buffer whose shape is not known yet."""
    return isinstance(param, _Uninitialized)


# -- values --------------------------------------------------------------------------------------


def mark_fresh(t: Tensor) -> None:
    """Have a parameter or buffer that has no values yet computed by `realize_parameters`."""
    if t._storage is None:
        _fresh[id(t)] = ref(t)


def realize_parameters() -> None:
    """Compute the values of all parameters that have none yet, in the order they were made in."""
    if _fresh:
        waiting = [t for t in (held() for held in _fresh.values()) if t is not None]
        _fresh.clear()
        realize_tensors([t for t in waiting if t._storage is None])


def moved(value: Tensor, device: Device) -> Tensor:
    """A parameter's or buffer's value on a device: made there if it is not computed yet."""
    value = value._without_history()
    if value.device == device:
        return value
    if is_lazy(value):
        return value.to(device)
    return remade(value, device) if value._storage is None else value.to(device)


def replace(target: Tensor, value: Tensor) -> None:
    """Give a parameter or buffer a value of any dtype and device, as `Module.to` does."""
    trace = tracer()
    if trace is not None:
        trace.refuse("a parameter or buffer changes its dtype or device")
    versions.guards += 1
    if isinstance(target, _Uninitialized):
        target._specify(value.device, value.dtype, target._requires_grad)
        return
    target._device = value.device
    leave(target)
    target._rebind(value._without_history()._node, value._storage)
    mark_fresh(target)


def stored_full(shape: tuple[int, ...], value: float, like: Tensor) -> Tensor:
    """One number in memory, for state that a graph reads and writes: a graph that reads the first
    state has the key of the graphs that read later ones. Zeros take no pages while planning."""
    dtype = like.dtype.numpy
    array = np.full(shape, value, dtype) if value else np.zeros(shape, dtype)
    return tensor(array, dtype=like.dtype, device=like.device)
