"""Values that go from one device to another.

In: a node, the device that computes it, and where it is wanted. Out: a node there. Invariant: it is
a buffer whose memory comes when somebody reads it, so a graph stays on one device and what it reads
of others is computed before it; the gradient goes back the same way. See docs/decisions/0092.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from weakref import WeakSet

from tgrad.autodiff.backward import register_vjp
from tgrad.device import Device
from tgrad.errors import TraceError
from tgrad.graph.key import computed, without_arguments
from tgrad.graph.layout import is_static, layout_of, size_of
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.size import Extent, running_scope
from tgrad.runtime.storage import Storage, upload
from tgrad.tracing import tracer

RULE = "moved"
"""Of the mark around what has been moved; its arguments are the node elsewhere, its parameters the
devices from which and to which it goes."""


class Moved(Storage):
    """Memory for the values of a node of another device.

    Attributes:
        source: the node; None as soon as the values are here.
        origin: the device that computes it.
    """

    __slots__ = ("_memory", "origin", "sizes", "source")
    source: Node | None
    origin: Device

    def __init__(self, source: Node, origin: Device, device: Device):
        super().__init__(device, source.dtype, source.shape, None)
        self.source, self.origin, self.sizes = source, origin, _sizes(source)

    @property
    def memory(self) -> Any:
        trace = tracer()
        if trace is not None:
            trace.refuse("the value of a tensor is read")
        if self._memory is None:
            from tgrad.pending import realize_moved

            realize_moved(self)
        return self._memory

    @memory.setter
    def memory(self, value: Any) -> None:
        self._memory = value

    @property
    def is_at_hand(self) -> bool:
        return self.source is None and super().is_at_hand

    def arrive(self, values: Storage) -> None:
        """Take the values of the source."""
        self._memory = upload(values.numpy(), self.dtype, self.device).memory
        self.source = None


def _sizes(source: Node) -> tuple[Extent, ...] | None:
    """Of the elements that exist, where a trace has symbolic sizes.

    Raises:
        TraceError: they do not come first along an axis.
    """
    scope = running_scope()
    if scope is None:
        return None
    layout = layout_of(source, scope)
    for axis in layout:
        if len(axis) > 1 and not is_static(axis):
            raise TraceError(
                f"values of a size {size_of(axis)} along an axis change device.",
                "Move them before the reshape that merges axes, or return them and move them "
                "outside the compiled function.",
                source.source,
            )
    return tuple(size_of(axis) for axis in layout)


_moves: WeakSet[Moved] = WeakSet()
"""Those that live and are not here."""


def moved(node: Node, origin: Device, device: Device) -> Node:
    """The values of a node on another device, differentiable; wanted with whatever is computed next
    on either. What reads no memory is computed where it is used."""
    value = node
    if node.device is not None:
        storage = Moved(node, origin, device)
        value = make(Op.BUFFER, storage=storage)
        if tracer() is None:
            _moves.add(storage)
    return with_history(value, node, origin, device)


def with_history(value: Node, node: Node, origin: Device, device: Device) -> Node:
    """A value of a device with the history of that which it is a copy of."""
    return make(Op.CUSTOM_VJP, value, node, rule=RULE, params=(origin, device))


@register_vjp(RULE, has_effects=True)
def _moved_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """g, back where the value came from"""
    origin, device = params
    return (moved(g, device, origin),)


def moves() -> list[Moved]:
    """Those that live and are not here, in the order in which they were made."""
    return sorted(_moves, key=lambda m: m.serial)


def are_any() -> bool:
    """Whether there are such."""
    return bool(_moves)


def sources_of(found: Iterable[Moved]) -> list[Node]:
    """What these that are not here are computed from."""
    return [m.source for m in found if m.source is not None]


def take_off(found: Collection[Moved]) -> None:
    """Let these wait no longer: they are being computed."""
    _moves.difference_update(found)


def needed_moves(nodes: Sequence[Node]) -> list[list[Moved]]:
    """For each node the moves whose memory its graph reads, as far as they are not here."""
    found: list[Moved] = []
    sets: dict[Node, int] = {}
    for n in computed(nodes):
        bits = 0
        for x in without_arguments(n):
            bits |= sets[x]
        storage = n.attr("storage") if n.op is Op.BUFFER else None
        if isinstance(storage, Moved) and storage.source is not None:
            bits = 1 << len(found)
            found.append(storage)
        sets[n] = bits
    return [[m for i, m in enumerate(found) if sets[n] >> i & 1] for n in nodes]
