"""What a trace of `tgrad.compile` must hear about, and what guards of compiled steps look at.

In: calls from tensors, generators, optimizers and modules. Out: the tracer of this thread, which is
told; counters that move when something that a compiled step depends on may have changed. Invariant:
with no trace running, nothing here changes what the callers do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tgrad.modes import thread
from tgrad.runtime.storage import Storage, lent

if TYPE_CHECKING:
    from tgrad.device import Device
    from tgrad.dtype import DType
    from tgrad.graph.node import Node
    from tgrad.random import Generator
    from tgrad.tensor import Tensor


Refuse = Callable[..., None]
"""(values, *args): raises where an array of the host holds what it must not."""


class Tracer(Protocol):
    """What a running trace answers."""

    differentiated: bool
    """Whether gradients were asked for."""

    constants: dict[Storage, np.ndarray]
    """What the trace has made of numbers of the host, which replays do not make again."""

    def note(self, t: Tensor) -> None:
        """The tensor is about to get a new value."""

    def note_view(self, t: Tensor) -> None:
        """The tensor, a view, is about to see what is written to its base."""

    def gradient(self, leaf: Tensor) -> Tensor | None:
        """What `leaf.grad` is inside the trace."""

    def set_gradient(self, leaf: Tensor, value: Tensor | None) -> None:
        """`leaf.grad = value` inside the trace."""

    def mark(self, t: Tensor) -> None:
        """The tensor's value will be wanted."""

    def drop(self, t: Tensor) -> None:
        """The tensor's value is not wanted any more."""

    def number(
        self, key: Any, read: Callable[[], int | float], device: Device, dtype: DType
    ) -> Tensor:
        """A 0-d tensor that every replay fills with what `read` gives then."""

    def draw(self, generator: Generator, device: Device) -> tuple[Node, Node]:
        """The number of the next draw and the seed, as in `Generator.draw`."""

    def check(self, t: Tensor, refuse: Refuse, *args: Any) -> None:
        """Replays must call `refuse(values, *args)` on the values of an argument."""

    def exchanged(self, device: Device) -> list[Tensor]:
        """Results of the exchanges between processes so far, of tensors on a device."""

    def exchange(self, t: Tensor) -> None:
        """The result of one more: it is computed whether or not somebody reads it."""

    def keep_once(self) -> None:
        """The trace depends on more than its guards: it serves this call alone."""

    def refuse(self, what: str, hint: str = "") -> None:
        """Raise, since `what` cannot be part of a plan."""


def check_values(t: Tensor, refuse: Refuse, *args: Any) -> None:
    """Let `refuse(values, *args)` see a tensor's values: now, if they are known, and in a trace at
    each call."""
    trace = tracer()
    if trace is not None:
        trace.check(t, refuse, *args)
    elif t._storage is not None and t._storage.is_at_hand:
        refuse(lent(t._storage), *args)


class Versions:
    """Counters of changes outside of traces.

    Attributes:
        guards: attributes of modules, settings and state of optimizers, `requires_grad`.
        gradients: which tensor `grad` is.
        lent: a tensor that a compiled step has borrowed is looked at by somebody else, or has other
            memory than before.
    """

    __slots__ = ("gradients", "guards", "lent")

    def __init__(self) -> None:
        self.guards = self.gradients = self.lent = 0


versions = Versions()


def tracer() -> Tracer | None:
    """The trace that runs in this thread."""
    found: Tracer | None = thread.tracer
    return found


def note_constant(storage: Storage, array: np.ndarray) -> None:
    """A tensor of these numbers is made; a trace knows them from now on."""
    trace = tracer()
    if trace is not None:
        trace.constants[storage] = array


@contextmanager
def tracing(found: Tracer | None) -> Iterator[None]:
    """Inside the block, this thread traces (or, for None, does not)."""
    previous = tracer()
    thread.tracer = found
    try:
        yield
    finally:
        thread.tracer = previous


class WatchedDict(dict[str, Any]):
    """A dictionary that moves `versions.guards` when it changes, except by the keys of `inputs`,
    whose values compiled steps read at every call."""

    __slots__ = ("inputs",)

    def __init__(self, items: Any = (), inputs: set[str] | None = None):
        super().__init__(items)
        self.inputs: set[str] = set() if inputs is None else inputs

    def is_input(self, key: str, value: Any) -> bool:
        """Whether compiled steps read the new value by themselves."""
        return key in self.inputs

    def __setitem__(self, key: str, value: Any) -> None:
        if not self.is_input(key, value):
            versions.guards += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        versions.guards += 1
        super().__delitem__(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        versions.guards += 1
        super().update(*args, **kwargs)

    def setdefault(self, key: str, default: Any = None) -> Any:
        versions.guards += 1
        return super().setdefault(key, default)

    def pop(self, *args: Any) -> Any:
        versions.guards += 1
        return super().pop(*args)

    def clear(self) -> None:
        versions.guards += 1
        super().clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> WatchedDict:
        from copy import deepcopy

        return type(self)(deepcopy(dict(self), memo), set(self.inputs))


class WatchedState(defaultdict["Tensor", dict[str, Any]]):
    """An optimizer's state by parameter; watched as its dictionaries are."""

    def __init__(self, factory: Any = WatchedDict, items: Any = ()):
        super().__init__(factory, items)

    def __setitem__(self, key: Tensor, value: dict[str, Any]) -> None:
        versions.guards += 1
        super().__setitem__(key, value if isinstance(value, WatchedDict) else WatchedDict(value))

    def __delitem__(self, key: Tensor) -> None:
        versions.guards += 1
        super().__delitem__(key)

    def pop(self, *args: Any) -> Any:
        versions.guards += 1
        return super().pop(*args)

    def clear(self) -> None:
        versions.guards += 1
        super().clear()
