"""Parameters: the leaves that modules own and optimizers change.

In: a tensor. Out: a Parameter. Invariant: values that were not computed yet (initialisation is lazy
as well) are computed together, in one plan, before the first forward pass or step that reads them;
so the plan of the first step is that of all others.
"""

from __future__ import annotations

from weakref import ref

import numpy as np

from tgrad.aliases import DETACH, join, leave
from tgrad.creation import remade
from tgrad.device import Device
from tgrad.tensor import Tensor, realize_tensors, tensor
from tgrad.tracing import tracer, versions

_fresh: dict[int, ref[Tensor]] = {}


class Parameter(Tensor):
    """A tensor that a module registers when it becomes an attribute.

    Args:
        data: the values; their history is left behind.
        requires_grad: whether gradients are collected for it.

    >>> import tgrad
    >>> tgrad.nn.Parameter(tgrad.ones(2)).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        value = tensor([]) if data is None else data._without_history()
        self._set(value._node, value.device, value._storage)
        if data is not None:
            join(data, self, DETACH)
        mark_fresh(self)
        if requires_grad:
            self.requires_grad_()

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


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
    return remade(value, device) if value._storage is None else value.to(device)


def replace(target: Tensor, value: Tensor) -> None:
    """Give a parameter or buffer a value of any dtype and device, as `Module.to` does."""
    trace = tracer()
    if trace is not None:
        trace.refuse("a parameter or buffer changes its dtype or device")
    versions.guards += 1
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
