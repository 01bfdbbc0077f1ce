"""Values of a graph: the plan for its form, run on the memories that it names.

In: output nodes. Out: storages. Invariant: a graph that differs from an earlier one in numbers and
in places of memory alone compiles at most once more, however often they change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tgrad.device import Device
from tgrad.graph.form import Form, Part, form_of, with_inputs
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.repeats import note_computed
from tgrad.many_sizes import Served, numbers_of, plan_for_sizes
from tgrad.pipeline import (
    KEPT_PLANS,
    Compiled,
    compile_graph,
    conditions,
    placeholder,
    run,
)
from tgrad.runtime.device import allocate, open_device
from tgrad.runtime.storage import Storage

_lock = threading.RLock()


def realize(outputs: Sequence[Node], device: Device) -> list[Storage]:
    """Run the graph of `outputs` on a device.

    Graphs of one form share a plan: values in which a graph differs from the first of its form
    become inputs. See docs/decisions/0039.

    Returns:
        One storage for each output. An output that is a buffer already, reshaped or not, shares
        its memory.
    """
    form, bound = _planned(outputs, device)
    count = len(form.leaves)
    used = range(count) if isinstance(bound, Served) else (i for i in bound.order if i < count)
    memories = {i: _memory(form.leaves[i], form.parts[i]) for i in used}
    lent = [memory for i, memory in memories.items() if form.parts[i] is not None]
    if isinstance(bound, Served):
        made = _run_padded(bound, form, [*memories.values()], outputs, device)
    else:
        numbers = numbers_of(form, bound.varying, device)
        memories |= {i: storage.memory for i, storage in enumerate(numbers, count)}
        made = run(bound.compiled, [memories[i] for i in bound.order])
    note_computed(form.order, form.deferred, lambda: form_of(outputs).order)
    found = [Storage(device, n.dtype, n.shape, memory) for n, memory in zip(outputs, made)]
    for storage in found:
        if any(storage.memory is memory for memory in lent):
            storage.memory = storage.copied_memory()
    return found


def _planned(outputs: Sequence[Node], device: Device) -> tuple[Form, _Bound | Served]:
    """A plan for a graph, and the form whose leaves it reads: with templates in one row each where
    a step before had the same and the same numbers."""
    form = form_of(outputs, is_whole=False)
    if not form.deferred:
        return form, _bind(form, outputs, device)
    place = (form.rows, form.values, device, conditions())
    with _lock:
        known = _seen.get(place)
        if isinstance(known, _Bound):
            _seen.move_to_end(place)
            return form, known
    whole = form_of(outputs)
    bound = _bind(whole, outputs, device)
    number = {leaf: i for i, leaf in enumerate(form.leaves)}
    if isinstance(bound, _Bound) and not bound.varying and number.keys() >= set(whole.leaves):
        order = tuple(number[whole.leaves[i]] for i in bound.order)
        with _lock:
            _seen[place] = _Bound(bound.compiled, (), order)
    return whole, bound


def _run_padded(
    served: Served, form: Form, given: Sequence[Any], outputs: Sequence[Node], device: Device
) -> list[Any]:
    """The memories of the outputs, by a plan of larger sizes: what is smaller comes first there."""
    plan, values = served.plan, served.values
    memories = [
        memory if box is None else box.filled(memory, leaf.dtype, device, values)
        for leaf, memory, box in zip(form.leaves, given, plan.given)
    ]
    memories += [storage.memory for storage in served.further_inputs(form, device)]
    made = run(plan.compiled, [memories[i] for i in plan.order])
    return [
        memory if box is None else box.kept(memory, node.dtype, device, values)
        for node, memory, box in zip(outputs, made, plan.made)
    ]


def _memory(leaf: Node, part: Part | None) -> Any:
    """Of a buffer, or of a part of one; a copy where kernels could not begin there."""
    if part is None:
        return leaf.attr("storage").memory
    storage: Storage = part.buffer.attr("storage")
    runtime, begin = open_device(storage.device), part.offset * leaf.dtype.itemsize
    memory = runtime.view(storage.memory, begin, leaf.nbytes)
    if begin % runtime.alignment == 0:
        return memory
    aligned = allocate(storage.device, leaf.nbytes)
    runtime.copy(aligned, memory)
    return aligned


@dataclass(frozen=True)
class _Bound:
    """A plan for graphs of one form.

    Attributes:
        compiled: the plan.
        varying: which of the form's values are inputs of it.
        order: for each input of its graph, which it is of the form's leaves and those values.
    """

    compiled: Compiled
    varying: tuple[int, ...]
    order: tuple[int, ...]


@dataclass
class _Seen:
    """The graphs of one form so far.

    Attributes:
        place: what they are found by.
        first: the values of the first.
        varying: in which of them another one differed.
        plans: by the other values.
    """

    place: tuple[Any, ...]
    first: tuple[str, ...]
    varying: tuple[int, ...]
    plans: dict[tuple[str, ...], _Bound]


_seen: OrderedDict[tuple[Any, ...], _Seen | _Bound] = OrderedDict()
"""By forms; and plans by forms with templates in one row each, with all of their values."""


def _bind(form: Form, outputs: Sequence[Node], device: Device) -> _Bound | Served:
    """The plan for a graph of this form: an earlier one if its values were seen to vary, or one
    for many sizes."""
    place = (form.rows, device, conditions())
    with _lock:
        seen = _seen.get(place)
        if not isinstance(seen, _Seen):
            served = plan_for_sizes(form, outputs, device)
            if served is not None:
                return served
            seen = _seen[place] = _Seen(place, form.values, (), {})
        _seen.move_to_end(seen.place)  # the same object: rows are compared once
        known = _without(form.values, seen.varying)
        if known not in seen.plans and known != _without(seen.first, seen.varying):
            pairs = zip(form.values, seen.first)
            differ = {i for i, (here, first) in enumerate(pairs) if here != first}
            seen.varying = tuple(sorted(differ.union(seen.varying)))
            seen.plans.clear()
            known = _without(form.values, seen.varying)
        bound = seen.plans.get(known)
        if bound is None:
            bound = seen.plans[known] = _bound(form, outputs, device, seen.varying)
        if len(_seen) > KEPT_PLANS:
            _seen.popitem(last=False)
        return bound


def _without(values: tuple[str, ...], varying: tuple[int, ...]) -> tuple[str, ...]:
    left_out = frozenset(varying)
    return tuple(v for i, v in enumerate(values) if i not in left_out) if varying else values


def _bound(form: Form, outputs: Sequence[Node], device: Device, varying: tuple[int, ...]) -> _Bound:
    """The plan for graphs of this form that may differ in these values."""
    leaves = {
        leaf: leaf if leaf.op is Op.BUFFER else placeholder(leaf, device) for leaf in form.leaves
    }
    sites = [form.sites[i] for i in varying]
    numbers = {s: make(Op.BUFFER, storage=Storage(device, s.dtype, (), None)) for s in sites}
    general = outputs
    if varying or any(leaf is not own for leaf, own in leaves.items()):
        general = with_inputs(outputs, leaves, numbers)
    compiled, used = compile_graph(general, device)
    place = {leaf: i for i, leaf in enumerate((*leaves.values(), *numbers.values()))}
    return _Bound(compiled, varying, tuple(place[leaf] for leaf in used))
