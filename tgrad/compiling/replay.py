"""Replaying a plan with new arguments.

In: plans with the places that their inputs come from and their results go to. Out: the function's
result. Invariant: state is as before the call or as after it, never between: everything that can
fail happens before the run, and the run with what follows is not interrupted.

State is written in place: into the same Storage, and where the plan says so into the same memory.
That must not be seen by graph that was made from the old values and is not computed yet. Whoever
holds such graph holds the BUFFER node, so its reference count tells; then the tensor first gets a
storage of its own, and the old one stays with the graph.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tgrad import pipeline
from tgrad.compiling.guards import Guards
from tgrad.compiling.reach import Binding
from tgrad.compiling.recorder import HostNumber
from tgrad.compiling.structure import replaced
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.pipeline import Compiled, Storage
from tgrad.random import Generator
from tgrad.runtime.device import open_device
from tgrad.runtime.planning import current_planning
from tgrad.tensor import Tensor, realize_tensors
from tgrad.tracing import versions


class _Calibration:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = object()


_PRIVATE = {next(map(sys.getrefcount, [_Calibration().held])) + 1}
"""References to an object that one attribute and one list hold, counted over that list."""
_set_signal: Any = importlib.import_module("_signal").signal
"""signal.signal without its enumerations, which cost more than the call."""


@dataclass(eq=False)
class State:
    """A tensor bound by reference; by name where the name may be bound to another one."""

    tensor: Tensor
    binding: Binding | None = None


@dataclass(eq=False)
class Part:
    """The plan of one device.

    Attributes:
        storages: of the graph's buffers that are not arguments or gradients, in their places.
        arguments, gradients, states: (place among the buffers, which one).
        writes: (position among the results, number of the state).
        donated: numbers of the states whose memory the plan itself writes.
        made: (position among the results, number among the outputs).
        given: (position among the results, number of the argument that is changed in place).
        new_gradients: (position among the results, number of the leaf).
    """

    device: Device
    compiled: Compiled
    storages: list[Storage]
    arguments: list[tuple[int, int]] = field(default_factory=list)
    gradients: list[tuple[int, int]] = field(default_factory=list)
    states: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    donated: list[int] = field(default_factory=list)
    made: list[tuple[int, int]] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)
    new_gradients: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Out:
    """In a result: a new tensor, by number."""

    number: int


@dataclass(frozen=True)
class Given:
    """In a result: the argument tensor of that number."""

    number: int


@dataclass(eq=False)
class Entry:
    """One trace of a function, ready to run.

    Attributes:
        leaves: whose `grad` is read or written: tensors, or numbers of arguments.
        presence: whether each tensor's `grad` was there.
        cleared: numbers of the leaves whose `grad` is None after a call.
        outputs: dtype, shape and device of each new tensor.
        written: numbers of the states that a call changes.
        late: tensors made inside that live on: they get values once, and the entry serves once.
    """

    guards: Guards
    parts: list[Part]
    states: list[State]
    hosts: list[HostNumber]
    draws: list[tuple[Generator, int]]
    checks: list[tuple[int, Callable[..., None], tuple[Any, ...]]]
    leaves: list[Tensor | int]
    presence: list[tuple[Tensor, bool]]
    cleared: list[int]
    outputs: list[tuple[DType, tuple[int, ...], Device]]
    written: list[int]
    result: Any
    objects: list[Any]
    late: list[tuple[Tensor, int]]
    once: bool
    bindings: int = -1
    gradients: int = -1
    nodes: list[Node] = field(default_factory=list)
    state_storages: list[Storage] = field(default_factory=list)
    is_ready: bool = False

    def __post_init__(self) -> None:
        self.named = [(s, s.binding) for s in self.states if s.binding is not None]

    # -- whether it serves ----------------------------------------------------------------------

    def holds(self) -> bool:
        """Whether it serves a call now."""
        if versions.gradients != self.gradients:
            if any((t._grad is not None) is not there for t, there in self.presence):
                return False
            self.gradients = versions.gradients
        return self.guards.hold()

    # -- running --------------------------------------------------------------------------------

    def run(self, arguments: Sequence[Tensor]) -> Any:
        """Call it."""
        for number, check, args in self.checks:
            check(arguments[number], *args)
        self._bind_names()
        if versions.bindings != self.bindings:
            self._gather()
        if not self.is_ready:
            self._prepare()
        if self.nodes and not _are_private(self.nodes):
            self._make_private()
        for host in self.hosts:
            host.refresh()
        tables = [self._memories(part, arguments) for part in self.parts]
        with _Uninterrupted():
            made: list[Any] = [None] * len(self.outputs)
            for part, memories in zip(self.parts, tables):
                results = pipeline.run(part.compiled, memories)
                self._commit(part, results, made, arguments)
            self._finish(arguments)
        return self._result(made, arguments)

    def _prepare(self) -> None:
        """Compile the kernels now: what takes long or fails comes before the run."""
        if current_planning() is not None:
            return
        for part in self.parts:
            plan = part.compiled.plan
            if plan.host is None and plan.program is None:
                assert len(plan.artifacts) == plan.launches
        self.is_ready = True

    def _bind_names(self) -> None:
        for state, binding in self.named:
            found = binding.read()
            if found is not state.tensor:
                state.tensor, self.bindings = found, -1

    def _gather(self) -> None:
        """Find the storages of the states again."""
        waiting = [s.tensor for s in self.states if s.tensor._storage is None]
        if waiting:
            realize_tensors(waiting)
        self.state_storages = [s.tensor._storage for s in self.states]  # type: ignore[misc]
        for part in self.parts:
            for place, number in part.states:
                part.storages[place] = self.state_storages[number]
        self.nodes = [n for i in self.written for n in _nodes_of(self.states[i].tensor)]
        self.bindings = versions.bindings

    def _make_private(self) -> None:
        """Give states whose graph somebody else holds storages of their own."""
        for number in self.written:
            t = self.states[number].tensor
            self.nodes = _nodes_of(t)
            if not _are_private(self.nodes):
                old = t._storage
                assert old is not None
                give_storage(t, Storage(old.device, old.dtype, old.shape, old.memory))
        self._gather()

    def _memories(self, part: Part, arguments: Sequence[Tensor]) -> list[Any]:
        """The memories of the graph's buffers; those that the plan overwrites are nobody else's."""
        memories = self._found_memories(part, arguments)
        if not part.donated or _are_private(memories):
            return memories
        del memories  # it is a reference more to each
        for number in part.donated:
            _unshare(self.state_storages[number])
        return self._found_memories(part, arguments)

    def _found_memories(self, part: Part, arguments: Sequence[Tensor]) -> list[Any]:
        memories = [s.memory for s in part.storages]
        for place, number in part.arguments:
            memories[place] = arguments[number]._storage.memory  # type: ignore[union-attr]
        for place, number in part.gradients:
            grad = self._leaf(number, arguments)._grad
            memories[place] = grad.realize()._storage.memory  # type: ignore[union-attr]
        return memories

    def _leaf(self, number: int, arguments: Sequence[Tensor]) -> Tensor:
        leaf = self.leaves[number]
        return arguments[leaf] if isinstance(leaf, int) else leaf

    # -- afterwards -----------------------------------------------------------------------------

    def _commit(
        self, part: Part, results: list[Any], made: list[Any], arguments: Sequence[Tensor]
    ) -> None:
        for position, number in part.writes:
            self.state_storages[number].memory = results[position]
        for position, number in part.made:
            dtype, shape, device = self.outputs[number]
            made[number] = Storage(device, dtype, shape, results[position])
        for position, number in part.given:
            t = arguments[number]
            give_storage(t, Storage(part.device, t.dtype, t.shape, results[position]))
        for position, number in part.new_gradients:
            leaf = self._leaf(number, arguments)
            leaf._grad = _stored(Storage(part.device, leaf.dtype, leaf.shape, results[position]))
            versions.gradients += 1

    def _finish(self, arguments: Sequence[Tensor]) -> None:
        for generator, count in self.draws:
            generator._draws += count
        for number in self.cleared:
            leaf = self._leaf(number, arguments)
            if leaf._grad is not None:
                leaf._grad = None
                versions.gradients += 1

    def _result(self, made: list[Any], arguments: Sequence[Tensor]) -> Any:
        for t, number in self.late:
            t._store(made[number])
        self.late = []
        tensors = [_stored(storage) for storage in made]
        if type(self.result) is Out:
            return tensors[self.result.number]

        def fill(place: Any) -> Any:
            return tensors[place.number] if type(place) is Out else arguments[place.number]

        return replaced(self.result, fill, (Out, Given))


def _stored(storage: Storage) -> Tensor:
    return Tensor._of(make(Op.BUFFER, storage=storage), storage.device, storage)


def give_storage(t: Tensor, storage: Storage) -> None:
    """Bind a tensor to a storage with the same values, or to a result."""
    t._rebind(make(Op.BUFFER, storage=storage), storage)
    t._requires_grad = t._token is not None


def _nodes_of(t: Tensor) -> list[Node]:
    """The BUFFER node of a stored tensor, and the mark around it."""
    return [t._node] if t._node.op is Op.BUFFER else [t._node, t._node.inputs[0]]


def _are_private(objects: list[Any]) -> bool:
    """Whether nobody else holds one of these objects, of which each is held by one attribute."""
    return set(map(sys.getrefcount, objects)) == _PRIVATE


def _unshare(storage: Storage) -> None:
    """Give the storage memory that no other has."""
    if sys.getrefcount(storage.memory) <= 2:
        return
    runtime = open_device(storage.device)
    storage.memory = pipeline.upload(
        runtime.read(storage.memory, storage.dtype, storage.shape), storage.dtype, storage.device
    ).memory


def check_argument(t: Tensor, number: int, with_gradients: bool) -> None:
    """Make sure that an argument is stored, and that gradients need not flow into its history.

    Raises:
        UnsupportedError: it was computed from tensors that require gradients.
    """
    if with_gradients and t._requires_grad and t._token is None:
        raise UnsupportedError(
            f"tensor {number} among the arguments of a compiled function was computed from tensors "
            "that require gradients.",
            "Compute it inside the compiled function, or pass .detach() of it.",
        )
    if t._storage is None:
        realize_tensors([t])


class _Uninterrupted:
    """Ctrl-C inside takes effect at the end."""

    __slots__ = ("arrived", "is_main", "previous")

    def __enter__(self) -> None:
        self.arrived: tuple[int, FrameType | None] | None = None
        self.is_main = threading.current_thread() is _MAIN
        if self.is_main:
            self.previous = _set_signal(_SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.arrived = (number, frame)

    def __exit__(self, *exc: object) -> None:
        if self.is_main:
            _set_signal(_SIGINT, signal.SIG_DFL if self.previous is None else self.previous)
            if self.arrived is not None and callable(self.previous):
                self.previous(*self.arrived)


_MAIN, _SIGINT = threading.main_thread(), int(signal.SIGINT)
