"""Tracing a function to an Entry: its plans, and what they read and write.

In: a function and its arguments. Out: an Entry. Invariant: the function runs once, on stand-ins of
its arguments; no value is computed, and every tensor is afterwards what it was before. Each buffer
that the traced graph reads is an argument, a tensor that was there before, a gradient, a number of
the host, or data made inside; there is no sixth kind.
"""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from threading import active_count
from typing import Any
from weakref import ref

import numpy as np

from tgrad import pipeline
from tgrad.aliases import base_of, is_shared
from tgrad.boxes import Box
from tgrad.compiling.dynamic import Dim, PaddedArgument, padded_argument
from tgrad.compiling.guards import Guards, describe, freeze, movable, shown
from tgrad.compiling.optimizer_state import TracedState
from tgrad.compiling.reach import Binding, Reach, reach
from tgrad.compiling.recorder import Recorder, StandIn
from tgrad.compiling.replay import (
    Entry,
    Given,
    Held,
    Move,
    NewGradient,
    OpenGraphError,
    Out,
    Part,
    State,
    check_argument,
    give_storage,
)
from tgrad.compiling.stages import SENT, Stage, Wanted, stages_of
from tgrad.compiling.structure import Flat, replaced
from tgrad.device import Device
from tgrad.errors import ShapeError, Source, TraceError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph.demand import EVERYTHING, Needed
from tgrad.graph.form import form_of
from tgrad.graph.layout import layout_of
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op
from tgrad.graph.padding import conditions_on, without_padding
from tgrad.graph.size import Size, Symbol, sizing, with_fixed
from tgrad.interrupts import Uninterrupted
from tgrad.many_sizes import plan_for_sizes
from tgrad.moving import Moved
from tgrad.nn.parameter import realize_parameters
from tgrad.pipeline import Storage
from tgrad.rollback import Before
from tgrad.tensor import Tensor, realize_tensors
from tgrad.tracing import tracing

Call = tuple[tuple[Any, ...], dict[str, Any]]

IN_PLACE_DEVICES = ("cpu", "cuda", "opencl")
"""Where a plan runs as a whole, so that memory may be overwritten by it."""


def trace(
    function: Callable[..., Any],
    name: str,
    source: Source,
    call: Call,
    flat: Flat,
    memory_limit: int | None = None,
    symbols: Sequence[Symbol] = (),
    owner: Hashable = None,
) -> Entry:
    """Trace the function with these arguments.

    Args:
        function: what to trace.
        name, source: of the function, for messages.
        call: positional arguments, arguments by name.
        flat: the same, taken apart.
        memory_limit: bytes that each plan may take.
        symbols: sizes that are not those of this call alone; a Dim in `call` stands for one.
        owner: whose other traces may share the plan, of other sizes; None for nobody's.

    Raises:
        TraceError: the function does what a plan cannot repeat.
        UnsupportedError: a result requires a gradient that would have to leave the plan.
    """
    try:
        return _trace(function, name, source, call, flat, memory_limit, symbols, owner)
    except (ShapeError, TraceError, UnsupportedError):
        fixed = with_fixed(symbols)
        if not fixed:
            raise
    return trace(function, name, source, call, flat, memory_limit, fixed, owner)


def _trace(
    function: Callable[..., Any],
    name: str,
    source: Source,
    call: Call,
    flat: Flat,
    memory_limit: int | None,
    symbols: Sequence[Symbol],
    owner: Hashable,
) -> Entry:
    """The trace for the sizes that the symbols leave."""
    realize_parameters()
    roots = {name: function, **{f"argument {i}": each for i, each in enumerate(flat.objects)}}
    before = reach(roots)
    tensors = list(before.tensors.values())
    bases = [base_of(t) for t in tensors if is_shared(t)]  # are written where one of these is
    realize_tensors([t for t in (*bases, *tensors) if t._storage is None])
    for number, t in enumerate(flat.tensors):
        check_argument(t, number, is_grad_enabled())
    _separate(before.tensors.values())
    recorder = Recorder(name, source, flat.tensors, symbols, flat.axes)
    numbers, drawn = _numbers(before), _random_states(before)
    kept = [TracedState(label, optimizer) for label, optimizer in before.optimizers]
    try:
        with sizing(recorder.scope):
            with tracing(recorder):
                args, kwargs = _inside(call, flat, recorder)
                result = function(*args, **kwargs)
            _check_arguments((args, kwargs), flat, call, recorder)
            for state in kept:
                state.settle(recorder)
            _check_numbers(numbers, _numbers(before), recorder)
            _check_draws(drawn, _random_states(before), recorder)
            build = _Build(recorder, before, reach(roots), flat, memory_limit, owner)
            return build.entry(result, kept)
    except BaseException:
        with Uninterrupted():
            for state in kept:
                state.before.put_back()
        raise
    finally:
        with Uninterrupted():
            recorder.restore()


def _inside(call: Call, flat: Flat, recorder: Recorder) -> Call:
    """The arguments that the function is traced with."""
    twins = {id(t): s for t, s in zip(flat.tensors, recorder.stand_ins)}
    sizes = _sizes(recorder)
    if not sizes:
        return replaced(call, lambda t: twins.get(id(t), t))

    def change(value: Any) -> Any:
        return sizes[value.name] if isinstance(value, Dim) else twins.get(id(value), value)

    return replaced(call, change, (Tensor, Dim))


def _sizes(recorder: Recorder) -> dict[str, Any]:
    """What stands for the symbols, by name."""
    scope = recorder.scope
    if scope is None:
        return {}
    return {s.name: scope.size(number) for number, s in enumerate(scope.symbols)}


def _separate(tensors: Any) -> None:
    """Give tensors that share a storage one each, over the same memory, so that a trace can tell
    them apart."""
    seen: set[int] = set()
    for t in tensors:
        storage = t._storage
        if id(storage) in seen:
            if t._requires_grad and t._token is None:
                continue
            twin = Storage(storage.device, storage.dtype, storage.shape, storage.memory)
            give_storage(t, twin)
        seen.add(id(t._storage))


# -- numbers that must not change inside ---------------------------------------------------------


def _numbers(found: Reach) -> dict[str, Any]:
    """Everything that is guarded, by the label that a message gives it."""
    numbers = {
        label: value
        for label, value in describe(found, with_inputs=True).items()
        if not label.startswith("tensor ")
    }
    for b in found.bindings:
        numbers.setdefault(b.label, freeze(b.read()))
    for label, value in found.containers:
        numbers.setdefault(label, freeze(value))
    return numbers


def _check_numbers(before: Mapping[str, Any], after: Mapping[str, Any], recorder: Recorder) -> None:
    for label in {**before, **after}:
        was, now = before.get(label), after.get(label)
        if was == now:
            continue
        raise TraceError(
            f"{label} changes from {shown(was)} to {shown(now)} while tgrad.compile traces "
            f"{recorder.name!r}: replays would not change it.",
            "Change it outside the compiled function, or make it a tensor and change that in "
            "place.",
            recorder.source,
        )


def _random_states(found: Reach) -> dict[str, bytes]:
    """The states of Python's and NumPy's random numbers, by the label that a message gives them."""
    generators = [("Python's random", random), ("NumPy's random", np.random), *found.generators]
    return {label: pickle.dumps(_random_state(each)) for label, each in generators}


def _random_state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if hasattr(generator, "getstate") else generator.get_state()


def _check_draws(
    before: Mapping[str, bytes], after: Mapping[str, bytes], recorder: Recorder
) -> None:
    """Refuse a function that draws; another thread, which loads data, may have drawn as well."""
    for label, state in before.items():
        if after[label] == state:
            continue
        what = f"draws from {label} while tgrad.compile traces it: replays"
        hint = "Draw with tgrad (tgrad.rand, tgrad.where), or outside, and pass the numbers."
        if active_count() > 1:
            text = f"{recorder.name!r}, or another thread, {what} use its numbers again. {hint}"
            warnings.warn(text, stacklevel=2)
            continue
        raise TraceError(
            f"{recorder.name!r} {what} would use the same numbers again.", hint, recorder.source
        )


def _check_arguments(inside: Call, flat: Flat, call: Call, recorder: Recorder) -> None:
    """Lists and dictionaries among the arguments must come back as they were given."""
    stand_ins, sizes = recorder.numbers_of_stand_ins, _sizes(recorder)

    def given_place(t: Any) -> Any:
        if not isinstance(t, Dim):
            return flat.numbers.get(id(t))
        size = sizes[t.name]
        return left_place(size) if isinstance(size, Size) else size

    def left_place(t: Any) -> Any:
        return repr(t) if isinstance(t, Size) else stand_ins.get(id(t))

    given = replaced(call, given_place, (Tensor, Dim))
    left = replaced(inside, left_place, (Tensor, Size))
    if freeze(given) != freeze(left):
        raise TraceError(
            f"an argument of {recorder.name!r} changes while tgrad.compile traces it: replays "
            "would not change it.",
            "Return the new value instead.",
            recorder.source,
        )


# -- from the record to an entry -----------------------------------------------------------------


class _Build:
    """One entry in the making."""

    def __init__(
        self,
        recorder: Recorder,
        before: Reach,
        after: Reach,
        flat: Flat,
        memory_limit: int | None,
        owner: Hashable,
    ):
        self.memory_limit, self.owner = memory_limit, owner
        self.recorder, self.flat, self.after = recorder, flat, after
        self.bindings: dict[int, Binding] = {id(b.value): b for b in movable(after)}
        self.states: list[State] = []
        self.number_of_state: dict[Storage, int] = {}
        self.leaves: list[Tensor | int] = []
        self.outputs: list[Tensor] = []
        self.wanted: list[Wanted] = []
        self.in_place: set[int] = set()
        self.scope = recorder.scope
        self.given_boxes: dict[int, Box] = {}
        self.boxes: dict[int, Box] = {}
        self.padded = self._padded()
        self.is_shared = False
        self.moves: list[Moved] = []
        self.before = before

    def entry(self, result: Any, kept: list[TracedState]) -> Entry:
        recorder = self.recorder
        returned: set[int] = set()

        def note_output(t: Tensor) -> Any:
            returned.add(id(t))
            return self._output(t)

        for t in self.before.tensors.values():
            self._add_state(t, t._storage if id(t) not in recorder.saved
                            else recorder.saved[id(t)][1].storage)  # fmt: skip
        template = replaced(result, note_output)
        cleared = self._collect_gradients()
        written = self._collect_changes(returned)
        late = self._collect_late(returned, [t for state in kept for t in state.tensors()])
        self._collect_exchanges()
        stages, self.moves = stages_of(self.wanted)
        parts = [self._part(stage) for stage in stages]
        moving = movable(self.after, [self.states[number].tensor for number in written])
        names = {id(b.value): b for b in moving}
        for state in self.states:
            state.binding = names.get(id(state.tensor))
        return Entry(
            guards=Guards.of(self.after, moving),
            parts=parts,
            states=self.states,
            hosts=list(recorder.hosts.values()),
            draws=list(recorder.draws.items()),
            checks=list(recorder.checks),
            leaves=self.leaves,
            presence=list(recorder.presence.values()),
            cleared=cleared,
            outputs=[(t.dtype, t.shape, t._device) for t in self.outputs],
            written=written,
            result=template,
            objects=list(self.flat.objects),
            late=late,
            once=recorder.once or bool(late),
            kept=[state.before for state in kept],
            scope=self.scope,
            boxes=self.boxes,
            given_boxes=self.given_boxes,
            padded=self.padded,
            is_shared=self.is_shared,
            moves=[Move(m.device, m.dtype, m.shape) for m in self.moves],
        )

    # -- results --------------------------------------------------------------------------------

    def _output(self, t: Tensor) -> Any:
        """What stands for a returned tensor."""
        recorder = self.recorder
        number = recorder.numbers_of_stand_ins.get(id(t))
        if number is not None:
            return Given(number)
        if recorder.is_old(t) and not recorder.is_changed_gradient(t):
            named = (n for n, s in enumerate(self.states) if s.tensor is t and s.binding)
            return next(map(Held, named), t)
        if t._requires_grad and not recorder.differentiated:
            raise OpenGraphError(
                f"a result of {recorder.name!r}, compiled, requires a gradient, and backward() "
                "through a plan is not supported.",
                "Compile the whole step, backward included, or call it under tgrad.no_grad().",
                recorder.source,
            )
        for known, other in enumerate(self.outputs):
            if other is t:
                return Out(known)
        self._want(t, "made", len(self.outputs))
        self.outputs.append(t)
        return Out(len(self.outputs) - 1)

    def _want(self, t: Tensor, kind: str, number: int) -> None:
        value = _value(t)
        box = self._box(value)
        if box is not None and kind in ("gradient", "write"):
            raise TraceError(
                f"a tensor that outlives {self.recorder.name!r} gets a {kind} of shape {t.shape}, "
                "whose size differs from call to call.",
                "Return it instead.",
                value.source,
            )
        if box is not None:
            (self.given_boxes if kind == "argument" else self.boxes)[number] = box
        self.wanted.append((value, t._device, kind, number))

    def _box(self, value: Node) -> Box | None:
        """Where the elements of a result stand; None where all of its memory is elements."""
        return None if self.scope is None else Box.of(layout_of(value, self.scope))

    def _padded(self) -> dict[int, PaddedArgument]:
        """What arguments of symbolic sizes are copied to."""
        return {
            number: PaddedArgument(self.recorder.stand_ins[number]._node.shape)
            for number in sorted(self.recorder.sized)
        }

    def _without_padding(self, nodes: list[Node], device: Device) -> list[Node]:
        if self.scope is None:
            return nodes

        def size_node(size: Size) -> Node:
            return size.tensor(device)._node

        return without_padding(nodes, self.scope, size_node)

    def _add_state(self, t: Tensor, storage: Storage | None) -> int:
        if storage is None:
            return -1
        number = self.number_of_state.get(storage)
        if number is None:
            number = self.number_of_state[storage] = len(self.states)
            self.states.append(State(t, self.bindings.get(id(t))))
        return number

    def _collect_gradients(self) -> list[int]:
        """Gradients to store, and numbers of the leaves whose gradient is None afterwards."""
        recorder, cleared = self.recorder, []
        for g in list(recorder.gradients.values()):
            number = self._leaf(g.leaf)
            untouched = g.now is g.original and (g.now is None or id(g.now) not in recorder.saved)
            if number is None or untouched:
                continue
            if g.now is None or not (recorder.is_pending(g.now) or g.now._storage is not None):
                if recorder.presence.get(id(g.leaf), (None, True))[1]:  # else it is None already
                    cleared.append(number)
            else:
                if g.now is g.original:
                    self.in_place.add(number)
                self._want(g.now, "gradient", number)
        return cleared

    def _leaf(self, leaf: Tensor) -> int | None:
        """The number of a leaf that lives on: an argument, or a tensor from before."""
        argument = self.recorder.numbers_of_stand_ins.get(id(leaf))
        if argument is None and not self.recorder.is_old(leaf):
            return None
        target = leaf if argument is None else argument
        for number, known in enumerate(self.leaves):
            if known is target:
                return number
        self.leaves.append(target)
        return len(self.leaves) - 1

    def _collect_changes(self, returned: set[int]) -> list[int]:
        """Tensors that live on with new values: numbers of their states."""
        recorder, written = self.recorder, []
        gradients = {id(g.original) for g in recorder.gradients.values()}
        for t, before in _living(recorder, returned):
            if id(t) in gradients:
                continue
            storage = before.storage
            if t._requires_grad and t._token is None:
                raise UnsupportedError(
                    f"a tensor of shape {t.shape} that outlives {recorder.name!r} is given values "
                    "that require gradients.",
                    "Give it .detach() of them.",
                    recorder.source,
                )
            if (before.token is None) is not (t._token is None):
                raise TraceError(
                    f"requires_grad of a tensor of shape {t.shape} changes while tgrad.compile "
                    f"traces {recorder.name!r}: replays would not change it.",
                    "Change it outside the compiled function.",
                    recorder.source,
                )
            if _value(t) is _value_before(before):
                continue
            argument = recorder.numbers_of_stand_ins.get(id(t))
            if argument is not None:
                self._want(t, "argument", argument)
                continue
            assert storage is not None
            number = self._add_state(t, storage)
            self._want(t, "write", number)
            written.append(number)
        return written

    def _collect_late(self, returned: set[int], kept: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
        """Tensors made inside that live on and have no values before: they get them once. They are
        pending, or state of an optimizer."""
        recorder, late = self.recorder, []
        known = {id(g.now) for g in recorder.gradients.values()} | returned
        waiting = (held() for held in list(recorder.pending.values()))
        made = (t for t in waiting if id(t) not in recorder.saved)
        for t in chain(kept, made):
            if t is None or id(t) in known or t._storage is not None or recorder.is_old(t):
                continue
            if id(t) in recorder.numbers_of_stand_ins or recorder.had_values(t):
                continue
            known.add(id(t))
            self._want(t, "made", len(self.outputs))
            late.append((t, len(self.outputs)))
            self.outputs.append(t)
        return late

    def _collect_exchanges(self) -> None:
        """The last exchange of a device, and with it those before, runs also where nobody reads
        what came of it: other processes wait for it."""
        if not self.recorder.exchanges:
            return
        read = set(toposort([w[0] for w in self.wanted]))
        last = {t._device: t for t in self.recorder.exchanges}
        for t in last.values():
            if t._node not in read:
                self._want(t, "made", len(self.outputs))
                self.outputs.append(t)

    # -- plans ----------------------------------------------------------------------------------

    def _part(self, stage: Stage) -> Part:
        device, wanted = stage.device, stage.wanted
        nodes = self._without_padding([w[0] for w in wanted], device)
        needed = [self._needed(w[0], device) for w in wanted]
        self.host_storages = {host.storage for host in self.recorder.hosts.values()}
        donated: dict[int, Node] = {}
        leaves = {n.attr("storage"): n for n in toposort(nodes) if n.op is Op.BUFFER}
        storages = {n: s for s, n in self.number_of_state.items()}
        if device.type in IN_PLACE_DEVICES:
            for position, (_, _, kind, number) in enumerate(wanted):
                if kind == "write" and storages[number] in leaves:
                    donated[position] = leaves[storages[number]]
        limit = self.memory_limit
        if self.owner is not None and self.scope is None and limit is None and not self.moves:
            part = self._padded_part(device, wanted, nodes, donated)
            if part is not None:
                return part
        sizes = sorted({c.size for each in needed for c in each} - set(nodes), key=_serial)
        nodes, needed = [*nodes, *sizes], [*needed, *[EVERYTHING] * len(sizes)]
        compiled, order = pipeline.compile_graph(nodes, device, donated, limit, needed)
        gifts, donated = donated, self._without_conflicts(compiled, order, donated)
        if len(donated) != len(gifts):
            compiled, order = pipeline.compile_graph(nodes, device, donated, limit, needed)
        part = Part(device, compiled, [])
        for place, leaf in enumerate(order):
            self._source(part, place, leaf)
        places = {leaf: place for place, leaf in enumerate(order)}
        self._note_results(part, wanted, {i: places[n] for i, n in donated.items() if n in places})
        return part

    def _note_results(
        self, part: Part, wanted: Sequence[Wanted], donated: Mapping[int, int]
    ) -> None:
        """What becomes of a plan's results; `donated` has the places of the inputs that some
        overwrite."""
        for position, (node, _, kind, number) in enumerate(wanted):
            result = part.compiled.results[position]
            if kind == SENT:
                part.sent.append((position, number))
            elif kind == "made":
                part.made.append((position, number))
            elif kind == "gradient":
                is_old = number in self.in_place
                found = NewGradient(position, number, node.dtype, node.shape, is_old)
                part.new_gradients.append(found)
            elif kind == "argument":
                part.given.append((position, number))
            elif result.kind == "input" and result.number == donated.get(position):
                part.donated.append(number)
            else:
                part.writes.append((position, number))

    def _padded_part(
        self,
        device: Device,
        wanted: Sequence[Wanted],
        nodes: Sequence[Node],
        donated: Mapping[int, Node],
    ) -> Part | None:
        """The part by a plan that serves other sizes as well; None where there is none."""
        form = form_of(nodes, with_parts=False)
        served = plan_for_sizes(form, nodes, device, donated, self.owner)
        if served is None:
            return None
        plan, values = served.plan, served.values
        changing = {n: box for n, box in zip(form.leaves, plan.given) if box is not None}
        argument_of = self.recorder.argument_of
        is_fixed = all(box is None or w[2] == "made" for box, w in zip(plan.made, wanted))
        if not is_fixed or any(n.attr("storage") not in argument_of for n in changing):
            return None
        places = {i: place for place, i in enumerate(plan.order)}
        numbers = {leaf: places[i] for i, leaf in enumerate(form.leaves) if i in places}
        overwritten = {i: numbers[leaf] for i, leaf in donated.items() if leaf in numbers}
        results = enumerate(plan.compiled.results[: len(wanted)])
        passed_on = {r.number for i, r in results if r.kind == "input" and i not in overwritten}
        moved = {numbers[leaf] for leaf in changing if leaf in numbers}
        if passed_on & {*overwritten.values(), *moved}:
            return None
        part = Part(device, plan.compiled, [])
        further = served.further_inputs(form, device)
        for place, i in enumerate(plan.order):
            if i >= len(form.leaves):
                part.storages.append(further[i - len(form.leaves)])
                continue
            leaf = form.leaves[i]
            self._source(part, place, leaf)
            if leaf in changing:
                number = argument_of[leaf.attr("storage")]
                self.padded[number] = padded_argument(plan, i, changing[leaf].capacities)
        for box, (_, _, _, number) in zip(plan.made, wanted):
            if box is not None:
                self.boxes[number] = Box(box.capacities, box.shape(values))
        self._note_results(part, wanted, overwritten)
        self.is_shared = True
        return part

    def _needed(self, value: Node, device: Device) -> Needed:
        """Which elements of a result exist, as conditions on their places in memory."""
        if self.scope is None:
            return EVERYTHING
        return conditions_on(layout_of(value, self.scope), lambda size: size.tensor(device)._node)

    def _without_conflicts(
        self, compiled: pipeline.Compiled, order: Sequence[Node], donated: dict[int, Node]
    ) -> dict[int, Node]:
        """The gifts less those of buffers that are results as they are: these must stay."""
        kept = {
            order[r.number]
            for position, r in enumerate(compiled.results)
            if r.kind == "input" and position not in donated
        }
        return {position: leaf for position, leaf in donated.items() if leaf not in kept}

    def _source(self, part: Part, place: int, leaf: Node) -> None:
        """Where a buffer of the graph comes from."""
        recorder, storage = self.recorder, leaf.attr("storage")
        part.storages.append(storage)
        if storage in self.moves:
            part.storages[-1] = Storage(storage.device, storage.dtype, storage.shape, None)
            part.arguments.append((place, len(self.flat.tensors) + self.moves.index(storage)))
        elif isinstance(storage, StandIn):
            part.storages[-1] = Storage(storage.device, storage.dtype, storage.shape, None)
            number = recorder.argument_of.get(storage)
            if number is not None:
                part.arguments.append((place, number))
                return
            of = recorder.gradient_of.get(storage)
            number = None if of is None else self._leaf(of)
            if number is None:
                storage.numpy()
                return
            part.gradients.append((place, number))
        elif storage in self.number_of_state:
            part.states.append((place, self.number_of_state[storage]))
        elif storage in self.host_storages:
            part.hosts.append(place)
        elif storage.serial < recorder.first_serial:
            raise TraceError(
                f"{recorder.name!r} reads a tensor of shape {storage.shape} that tgrad.compile "
                "does not find from its closure, globals and arguments.",
                "Pass it as an argument, so that its values are read at every call.",
                leaf.source,
            )


def _serial(buffer: Node) -> int:
    """The order in which storages were made."""
    return buffer.attr("storage").serial


def _value(t: Tensor) -> Node:
    """The graph of the values, without the mark of a leaf."""
    return t._node.inputs[0] if t._token is not None else t._node


def _value_before(before: Before) -> Node:
    return before.node.inputs[0] if before.token is not None else before.node


def _living(recorder: Recorder, other: set[int]) -> list[tuple[Tensor, Before]]:
    """Changed tensors that outlive the trace and had values before they were changed: those from
    before it, arguments, and state that was made inside, such as an optimizer's."""
    living = []
    for key in list(recorder.saved):
        t, before = recorder.saved[key]
        if not recorder.is_old(t) and key not in recorder.numbers_of_stand_ins:
            if before.storage is None or key in other:
                continue
            del recorder.saved[key]  # so that nothing here keeps it alive
            held = ref(t)
            del t
            alive = held()
            if alive is None:
                continue
            t = alive
            recorder.saved[key] = (t, before)
        living.append((t, before))
    return living
