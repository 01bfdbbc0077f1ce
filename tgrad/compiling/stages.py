"""Which plans a compiled call consists of, and in which order they run.

In: wanted values of several devices. Out: stages, one plan each. Invariant: what a stage reads of
another device was sent by an earlier one; a device's last stage makes all values that outlive the
call, so nothing that a plan reads is overwritten before. See docs/decisions/0092.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrad.device import Device
from tgrad.graph.node import Node
from tgrad.moving import Moved, needed_moves, sources_of

SENT = "sent"
"""What becomes of a value that another device reads."""

Wanted = tuple[Node, Device, str, int]
"""A value, where, what it becomes, and which of these it is."""


@dataclass(frozen=True)
class Stage:
    """A plan: its device, and what it makes."""

    device: Device
    wanted: list[Wanted]


def stages_of(wanted: Sequence[Wanted]) -> tuple[list[Stage], list[Moved]]:
    """The stages in their order, and what goes from device to device: the numbers of `SENT`."""
    levels = _levels([w[0] for w in wanted])
    sent = list(levels)
    if not sent:
        devices = dict.fromkeys(w[1] for w in wanted)
        return [Stage(d, [w for w in wanted if w[1] == d]) for d in devices], sent
    last: dict[Device, int] = {}
    for (_, device, _, _), needed in zip(wanted, needed_moves([w[0] for w in wanted])):
        last[device] = max(last.get(device, 0), *(levels[m] + 1 for m in needed), 0)
    for m, level in levels.items():
        last[m.origin] = max(last.get(m.origin, 0), level)
    made: dict[tuple[int, Device], list[Wanted]] = {}
    for w in wanted:
        made.setdefault((last[w[1]], w[1]), []).append(w)
    for number, (m, level) in enumerate(levels.items()):
        assert m.source is not None
        made.setdefault((level, m.origin), []).append((m.source, m.origin, SENT, number))
    ordered = sorted(made.items(), key=lambda item: item[0][0])
    return [Stage(device, values) for (_, device), values in ordered], sent


def _levels(nodes: Sequence[Node]) -> dict[Moved, int]:
    """What is moved on the way to some nodes: how many moves come before it at most."""
    needs: dict[Moved, list[Moved]] = {}
    new = _joined(needed_moves(nodes))
    while new:
        found = needed_moves(sources_of(new))
        needs.update(zip(new, found))
        new = [m for m in _joined(found) if m not in needs]
    levels: dict[Moved, int] = {}
    for m in sorted(needs, key=lambda m: m.serial):  # a move is made after those it needs
        levels[m] = max((levels[x] + 1 for x in needs[m]), default=0)
    return levels


def _joined(lists: Sequence[list[Moved]]) -> list[Moved]:
    return list(dict.fromkeys(m for each in lists for m in each))
