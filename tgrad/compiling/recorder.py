"""What a function does to tensors while it is traced.

In: what tensors, optimizers and generators tell the tracer. Out: new values of tensors that were
there before, gradients, numbers of the host. Invariant: `restore` makes every tensor what it was,
so a trace changes nothing, whether it succeeds or not; gradients are kept aside meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import ReferenceType, ref

import numpy as np

from tgrad import dtype as dt
from tgrad.device import Device, get_default_device
from tgrad.dtype import DType
from tgrad.errors import Source, TraceError
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.size import Extent, Scope, Size, Symbol
from tgrad.pipeline import Storage, upload
from tgrad.random import Generator
from tgrad.rollback import Before
from tgrad.runtime.device import allocate, open_device
from tgrad.runtime.planning import current_planning
from tgrad.tensor import Tensor
from tgrad.tracing import Refuse, check_values, tracing

WAYS_OUT = (
    "Use tgrad.where to choose between values or tgrad.cond between computations, return the "
    "tensor and look at it there, or move this outside the compiled function."
)


class StandIn(Storage):
    """In place of an argument's storage: a trace sees its shape and no values."""

    __slots__ = ("name", "sizes")

    def __init__(self, like: Tensor, name: str, sizes: tuple[Extent, ...] | None = None):
        self.device, self.dtype, self.shape = like._device, like.dtype, like._node.shape
        self.name, self.serial, self.sizes = name, -1, sizes
        if sizes is not None:
            self.shape = tuple(n.capacity if isinstance(n, Size) else n for n in sizes)

    @property
    def memory(self) -> Any:
        raise TraceError(
            f"a tensor that was made while tgrad.compile traced {self.name!r} is used after it.",
            "Return it from the compiled function.",
        )

    def numpy(self) -> np.ndarray:
        return self.memory


@dataclass(eq=False)
class HostNumber:
    """A 0-d tensor that every call fills with a number of the host, if it changed."""

    read: Callable[[], int | float]
    storage: Storage
    last: int | float

    def refresh(self) -> bool:
        """Read the number again. It stays where it is, after all that is pending, unless a result
        has its memory; whether it lies elsewhere now."""
        value = self.read()
        if value == self.last or current_planning() is not None:
            return False
        storage, array = self.storage, np.array(value, self.storage.dtype.numpy)
        is_shared = sys.getrefcount(storage.memory) > 2
        if is_shared:
            storage.memory = allocate(storage.device, array.nbytes)
        open_device(storage.device).write(storage.memory, array)
        self.last = value
        return is_shared


@dataclass(eq=False)
class Gradient:
    """`grad` of a leaf: what it was and what it is now, inside the trace."""

    leaf: Tensor
    original: Tensor | None
    now: Tensor | None


class Recorder:
    """The tracer of one trace.

    Args:
        name: of the function, for messages.
        source: where the function is defined.
        arguments: the tensors that it is called with.
        symbols: its symbolic sizes.
        axes: by the id of an argument, {axis: number of its symbol}.

    Attributes:
        scope: of the symbols; None if there are none.
        sized: numbers of the arguments that have axes of symbolic sizes.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        arguments: Sequence[Tensor],
        symbols: Sequence[Symbol] = (),
        axes: Mapping[int, Mapping[int, int]] | None = None,
    ):
        self.name, self.source, self.arguments = name, source, arguments
        self.scope = Scope(name, source, symbols, self._size_tensor) if symbols else None
        self.sized = {i for i, t in enumerate(arguments) if axes and self._is_sized(axes, t)}
        self.stand_ins = [self._stand_in(t, (axes or {}).get(id(t))) for t in arguments]
        self.numbers_of_stand_ins = {id(t): i for i, t in enumerate(self.stand_ins)}
        self.argument_of = {t._storage: i for i, t in enumerate(self.stand_ins)}
        self.first_serial = Storage(Device("cpu"), dt.bool_, (), None).serial
        self.saved: dict[int, tuple[Tensor, Before]] = {}
        self.views: dict[int, tuple[ReferenceType[Tensor], Before]] = {}
        self.gradients: dict[int, Gradient] = {}
        self.presence: dict[int, tuple[Tensor, bool]] = {}
        self.gradient_of: dict[Storage, Tensor] = {}
        self.pending: dict[int, ReferenceType[Tensor]] = {}
        self.hosts: dict[Any, HostNumber] = {}
        self.draws: dict[Generator, int] = {}
        self.checks: dict[tuple[int, Refuse, tuple[Any, ...]], None] = {}
        self.exchanges: list[Tensor] = []
        self.constants: dict[Storage, np.ndarray] = {}
        self.differentiated = self.once = False

    def _is_sized(self, axes: Mapping[int, Mapping[int, int]], t: Tensor) -> bool:
        """Whether an axis of an argument has a symbolic size."""
        assert self.scope is not None
        return any(isinstance(self.scope.size(n), Size) for n in axes.get(id(t), {}).values())

    def _stand_in(self, like: Tensor, axes: Mapping[int, int] | None = None) -> Tensor:
        sizes = None
        if axes is not None and self.scope is not None:
            sizes = tuple(
                self.scope.size(axes[a]) if a in axes else n for a, n in enumerate(like._node.shape)
            )
        storage = StandIn(like, self.name, sizes)
        t = Tensor._of(make(Op.BUFFER, storage=storage), like._device, storage)
        if like._token is not None:
            t.requires_grad_()
        return t

    def is_old(self, t: Tensor) -> bool:
        """Whether the tensor was there, with values, before the trace."""
        before = self.saved[id(t)][1] if id(t) in self.saved else self._view(t)
        storage = t._storage if before is None else before.storage
        return storage is not None and storage.serial < self.first_serial

    def had_values(self, t: Tensor) -> bool:
        """Whether it has been changed in place, and had values before."""
        return id(t) in self.saved and self.saved[id(t)][1].storage is not None

    def is_changed_gradient(self, t: Tensor) -> bool:
        """Whether it stands for a leaf's `grad` and has been changed in place."""
        return id(t) in self.saved and any(g.original is t for g in self.gradients.values())

    def restore(self) -> None:
        """Make every tensor what it was."""
        for t, before in self.saved.values():
            before.put_back(t)
        for held, before in self.views.values():
            view = held()
            if view is not None:
                before.put_back(view)

    # -- what the tracer is told ----------------------------------------------------------------

    def note(self, t: Tensor) -> None:
        if id(t) not in self.saved:
            self.saved[id(t)] = (t, self._view(t) or Before.of(t))
            self.views.pop(id(t), None)

    def note_view(self, t: Tensor) -> None:
        if id(t) not in self.saved and self._view(t) is None:
            self.views[id(t)] = (ref(t), Before.of(t))

    def _view(self, t: Tensor) -> Before | None:
        """How a view was before it was changed with its base."""
        held, before = self.views.get(id(t), (None, None))
        return before if held is not None and held() is t else None

    def gradient(self, leaf: Tensor) -> Tensor | None:
        found = self.gradients.get(id(leaf))
        if found is None:
            number = self.numbers_of_stand_ins.get(id(leaf))
            held = leaf._grad if number is None else self.arguments[number]._grad
            value = None if held is None else self._stand_in(held)
            if value is not None:
                assert value._storage is not None
                self.gradient_of[value._storage] = leaf
            if self.is_old(leaf) and number is None:
                self.presence[id(leaf)] = (leaf, held is not None)
            found = self.gradients[id(leaf)] = Gradient(leaf, value, value)
        return found.now

    def set_gradient(self, leaf: Tensor, value: Tensor | None) -> None:
        self.gradient(leaf)
        self.gradients[id(leaf)].now = value

    def mark(self, t: Tensor) -> None:
        self.pending[id(t)] = ref(t)

    def drop(self, t: Tensor) -> None:
        self.pending.pop(id(t), None)

    def is_pending(self, t: Tensor) -> bool:
        """Whether the value will be wanted after the trace."""
        held = self.pending.get(id(t))
        return held is not None and held() is t

    def number(
        self, key: Any, read: Callable[[], int | float], device: Device, dtype: DType
    ) -> Tensor:
        if key not in self.hosts:
            value = read()
            self.hosts[key] = HostNumber(
                read, upload(np.array(value, dtype.numpy), dtype, device), value
            )
        storage = self.hosts[key].storage
        return Tensor._of(make(Op.BUFFER, storage=storage), device, storage)

    def _size_tensor(self, size: Size, device: Device | None) -> Tensor:
        """The 0-d tensor that holds a symbolic size."""
        scope = self.scope
        assert scope is not None
        if device is None:
            first = self.arguments[0]._device if self.arguments else None
            device = get_default_device() if first is None else first
        return self.number(
            ("size", size.terms, device), lambda: size.at(scope.values), device, dt.int64
        )

    def draw(self, generator: Generator, device: Device) -> tuple[Node, Node]:
        count = self.draws.get(generator, 0)
        self.draws[generator] = count + 1
        key = ("generator", id(generator), device)
        first = self.number((*key, "draws"), lambda: generator._draws, device, dt.int64)
        seed = self.number((*key, "seed"), lambda: _signed(generator._seed), device, dt.int64)
        return (first + count)._node, seed._node

    def check(self, t: Tensor, refuse: Refuse, *args: Any) -> None:
        storage = t._storage
        number = None if storage is None else self.argument_of.get(storage)
        if storage is not None and not storage.is_at_hand:
            return
        if number is not None:
            self.checks[number, refuse, args] = None
        elif any(isinstance(a, Size) for a in args):
            return  # known values and a size that is not: as for values that are computed
        elif storage is not None and not isinstance(storage, StandIn):
            with tracing(None):
                check_values(t, refuse, *args)

    def exchanged(self, device: Device) -> list[Tensor]:
        return [t for t in self.exchanges if t._device == device]

    def exchange(self, t: Tensor) -> None:
        self.exchanges.append(t)

    def keep_once(self) -> None:
        self.once = True

    def refuse(self, what: str, hint: str = "") -> NoReturn:
        raise TraceError(f"{what} while tgrad.compile traces {self.name!r}.", hint or WAYS_OUT)


def _signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed
