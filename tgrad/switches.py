"""Switches of PyTorch's compilers, which programs set: `torch._dynamo.config`, `_inductor.config`.

In: assignments. Out: the same, to who reads them; a warning that they change nothing. Invariant:
tgrad's own choices are made by `tgrad autotune` and by the arguments of `tgrad.compile`.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

from tgrad.absent import nobody

PATHS = ("tgrad._dynamo", "tgrad._inductor")


class Switches(ModuleType):
    """Attributes that may be set, and are read as they were set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__"):
            warnings.warn(f"{self.__name__}.{name} changes nothing.", stacklevel=2)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        below = Switches(f"{self.__name__}.{name}")
        super().__setattr__(name, below)
        return below


_WHY = "tgrad.compile traces functions by calling them."


class Compiler(ModuleType):
    """Switches, and the names that `tgrad.compiler` has too."""

    def __getattr__(self, name: str) -> Any:
        if name in ("allow_in_graph", "disable", "is_compiling", "reset"):
            return getattr(import_module("tgrad.compiler"), name)
        raise AttributeError(f"{self.__name__} has no {name}: {_WHY}")


def _no_mark(t: Any, index: Any = None, **bounds: Any) -> None:
    """Nothing: `tgrad.compile` has `dynamic=` for sizes that change."""


def register() -> None:
    """Let import lines find them."""
    for module in map(Compiler, PATHS):
        config = Switches(f"{module.__name__}.config")
        module.__dict__["config"] = config
        sys.modules.setdefault(module.__name__, module)
        sys.modules.setdefault(config.__name__, config)
    marks = dict.fromkeys(("mark_dynamic", "mark_static", "maybe_mark_dynamic"), _no_mark)
    names = {**marks, "OptimizedModule": nobody("OptimizedModule", _WHY)}
    sys.modules["tgrad._dynamo"].__dict__.update(names)
