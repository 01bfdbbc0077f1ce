"""What runs when a value is asked for.

In: tensors whose values will be wanted. Out: their storages, all that is pending on a device as one
plan. Invariant: a tensor waits once, in the order of the last marks. See docs/decisions/0004.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from tgrad.device import Device
from tgrad.graph.repeats import take_held
from tgrad.moving import Moved, are_any, moves, needed_moves, sources_of, take_off
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

_pending: dict[int, ReferenceType[Tensor]] = {}
_holders: list[ReferenceType[Tensor]] = []
"""Tensors from before a loop that each of its turns computes."""


def mark_pending(t: Tensor) -> None:
    """The tensor's value will be wanted: compute it with whatever is computed next.

    What waits is computed in the order of the last marks, so that equal steps have equal keys.
    """
    trace = tracer()
    if trace is not None:
        trace.mark(t)
        return
    _pending.pop(id(t), None)
    if t._storage is None:
        _pending[id(t)] = ref(t, partial(_forget, id(t)))


def mark_repeated(t: Tensor) -> None:
    """Mark a tensor that is made where earlier ones were computed again and again: if it lives when
    something runs, it is stored. See docs/decisions/0078."""
    from tgrad.batching import is_inside_transform

    if tracer() is None and not is_inside_transform():
        _pending[id(t)] = ref(t, partial(_forget, id(t)))


def _find_holders() -> None:
    """Look for tensors that were made before their lines were known and hold what was computed a
    second time: those that live when something runs next are stored. See docs/decisions/0081.

    Where others than nodes hold it, all objects are looked through, 30 ms for a program's 700,000.
    """
    from tgrad.tensor import Tensor

    held = take_held()
    if not held:
        return
    node_of = Tensor.__dict__["_node"].__get__
    for t in gc.get_referrers(*held):
        if not issubclass(type(t), Tensor):
            continue
        try:
            node = node_of(t)
        except AttributeError:  # borrowed, not looked at since a replay, or without a shape yet
            continue
        if node in held and t._storage is None:
            _holders.append(ref(t))


def _store_holders() -> None:
    """By plans of their own: the graph of a step stays what it was."""
    waiting = [t for t in (r() for r in _holders) if t is not None and is_waiting(t)]
    _holders.clear()
    for device in dict.fromkeys(t._device for t in waiting):
        _compute([t for t in waiting if t._device == device], device)


def _compute(tensors: Sequence[Tensor], device: Device, sent: Sequence[Moved] = ()) -> None:
    """Run the plan of tensors, and of what is sent from the device to others."""
    from tgrad.realizing import realize

    for t in tensors:
        _pending.pop(id(t), None)
    take_off(sent)
    nodes = [*(t._node for t in tensors), *sources_of(sent)]
    found = realize(nodes, device)
    for t, storage in zip(tensors, found):
        t._store(storage)
    for m, storage in zip(sent, found[len(tensors) :]):
        m.arrive(storage)


def _forget(key: int, _: object) -> None:
    _pending.pop(key, None)


def is_waiting(t: Tensor | None) -> bool:
    """Whether a tensor lives and is not computed."""
    return t is not None and t._borrowed is None and t._storage is None


def drop_pending(t: Tensor) -> None:
    """The tensor's value will be computed only if somebody asks for it."""
    trace = tracer()
    if trace is not None:
        trace.drop(t)
    else:
        _pending.pop(id(t), None)


def waiting_tensors() -> list[Tensor]:
    """All that is pending, in order."""
    return [t for t in (r() for r in list(_pending.values())) if t is not None]


def pending_tensors(device: Device, tensors: Sequence[Tensor] = ()) -> list[Tensor]:
    """What runs when `tensors` are wanted: they and all that is pending on the device, less what is
    stored already."""
    wanted = (*waiting_tensors(), *tensors)
    chosen = [t for t in wanted if t._device == device and t._storage is None]
    return list({id(t): t for t in chosen}.values())


def realize_tensors(tensors: Sequence[Tensor]) -> None:
    """Compute tensors, and all that is pending on their device, as one plan a device.

    What was pending waits no longer where the plan fails, so that one broken graph does not break
    all that is computed after it.
    """
    trace = tracer()
    if trace is not None and tensors:
        trace.refuse("the value of a tensor is read")
    from tgrad.batching import check_values
    from tgrad.unread import note_run

    check_values([t._node for t in tensors])
    if _holders:
        _store_holders()
    if are_any():
        _compute_in_stages(tensors)
    else:
        for device in dict.fromkeys(t._device for t in tensors):
            chosen = pending_tensors(device, tensors)
            if not chosen:
                continue
            note_run()
            _compute(chosen, device)
    _find_holders()


def realize_moved(wanted: Moved) -> None:
    """Compute what is to be moved, and move it."""
    from tgrad.unread import note_run

    _compute_in_stages((), wanted)
    if wanted.source is not None:  # it was given up when something failed
        note_run()
        _compute((), wanted.origin, [wanted])


def realize_moves() -> None:
    """Compute all that is to be moved."""
    for wanted in moves():
        if wanted.source is not None:
            realize_moved(wanted)


def _compute_in_stages(tensors: Sequence[Tensor], wanted: Moved | None = None) -> None:
    """The same where values go from device to device: plans of one device each, and of what a plan
    sends to another device the next one reads. What waits for nothing runs first."""
    from tgrad.unread import note_run

    waiting, sent = _involved(tensors, wanted)
    missing = needed_moves([*(t._node for t in waiting), *sources_of(sent)])
    while waiting or sent:
        count = len(waiting)
        ready = [all(m.source is None for m in each) for each in missing]
        now = [t for t, is_ready in zip(waiting, ready) if is_ready]
        moving = [m for m, is_ready in zip(sent, ready[count:]) if is_ready]
        if not (now or moving):  # they wait for what has failed: reading it says how
            now, moving = waiting, sent
        device = moving[0].origin if moving else now[0]._device
        now = [t for t in now if t._device == device]
        moving = [m for m in moving if m.origin == device]
        note_run()
        _compute(now, device, moving)
        done = {*map(id, now), *map(id, moving)}
        missing = [m for x, m in zip((*waiting, *sent), missing) if id(x) not in done]
        waiting = [t for t in waiting if id(t) not in done]
        sent = [m for m in sent if id(m) not in done]


def _involved(tensors: Sequence[Tensor], wanted: Moved | None) -> tuple[list[Tensor], list[Moved]]:
    """What runs when `tensors` and a move are wanted: all that is pending on their devices, and on
    those from which it needs values."""
    found = [t._device for t in tensors] if wanted is None else [wanted.origin]
    devices = dict.fromkeys(found)
    while True:
        waiting = [t for device in devices for t in pending_tensors(device, tensors)]
        sent = [m for m in moves() if m.origin in devices]
        nodes = [*(t._node for t in waiting), *sources_of(sent)]
        others = [m.origin for each in needed_moves(nodes) for m in each]
        if devices.keys() >= set(others):
            return waiting, sent
        devices.update(dict.fromkeys(others))


def realize_pending(device: Device) -> None:
    """Compute everything that is pending on a device, as an optimizer's step does; a trace computes
    it all at its end."""
    if tracer() is None:
        realize_tensors(pending_tensors(device))
