"""Calls between which nothing else was done, replayed with little Python.

In: an Entry that has run, whose plan is one program that makes new tensors and changes state. Out:
the results of a call, or `MISSED` where something is not as it was: then the whole way of
function.py is taken. Invariant: it would return the same and change the same.

A kernel that moves more than the caches hold leaves nothing of Python in them, and then a call
costs by the functions and objects that it touches.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Any

from tgrad.compiling.guards import current_modes
from tgrad.compiling.replay import Entry, Out
from tgrad.interrupts import Uninterrupted
from tgrad.modes import thread
from tgrad.pipeline import Storage
from tgrad.runtime.device import counters, open_device, out_of_memory
from tgrad.runtime.execute import replay, runs_programs
from tgrad.tensor import Tensor
from tgrad.tracing import check_values, versions

MISSED = object()
"""Instead of results."""

one_at_a_time = threading.RLock()
"""Compiled calls run one after the other: they share state, random streams and the arena."""


class ShortCall:
    """An entry and what its last call found.

    Attributes:
        modes: see guards.current_modes.
        kinds: shape, dtype and device of each argument.
        moving: numbers of the arguments that the plan reads, in the order of the program.
        changing: places among `storages` of states that get other memory, which follow.
        taken: number of each such state, and the place of what it gets among the outputs.
        made: place among the plan's outputs, which the arguments follow, dtype and shape of each
            result.
        changes: whether the program changes state.
        nbytes, allocated: of each output of the plan, and of all.
        runtime, counters: of the device.
        is_host: whether a run is one C function, which Ctrl-C does not cut in two, and all of it.
    """

    __slots__ = (
        "allocated", "changes", "changing", "counters", "device", "entry", "is_host", "kinds",
        "made", "modes", "moving", "nbytes", "plan", "program", "runtime", "storages", "taken",
    )  # fmt: skip

    def __init__(self, entry: Entry, modes: Hashable, arguments: Sequence[Tensor]):
        [part] = entry.parts
        assert part.program is not None
        self.entry, self.modes, self.device = entry, modes, part.device
        self.plan, self.program = part.compiled.plan, part.program
        self.runtime, self.counters = open_device(self.device), counters(self.device)
        self.changes = bool(entry.written)
        self.is_host = part.device.type == "cpu" and not entry.draws and not part.writes
        self.kinds = [(t._node.shape, t._node.dtype, t._device) for t in arguments]
        self.moving = [number for _, number in part.moving_arguments]
        self.storages, self.changing = part.storages, part.moving_places
        self.nbytes, self.allocated = part.sizes, sum(part.sizes)
        number_of = {place: len(self.nbytes) + number for place, number in part.arguments}
        place_of = {position: ref.number if ref.kind == "output" else number_of[ref.number]
                    for position, ref in part.sources}  # fmt: skip
        self.taken = [(number, place_of[position]) for position, number in part.writes]
        places = {number: place_of[position] for position, number in part.made}
        self.made = [(places[n], *entry.outputs[n][:2]) for n in range(len(entry.outputs))]

    @staticmethod
    def of(entry: Entry, modes: Hashable, arguments: Sequence[Any]) -> ShortCall | None:
        """For positional arguments that are different tensors, where nobody plans: memory would be
        that of no device."""
        is_plain = runs_programs() and entry.is_short and all(type(t) is Tensor for t in arguments)
        if not is_plain or len(set(map(id, arguments))) < len(arguments):
            return None
        return ShortCall(entry, modes, arguments)

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        """The results for these arguments, or MISSED; the caller has the lock."""
        entry, kinds, memories = self.entry, self.kinds, []
        if len(arguments) != len(kinds):
            return MISSED
        for t, (shape, dtype, device) in zip(arguments, kinds):
            if type(t) is not Tensor or t._requires_grad or t._device is not device:
                return MISSED
            storage, node = t._storage, t._node
            if storage is None or node.dtype is not dtype or node.shape != shape:
                return MISSED
            memories.append(storage.memory)
        if len(arguments) > 1 and len(set(map(id, arguments))) < len(arguments):
            return MISSED
        if not self.holds():
            return MISSED
        for number, refuse, args in entry.checks:
            check_values(arguments[number], refuse, *args)
        self.run(memories, outputs := self._outputs())
        device, tensors, found = self.device, [], outputs + memories
        for place, dtype, shape in self.made:
            t = Tensor.__new__(Tensor)
            t._set(None, device, Storage(device, dtype, shape, found[place]))
            tensors.append(t)
        return tensors[0] if type(entry.result) is Out else entry.filled(tensors, arguments)

    def _outputs(self) -> list[Any]:
        """New memory for the outputs; nobody plans, as `holds` has said.

        Raises:
            OutOfMemoryError: there is not enough.
        """
        try:
            made = [self.runtime.allocate(n) for n in self.nbytes]
        except MemoryError as error:
            raise out_of_memory(self.device, self.allocated) from error
        self.counters.allocated_bytes += self.allocated
        return made

    def holds(self) -> bool:
        """Whether everything but the arguments is as the program knows it."""
        entry = self.entry
        if (
            thread.tracer is not None
            or not entry.bind_names()
            or versions.lent != entry.lent
            or versions.gradients != entry.gradients
            or not runs_programs()
            or current_modes() != self.modes
            or not entry.guards.hold()
            or entry.viewed
            or (self.changes and not self.program.is_whole)
        ):  # fmt: skip
            return False
        for host in entry.hosts:
            if host.refresh():
                entry.lent = -1
                return False
        return True

    def run(self, memories: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the program, and change what it changes.

        Args:
            memories: of the arguments.
            outputs: where its results go, as many bytes each as `nbytes` says.
        """
        moved = [memories[n] for n in self.moving]
        moved += [self.storages[place].memory for place in self.changing]
        if self.is_host:
            replay(self.plan, self.program, moved, outputs)
            return
        with Uninterrupted():  # a program of a GPU may be in the middle of its capture
            replay(self.plan, self.program, moved, outputs)
            self.entry.change(self.taken, outputs)
            self.entry.advance()
