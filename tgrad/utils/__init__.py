"""PyTorch's name space of that name.

In: nothing. Out: `checkpoint`, and other modules once they are asked for. Invariant: nothing is
defined here; PyTorch, which `data` needs, is not imported before.
"""

from importlib import import_module
from typing import Any

from tgrad.module_paths import module_below
from tgrad.utils import checkpoint as checkpoint


def __getattr__(name: str) -> Any:
    if name in ("_pytree", "benchmark", "data", "tensorboard"):
        return import_module(f"tgrad.utils.{name}")
    return module_below(__name__, name)
