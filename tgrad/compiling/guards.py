"""What must be as it was when a function was traced.

In: what a function reaches. Out: Guards, with the answer whether they hold. Invariant: a call that
changed nothing costs one comparison of integers, and one identity for each name that the code
mentions; what moved is compared by value, and a plan whose guards fail is not used.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from operator import attrgetter, is_
from types import CellType
from typing import Any
from weakref import ref

import numpy as np

from tgrad.autocasting import autocast_state
from tgrad.compiling.reach import LARGEST_CONTAINER, MODULE_TABLES, OPTIMIZER_HOOKS, Binding, Reach
from tgrad.device import get_default_device
from tgrad.modes import process, thread
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.optim.optimizer import Optimizer
from tgrad.tensor import Tensor
from tgrad.tracing import versions

NUMBERS = (bool, int, float, complex, str, bytes, type(None))
LARGEST_ARRAY = 10_000
"""Elements of a NumPy array that is compared by value; larger ones by identity."""


class Same:
    """Equal to another that holds the same object; keeps it alive only if it must."""

    __slots__ = ("held",)

    def __init__(self, value: Any):
        try:
            self.held: Any = ref(value)
        except TypeError:
            self.held = lambda: value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.held() is other.held() is not None

    def __hash__(self) -> int:
        return id(self.held())

    def __repr__(self) -> str:
        return f"a {type(self.held()).__name__}"


def freeze(value: Any) -> Any:
    """What two values must have in common for a plan to serve both."""
    if isinstance(value, NUMBERS):
        return (type(value), value)
    if isinstance(value, np.generic):
        return (type(value), value.item())
    if isinstance(value, np.ndarray) and value.size <= LARGEST_ARRAY:
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, (bytearray, array)) and len(value) <= LARGEST_ARRAY:
        return (type(value), bytes(value))
    if isinstance(value, (list, tuple, deque)) and len(value) <= LARGEST_CONTAINER:
        return (type(value), tuple(freeze(v) for v in value))
    if isinstance(value, dict) and len(value) <= LARGEST_CONTAINER:
        return (type(value), tuple((freeze(k), freeze(v)) for k, v in value.items()))
    if isinstance(value, (set, frozenset)) and len(value) <= LARGEST_CONTAINER:
        return (type(value), frozenset(freeze(v) for v in value))
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), tuple(freeze(getattr(value, f.name)) for f in fields(value)))
    return Same(value)


def shown(frozen: Any) -> str:
    """A frozen value for a message."""
    if not (isinstance(frozen, tuple) and len(frozen) == 2 and isinstance(frozen[0], type)):
        return "nothing" if frozen is None else repr(frozen)
    kind, value = frozen
    if kind in NUMBERS:
        return repr(value)
    if kind is not list or len(value) > 8:
        return f"a {kind.__name__}"
    return f"[{', '.join(shown(v) for v in value)}]"


class Names:
    """Names and what they are bound to, compared without Python's help: those in dictionaries, such
    as globals, those in the cells of closures, and all others."""

    def __init__(self, bindings: Sequence[Binding]):
        in_tables = [b for b in bindings if type(b.owner) is dict]
        in_cells = [b for b in bindings if type(b.owner) is CellType]
        self.bindings = bindings
        self.tables = [b.owner for b in in_tables]
        self.names = [b.name for b in in_tables]
        self.cells = [b.owner for b in in_cells]
        self.values = [b.value for b in (*in_tables, *in_cells)]
        self.others = [b for b in bindings if type(b.owner) not in (dict, CellType)]

    def stand(self) -> bool:
        """Whether each is bound to the same, or to an equal number."""
        found = chain(map(dict.get, self.tables, self.names), map(_contents, self.cells))
        try:
            if all(map(is_, found, self.values)):
                return all(map(_stands, self.others))
        except ValueError:  # a cell is empty
            pass
        return all(map(_stands, self.bindings))


_contents = attrgetter("cell_contents")


def _stands(b: Binding) -> bool:
    value = b.read()
    return value is b.value or _equal(value, b.value)


def current_modes() -> Hashable:
    """What plans depend on besides functions, arguments and what they reach: the settings of this
    thread and process."""
    devices = thread.devices
    return (
        thread.gradients,
        process.precision,
        process.floats,
        process.gpu,
        process.deterministic,
        process.anomalies,
        autocast_state() if thread.autocast else (),
        (devices[-1] if devices else process.device) or get_default_device(),
    )


@dataclass(eq=False)
class Guards:
    """Everything that a plan was traced for, beside its arguments."""

    found: Reach
    names: Names
    moving: list[Binding]
    containers: list[tuple[str, Any, Any]]
    described: dict[str, Any]
    version: int

    @staticmethod
    def of(found: Reach, moving: list[Binding]) -> Guards:
        """The guards of this moment, with the names that may move."""
        fixed = set(map(id, moving))
        return Guards(
            found,
            Names([b for b in found.bindings if id(b) not in fixed]),
            moving,
            [(label, value, freeze(value)) for label, value in found.containers],
            describe(found, with_inputs=False),
            versions.guards,
        )

    def hold(self) -> bool:
        """Whether a plan traced under them serves a call now."""
        if not self.names.stand():
            return False
        for _, value, frozen in self.containers:
            if freeze(value) != frozen:
                return False
        if versions.guards != self.version:
            if describe(self.found, with_inputs=False) != self.described:
                return False
            self.version = versions.guards
        return not self.moving or all(_fits(b.read(), b.value) for b in self.moving)


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, NUMBERS) and type(a) is type(b) and a == b


def _fits(a: Any, b: Tensor) -> bool:
    """Whether another tensor may stand where this one stood."""
    return a is b or (type(a) is type(b) and tensor_key(a) == tensor_key(b))


def tensor_key(t: Tensor) -> tuple[Any, ...]:
    """What plans depend on in a tensor, besides its values."""
    return t.shape, t.dtype, t._device, t._requires_grad, t._token is not None


def movable(found: Reach, written: Sequence[Tensor] = ()) -> list[Binding]:
    """Names bound to a tensor that nothing else leads to, and that shares memory with nothing else
    that is found or written: the next call may find another there."""
    tensors = {**found.tensors, **{id(t): t for t in written}}.values()
    memories = Counter(id(t._memory) for t in tensors if t._memory is not None)
    owned = {id(t) for t in tensors if memories[id(t._memory)] > 1}
    for _, module in found.modules:
        owned |= {id(t) for table in (module._parameters, module._buffers) for t in table.values()}
    for _, optimizer in found.optimizers:
        owned |= {id(p) for group in optimizer.param_groups for p in group["params"]}
        owned |= {id(v) for state in optimizer.state.values() for v in state.values()}
    for _, container in found.containers:
        items = container.values() if isinstance(container, dict) else container
        owned |= set(map(id, items))
    names: dict[int, list[Binding]] = {}
    for b in found.bindings:
        if isinstance(b.value, Tensor) and not isinstance(b.value, Parameter):
            names.setdefault(id(b.value), []).append(b)
    return [each[0] for t, each in names.items() if len(each) == 1 and t not in owned]


def describe(found: Reach, with_inputs: bool) -> dict[str, Any]:
    """Attributes of modules, settings and state of optimizers, frozen, by label.

    Args:
        with_inputs: also the settings that plans read at every call, such as learning rates.
    """
    described: dict[str, Any] = {}
    for label, module in found.modules:
        _describe_module(described, label, module)
    for label, optimizer in found.optimizers:
        _describe_optimizer(described, label, optimizer, with_inputs)
    for t in found.tensors.values():
        described[f"tensor {id(t)}"] = (Same(t), *tensor_key(t))
        if getattr(t, "__dict__", None):
            described[f"attributes of tensor {id(t)}"] = freeze(vars(t))
    return described


def _describe_module(described: dict[str, Any], label: str, module: Module) -> None:
    for name, value in vars(module).items():
        if name not in MODULE_TABLES:
            described[f"{label}.{name}"] = freeze(value)
    for table in (module._parameters, module._buffers, module._modules):
        for name, value in table.items():
            described[f"{label}.{name}"] = None if value is None else Same(value)


def _describe_optimizer(
    described: dict[str, Any], label: str, optimizer: Optimizer, with_inputs: bool
) -> None:
    described[f"hooks of {label}"] = freeze([getattr(optimizer, t) for t in OPTIMIZER_HOOKS])
    for number, group in enumerate(optimizer.param_groups):
        moving = optimizer.moving - getattr(group, "read", set())
        for name, value in group.items():
            place = f"{label}.param_groups[{number}][{name!r}]"
            if name == "params":
                described[place] = tuple(Same(p) for p in value)
            elif with_inputs or isinstance(value, Tensor):
                described[place] = freeze(value)
            elif name in moving:
                described[place] = isinstance(value, (int, float))
            elif name == "betas" and "beta1" in moving:
                described[place] = freeze(value[1])
            else:
                described[place] = freeze(value)
    if not with_inputs:
        for p, state in optimizer.state.items():
            for name, value in state.items():
                described[f"{label}.state[{id(p)}][{name!r}]"] = freeze(value)
