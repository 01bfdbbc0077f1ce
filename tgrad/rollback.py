"""Putting back what a failed step has changed.

In: tensors and the state of optimizers, before something may change them. Out: the same tensors,
bound as they were. Invariant: nothing is copied but references, since values are never changed
under a tensor's graph.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from tgrad.aliases import Memory, Path, refresh
from tgrad.device import Device
from tgrad.grad_mode import is_grad_enabled, restore_grad_mode
from tgrad.graph.node import Node
from tgrad.interrupts import Uninterrupted
from tgrad.runtime.storage import Storage
from tgrad.tensor import Tensor, drop_pending

State = MutableMapping[Tensor, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Before:
    """A tensor as it was when it was changed for the first time."""

    node: Node
    storage: Storage | None
    device: Device
    requires_grad: bool
    token: int | None
    memory: Memory | None
    path: Path
    value: Node | None

    @staticmethod
    def of(t: Tensor) -> Before:
        memory, node = t._memory, t._node
        value = None if memory is None else memory.value
        return Before(node, t._storage, t._device, t._requires_grad, t._token, memory, t._path,
                      value)  # fmt: skip

    def put_back(self, t: Tensor) -> None:
        t._node, t._storage, t._device = self.node, self.storage, self.device
        t._requires_grad, t._token = self.requires_grad, self.token
        t._memory, t._path = self.memory, self.path
        if self.memory is not None:
            self.memory.value = self.value
            self.memory.members.keep(id(t), t)


class StateBefore:
    """The state of an optimizer as it was: which tensors it holds, by parameter and name."""

    def __init__(self, state: State):
        self.state = state
        self.kept: Mapping[Tensor, dict[str, Any]] = {p: dict(each) for p, each in state.items()}

    def put_back(self) -> None:
        """Forget what was made since, and hold what was held."""
        for p in list(self.state):
            if p not in self.kept:
                del self.state[p]
        for p, kept in self.kept.items():
            now = self.state[p]
            for name in [name for name in now if name not in kept]:
                del now[name]
            for name, value in kept.items():
                if now.get(name) is not value:
                    now[name] = value


class AllOrNothing:
    """Context manager: if the block fails, parameters and state are what they were before it.

    Args:
        parameters: that the block may change.
        state: an optimizer's, by parameter.
    """

    def __init__(self, parameters: list[Tensor], state: State):
        self.state = StateBefore(state)
        held = [v for kept in self.state.kept.values() for v in kept.values()]
        tensors = (*parameters, *(v for v in held if isinstance(v, Tensor)))
        self.before = [(t, Before.of(t)) for t in tensors]
        self.with_gradients = is_grad_enabled()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            return
        with Uninterrupted():
            restore_grad_mode(self.with_gradients)
            self.state.put_back()
            for t, before in self.before:
                drop_pending(t)
                before.put_back(t)
                refresh([t])
