"""What a function can see: the state that a plan binds by reference, and the numbers it must guard.

In: a function, and objects among its arguments. Out: tensors, modules, optimizers, and bindings of
names. Invariant: only names that the code mentions are followed, in the function, in the functions
and methods that it calls, and in the objects they reach; libraries are not entered.
"""

from __future__ import annotations

import dis
import functools
import os
import random
import sys
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from tgrad.methods.elementwise import is_complex
from tgrad.nn.module import HOOK_TABLES, Module
from tgrad.optim.lr_scheduler import LRScheduler
from tgrad.optim.optimizer import Optimizer
from tgrad.tensor import Tensor

MISSING = object()
MODULE_TABLES = ("_parameters", "_buffers", "_modules", "_transient", "_derived")
OPTIMIZER_HOOKS = ("_step_pre_hooks", "_step_post_hooks")
LARGEST_CONTAINER = 10_000
"""Containers with more items are not looked into."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(eq=False)
class Binding:
    """A name and what it is bound to: in a namespace, a cell, or an attribute of an object."""

    label: str
    owner: Any
    name: str
    value: Any

    def read(self) -> Any:
        """What it is bound to now."""
        if isinstance(self.owner, CellType):
            try:
                return self.owner.cell_contents
            except ValueError:
                return MISSING
        if isinstance(self.owner, Mapping):
            return self.owner.get(self.name, MISSING)
        return getattr(self.owner, self.name, MISSING)


@dataclass(eq=False)
class Reach:
    """What is found, by label where a message must name it."""

    tensors: dict[int, Tensor] = field(default_factory=dict)
    modules: list[tuple[str, Module]] = field(default_factory=list)
    optimizers: list[tuple[str, Optimizer]] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    containers: list[tuple[str, Any]] = field(default_factory=list)
    generators: list[tuple[str, Any]] = field(default_factory=list)


def reach(roots: Mapping[str, Any]) -> Reach:
    """Everything that the roots, functions and other objects, lead to."""
    names: set[str] = set()
    while True:
        walk = _Walk(names)
        for label, root in roots.items():
            walk.visit(root, label)
        if walk.names == names:
            return walk.found
        names = walk.names


class _Walk:
    """One pass with the names known so far; `names` grows by those of the code it meets."""

    def __init__(self, names: set[str]):
        self.known, self.names = names, set(names)
        self.found = Reach()
        self.seen: set[int] = set()
        self.kept: list[Any] = []

    def visit(self, value: Any, label: str) -> None:
        """Follow a value by its kind."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        self.kept.append(value)
        if isinstance(value, Tensor):
            self._tensor(value)
        elif is_complex(value):
            for part in (value.real, value.imag, value._base):
                self.visit(part, label)
        elif isinstance(value, Module):
            self._module(value, label)
        elif isinstance(value, Optimizer):
            self._optimizer(value, label)
        elif isinstance(value, FunctionType):
            self._function(value, label)
        elif isinstance(value, MethodType):
            self.visit(value.__self__, label.rpartition(".")[0] or "self")
            self.visit(value.__func__, label)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.visit(part, label)
        elif isinstance(value, (list, tuple, dict, set, frozenset, deque)):
            self._container(value, label)
        elif isinstance(value, (UserDict, UserList)):
            self.visit(value.data, label)
        elif isinstance(value, ChainMap):
            self.visit(value.maps, label)
        elif isinstance(value, ModuleType):
            self._namespace(vars(value), label, library=_is_library(getattr(value, "__file__", "")))
        elif isinstance(value, type):
            if not _is_library_type(value):
                self._namespace(vars(value), label, library=False)
        elif isinstance(value, (np.ndarray, bytearray, array)):
            self.found.containers.append((label, value))
        elif isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)):
            self.found.generators.append((label, value))
        elif isinstance(value, LRScheduler):
            self.visit(value.optimizer, f"{label}.optimizer")
        elif not isinstance(value, BuiltinFunctionType):
            self.visit(getattr(value, "__dict__", {}).get("__wrapped__"), label)
            self._object(value, label)

    def _tensor(self, t: Tensor) -> None:
        self.found.tensors[id(t)] = t

    def _module(self, module: Module, label: str) -> None:
        for path, each in module.named_modules():
            name = f"{label}.{path}" if path else label
            self.found.modules.append((name, each))
            self.seen.add(id(each))
            for table in (each._parameters, each._buffers):
                for t in table.values():
                    if t is not None:
                        self.visit(t, name)
            self._hooks(each, HOOK_TABLES, name)
            if _is_library_type(type(each)):
                continue
            for key, value in vars(each).items():
                if key not in (*MODULE_TABLES, *HOOK_TABLES):
                    self.visit(value, f"{name}.{key}")
            self._methods(type(each), name, {"forward", "__call__"})

    def _hooks(self, owner: Any, tables: Sequence[str], label: str) -> None:
        """What hooks read. That one comes or goes moves `versions.guards`, so the tables are not
        compared at each call."""
        for table in tables:
            for hook in getattr(owner, table).values():
                self.visit(hook, f"{label}.{table}")

    def _optimizer(self, optimizer: Optimizer, label: str) -> None:
        self.found.optimizers.append((label, optimizer))
        self._hooks(optimizer, OPTIMIZER_HOOKS, label)
        for group in optimizer.param_groups:
            for t in (*group["params"], *(v for v in group.values() if isinstance(v, Tensor))):
                self.visit(t, label)
        for state in optimizer.state.values():
            for value in state.values():
                self.visit(value, label)

    def _function(self, function: FunctionType, label: str) -> None:
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self._bind(name, cell, name, value)
        if _is_library(code.co_filename):
            return
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.visit(value, f"a default of {label}")
        self.names.update(name for each in _codes(code) for name in each.co_names)
        space = function.__globals__
        for name in sorted(_globals_of(code)):
            if name in space:
                self._bind(name, space, name, space[name])

    def _bind(self, label: str, owner: Any, name: str, value: Any) -> None:
        if not isinstance(value, (ModuleType, type)):
            self.found.bindings.append(Binding(label, owner, name, value))
        self.visit(value, label)

    def _namespace(self, space: Mapping[str, Any], label: str, library: bool) -> None:
        for name in sorted(self.known & space.keys()):
            value = space[name]
            if library and not isinstance(value, (Tensor, Module, Optimizer)):
                continue
            self._bind(f"{label}.{name}", space, name, value)

    def _container(self, value: Any, label: str) -> None:
        if len(value) > LARGEST_CONTAINER:
            return
        if not isinstance(value, (tuple, frozenset)):
            self.found.containers.append((label, value))
        items = list(value.values()) if isinstance(value, dict) else list(value)
        for item in items:
            self.visit(item, label)

    def _object(self, value: Any, label: str) -> None:
        if _is_library_type(type(value)) and not isinstance(value, SimpleNamespace):
            return
        space = getattr(value, "__dict__", {})
        for name in sorted(self.known & space.keys()):
            self._bind(f"{label}.{name}", space, name, space[name])
        slots = {s for each in type(value).__mro__ for s in getattr(each, "__slots__", ())}
        for name in sorted(self.known & slots):
            if hasattr(value, name):
                self._bind(f"{label}.{name}", value, name, getattr(value, name))
        self._methods(type(value), label, {"__call__"})

    def _methods(self, kind: type, label: str, always: set[str]) -> None:
        """The code of a type's methods that may be called, and the attributes it gives to all."""
        for each in kind.__mro__:
            if _is_library_type(each):
                continue
            for name in sorted((self.known | always) & vars(each).keys()):
                value = vars(each)[name]
                function = getattr(value, "__func__", getattr(value, "fget", value))
                if isinstance(function, FunctionType):
                    self.visit(function, f"{label}.{name}")
                elif not name.startswith("__"):
                    self._bind(f"{label}.{name}", vars(each), name, value)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions defined inside."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


@functools.lru_cache(maxsize=4096)
def _globals_of(code: CodeType) -> frozenset[str]:
    """Names that code looks up among the globals. Attributes are mentioned too, and may have the
    name of a global that the code has nothing to do with."""
    return frozenset(
        i.argval
        for each in _codes(code)
        for i in dis.get_instructions(each)
        if "GLOBAL" in i.opname or i.opname.endswith("_NAME")
    )


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig  # slow to load, and needed at the first trace only

    found = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(os.path.abspath(path) + os.sep for path in found if path)


@functools.cache
def _is_library(path: str | None) -> bool:
    """Whether code of this file is tgrad's, the standard library's or an installed package's."""
    if not path or path.startswith("<frozen"):
        return True
    path = os.path.abspath(path)
    return path.startswith((_PACKAGE, *_libraries()))


def _is_library_type(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__":
        return False
    return module is None or _is_library(getattr(module, "__file__", None))
