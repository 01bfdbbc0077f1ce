"""Replaying a plan with new arguments.

In: plans with the places that their inputs come from and their results go to. Out: the function's
result. Invariant: state is as before the call or as after it, never between: everything that can
fail happens before the run, and the run with what follows is not interrupted.

State is written in place: into the same Storage, and where the plan says so into the same memory.
That must not be seen by graph that was made from the old values and is not computed yet. Whoever
holds such graph holds the BUFFER node, so its reference count tells; then the tensor first gets a
storage of its own, and the old one stays with the graph.

A call looks at no state as long as nobody else did. `_gather` checks every state, borrows its node
and storage (Tensor._borrow) and writes the addresses into the plan's program. Whoever looks at a
borrowed tensor gets both back and moves `versions.lent`; so while that stands, no alias was made,
no storage replaced, and the program runs as it is.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tgrad.aliases import check_open, is_shared, refresh
from tgrad.boxes import Box, value_at
from tgrad.compiling.dynamic import PaddedArgument
from tgrad.compiling.guards import Guards
from tgrad.compiling.reach import Binding
from tgrad.compiling.recorder import HostNumber
from tgrad.compiling.structure import replaced
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node, buffer_node
from tgrad.graph.op import Op
from tgrad.graph.size import Scope, Size
from tgrad.interrupts import Uninterrupted
from tgrad.pipeline import Compiled, Storage, with_stored
from tgrad.random import Generator
from tgrad.rollback import StateBefore
from tgrad.runtime.device import open_device
from tgrad.runtime.execute import allocate_outputs, execute, replay, runs_programs
from tgrad.runtime.plan import BufferRef, Moves, Program
from tgrad.runtime.planning import current_planning
from tgrad.runtime.storage import unwritten
from tgrad.tensor import Tensor, realize_tensors
from tgrad.tracing import Refuse, check_values, versions


class _Calibration:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = object()


_PRIVATE = {next(map(sys.getrefcount, [_Calibration().held])) + 1}
"""References to an object that one owner and one list hold, counted over that list."""


@dataclass(eq=False)
class State:
    """A tensor bound by reference; by name where the name may be bound to another one."""

    tensor: Tensor
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class NewGradient:
    """A gradient among a plan's results: its position, the number of the leaf, its type, whether it
    is that tensor which was the leaf's `grad` before."""

    position: int
    leaf: int
    dtype: DType
    shape: tuple[int, ...]
    in_place: bool


@dataclass(frozen=True, slots=True)
class Move:
    """Values that one plan makes and another reads as an argument: where, and their type."""

    device: Device
    dtype: DType
    shape: tuple[int, ...]

    def place(self) -> Tensor:
        """A tensor to put them in."""
        return Tensor._of(None, self.device, unwritten(self.device, self.dtype, self.shape))


@dataclass(eq=False)
class Part:
    """The plan of one device.

    Attributes:
        storages: of the graph's buffers that are not arguments or gradients, in their places.
        arguments, gradients, states: (place among the buffers, which one).
        hosts: places of the numbers of the host.
        writes: (position among the results, number of the state).
        donated: numbers of the states whose memory the plan itself writes.
        settled: (output, number of the state) of those that the program copies there at its end.
        made: (position among the results, number among the outputs).
        given: (position among the results, number of the argument that is changed in place).
        new_gradients: gradients among the results.
        sent: (position among the results, number of the move) of what another device reads.
        program: the plan as one call; None where the device has none.
    """

    device: Device
    compiled: Compiled
    storages: list[Storage]
    arguments: list[tuple[int, int]] = field(default_factory=list)
    gradients: list[tuple[int, int]] = field(default_factory=list)
    states: list[tuple[int, int]] = field(default_factory=list)
    hosts: list[int] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    donated: list[int] = field(default_factory=list)
    made: list[tuple[int, int]] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)
    new_gradients: list[NewGradient] = field(default_factory=list)
    sent: list[tuple[int, int]] = field(default_factory=list)
    settled: list[tuple[int, int]] = field(default_factory=list)
    program: Program | None = None

    def __post_init__(self) -> None:
        self.number_of = {place: n for n, place in enumerate(self.compiled.leaves)}

    def prepare(self) -> None:
        """Compile the kernels, and find which inputs move from call to call."""
        plan = self.compiled.plan
        if plan.host is not None:
            return
        assert len(plan.artifacts) == plan.launches
        if plan.prepare is None:
            return
        number_of, written = self.number_of, {n for _, n in self.writes}
        self.moving_arguments = [pair for pair in self.arguments if pair[0] in number_of]
        self.moving_gradients = [pair for pair in self.gradients if pair[0] in number_of]
        places = [place for place, n in self.states if n in written]
        self.moving_places = [place for place in places if place in number_of]
        pairs = (*self.moving_arguments, *self.moving_gradients)
        moving = [*(place for place, _ in pairs), *self.moving_places]
        moves = Moves(tuple(number_of[place] for place in moving), tuple(self._successors()))
        self.program = plan.prepare(plan, moves)
        if self.program is not None:
            self._settle(self.program)

    def _successors(self) -> Iterator[tuple[int, int]]:
        """(output, input) where the one is the next value of the other, and nobody gets either."""
        plan, refs = self.compiled.plan, self.compiled.results
        place_of = {n: place for place, n in self.states}
        got = Counter(refs[position] for position in self.positions())
        for position, n in self.writes:
            ref, place = refs[position], place_of.get(n)
            if place not in self.number_of or ref.kind != "output" or got[ref] > 1:
                continue
            number = self.number_of[place]
            is_got = BufferRef("input", place) in got
            if not is_got and plan.inputs[number].nbytes == plan.outputs[ref.number].nbytes:
                yield ref.number, number

    def _settle(self, program: Program) -> None:
        """Leave to the program the states whose next values it puts into their memory."""
        refs = self.compiled.results
        at_home = {p for p, _ in self.writes
                   if refs[p].kind == "output" and refs[p].number in program.settled}  # fmt: skip
        self.settled = [(refs[p].number, n) for p, n in self.writes if p in at_home]
        self.writes = [(p, n) for p, n in self.writes if p not in at_home]
        numbers = {n for _, n in self.settled}
        self.donated += numbers
        places = {place for place, n in self.states if n in numbers}
        self.moving_places = [place for place in self.moving_places if place not in places]
        outputs = self.compiled.plan.outputs
        given = [n for n in range(len(outputs)) if n not in program.settled]
        self.sizes = [outputs[n].nbytes for n in given]
        self.sources = self.find_sources(given)

    def find_sources(self, given: Sequence[int]) -> list[tuple[int, BufferRef]]:
        """For each result that somebody gets, which one it is of the outputs that a run is given,
        or of the graph's buffers."""
        rank = {BufferRef("output", n): BufferRef("output", at) for at, n in enumerate(given)}
        refs = ((position, self.compiled.results[position]) for position in self.positions())
        return [(position, rank.get(ref, ref)) for position, ref in refs]

    @property
    def is_short(self) -> bool:
        """Whether its program makes new tensors, or passes arguments on, and values of state, each
        of these in memory of its own, and nothing else is to be done."""
        others = (self.given, self.gradients, self.new_gradients)
        if self.program is None or any(others):
            return False
        arguments, times = (
            {place for place, _ in self.arguments},
            Counter(ref for _, ref in self.sources),
        )
        own = {position for position, _ in self.writes}
        return all(
            times[ref] == 1 and ref.kind == "output"
            if position in own
            else ref.kind == "output" or ref.number in arguments
            for position, ref in self.sources
        )

    def positions(self) -> Iterator[int]:
        """The results that somebody gets."""
        pairs = (*self.writes, *self.made, *self.given, *self.sent)
        yield from (position for position, _ in pairs)
        yield from (g.position for g in self.new_gradients)

    def shares_state(self) -> bool:
        """Whether a result is the memory of a state: then a call hands out an alias of it."""
        refs, places = self.compiled.results, {place for place, _ in self.states}
        return any(refs[p].kind == "input" and refs[p].number in places for p in self.positions())


@dataclass(frozen=True)
class Out:
    """In a result: a new tensor, by number."""

    number: int


@dataclass(frozen=True)
class Given:
    """In a result: the argument tensor of that number."""

    number: int


@dataclass(frozen=True)
class Held:
    """In a result: what the name of the state of that number is bound to."""

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
        kept: the state of optimizers before the trace, which made what was missing.
        scope: the symbolic sizes; None if there are none.
        boxes: for new tensors, by number, which of the plan's elements exist; all where not here.
        given_boxes: likewise for arguments that are changed in place, by their numbers.
        padded: what arguments with symbolic sizes are copied to, by their numbers.
        moves: what goes from device to device, behind the arguments.
        is_shared: whether its plans serve traces of other sizes.
        runs: how often it ran.
        is_short: whether short.py knows all that a call does, as long as nothing comes between.
    """

    guards: Guards
    parts: list[Part]
    states: list[State]
    hosts: list[HostNumber]
    draws: list[tuple[Generator, int]]
    checks: list[tuple[int, Refuse, tuple[Any, ...]]]
    leaves: list[Tensor | int]
    presence: list[tuple[Tensor, bool]]
    cleared: list[int]
    outputs: list[tuple[DType, tuple[int, ...], Device]]
    written: list[int]
    result: Any
    objects: list[Any]
    late: list[tuple[Tensor, int]]
    once: bool
    kept: list[StateBefore]
    scope: Scope | None = None
    boxes: dict[int, Box] = field(default_factory=dict)
    given_boxes: dict[int, Box] = field(default_factory=dict)
    padded: dict[int, PaddedArgument] = field(default_factory=dict)
    is_shared: bool = False
    moves: list[Move] = field(default_factory=list)
    runs: int = 0
    gradients: int = -1
    lent: int = -1
    state_storages: list[Storage] = field(default_factory=list)
    is_ready: bool = False
    is_short: bool = False
    viewed: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.named = [(s, s.binding) for s in self.states if s.binding is not None]
        self.shares_state = any(part.shares_state() for part in self.parts)
        self.given = [number for part in self.parts for _, number in part.given]

    # -- whether it serves ----------------------------------------------------------------------

    def holds(self, sizes: Sequence[int] = ()) -> bool:
        """Whether it serves a call with these sizes now."""
        if self.scope is not None and not self.scope.holds(sizes):
            return False
        if versions.gradients != self.gradients:
            if any((t._grad is not None) is not there for t, there in self.presence):
                return False
            self.gradients = versions.gradients
        return self.bind_names() and self.guards.hold()

    def undo_trace(self) -> None:
        """Forget the state that the trace made: the first call has failed."""
        with Uninterrupted():
            for state in self.kept:
                state.put_back()

    # -- running --------------------------------------------------------------------------------

    def run(self, arguments: Sequence[Tensor], sizes: Sequence[int] = ()) -> Any:
        """Call it; `sizes` are the values of its symbols."""
        if self.scope is not None:
            self.scope.values = list(sizes)
        for number, refuse, args in self.checks:
            here = args if self.scope is None else [value_at(a, sizes) for a in args]
            check_values(arguments[number], refuse, *here)
        if self.given:
            self._check_aliases(arguments)
        if not self.is_ready:
            self._prepare()
        inside = self._padded_arguments(arguments) if self.padded else arguments
        if self.moves:
            inside = [*inside, *(move.place() for move in self.moves)]
        for host in self.hosts:
            if host.refresh():
                self.lent = -1
        if versions.lent != self.lent:
            self._check_arguments(arguments)
            self._gather(inside)
        runs = [_Run(self, part, inside) for part in self.parts]
        made: list[Any] = [None] * len(self.outputs)
        with Uninterrupted():
            self._run_all(runs)
            for run in runs:
                self._commit(run.part, run.results(), made, arguments)
            refresh([*self.viewed, *(arguments[number] for number in self.given)])
            self._finish(arguments)
        return self._result(made, arguments)

    def tune(self, seconds: float) -> None:
        """Look for quicker configurations of the kernels; the plans then have them."""
        if current_planning() is not None:
            return
        from tgrad.autotuning import tune_plans

        tune_plans([part.compiled.plan for part in self.parts], seconds)
        for part in self.parts:
            part.compiled = replace(part.compiled, plan=with_stored(part.compiled.plan))

    def _prepare(self) -> None:
        """Compile the kernels now: what takes long or fails comes before the run."""
        if current_planning() is not None:
            return
        for part in self.parts:
            part.prepare()
        self.is_ready = True
        others = (self.cleared, self.late, self.shares_state, self.padded, self.scope)
        self.is_short = len(self.parts) == 1 and not any(others) and self.parts[0].is_short

    def _padded_arguments(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """The arguments, those with symbolic sizes in memory for the largest."""
        return [self.padded[number].take(t) if number in self.padded else t
                for number, t in enumerate(arguments)]  # fmt: skip

    def bind_names(self) -> bool:
        """Find the states whose names may be bound to other tensors; whether none of these shares
        memory with another state, as none did in the trace."""
        for state, binding in self.named:
            found = binding.read()
            if found is state.tensor:
                continue
            if not isinstance(found, Tensor) or not self._is_apart(found, state):
                return False
            state.tensor, self.lent = found, -1
        return True

    def _is_apart(self, t: Tensor, state: State) -> bool:
        memory = t._memory
        others = (s.tensor for s in self.states if s is not state)
        return not any(o is t or (memory is not None and o._memory is memory) for o in others)

    def _gather(self, arguments: Sequence[Tensor]) -> None:
        """Find the storages of the states again, and make sure that what the plan overwrites is
        nobody else's."""
        realize_tensors([s.tensor for s in self.states if s.tensor._borrowed is None
                         and s.tensor._storage is None])  # fmt: skip
        self._find_viewed()
        version = versions.lent
        with Uninterrupted():
            for number in self.written:
                _make_private(self.states[number].tensor)
            self.state_storages = [s.tensor._borrow()[1] for s in self.states]
        for part in self.parts:
            for place, number in part.states:
                part.storages[place] = self.state_storages[number]
            if not _are_private(self.memories(part, arguments)):
                for number in part.donated:
                    _unshare(self.state_storages[number])
        for part in self.parts:
            if part.program is not None and runs_programs():
                memories = self.memories(part, arguments)
                part.program.bind([memories[place] for place in part.compiled.leaves])
        self.lent = version if runs_programs() else -1

    def _find_viewed(self) -> None:
        """Which of the written states share memory with other tensors, which must see it."""
        written = [self.states[number].tensor for number in self.written]
        self.viewed = [t for t in written if is_shared(t)]
        for t in self.viewed:
            check_open(t)

    def _check_arguments(self, arguments: Sequence[Tensor]) -> None:
        """The plan reads an argument and a state from places of their own."""
        given = set(self.given)
        found = {id(s.tensor) for s in self.states}
        written = {id(self.states[number].tensor) for number in self.written}
        for number, t in enumerate(arguments):
            if id(t) in (found if number in given else written):
                raise UnsupportedError(
                    f"tensor {number} among the arguments of a compiled function is one that the "
                    "function finds by itself, and one of the two is changed in place.",
                    "Pass it, or let the function find it, not both.",
                )

    def _check_aliases(self, arguments: Sequence[Tensor]) -> None:
        """The plan reads an argument that it changes from one place."""
        for number in self.given:
            t = arguments[number]
            others = [o for i, o in enumerate(arguments) if i != number]
            others += [s.tensor for s in self.states]
            if t._memory is not None and any(o._memory is t._memory for o in others):
                raise UnsupportedError(
                    f"tensor {number} among the arguments of a compiled function is changed in "
                    "place, and shares memory with another tensor that the function reads.",
                    "Pass a .clone() of one of them.",
                )
            if is_shared(t):
                check_open(t)

    # -- memories -------------------------------------------------------------------------------

    def memories(self, part: Part, arguments: Sequence[Tensor]) -> list[Any]:
        """The memories of all buffers of the graph."""
        memories = [s.memory for s in part.storages]
        for place, number in part.arguments:
            memories[place] = arguments[number]._storage.memory  # type: ignore[union-attr]
        for place, number in part.gradients:
            memories[place] = self._gradient(number, arguments)
        return memories

    def moved(self, part: Part, arguments: Sequence[Tensor]) -> list[Any]:
        """The memories of the inputs that move, in the order that the program wants."""
        found = [arguments[number]._storage.memory  # type: ignore[union-attr]
                 for _, number in part.moving_arguments]  # fmt: skip
        for _, number in part.moving_gradients:
            found.append(self._gradient(number, arguments))
        for place in part.moving_places:
            found.append(part.storages[place].memory)
        return found

    def _gradient(self, leaf: int, arguments: Sequence[Tensor]) -> Any:
        grad = self._leaf(leaf, arguments)._grad
        return grad.realize()._storage.memory  # type: ignore[union-attr]

    def _leaf(self, number: int, arguments: Sequence[Tensor]) -> Tensor:
        leaf = self.leaves[number]
        return arguments[leaf] if isinstance(leaf, int) else leaf

    # -- afterwards -----------------------------------------------------------------------------

    def _run_all(self, runs: Sequence[_Run]) -> None:
        """Run the plans. Several launches can fail between one and the next: then what they have
        overwritten is put back."""
        if len(runs) == 1 and runs[0].is_whole:
            return runs[0].launch()
        overwritten = [self.state_storages[n] for run in runs for n in run.part.donated]
        copies = [storage.copied_memory() for storage in overwritten]
        try:
            for run in runs:
                run.launch()
                if run.part.sent:
                    run.send()
        except BaseException:
            for storage, copy in zip(overwritten, copies):
                open_device(storage.device).copy(storage.memory, copy)
            raise
        return None

    def _commit(
        self,
        part: Part,
        results: dict[int, Any],
        made: list[Any],
        arguments: Sequence[Tensor],
    ) -> None:
        self.change([(number, position) for position, number in part.writes], results)
        for position, number in part.made:
            dtype, shape, device = self.outputs[number]
            memory = results[position]
            if number in self.boxes:
                memory, shape = self._existing(memory, dtype, shape, device, self.boxes[number])
            made[number] = Storage(device, dtype, shape, memory)
        for position, number in part.given:
            t, memory = arguments[number], results[position]
            if number in self.given_boxes:
                box = self.given_boxes[number]
                memory, _ = self._existing(memory, t.dtype, t.shape, part.device, box)
            give_storage(t, Storage(part.device, t.dtype, t.shape, memory))
        for g in part.new_gradients:
            leaf = self._leaf(g.leaf, arguments)
            storage = Storage(part.device, g.dtype, g.shape, results[g.position])
            if g.in_place and leaf._grad is not None:
                give_storage(leaf._grad, storage)
                refresh([leaf._grad])
                continue
            leaf._grad = Tensor._of(None, part.device, storage)
            versions.gradients += 1

    def advance(self) -> None:
        """Random streams are where the run left them."""
        for generator, count in self.draws:
            generator._draws += count

    def _existing(
        self, memory: Any, dtype: DType, shape: Sequence[Any], device: Device, box: Box
    ) -> tuple[Any, tuple[int, ...]]:
        """Memory of the elements that exist in this call, and its shape; a copy of what the next
        call overwrites."""
        values = () if self.scope is None else self.scope.values
        is_overwritten = any(padded.holds(memory) for padded in self.padded.values())
        take = box.copied if is_overwritten else box.kept
        taken = take(memory, dtype, device, values)
        return taken, tuple(value_at(n, values) for n in shape)

    def change(self, taken: Sequence[tuple[int, int]], memories: Any) -> None:
        """Give states other memory.

        Args:
            taken: number of the state, and which of the memories it gets.
        """
        if not taken:
            return
        for number, which in taken:
            self.state_storages[number].memory = memories[which]
        is_current = self.lent == versions.lent
        versions.lent += 1  # for other entries, which borrowed these tensors
        if is_current:
            self.lent = versions.lent

    def _finish(self, arguments: Sequence[Tensor]) -> None:
        self.runs += 1
        self.advance()
        for number in self.cleared:
            leaf = self._leaf(number, arguments)
            if leaf._grad is not None:
                leaf._grad = None
                versions.gradients += 1
        if self.shares_state:
            versions.lent += 1

    def _result(self, made: list[Any], arguments: Sequence[Tensor]) -> Any:
        if self.late:
            for t, number in self.late:
                t._store(made[number])
            self.late = []
        return self.filled([Tensor._of(None, s.device, s) for s in made], arguments)

    def filled(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Any:
        """The result of a call around its new tensors."""
        if type(self.result) is Out:
            return tensors[self.result.number]

        def fill(place: Any) -> Any:
            if type(place) is Size:
                assert self.scope is not None
                return place.at(self.scope.values)
            if type(place) is Held:
                return self.states[place.number].tensor
            return tensors[place.number] if type(place) is Out else arguments[place.number]

        return replaced(self.result, fill, (Out, Given, Held, Size))


class _Run:
    """A part about to run: everything that it needs is there."""

    __slots__ = ("arguments", "entry", "moved", "outputs", "part", "program")

    def __init__(self, entry: Entry, part: Part, arguments: Sequence[Tensor]):
        self.entry, self.part, self.arguments = entry, part, arguments
        plan = part.compiled.plan
        self.program = program = part.program if runs_programs() else None
        if program is None:
            self.outputs, self.moved = allocate_outputs(plan), []
        else:
            self.outputs = allocate_outputs(plan, part.sizes)
            self.moved = entry.moved(part, arguments)

    @property
    def is_whole(self) -> bool:
        """Whether it starts all kernels or none."""
        return self.program is not None and self.program.is_whole

    def launch(self) -> None:
        """Run the plan."""
        plan = self.part.compiled.plan
        if self.program is not None:
            replay(plan, self.program, self.moved, self.outputs)
            return
        memories = self.entry.memories(self.part, self.arguments)
        execute(plan, [memories[place] for place in self.part.compiled.leaves], self.outputs)
        for output, number in self.part.settled:
            memory = self.entry.state_storages[number].memory
            open_device(plan.device).copy(memory, self.outputs[output])

    def send(self) -> None:
        """Give what it has made to the plans of other devices."""
        entry, part = self.entry, self.part
        found, first = self.results(), len(self.arguments) - len(entry.moves)
        for position, number in part.sent:
            move, target = entry.moves[number], self.arguments[first + number]._storage
            array = open_device(part.device).read(found[position], move.dtype, move.shape)
            open_device(move.device).write(target.memory, array)  # type: ignore[union-attr]

    def results(self) -> dict[int, Any]:
        """The memory of each result that somebody gets, by position."""
        part, found = self.part, {}
        if self.program is None:
            sources = part.find_sources(range(len(self.outputs)))
        else:
            sources = part.sources
        for position, ref in sources:
            if ref.kind == "output":
                found[position] = self.outputs[ref.number]
            else:
                found[position] = self.entry.memories(part, self.arguments)[ref.number]
        return found


def give_storage(t: Tensor, storage: Storage) -> None:
    """Bind a tensor to a storage with the same values, or to a result."""
    t._rebind(buffer_node(storage), storage)
    t._requires_grad = t._token is not None


def _make_private(t: Tensor) -> None:
    """Give the tensor a storage of its own, with the same memory, if somebody holds its graph."""
    if _are_private(_nodes_of(t)):
        return
    old = t._borrow()[1]
    give_storage(t, Storage(old.device, old.dtype, old.shape, old.memory))


def _nodes_of(t: Tensor) -> list[Node]:
    """The BUFFER node of a stored tensor, and the mark around it."""
    node = t._borrow()[0]
    return [node] if node.op is Op.BUFFER else [node, node.inputs[0]]


def _are_private(objects: list[Any]) -> bool:
    """Whether nobody else holds one of these objects, of which each has one owner."""
    return set(map(sys.getrefcount, objects)) <= _PRIVATE


def _unshare(storage: Storage) -> None:
    """Give the storage memory that no other has; other entries must find it again."""
    if sys.getrefcount(storage.memory) > 2:
        storage.memory = storage.copied_memory()
        versions.lent += 1


class OpenGraphError(UnsupportedError):
    """Gradients flow into a compiled function or out of it: it is part of a larger graph."""


def check_argument(t: Tensor, number: int, with_gradients: bool) -> None:
    """Make sure that an argument is stored, and that gradients need not flow into its history.

    Raises:
        OpenGraphError: it was computed from tensors that require gradients.
    """
    if with_gradients and t._requires_grad and t._token is None:
        raise OpenGraphError(
            f"tensor {number} among the arguments of a compiled function was computed from tensors "
            "that require gradients.",
            "Compute it inside the compiled function, or pass .detach() of it.",
        )
    if t._storage is None:
        realize_tensors([t])
